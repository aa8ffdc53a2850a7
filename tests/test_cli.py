"""The command line: what it says and how it ends, above all when it is handed something that cannot be used."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import signals
from cli_scene import CELL, MATRIX, Said, World, carry_releases, make_world, write_lock, write_wave

from harness.cli import _MODULES
from harness.commands.arguments import SHELLS, make_parser
from harness.commands.exit_status import AFTER_CTRL_C, BY_COMMAND, guarded
from harness.commands.options import default_lock
from harness.commands.run import Bounds, _within
from harness.core import errors
from harness.core.cells import Cell, Failure, Outcome, Status
from harness.core.errors import HarnessError, SelectionError
from harness.releases import load_lock
from harness.run import Plan, runner
from harness.run.runner import PRELOADED, PRELOADED_FOR_TRAINERS
from harness.run.store import RunStore

ROOT = Path(__file__).parent.parent
COMMANDS = tuple(BY_COMMAND)
PATIENCE = 600.0
"""Seconds after which something that has to come is given up; nothing is measured against it."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path / "clone", cache, capsys, monkeypatch)


def is_one_clear_error(said: Said, *parts: str, status: int = 2) -> None:
    """One error that says what, where and what next, and no traceback."""
    assert said.status == status
    assert said.err.count("error: ") == 1
    assert "\n  next: " in said.err
    assert "Traceback" not in said.err
    for part in parts:
        assert part in said.err


# Answers that need no run.


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_that_takes_time(arguments: list[str]) -> None:
    script = (
        "import sys, harness.cli\n"
        "try:\n    harness.cli.main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'rich', 'funasr', 'yaml', 'jinja2', 'soundfile', 'pynvml', 'tabulate', 'uv',"
        " 'shtab'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "funasr-harness" in done.stdout


def test_every_exit_status_of_an_error_is_in_the_help(world: World) -> None:
    listed = {int(number) for number in re.findall(r"^  (\d+) ", world.call("--help").out, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HarnessError)]
    assert {kind.exit_code for kind in kinds} | {0, 1, 130} == listed


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_its_exit_statuses_and_what_ctrl_c_leaves(world: World, command: str) -> None:
    text = " ".join(world.call(command, "--help").out.partition("exit status:")[2].split())
    for status, meaning in BY_COMMAND[command].items():
        assert f"{status} {meaning}" in text
    assert f"130 interrupted with Ctrl-C; {AFTER_CTRL_C[command]}" in text


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands and their actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)


def test_every_command_has_its_statuses_and_a_module() -> None:
    names = {parser.get_default("command") for parser in parsers(make_parser())} - {None}
    assert names == set(BY_COMMAND) == set(AFTER_CTRL_C) - {"bundle_host"}
    for name in names:
        assert importlib.util.find_spec(f"harness.commands.{_MODULES.get(name, name)}"), name


def test_every_option_has_a_help_text_with_its_default() -> None:
    for parser in parsers(make_parser()):
        assert not parser.allow_abbrev
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) or action.help is argparse.SUPPRESS:
                continue
            assert action.help, f"{parser.prog} {action.dest}"
            takes_a_value = action.option_strings and action.nargs != 0
            in_required_group = any(action in g._group_actions for g in parser._mutually_exclusive_groups if g.required)
            if takes_a_value and not action.required and not in_required_group:
                assert "(default: " in action.help, f"{parser.prog} {action.option_strings}"


@pytest.mark.parametrize(
    ("former", "today"),
    [
        (["cells", "pr"], ["list", "pr"]),
        (["baseline", "show", "--into", "x"], ["baseline", "show", "--baselines", "x"]),
        (["drift", "r", "--cell", "x"], ["drift", "r", "--only", "x"]),
        (["bisect", "--check", "x", "--shape", "y"], ["bisect", "--check", "x", "--dimensions", "y"]),
        (["bisect", "--check", "x", "--scale", "slim"], ["bisect", "--check", "x", "--depth", "reduced"]),
        (
            ["estimate", "--variant", "x", "--batch", "1", "--shape", "y", "--scale", "published"],
            ["estimate", "--variant", "x", "--batch", "1", "--dimensions", "y", "--depth", "full"],
        ),
    ],
)
def test_former_names_still_work_and_are_in_no_help(former: list[str], today: list[str]) -> None:
    parser = make_parser()
    assert parser.parse_args(former) == parser.parse_args(today)
    for one in parsers(parser):
        assert not re.search(r"--(into|cell|shape|scale)\b", one.format_help())


def test_an_option_may_not_be_abbreviated(world: World) -> None:
    said = world.run("--fres")
    assert said.status == 2
    assert "unrecognized arguments: --fres" in said.err


@pytest.mark.parametrize("arguments", [["-q", "run"], ["run", "-q"], ["--quiet", "run"]])
def test_quiet_leaves_progress_out_and_keeps_warnings_and_the_result(world: World, arguments: list[str]) -> None:
    said = world.call(*arguments, "matrices/small.toml", "--cache", str(world.cache))
    assert said.status == 0
    assert "looking at the interpreter" not in said.err
    assert "No GPU" in said.err
    assert "4 as_expected" in said.err


def test_verbose_prints_the_files_and_every_outcome(world: World) -> None:
    plain, verbose = world.run(), world.run("--fresh", "-v")
    cell = CELL.format("construct")
    for part in (f"matrix: {Path('matrices/small.toml')}", f"cache: {world.cache}", f"passed, 0.0 s: {cell}"):
        assert part in verbose.err
        assert part not in plain.err


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_says_what_is_true_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guarded(interrupted, command=command, debug=False) == 130
    assert capsys.readouterr().err == f"interrupted; {AFTER_CTRL_C[command]}\n"


def test_another_system_than_linux_is_named_as_the_reason(world: World) -> None:
    world.monkeypatch.setattr(sys, "platform", "darwin")
    is_one_clear_error(world.call("list", "pr"), "runs on Linux only", "darwin", "WSL 2", status=3)
    assert world.call("--help").status == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_can_complete_commands_and_options(world: World, shell: str) -> None:
    said = world.call("completion", shell)
    assert said.status == 0
    assert {"diagnose", "--baselines", "--fresh"} <= set(re.findall(r"[\w-]+", said.out))


def test_bash_takes_the_script_and_completes_with_it(world: World) -> None:
    (world.folder / "script").write_text(world.call("completion", "bash").out)
    typed = "source ./script; COMP_WORDS=(funasr-harness est); COMP_CWORD=1; _shtab_funasr_harness; echo $COMPREPLY"
    done = subprocess.run(["bash", "-c", typed], cwd=world.folder, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("estimate", "")


# Built-in matrices, lock and known issues.


def test_a_matrix_of_the_working_folder_comes_before_a_built_in_one(world: World) -> None:
    assert world.call("list", "small").out == world.call("list", "matrices/small.toml").out
    world.write_matrix()
    world.matrix.rename(world.folder / "matrices" / "pr.toml")
    assert world.call("list", "pr").out.startswith("1.4.15/")


def test_an_unknown_name_is_answered_with_the_nearest_and_all(world: World) -> None:
    is_one_clear_error(world.call("list", "nightli"), 'did you mean "nightly"?', "atlas, bicif, findings", "path of a")


def test_an_empty_folder_has_the_built_in_matrices_lock_and_known_issues(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32" in world.call("list", "pr").out
    assert "1.4.16" in world.call("releases", "list", "latest").out
    is_one_clear_error(world.call("report", "runs/x"), "holds no run", status=3)


def test_a_new_lock_is_written_into_the_working_folder_and_no_built_in_file_is_changed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    built_in = default_lock().read_bytes()
    served = load_lock(default_lock())[-1:]
    monkeypatch.setattr("harness.releases.lockfile.package_index.published", lambda: iter([served]))
    said = world.call("releases", "lock")
    assert said.status == 0, said.err
    assert default_lock() == Path("matrices/releases.lock.toml")
    assert load_lock(default_lock())[-1:] == served
    monkeypatch.chdir(tmp_path)
    assert default_lock().read_bytes() == built_in


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"funasr-harness \d+\.\d+\.\S+\n", done.stdout)


def test_list_prints_ids_and_nothing_else(world: World) -> None:
    said = world.call("list", "matrices/small.toml")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [
        "1.4.15/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        "1.4.15/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32",
        CELL.format("construct"),
        CELL.format("loss_contract"),
    ]


def test_list_prints_those_that_are_selected(world: World) -> None:
    said = world.call("list", "matrices/small.toml", "--only", "1.4.16/*", "--only", "*/construct/*")
    assert [line.split("/")[0] for line in said.out.splitlines()] == ["1.4.15", "1.4.16", "1.4.16"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "harness", "list", "matrices/atlas.toml"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "required: COMMAND"),
        (["runn", "x"], "invalid choice: 'runn'"),
        (["run"], "required: MATRIX"),
        (["run", "x", "--jobs", "0"], 'expected a whole number above 0, found "0"'),
        (["run", "x", "--jobs", "two"], 'expected a whole number above 0, found "two"'),
        (["releases", "delete"], "invalid choice: 'delete'"),
    ],
)
def test_what_cannot_be_asked_is_reported_with_what_can(world: World, arguments: list[str], part: str) -> None:
    said = world.call(*arguments)
    assert said.status == 2
    assert said.err.startswith("usage: funasr-harness")
    assert part in said.err


def test_releases_are_listed_with_what_is_installed(world: World) -> None:
    world.run("--only", "1.4.16/*")
    said = world.call("releases", "list", "--cache", str(world.cache))
    assert said.status == 0
    rows = [line.split() for line in said.out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["1.4.15", "wheel"], ["1.4.16", "wheel"]]
    assert rows[1][-1] == "installed"


def test_a_release_is_fetched(world: World, tmp_path: Path) -> None:
    carry_releases(tmp_path / "own")
    said = world.call("releases", "fetch", "latest", "--cache", str(tmp_path / "own"))
    assert (said.status, said.out) == (0, "installed 1.4.16\n")


# Files that cannot be used.


def test_what_trainers_alone_import_is_preloaded_for_trainers_alone(world: World) -> None:
    world.run()
    path = world.folder / "matrices" / "small.toml"
    path.write_text(path.read_text().replace('"loss_contract"', '"finetune@train_ds"'))
    world.run("--fresh")
    contract, training = map(set, world.tree.preloaded)
    assert training - contract == set(PRELOADED_FOR_TRAINERS)
    assert contract == set(PRELOADED)


def test_all_problems_of_a_matrix_are_reported_at_once_with_place_and_suggestion(world: World) -> None:
    text = MATRIX.replace('"paraformer"', '"paraformer_straming"').replace("depth", "detph")
    world.matrix.write_text(text.replace("construct", "constrict") + "\n[limit]\n")
    for command in ("list", "run"):
        world.never("probe")
        is_one_clear_error(
            world.call(command, "matrices/small.toml"),
            "matrices/small.toml: 4 problems",
            '- limit: unknown key, did you mean "limits"?',
            '- [axes] detph: unknown key, did you mean "depth"?',
            '- [axes] check: "constrict" is no check, did you mean "construct"?',
            '- [axes] variant: "paraformer_straming" is no variant, did you mean "paraformer_streaming"?',
            "next: correct matrices/small.toml",
        )


def test_a_release_that_does_not_exist_is_reported_with_its_place(world: World) -> None:
    world.write_matrix('"1.4.15"', '"1.4.99"')
    said = world.call("list", "matrices/small.toml")
    is_one_clear_error(said, "- [axes] release: no such release: 1.4.99", "the nearest are 1.4.15, 1.4.16")
    said = world.call("releases", "fetch", "1.4.99")
    is_one_clear_error(said, "no such release: 1.4.99", "funasr-harness releases list")


def test_sizes_that_no_model_can_have_are_reported_before_anything_is_begun(world: World) -> None:
    text = MATRIX.replace("[320]", "[320, 321, 514]").replace("[8404]", "[8404, 4]")
    world.matrix.write_text(text)
    world.never("probe")
    for command in ("list", "run"):
        said = world.call(command, "matrices/small.toml")
        is_one_clear_error(
            said,
            "attention heads of encoder_conf.attention_heads do not divide a hidden size of 321",
            "the nearest sizes that fit are 320 and 324",
            "do not divide a hidden size of 514",
            "a vocabulary of 4 is not larger than the 4 special tokens",
            "matrices/small.toml: 5 problems",
        )
    assert not world.output.exists()


def test_a_file_of_the_users_that_is_no_variant_is_reported(world: World) -> None:
    (world.folder / "matrices" / "mine.yaml").write_text("model: Paraformer\n")
    world.write_matrix('"paraformer"', '"mine.yaml"')
    is_one_clear_error(world.call("list", "matrices/small.toml"), "mine.yaml has no `harness` block")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["list", "matrices/smal.toml"], ["matrices/smal.toml", "did you mean matrices/small.toml?"]),
        (["list", "matrix/small.toml"], ["matrix/small.toml", "did you mean matrices/small.toml?"]),
        (["list", "elsewhere/x.toml"], ["no folder elsewhere", "where the harness was cloned"]),
        (["list", "x.toml"], ["x.toml", "give the path of a file that exists"]),
        (["list", "matrices"], ["matrices", "Is a directory"]),
        (["run", "matrices/smal.toml"], ["did you mean matrices/small.toml?"]),
        (
            ["run", "matrices/small.toml", "--lock", "matrices/release.lock.toml"],
            ["did you mean matrices/releases.lock"],
        ),
        (["run", "matrices/small.toml", "--known-issues", "matrices/known.toml"], ["matrices/known_issues.toml"]),
        (["report", "runs/small"], ["runs/small holds no run", "funasr-harness run"]),
        (["show", CELL.format("construct"), "--run", "runs/small"], ["runs/small holds no run"]),
    ],
)
def test_a_missing_file_is_reported_with_the_one_that_was_meant(
    world: World, arguments: list[str], parts: list[str]
) -> None:
    (world.folder / "pyproject.toml").write_text("")
    world.never("probe")
    said = world.call(*arguments)
    is_one_clear_error(said, *parts, status=3 if "holds no run" in said.err else 2)
    assert "pyproject" not in said.err


def test_a_mistyped_matrix_is_reported_before_a_missing_lock(world: World) -> None:
    (world.folder / "matrices" / "releases.lock.toml").unlink()
    is_one_clear_error(world.call("list", "matrices/smal.toml"), "matrices/smal.toml: 1 problem")


def test_a_wheel_with_another_hash_than_the_locks_is_refused(world: World, tmp_path: Path) -> None:
    own = tmp_path / "own"
    older, newest = carry_releases(own)
    planted = replace(newest, sha256="0" * 64)
    write_lock(world.folder / "matrices" / "releases.lock.toml", [older, planted])
    for arguments in (["releases", "fetch"], ["run", "matrices/small.toml"]):
        said = world.call(*arguments, "--cache", str(own))
        is_one_clear_error(
            said,
            "release 1.4.16: funasr-1.4.16-py3-none-any.whl is not the file that was locked",
            f"expected sha256 {'0' * 64}",
            f"got      sha256 {newest.sha256}",
            "do not use it",
            status=3,
        )
    assert not world.tree.asked
    assert not list((own / "releases").glob("1.4.16*"))


def test_a_selection_that_matches_nothing_is_reported(world: World) -> None:
    world.never("probe")
    for command in ("list", "run"):
        said = world.call(command, "matrices/small.toml", "--only", "*/construct/*", "--only", "1.4.1x/*")
        is_one_clear_error(said, '"1.4.1x/*" matches none of the 4 cells', "funasr-harness list MATRIX")


# Speech that cannot be used.


def test_all_problems_of_a_jsonl_file_are_reported_and_the_run_is_not_begun(world: World) -> None:
    write_wave(world.folder / "good.wav")
    rows = [
        {"key": "a", "source": "good.wav"},
        {"key": "b", "source": "gone.wav", "target": "你好"},
        {"key": "c", "source": "good.wav", "target": "你好"},
        {"key": "d", "source": "good.wav", "target": "好", "source_len": "100"},
    ]
    (world.folder / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    world.run("--only", "1.4.16/*")
    before = world.written()
    world.never("lay_out_releases")
    said = world.run("--jsonl", "mine.jsonl", "--fresh")
    is_one_clear_error(
        said,
        "mine.jsonl: 3 problems",
        "- line 1: no `target`",
        "- line 2: no such audio file: gone.wav",
        "- line 4: `source_len` must be a number",
        "next: correct mine.jsonl",
    )
    assert world.written() == before


def test_text_that_does_not_fit_the_vocabulary_is_reported(world: World) -> None:
    write_wave(world.folder / "good.wav")
    text = "".join(chr(0x4E00 + step) for step in range(40))
    (world.folder / "mine.jsonl").write_text(json.dumps({"key": "a", "source": "good.wav", "target": text}))
    world.write_matrix("[8404]", "[30]")
    world.never("lay_out_releases")
    is_one_clear_error(
        world.run("--jsonl", "mine.jsonl"), "40 distinct characters", "a vocabulary of 30", "at least 44"
    )


def test_a_file_that_cannot_be_used_is_reported_before_the_interpreter_is_looked_at(world: World) -> None:
    world.never("probe")
    for content, told in ((b"\xef\xbb\xbf{}", "byte-order mark"), (b"x" * 2**20, "line 1"), (b"{}\n\x00\n", "line 2")):
        (world.folder / "mine.jsonl").write_bytes(content)
        is_one_clear_error(world.run("--jsonl", "mine.jsonl"), "mine.jsonl: ", told)


@pytest.mark.parametrize("option", [("--valid", "mine.jsonl"), ("--rows", "8")])
def test_an_option_about_a_file_that_is_not_named_is_one_error(world: World, option: tuple[str, str]) -> None:
    is_one_clear_error(world.run(*option), f"{option[0]} says something about a file of your own", "--jsonl")


def test_what_is_used_and_what_is_odd_is_said_before_the_run_and_kept_with_it(world: World) -> None:
    write_wave(world.folder / "good.wav", seconds=1.5)
    row = {"key": "a", "source": "good.wav", "source_len": 24_000, "target": "你好", "target_len": 2}
    (world.folder / "mine.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    world.write_matrix('"loss_contract"', '"loss_contract", "finetune@train"')
    cell = CELL.format("finetune@train")
    passed = {"metrics": {"steps": 0, "losses": []}}
    world.tree.failing = {cell: passed}
    said = world.run("--jsonl", "mine.jsonl", "--only", "1.4.16/*")
    assert said.status == 2
    used, unit, none, *_ = [line for line in said.err.splitlines() if line.startswith("mine.jsonl: ")]
    assert used == "mine.jsonl: 3 rows, as in the file; validated on the same rows (--valid names others)"
    assert "is in samples (line 1 says 24000, for 1.50 s)" in unit
    assert "FunASR trains on no row (paraformer; 1.4.16)" in none
    kept = json.loads((world.output / "run.json").read_text())
    assert (kept["speech"], kept["notices"]) == (used, [unit, none])
    corrected = (world.output / "mine.corrected.jsonl").read_text()
    assert corrected == f"{json.dumps({**row, 'source_len': 150})}\n" * 3
    (outcome,) = [one for one in world.written() if one["cell"]["check"] == "finetune"]
    assert outcome["status"] == "failed"
    assert outcome["evidence"]["user_rows"] == {
        "file": "mine.jsonl",
        "listed": 3,
        "trainable": 0,
        "reasons": [
            {"line": line, "key": "a", "reason": "source_len is 24000, above max_token_length 2048", "frames": 150}
            for line in (1, 2, 3)
        ],
    }
    assert "yours: " in said.err
    assert "no row of mine.jsonl can be trained on (3 are listed): line 1" in said.err
    assert "is in samples (line 1 says 24000" in (world.output / "compatibility.md").read_text()


def test_speech_that_is_not_there_is_reported(world: World) -> None:
    is_one_clear_error(world.run("--jsonl", "gone.jsonl"), "gone.jsonl", "No such file")
    assert not world.output.exists()


# Runs.


def test_a_run_that_goes_as_expected_writes_reports_and_ends_with_0(world: World) -> None:
    said = world.run()
    assert said.status == 0
    assert [outcome["status"] for outcome in world.written()] == ["passed"] * 4
    for name in ("compatibility.html", "compatibility.md", "junit.xml"):
        assert (world.output / name).is_file()
        assert f"runs/small/{name}" in said.err
    assert "No GPU" in said.err
    assert "4 as_expected" in said.err


def test_a_regression_ends_the_run_with_1(world: World) -> None:
    failure = Failure(type="E", message="m", signature="E@funasr/x.py:f")
    world.tree.failing[CELL.format("construct")] = {"status": Status.FAILED, "reason": "so it is", "failure": failure}
    said = world.run()
    assert said.status == 1
    assert f"regression: {CELL.format('construct')}: so it is" in said.err
    assert world.call("report", "runs/small").status == 1


def test_a_fault_of_the_machine_ends_the_run_with_3_and_its_cell_is_run_again(world: World) -> None:
    world.tree.failing[CELL.format("construct")] = {"status": Status.ERRORED, "reason": "no memory left"}
    assert world.run().status == 3
    world.tree.failing.clear()
    world.tree.asked.clear()
    assert world.run().status == 0
    assert world.tree.asked == [CELL.format("construct")]


def test_a_cell_without_an_outcome_is_no_success(world: World) -> None:
    def one_alone(plan: Plan, on_outcome: Callable[[Outcome], None], **_: object) -> None:
        on_outcome(Outcome(cell=plan.cells[0], status=Status.PASSED, reason=""))

    world.monkeypatch.setattr(runner, "execute", one_alone)
    assert world.run().status == 3


def test_what_is_done_is_neither_run_nor_fetched_again(world: World) -> None:
    assert world.run().status == 0
    world.never("lay_out_releases")
    world.never("execute")
    assert world.run().status == 0


def test_only_what_is_selected_counts_for_the_exit_status(world: World) -> None:
    world.tree.failing[CELL.format("construct")] = {"status": Status.TIMED_OUT, "reason": "slow"}
    assert world.run().status == 1
    assert world.run("--only", "1.4.15/*").status == 0


def test_an_interrupted_run_keeps_what_it_has_and_goes_on_from_there(world: World) -> None:
    def interrupt(cell: object) -> None:
        if len(world.tree.asked) == 2:
            raise KeyboardInterrupt

    world.tree.before_each = interrupt
    said = world.run()
    assert said.status == 130
    assert "what was measured is kept" in said.err
    assert "Traceback" not in said.err
    done = [outcome["id"] for outcome in world.written()]
    assert len(done) == 2
    world.tree.before_each = lambda cell: None
    assert world.run().status == 0
    assert len(world.tree.asked) == len(set(world.tree.asked)) == 4


def test_a_full_disk_ends_the_run_with_3_and_what_was_measured_stays(world: World) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(cell: object) -> None:
        if len(world.tree.asked) == 2:
            size = (world.output / "outcomes.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))

    world.tree.before_each = fill
    try:
        said = world.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    is_one_clear_error(
        said,
        "outcomes.jsonl cannot be written: File too large",
        "raise it (ulimit -f) and run the same command again",
        status=3,
    )
    assert len(world.written()) == 2
    world.tree.before_each = lambda cell: None
    assert world.run().status == 0
    assert len(world.written()) == 4


@pytest.mark.parametrize("filename", [None, "/somewhere/file"])
def test_a_full_disk_anywhere_is_reported_in_words(world: World, filename: str | None) -> None:
    def fill(cell: object) -> None:
        raise OSError(28, "No space left on device", filename)

    world.tree.before_each = fill
    is_one_clear_error(
        world.run(), f"{filename or 'a file'} cannot be written: No space left", "the disk is full", status=3
    )


def test_two_runs_do_not_write_to_the_same_place(world: World) -> None:
    world.never("lay_out_releases")
    with RunStore.open(world.output):
        said = world.run()
    is_one_clear_error(said, "another run writes to runs/small", "write elsewhere with -o", status=3)


def test_outcomes_of_another_matrix_are_not_mixed_in_and_nothing_is_fetched_for_them(world: World) -> None:
    assert world.run("--only", "1.4.15/*").status == 0
    before = (world.output / "run.json").read_bytes()
    world.write_matrix('"construct", ', "")
    world.never("lay_out_releases")
    is_one_clear_error(world.run(), "must not be mixed with", "- matrix sha256: ", "--fresh", "-o", status=3)
    assert (world.output / "run.json").read_bytes() == before


def test_a_fresh_run_sets_the_older_one_aside(world: World) -> None:
    assert world.run().status == 0
    said = world.run("--fresh")
    assert said.status == 0
    assert "outcomes.jsonl of an earlier run was set aside as outcomes.before-1.jsonl" in said.err
    assert len(world.tree.asked) == 8


def test_a_place_that_is_no_folder_is_reported(world: World) -> None:
    (world.folder / "taken").write_text("")
    for place in ("taken", "taken/below"):
        is_one_clear_error(world.run("-o", place), f"{place} cannot be opened", "write elsewhere with -o", status=3)


def test_the_gpu_that_is_required_has_to_be_there(world: World) -> None:
    said = world.run("--require-gpu")
    is_one_clear_error(said, "--require-gpu", "2.13.0+cpu is a CPU build", "leave the option out", status=4)
    assert not world.output.exists()


def test_a_cell_that_asks_for_a_gpu_by_name_is_not_run_without_one(world: World) -> None:
    world.write_matrix('device = ["cpu"]', 'device = ["cuda"]')
    said = world.run()
    is_one_clear_error(said, "4 cells need a GPU and torch finds none", '"auto"', status=4)
    assert not world.tree.asked


def test_no_word_of_a_missing_gpu_where_there_is_one(world: World) -> None:
    world.use_stack(cuda_available=True)
    said = world.run("--require-gpu")
    assert said.status == 0
    assert "No GPU" not in said.err


def test_a_cache_may_be_named_from_here(world: World) -> None:
    requests: list[dict[str, Any]] = []
    carry_releases(world.folder / "own")

    def keep(plan: Plan, *_: object, **__: object) -> None:
        requests.extend(one.request for one in plan.planned().values())

    world.monkeypatch.setattr(runner, "execute", keep)
    world.call("run", "matrices/small.toml", "--cache", "own")
    assert {Path(request["release"]["install_dir"]).parent for request in requests} == {
        world.folder / "own" / "releases"
    }


def test_the_workspace_of_a_run_is_gone_afterwards(world: World, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    world.monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    world.tree.before_each = lambda cell: (_ for _ in ()).throw(KeyboardInterrupt)
    assert world.run().status == 130
    assert list((tmp_path / "temporary").iterdir()) == []


# Faults that nobody foresaw.


def test_a_fault_of_the_harness_is_no_regression_and_no_traceback(world: World) -> None:
    world.tree.before_each = lambda cell: [][1]
    said = world.run()
    is_one_clear_error(said, "IndexError", "fault of the harness itself", "test_cli.py, line", "--debug", status=3)


@pytest.mark.parametrize("order", [("--debug", "show", "x"), ("show", "x", "--debug")])
def test_debug_shows_the_traceback_and_keeps_the_exit_status(world: World, order: tuple[str, ...]) -> None:
    said = world.call(*order)
    assert said.status == 2
    assert "Traceback (most recent call last)" in said.err
    assert "error: not a cell id: 'x'" in said.err


# What was run, looked at again.


def test_run_and_report_end_with_the_same_answer_before_the_counts(world: World) -> None:
    ran, reported = world.run(), world.call("report", "runs/small")
    for said in (ran, reported):
        told, _, counts = said.err.partition("Which releases can be fine-tuned?\n")[2].partition("\n\n")
        assert told.splitlines() == [
            "paraformer: nothing was fine-tuned",
            "  nothing broken, and nothing fine-tuned: 1.4.15, 1.4.16",
            "  the newest here, 1.4.16: passed: construct, loss_contract",
        ]
        assert "4 as_expected" in counts


def test_show_tells_what_is_known_of_a_cell_and_how_to_repeat_it(world: World) -> None:
    failure = Failure(type="AssertionError", message="", signature="AssertionError@funasr/x.py:f")
    cell = CELL.format("loss_contract")
    world.tree.failing[cell] = {
        "status": Status.FAILED,
        "reason": "handed 320, built for 8404",
        "failure": failure,
        "metrics": {"loss": None},
        "evidence": {"loss_inputs": [{"name": "criterion", "width": 320, "classes": 8404}]},
        "shims": ("cuda-calls-stay-on-cpu",),
    }
    world.run()
    said = world.call("show", cell)
    assert (said.status, said.err) == (0, "")
    for part in (
        "status    failed: handed 320, built for 8404",
        "verdict   regression",
        "shim      cuda-calls-stay-on-cpu",
        "loss = null",
        '{"name": "criterion", "width": 320, "classes": 8404}',
        "signature AssertionError@funasr/x.py:f",
        f"again     funasr-harness run matrices/small.toml --only {cell} -o runs/again --fresh",
    ):
        assert part in said.out
    record = json.loads(world.call("show", cell, "--json").out)
    assert (record["schema"], record["cell"]) == (1, cell)
    (run,) = record["runs"]
    assert (run["verdict"], run["outcome"]["status"]) == ("regression", "failed")
    assert run["again"].startswith("funasr-harness run matrices/small.toml")


def test_the_command_that_show_gives_runs_that_cell(world: World) -> None:
    world.run()
    world.tree.asked.clear()
    again = world.call("show", CELL.format("construct")).out.rpartition("funasr-harness ")[2].split()
    assert world.call(*(word.strip("'") for word in again), "--cache", str(world.cache)).status == 0
    assert world.tree.asked == [CELL.format("construct")]


def test_show_does_not_invent_the_path_of_a_matrix(world: World) -> None:
    world.run()
    # A run of an older harness has the matrix's name alone.
    kept = json.loads((world.output / "run.json").read_text())
    del kept["arguments"]
    (world.output / "run.json").write_text(json.dumps(kept))
    assert "again     funasr-harness run matrices/small.toml --only" in world.call("show", CELL.format("construct")).out
    world.matrix.rename(world.folder / "mine.toml")
    assert "again     funasr-harness run MATRIX --only" in world.call("show", CELL.format("construct")).out


def test_what_is_no_cell_id_is_reported(world: World) -> None:
    for name in ("1.4.16", "a/b/c/d/e/f", "1.4.16/paraformer/8404/reduced/construct/cpu-fp32"):
        said = world.call("show", name)
        is_one_clear_error(said, f"not a cell id: '{name}'", "funasr-harness list")


def test_a_cell_that_was_never_run_is_reported_with_near_ones(world: World) -> None:
    said = world.call("show", CELL.format("construct"))
    is_one_clear_error(said, "was not run (no run in runs/ or reports/)")
    world.run()
    said = world.call("show", CELL.format("construct").replace("320", "512"))
    is_one_clear_error(said, "was not run (runs/small)", f"near ids that were run are {CELL.format('construct')}")
    said = world.call("show", "1.0.0/-/-/-/import/cpu-fp32")
    is_one_clear_error(said, "was not run (runs/small)")
    assert "paraformer" not in said.err


def test_show_passes_over_a_run_that_has_only_just_begun(world: World) -> None:
    world.run()
    with RunStore.open(world.folder / "runs" / "other"):
        said = world.call("show", CELL.format("construct"))
    assert said.status == 0
    assert "skipped: runs/other/run.json is missing" in said.err
    assert "status    passed" in said.out


def test_a_run_that_is_damaged_is_reported_when_it_was_named(world: World) -> None:
    world.run()
    (world.output / "run.json").write_text("{}")
    for arguments in (["show", CELL.format("construct"), "--run", "runs/small"], ["report", "runs/small"]):
        is_one_clear_error(world.call(*arguments), "runs/small/run.json does not say", status=2)


def test_report_writes_where_it_is_reported(world: World) -> None:
    world.run()
    said = world.call("report", "runs/small", "-o", "elsewhere")
    assert said.status == 0
    names = ["compatibility.html", "compatibility.md", "junit.xml"]
    assert said.out.splitlines() == [f"elsewhere/{name}" for name in names]
    assert [(world.folder / "elsewhere" / name).read_bytes() for name in names] == [
        (world.output / name).read_bytes() for name in names
    ]


# A real run, interrupted.

REAL = """\
schema = 1
name = "real"
description = "one release, two checks and the import"

[axes]
release = ["1.4.16"]
variant = ["paraformer"]
vocab_size = [8404, 8501]
hidden_size = [320]
depth = ["reduced"]
device = ["cpu"]
check = ["import", "construct", "loss_contract"]
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A real run; its workspace lies in `folder` too, so that each of its processes can be told by it."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(folder / "real.toml"), "-o", str(folder / "out")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=signals.listen,
    )


@pytest.mark.release
def test_a_real_run_that_is_interrupted_leaves_nothing_running_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("r")
    (folder / "real.toml").write_text(REAL)
    outcomes = folder / "out" / "outcomes.jsonl"
    process = start(folder)
    seen = 0
    deadline = time.monotonic() + PATIENCE
    while not (outcomes.is_file() and outcomes.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        seen = max(seen, len(processes_in(folder)))
        time.sleep(0.05)
    assert seen > 2
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted; what was measured is kept" in said
    assert "Traceback" not in said
    assert processes_in(folder) == []
    assert not list(folder.glob("fh-*"))
    kept = outcomes.read_bytes()
    process = start(folder)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert outcomes.read_bytes().startswith(kept)
    lines = [json.loads(line) for line in outcomes.read_bytes().splitlines()]
    # what a busy machine kept from its answer is run again, with what it blocked
    final = [line["id"] for line in lines if line["status"] not in ("errored", "blocked")]
    assert len(final) == len(set(final)) == 5


def processes_in(folder: Path) -> list[str]:
    """The command lines of running processes that name something in this folder or run in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, place = (entry / "cmdline").read_bytes().decode(errors="replace"), str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in command or place.startswith(str(folder)):
            found.append(command)
    return found


def test_a_run_that_was_broken_off_is_no_success_and_its_report_says_so(world: World) -> None:
    last = CELL.format("loss_contract")

    def broken_off(cell: Cell) -> None:
        if cell.id == last:
            raise SystemExit(143)

    world.tree.before_each = broken_off
    assert world.run().status == 143
    said = world.call("report", "runs/small")
    assert said.status == 3
    assert "1 of 4 cells have no outcome: the run was broken off" in said.err
    assert "1 of 4 cells have no outcome" in (world.output / "compatibility.md").read_text(encoding="utf-8")
    world.tree.before_each = lambda cell: None
    assert world.run().status == 0
    assert world.call("report", "runs/small").status == 0


def test_a_part_of_a_matrix_owes_its_own_cells_alone(world: World) -> None:
    assert world.run("--only", "1.4.16/*").status == 0
    assert json.loads((world.output / "run.json").read_text(encoding="utf-8"))["selected"] == 2
    assert world.call("report", "runs/small").status == 0


def test_cells_that_a_bundle_should_hold_and_does_not_are_named_and_owed() -> None:
    cells = [Cell.parse(CELL.format(check)) for check in ("construct", "loss_contract")]
    imported = Cell.parse("1.4.16/-/-/-/import/cpu-fp32")
    bounds = Bounds(cells=frozenset({cells[0].id}), left_out=frozenset({"import"}))
    assert _within((imported, *cells), bounds) == ((cells[0], cells[1]), (cells[0],))
    whole = Bounds(cells=frozenset(cell.id for cell in cells), left_out=frozenset({"import"}))
    assert _within((imported, *cells), whole) == (tuple(cells), tuple(cells))
    assert _within((imported, *cells), Bounds()) == ((imported, *cells), (imported, *cells))
    with pytest.raises(SelectionError, match="none of the 1 selected cells"):
        _within((imported,), bounds)
