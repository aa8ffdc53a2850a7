"""What users did, and what preflight says about it: each case through the command line, with a real release.

A case is a change to a sound set-up: `paraformer` of reduced depth, 8 rows, two epochs. `finds` lists, for each finding
that must be there, its severity and what its place, message, evidence or remedy must say; a sound case has none, and
then nothing above `minor` may be found.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from forked import Forked
from own_scene import write_audio
from user_folders import model_folder, speech, write_jsonl

from harness import cli
from harness.commands import preflight as command
from harness.core.cells import Outcome
from harness.environments.environment import Environment, probe
from harness.preflight import preflight
from harness.preflight.inputs import Inputs
from harness.preflight.release import release_questions
from harness.preflight.release.release_questions import ReleaseQuestion, ask_all
from harness.releases import default_cache

pytestmark = pytest.mark.release

Row = dict[str, Any]
BASE = ("++train_conf.max_epoch=2", "++dataset_conf.batch_size=4", "++output_dir=./exp")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that a user did."""

    name: str
    words: tuple[str, ...] = ()
    """Overrides besides the usual ones."""
    rows: Callable[[list[Row], Path], list[Row]] = lambda rows, _: rows
    folder: Callable[[Path], None] = lambda _: None
    release: str = "1.4.16"
    variant: str = "paraformer"
    valid: bool = True
    trainer: tuple[str, ...] = ()
    """The beginning of the command, where it is not the release's own trainer."""
    finds: tuple[tuple[str, str], ...] = ()
    """Severity and a regular expression, for each finding that must be there."""

    @property
    def sound(self) -> bool:
        """Whether nothing may be found."""
        return not self.finds


def lengths_in(unit: float) -> Callable[[list[Row], Path], list[Row]]:
    """`source_len` in another unit: how many of it are a frame of 10 ms."""

    def change(rows: list[Row], _: Path) -> list[Row]:
        return [{**row, "source_len": row["source_len"] * unit} for row in rows]

    return change


def odd_rows(rows: list[Row], here: Path) -> list[Row]:
    """A long utterance, far too much text, unknown characters, silence, and one recording with two texts."""
    long = write_audio(here / "long.wav", samples=25 * 16_000)
    short = write_audio(here / "short.wav", samples=6_400)
    silent = here / "silent.wav"
    soundfile.write(silent, [0.0] * 32_000, 16_000)
    first = rows[0]

    def row(key: str, path: Path, seconds: float, target: str) -> Row:
        length = int(seconds * 100)
        return {"key": key, "source": str(path), "source_len": length, "target": target, "target_len": len(target)}

    return [
        *rows,
        row("long", long, 25.0, "今天天气很好"),
        row("dense", short, 0.4, first["target"] * 8),
        row("unknown", Path(first["source"]), first["source_len"] / 100, "龘靐齉"),
        row("silence", silent, 2.0, first["target"]),
    ]


def fewer_tokens(folder: Path) -> None:
    """A token list of another model."""
    tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    (folder / "tokens.json").write_text(json.dumps(tokens[:4234], ensure_ascii=False), encoding="utf-8")


def garbage_statistics(folder: Path) -> None:
    """An am.mvn that is an error page."""
    (folder / "am.mvn").write_text("<!DOCTYPE html><html><body>404</body></html>", encoding="utf-8")


def with_setting(section: str, key: str, value: object, folder: Path) -> None:
    """A setting of config.yaml."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config[section][key] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def punctuation(folder: Path) -> None:
    """A model for punctuation, which FunASR's repository trains nowhere."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "model": "CTTransformer"}), encoding="utf-8")


def lfs_pointer(folder: Path) -> None:
    """Weights that git-lfs never fetched."""
    (folder / "model.pt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 880000000\n", encoding="utf-8"
    )


def error_page(folder: Path) -> None:
    """What a hub answers to a wrong address, saved as the weights."""
    (folder / "model.pt").write_text("<!DOCTYPE html><html><body>404</body></html>", encoding="utf-8")


def cut_off(folder: Path) -> None:
    """A download that stopped half-way."""
    path = folder / "model.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def statistics_of_another_size(folder: Path) -> None:
    """An am.mvn for features that are not stacked."""
    text = (folder / "am.mvn").read_text(encoding="utf-8")
    numbers = re.sub(r"\[ ([^]]+) \]", lambda found: f"[ {' '.join(found[1].split()[:80])} ]", text)
    (folder / "am.mvn").write_text(numbers.replace("560", "80"), encoding="utf-8")


def tokens_with_ids(folder: Path) -> None:
    """A vocabulary of another library: each token with its id."""
    tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    named = {token: number for number, token in enumerate(tokens)}
    (folder / "tokens.json").write_text(json.dumps(named, ensure_ascii=False), encoding="utf-8")


def output_of_a_training(folder: Path) -> None:
    """What a training left, copied without configuration.json: its config names the weights that it started from."""
    base = folder.parent / "base"
    base.mkdir()
    shutil.copyfile(folder / "model.pt", base / "model.pt")
    (folder / "configuration.json").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["init_param"] = str(base / "model.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def with_long_rows(rows: list[Row], here: Path) -> list[Row]:
    """Four utterances above a limit of 1500 frames."""
    long = write_audio(here / "long.wav", samples=17 * 16_000)
    return [*({**row, "key": f"long{row['key']}", "source": str(long), "source_len": 1700} for row in rows[:4]), *rows]


def in_a_folder_named_aishell(rows: list[Row], here: Path) -> list[Row]:
    """English words, and a path in which FunASR looks for a word."""
    (here / "my_aishell").mkdir()
    copy = shutil.copyfile(rows[0]["source"], here / "my_aishell" / "a.wav")
    return [{**rows[0], "source": str(copy), "target": "hello world"}, *rows[1:]]


CASES = (
    Case(name="sound"),
    Case(
        name="1-samples",
        rows=lengths_in(160),
        finds=(("broken|wrong", r"source_len.*samples|samples.*source_len"), ("broken", r"\b0\b.*(rows|steps)|no row")),
    ),
    Case(name="1-seconds", rows=lengths_in(0.01), finds=(("broken|wrong", r"seconds"),)),
    Case(name="1-milliseconds", rows=lengths_in(10), finds=(("broken|wrong", r"milliseconds"),)),
    Case(
        name="2-list-that-is-evaluated",
        words=("++freeze_param=[encoder]",),
        release="1.0.20",
        finds=(("broken", r"freeze_param.*TypeError"),),
    ),
    Case(
        name="2-names-that-are-evaluated",
        words=("++freeze_param='encoder,predictor'",),
        release="1.2.7",
        finds=(("broken", r"freeze_param.*NameError"),),
    ),
    Case(name="2-list-that-is-taken", words=("++freeze_param=[encoder,predictor]",), release="1.2.7"),
    Case(name="3-freezing-that-works", words=("++freeze_param=encoder",)),
    Case(
        name="4-comma-is-a-sweep", words=("++freeze_param=encoder,predictor",), finds=(("broken", "sweep|Ambiguous"),)
    ),
    Case(
        name="5-typos",
        words=(
            "++train_conf.nax_epoch=5",
            "++dataset_conf.max_token_lenght=2000",
            "++train_conf.use_fp61=true",
        ),
        finds=(("wrong", "nax_epoch.*max_epoch"), ("wrong", "max_token_length"), ("wrong", "use_fp61.*use_fp16")),
    ),
    Case(
        name="6-wrong-section",
        words=("++batch_size=4", "++accum_grad=2", "++num_workers=4", "++log_interval=10"),
        finds=(
            ("wrong", r"batch_size.*dataset_conf\.batch_size"),
            ("wrong", r"accum_grad.*train_conf\.accum_grad"),
        ),
    ),
    Case(
        name="7-tokens-limit-frames",
        words=("++dataset_conf.max_token_length=100",),
        finds=(("broken", r"max_token_length"),),
    ),
    Case(name="8-adamw-and-clipping", words=("++optim=adamw", "++train_conf.grad_clip=1.0")),
    Case(
        name="9-no-validation",
        words=("++train_data_set_list=train.jsonl",),
        valid=False,
        finds=(("broken", "valid"),),
    ),
    Case(
        name="10-output-dir",
        words=("++train_conf.output_dir=./other",),
        finds=(("broken", r"output_dir"),),
    ),
    Case(name="11-deepspeed", words=("++train_conf.use_deepspeed=true",), finds=(("broken", "(?i)deepspeed"),)),
    Case(
        name="12-sense-voice-tokens",
        variant="sense_voice",
        words=("++dataset_conf.batch_type=token", "++dataset_conf.batch_size=30"),
        finds=(("broken|wrong", r"(?i)replac|drop|cut"),),
    ),
    Case(name="13-tokens", folder=fewer_tokens, finds=(("broken|wrong", r"4,?234"),)),
    Case(name="13-statistics", folder=garbage_statistics, finds=(("broken|wrong", r"am\.mvn"),)),
    Case(name="13-pointer", folder=lfs_pointer, finds=(("broken", r"(?i)LFS"),)),
    Case(
        name="14-odd-rows",
        rows=odd_rows,
        finds=(
            ("wrong|broken", r"\blong\b"),
            ("wrong|broken", "dense"),
            ("wrong|minor", "龘"),
            ("wrong|minor", "(?i)silen"),
        ),
    ),
    # Further files that are not what they say, rows that vanish, results that are not what was trained.
    Case(name="K4-error-page", folder=error_page, finds=(("broken", r"model\.pt.*HTML"),)),
    Case(name="K4-cut-off", folder=cut_off, finds=(("broken", r"(?i)model\.pt.*(truncated|cut off|incomplete)"),)),
    Case(name="K4-statistics", folder=statistics_of_another_size, finds=(("broken", r"am\.mvn.*\b80\b.*\b560\b"),)),
    Case(name="K4-tokens", folder=tokens_with_ids, finds=(("broken", r"tokens\.json"),)),
    Case(
        name="K4-width",
        folder=partial(with_setting, "encoder_conf", "linear_units", 1000),
        finds=(("broken|wrong", r"encoder.*another shape|another shape.*encoder"),),
    ),
    Case(
        name="K8-limit-of-another-row",
        release="1.0.6",
        rows=with_long_rows,
        words=("++dataset_conf.max_token_length=1500",),
        finds=(
            ("wrong", r"long.*above `dataset_conf.max_token_length`.*drawn at random"),
            ("wrong", "drops the last batch"),
        ),
    ),
    Case(name="K8-aishell", rows=in_a_folder_named_aishell, finds=(("wrong|minor", "aishell.*joins words"),)),
    Case(
        name="K10-the-base-again",
        folder=output_of_a_training,
        finds=(("wrong", r"(?i)init_param.*base"),),
    ),
    Case(
        name="K10-ranked-by-nothing",
        words=("++train_conf.avg_keep_nbest_models_type=wer",),
        finds=(("broken", "avg_keep_nbest_models_type.*acc"),),
    ),
    Case(name="15-typo-of-the-optimizer", words=("++optim_conf.lrr=0.1",), finds=(("broken", "lrr"),)),
    Case(
        name="16-seaco-decoder",
        variant="seaco_paraformer",
        release="1.0.20",
        folder=partial(with_setting, "model_conf", "train_decoder", True),
        words=("++dataset=AudioDatasetHotword",),
        finds=(("broken", r"_calc_att_loss.* returns 5 values"),),
    ),
    Case(
        name="16-seaco-without-decoder",
        variant="seaco_paraformer",
        release="1.0.20",
        folder=partial(with_setting, "model_conf", "train_decoder", False),
        words=("++dataset=AudioDatasetHotword",),
    ),
    Case(name="17-conformer-validation", variant="conformer", release="1.0.6", finds=(("broken", r"(?i)validation"),)),
    Case(
        name="18-save-and-validate",
        words=("++train_conf.save_checkpoint_interval=50", "++train_conf.validate_interval=100"),
        trainer=("python", "-m", "funasr.bin.train"),
        finds=(("broken", r"save_checkpoint_interval"),),
    ),
    Case(name="19-punctuation", folder=punctuation, finds=(("broken", "CTTransformer"),)),
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return speech(8)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The command of each case, and what the releases answer to all of them."""

    arguments: Mapping[str, list[str]]
    answers: dict[str, Outcome]
    environment: Environment


@pytest.fixture(scope="module")
def scene(
    rows: list[Row], forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """Every case's files; the cases of a release share one process tree, which imports it once."""
    environment, answers = probe(cache=default_cache()), {}
    arguments = {
        case.name: arrange(case, rows, tmp_path_factory.mktemp("case"), forked, layout(case.release)) for case in CASES
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "probe", lambda **_: environment)
        for release in dict.fromkeys(case.release for case in CASES):
            mine = [command._inputs(cli.parse(arguments[case.name])) for case in CASES if case.release == release]
            questions = [question for one in mine for make in preflight.questions() if (question := make(one))]
            ask_all(mine[0], questions)
            answers |= mine[0].answers
    return Scene(arguments=arguments, answers=answers, environment=environment)


@pytest.fixture(autouse=True)
def asked_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured again that was measured for all cases together."""
    run = release_questions._run

    def known(inputs: Inputs, questions: Sequence[ReleaseQuestion]) -> dict[str, Outcome]:
        new = [one for one in questions if one.key not in scene.answers]
        found = {one.key: scene.answers[one.key] for one in questions if one.key in scene.answers}
        return found | (run(inputs, new) if new else {})

    monkeypatch.setattr(command, "probe", lambda **_: scene.environment)
    monkeypatch.setattr(release_questions, "_run", known)


def arrange(case: Case, rows: list[Row], here: Path, forked: Forked, install_dir: Path) -> list[str]:
    """Write the files of a case; its command line."""
    folder = model_folder(forked, install_dir, here / "model", variant=case.variant)
    case.folder(folder)
    train = write_jsonl(here / "train.jsonl", case.rows(rows, here))
    arguments = ["preflight", str(folder), "--train", str(train), "--release", case.release]
    if case.valid:
        arguments += ["--valid", str(write_jsonl(here / "valid.jsonl", speech(4, first=8)))]
    arguments += ["--root", str(here), "--json", str(here / "record.json"), "-q"]
    return [*arguments, "--", *case.trainer, *BASE, *case.words]


def look(arguments: list[str]) -> dict[str, Any]:
    """What the command says, as its record."""
    status = cli.main(arguments)
    record = Path(arguments[arguments.index("--json") + 1])
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    assert found["faults_of_the_harness"] == []
    assert status == (0 if found["go"] else 1)
    return found


def text_of(finding: dict[str, Any]) -> str:
    """All that a user reads of a finding, on one line."""
    return " ".join(map(str, (finding["place"], finding["message"], *finding["evidence"], finding["remedy"])))


def above_minor(record: dict[str, Any]) -> list[str]:
    return [
        f"{one['severity']} {one['rule']}: {text_of(one)}" for one in record["findings"] if one["severity"] != "minor"
    ]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_is_named_and_a_sound_one_is_not_accused(case: Case, scene: Scene) -> None:
    record = look(scene.arguments[case.name])
    if case.sound:
        assert above_minor(record) == []
    for severity, pattern in case.finds:
        matching = [one for one in record["findings"] if re.search(pattern, text_of(one))]
        assert any(re.fullmatch(severity, one["severity"]) for one in matching), (pattern, record["findings"])
    for one in record["findings"]:
        assert one["place"]["file"] or one["place"]["key"], one
        assert "harness.worker" not in text_of(one), one
    assert sum("got multiple values" in text_of(one) for one in record["findings"]) <= 1, record["findings"]
    missing: Sequence[str] = [
        one["rule"] for one in record["findings"] if not one["remedy"] and one["severity"] != "minor"
    ]
    assert missing == []


def test_nothing_of_the_user_is_written(
    rows: list[Row], tmp_path: Path, forked: Forked, layout: Callable[[str], Path]
) -> None:
    folder = model_folder(forked, layout("1.4.16"), tmp_path / "model")
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))}
    cli.main(["preflight", str(folder), "--train", str(train), "--valid", str(train), "--release", "1.4.16", "-q"])
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))}
    assert after == before
    shutil.rmtree(folder)
