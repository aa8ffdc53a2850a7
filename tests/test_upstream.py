"""Reports for upstream: what they say, and that a script is believed only for what it was seen to do."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.core.cells import Cell, Dimensions, Failure, Frame, Outcome, Release, Status
from harness.core.errors import InputError
from harness.environments.environment import Environment, probe
from harness.releases import default_cache, install_path, resolve
from harness.report.upstream import trial, write
from harness.report.upstream.contract_script import contract_script, sizes
from harness.report.upstream.document import document
from harness.report.upstream.finding import UpstreamFinding, findings
from harness.report.upstream.scripts import DATA_ENDINGS, PROPERTY_ENDINGS, SHOWN, data_script, property_script
from harness.rules.known_issues import KnownIssues, load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.store import load_run
from harness.variants.catalogue import available, load_variant

ROOT = Path(__file__).parent.parent
STREAMING = "1.0.17/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32"
PROPERTIES = "1.4.16/paraformer_streaming/v8404-h320/reduced/properties/cpu-fp32"
DATA = "1.4.16/paraformer/v8404-h320/reduced/data@train_ds/cpu-fp32"
CHECKPOINT = "1.4.16/paraformer/v8404-h320/reduced/checkpoint@train_ds/cpu-fp32"

STACK = Environment(
    python=Path(sys.executable),
    python_version="3.11.7",
    torch_version="2.13.0+cpu",
    cuda_version=None,
    cuda_available=False,
    gpu_names=(),
    libraries={},
    torchaudio_imports=True,
    user_base=None,
)
RELEASE = Release(label="1.0.17", version="1.0.17", kind="wheel", filename="funasr.whl", sha256="0" * 64)


@pytest.fixture(scope="module")
def issues() -> KnownIssues:
    return load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())


@cache
def outcomes(run: str, cell: str) -> tuple[Outcome, ...]:
    return load_run(ROOT / "reports" / run, lambda name: Cell.parse(name).id == cell).outcomes


def committed(run: str, cell: str, issues: KnownIssues) -> JudgedOutcome:
    (one,) = judge(outcomes(run, cell), issues)
    return one


def failing(kind: str, place: str, *frames: Frame) -> JudgedOutcome:
    """A regression of the streaming model's contract."""
    record = {"schema": 2, "id": STREAMING, "status": "failed", "reason": "it fails", "failure": None}
    rest = {"metrics": {}, "evidence": {}, "shims": [], "seconds": 0.1, "started": "2026-01-01T00:00:00Z"}
    failure = Failure(type=kind, message="it fails", frames=frames, signature=f"{kind}@{place}")
    outcome = replace(Outcome.from_json({**record, **rest}), failure=failure)
    return judge([outcome], KnownIssues())[0]


def test_the_reported_bug_is_reported_with_its_cause_and_a_script(issues: KnownIssues) -> None:
    (found,) = findings(committed("atlas", STREAMING, issues), load_variant("paraformer_streaming"))
    assert found.issue is not None
    assert found.title == found.issue.title
    tiny, own = found.scripts
    assert "VOCAB_SIZE = 30\n" in tiny
    assert "VOCAB_SIZE = 8404\n" in own
    # This release calls .cuda() on a CPU too, and the script has to do without the harness.
    assert "torch.Tensor.cuda = lambda" in tiny
    assert "harness" not in tiny


@pytest.mark.parametrize(("run", "cell"), [("atlas", STREAMING), ("later_checks", PROPERTIES), ("later_checks", DATA)])
def test_every_script_is_python_without_placeholders_or_the_harness(run: str, cell: str, issues: KnownIssues) -> None:
    variant = load_variant(cell.split("/")[1])
    scripts = [text for found in findings(committed(run, cell, issues), variant) for text in found.scripts]
    assert scripts
    for text in scripts:
        tree = ast.parse(text)
        imported = {
            name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
        }
        assert imported <= {*sys.stdlib_module_names, "torch", "numpy", "funasr"}
        assert not re.search(r"@[A-Z_]+@", text)


def test_each_property_is_a_finding_of_its_own_with_its_own_issue(issues: KnownIssues) -> None:
    found = findings(committed("later_checks", PROPERTIES, issues), load_variant("paraformer_streaming"))
    assert len(found) == 6
    assert all(one.scripts for one in found)
    assert {one.name: one.issue.id for one in found if one.issue}["every_token_sees_frames"] == (
        "streaming-token-sees-no-frame"
    )


def test_where_no_script_can_be_made_the_report_says_so(issues: KnownIssues) -> None:
    judged = committed("later_checks", CHECKPOINT, issues)
    found = findings(judged, load_variant("paraformer"))
    assert found
    for one in found:
        assert not one.scripts
        text = document(one, judged.outcome, STACK, script=None, trial=None)
        assert "No script was made: it takes a training" in text


@pytest.mark.parametrize("kind", ["LossNotTheSum", "NoGradient", "LossNotFinite", "LossNotCalled", "Frozen"])
@pytest.mark.parametrize("name", available())
def test_a_finding_of_any_architecture_gives_a_script(name: str, kind: str) -> None:
    variant = load_variant(name)
    judged = failing(kind, "encoder")
    tiny = next(iter(sizes(variant, Dimensions(vocab_size=30000, hidden_size=320))))
    text = contract_script(judged.outcome, variant, tiny, title="a title")
    assert text is not None
    ast.parse(text)


def test_a_kind_of_finding_that_no_script_shows_gives_none() -> None:
    (found,) = findings(failing("Strange", "encoder"), load_variant("paraformer"))
    assert found.scripts == ()
    assert found.why_none == "no script is known for this kind of finding"


HOSTILE = """a "quoted" 'text' \\ {braces} {{ config }} \n\u2028\x00 \"\"\" end"""


def test_a_title_cannot_leave_its_docstring() -> None:
    text = data_script({"name": "long", "message": "m"}, title=HOSTILE, release=HOSTILE)
    tree = ast.parse(text.replace("\x00", ""))
    assert ast.get_docstring(tree) is not None
    assert [type(one).__name__ for one in tree.body].count("Expr") == 1


def test_a_text_of_a_finding_is_a_literal_in_its_script() -> None:
    question = {"name": "text_x", "message": "became <unk>", "example": {"file": HOSTILE}}
    text = data_script(question, title="t", release="1.0.0")
    (value,) = (
        one.value
        for one in ast.parse(text).body
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == "TEXT"
    )
    assert ast.literal_eval(value) == HOSTILE


@pytest.mark.parametrize("place", ['x"); import os; ("', "x}{1/0}", "a b"])
def test_a_place_that_is_no_path_of_a_module_gives_no_script(place: str) -> None:
    (found,) = findings(failing("LossNotCalled", place), load_variant("paraformer"))
    assert found.scripts == ()


def test_an_exception_s_place_is_a_literal_in_its_script() -> None:
    frame = Frame(file="funasr/x.py", line=1, function="f", code="f()")
    (found,) = findings(failing('E"', 'funasr/x.py:f") or exit("', frame), load_variant("paraformer"))
    for text in found.scripts:
        constants = {one.value for one in ast.walk(ast.parse(text)) if isinstance(one, ast.Constant)}
        assert {'E"', 'f") or exit("'} <= constants


@pytest.mark.parametrize("name", sorted(PROPERTY_ENDINGS))
def test_each_property_with_a_script_has_its_function(name: str) -> None:
    example = "{example: {frames: [4], tokens: [1], seed: 0}, model: M, model_conf: {}}"
    text = property_script(name, "m", example, title="t", release="1.0.0", shims=())
    assert "main" in {one.name for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)}


@pytest.mark.parametrize("name", sorted(DATA_ENDINGS))
def test_each_question_of_the_data_with_a_script_has_its_function(name: str) -> None:
    text = data_script({"name": name, "message": "m"}, title="t", release="1.0.0")
    assert "main" in {one.name for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)}


def tried(script: str, tmp_path: Path) -> trial.ScriptTrial:
    """What is made of a script; the release in the cache is an empty folder."""
    install_path(RELEASE, tmp_path).mkdir(parents=True)
    return trial.run(script, RELEASE, STACK, cache=tmp_path)


@pytest.mark.parametrize(
    ("script", "shown", "told"),
    [
        ("import sys; print('here'); sys.exit(10)", True, "showed the fault (exit status 10)"),
        ("print('nothing')", False, "did not show the fault (exit status 0)"),
        ("raise ImportError('no funasr')", False, "ended with exit status 1: nothing is known"),
    ],
)
def test_only_its_own_exit_status_says_that_a_script_showed_the_fault(
    tmp_path: Path, script: str, shown: bool, told: str
) -> None:
    result = tried(script, tmp_path)
    assert (result.shown, told in result.sentence) == (shown, True)


def test_a_report_of_a_script_that_showed_nothing_is_not_called_reproducible(tmp_path: Path) -> None:
    judged = failing("NoGradient", "encoder")
    finding = UpstreamFinding(name="x", title="T", what="w", expected="e", issue=None, scripts=("print(1)",))
    result = tried("print('fine', __file__)", tmp_path)
    text = document(finding, judged.outcome, STACK, script="print(1)", trial=result)
    assert "is not called reproducible" in text
    assert "The script below prints" not in text
    assert str(tmp_path) not in text


def test_a_cell_that_passed_has_nothing_to_report(tmp_path: Path) -> None:
    judged = failing("NoGradient", "encoder")
    passed = replace(judged, outcome=replace(judged.outcome, status=Status.PASSED, failure=None))
    with pytest.raises(InputError, match="there is nothing to report"):
        list(write(passed, RELEASE, STACK, cache=tmp_path, folder=tmp_path / "issues"))


@pytest.mark.release
def test_the_script_shows_the_reported_bug_where_it_is_and_not_where_it_is_mended(
    layout: Callable[[str], Path], locked: tuple[Release, ...], issues: KnownIssues
) -> None:
    (found,) = findings(committed("atlas", STREAMING, issues), load_variant("paraformer_streaming"))
    stack, status = probe(), {}
    for version in ("1.0.17", "1.0.18"):
        layout(version)
        (release,) = resolve(version, locked)
        status[version] = trial.run(found.scripts[0], release, stack, cache=default_cache()).exit_status
    assert status == {"1.0.17": SHOWN, "1.0.18": 0}
