"""The `data` check: whether the trainer is fed what the user's file contains.

The release's own loaders read files that are made for the tests; no model is trained. Each module tests one subject;
`docs/checks.md#data` lists the tests and what counts as a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data import batch_sizes, contents, epochs, inputs, limits, rows
from harness.worker.checks.data.context import DataCheckContext
from harness.worker.checks.data.inputs import CharTokenization, SpeechSource
from harness.worker.checks.data.loader_capture import DataTrainer
from harness.worker.process import failures
from harness.worker.release import importer, model
from harness.worker.trainer import launch, options
from harness.worker.trainer.reference_features import ReferenceFrontend, is_supported

KIND = "DataDiffers"
"""The type of the failure; its signature lists the failed tests in alphabetical order."""
TOKENIZER = "CharTokenizer"
TESTS = (
    contents.check_contents,
    epochs.check_epochs,
    batch_sizes.check_batch_sizes,
    rows.check_rows,
    limits.check_limits,
    limits.check_own_rows,
)


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run all data tests of one trainer entry point."""
    install_dir, entry = request["release"]["install_dir"], request["entry"]
    importer.require_entry(install_dir, entry)
    launch.import_model_class(install_dir, request["model_class"])
    trainer_options = options.trainer_options(install_dir, request["release"]["version"], entry)
    config = model.read_config(request["model_folder"])
    if config.get("tokenizer") != TOKENIZER:
        reason = f"the data tests need the {TOKENIZER}, and the config names {config.get('tokenizer')}"
        return {"status": "skipped", "reason": reason}
    context = set_up(request, trainer_options, Path.cwd().absolute())
    answers = list(run_tests(context))
    evidence = {
        "entry_is_native": entry == trainer_options.native_entry,
        "trainer_options": [*trainer_options.notes, *context.dataset_options.notes],
        "questions": [asdict(answer) for answer in answers],
    }
    return {**verdict(answers), "metrics": metrics(context, answers), "evidence": evidence}


def set_up(request: Mapping[str, Any], trainer_options: options.TrainerOptions, work_folder: Path) -> DataCheckContext:
    """Write the model folder and the speech, and run the trainer up to its loaders.

    Raises:
        whatever the release raises: then even the simplest set-up does not reach its data.
    """
    install_dir = request["release"]["install_dir"]
    dataset_options = options.dataset_options(install_dir)
    folder = inputs.write_model_folder(Path(request["model_folder"]), work_folder / "model")
    overrides = options.shared_overrides(request.get("finetune", {}).get("overrides", {}))
    trainer = DataTrainer(request["entry"], request["model_class"], folder, trainer_options, dataset_options, overrides)
    config = model.read_config(folder)
    context = DataCheckContext(
        trainer=trainer,
        dataset_options=dataset_options,
        reading=CharTokenization(seg_dict=dataset_options.seg_dict, spaces=dataset_options.space_is_token),
        reference=ReferenceFrontend.of(config["frontend_conf"], folder / "am.mvn"),
        speech=SpeechSource(Path(launch.few_rows(request))),
        here=work_folder,
        install_dir=install_dir,
        knows_features=is_supported(config),
        user_file=request["data"].get("own", {}).get("whole"),
    )
    context.prepare()
    trainer.start(context.rows(context.plain), context.rows(context.valid))
    return context


def run_tests(context: DataCheckContext) -> Iterator[Question]:
    """The answers of all tests."""
    for test in TESTS:
        yield from test(context)


def verdict(answers: list[Question]) -> dict[str, Any]:
    """Status, reason and failure."""
    failed = sorted(
        (answer for answer in answers if answer.status is AnswerStatus.FAILS), key=lambda answer: answer.name
    )
    if not failed:
        return {"status": "passed", "reason": ""}
    message = "; ".join(f"{answer.name}: {answer.message}" for answer in failed)
    counted = sum(answer.status is not AnswerStatus.NOT_TESTED for answer in answers)
    reason = message if len(failed) == 1 else f"{len(failed)} of {counted} tests fail: {message}"
    decided = (AnswerStatus.HOLDS, AnswerStatus.LISTED)
    user_file_message = next(
        (answer.message for answer in answers if answer.name == limits.NAME and answer.status in decided), ""
    )
    # The failed tests are of rows that the check makes: a user's own come first.
    reason = f"{user_file_message}. With rows made for this check, {reason}" if user_file_message else reason
    return {
        "status": "failed",
        "reason": reason,
        "failure": failures.finding(KIND, "+".join(answer.name for answer in failed), message),
    }


def metrics(context: DataCheckContext, answers: list[Question]) -> dict[str, Any]:
    """The numbers of utterances, epochs, batches and answers."""
    standings = [answer.status for answer in answers]
    return {
        "utterances": len(context.plain),
        "epochs": context.epochs,
        "batches": context.batches,
        "questions": len(answers) - standings.count(AnswerStatus.NOT_TESTED),
        **{f"questions_{status}": standings.count(status) for status in AnswerStatus},
    }
