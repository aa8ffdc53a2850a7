"""The `data` check: what the trainer is fed is what the user gave.

The release's own loaders are driven over files that are made for the questions; no model is trained.
Each module asks about one subject; `docs/checks.md#data` says what is asked and what counts as a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.data import contents, epochs, limits, own, rows, sizes, vocabulary
from harness.worker.checks.data.answers import AnswerStatus, DataAnswer
from harness.worker.checks.data.feed import DataTrainer, read_config
from harness.worker.checks.data.scene import DataCheckContext
from harness.worker.checks.data.speech import SpeechSource
from harness.worker.checks.data.vocabulary import Reading
from harness.worker.process import failures
from harness.worker.release import entry as release
from harness.worker.trainer import launch, options
from harness.worker.trainer.reference_features import Reference, knows
from harness.worker.trainer.speech import few_rows

KIND = "DataDiffers"
"""The type of the failure; its signature names the questions that failed, in alphabetical order."""
TOKENIZER = "CharTokenizer"
SUBJECTS = (contents, epochs, sizes, rows, limits, own)


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask all questions about the data of one trainer entry."""
    overlay, entry = request["release"]["overlay"], request["entry"]
    release.require_entry(overlay, entry)
    launch.enter_whole(overlay, request["model_class"])
    dialect = options.of(overlay, request["release"]["version"], entry)
    config = read_config(Path(request["model_folder"]))
    if config.get("tokenizer") != TOKENIZER:
        reason = f"the questions are about texts that the {TOKENIZER} reads, the config names {config.get('tokenizer')}"
        return {"status": "skipped", "reason": reason}
    scene = set_up(request, dialect, Path.cwd().absolute())
    answers = list(ask(scene))
    evidence = {
        "entry_is_native": entry == dialect.native_entry,
        "dialect": [*dialect.notes, *scene.feeding.notes],
        "questions": [answer.plain() for answer in answers],
    }
    return {**verdict(answers), "metrics": figures(scene, answers), "evidence": evidence}


def set_up(request: Mapping[str, Any], dialect: options.TrainerOptions, here: Path) -> DataCheckContext:
    """Lay out the model folder and the speech, and run the trainer up to its loaders.

    Raises:
        whatever the release raises on the way: the plainest set-up does not get as far as its data.
    """
    overlay = request["release"]["overlay"]
    feeding = options.feeding(overlay)
    folder = vocabulary.lay_out(Path(request["model_folder"]), here / "model")
    overrides = options.shared(request.get("finetune", {}).get("overrides", {}))
    trainer = DataTrainer(request["entry"], request["model_class"], folder, dialect, feeding, overrides)
    config = read_config(folder)
    scene = DataCheckContext(
        trainer=trainer,
        feeding=feeding,
        reading=Reading(seg_dict=feeding.seg_dict, spaces=feeding.space_is_token),
        reference=Reference.of(config["frontend_conf"], folder / "am.mvn"),
        voice=SpeechSource(Path(few_rows(request))),
        here=here,
        overlay=overlay,
        knows_features=knows(config),
        own=request["data"].get("own", {}).get("whole"),
    )
    scene.prepare()
    trainer.start(scene.rows(scene.plain), scene.rows(scene.valid))
    return scene


def ask(scene: DataCheckContext) -> Iterator[DataAnswer]:
    """The answers of all subjects."""
    for subject in SUBJECTS:
        yield from subject.ask(scene)


def verdict(answers: list[DataAnswer]) -> dict[str, Any]:
    """Status, reason and failure."""
    failed = sorted((answer for answer in answers if answer.standing is AnswerStatus.FAILS), key=lambda one: one.name)
    if not failed:
        return {"status": "passed", "reason": ""}
    message = "; ".join(f"{answer.name}: {answer.message}" for answer in failed)
    asked = sum(answer.standing is not AnswerStatus.NOT_ASKED for answer in answers)
    reason = message if len(failed) == 1 else f"{len(failed)} of {asked} questions fail: {message}"
    return {
        "status": "failed",
        "reason": reason,
        "failure": failures.finding(KIND, "+".join(answer.name for answer in failed), message),
    }


def figures(scene: DataCheckContext, answers: list[DataAnswer]) -> dict[str, Any]:
    """How much was asked."""
    standings = [answer.standing for answer in answers]
    return {
        "utterances": len(scene.plain),
        "epochs": scene.epochs,
        "batches": scene.batches,
        "questions": len(answers) - standings.count(AnswerStatus.NOT_ASKED),
        **{f"questions_{standing}": standings.count(standing) for standing in AnswerStatus},
    }
