"""Known issues: what a file says, which cells it speaks of, and every problem that it can have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.cells import Cell, Check, Device, Entry, Failure, Severity, Status
from harness.core.errors import MatrixError
from harness.rules.code_that_ran import CodePlace, CodeThatRan
from harness.rules.issue_conditions import Condition
from harness.rules.known_issues import KnownIssue, KnownIssues, load_known_issues
from harness.variants.catalogue import available

ROOT = Path(__file__).parent.parent
OWN = ("paraformer", "paraformer_streaming")
SIGNATURE = "AssertionError@funasr/losses/label_smoothing_loss.py:forward"

ISSUE = """
[[issue]]
id = "streaming"
title = "The loss is given hidden states"
severity = "broken"
releases = ">=1.0.7,<1.0.12"
variants = ["paraformer_streaming"]
checks = ["loss_contract", "finetune"]
shapes = ["v*-h320"]
signatures = ["AssertionError@funasr/losses/label_smoothing_loss.py:forward"]
cause = "The decoder returns before its output layer."
remedy = "Take 1.0.12."
upstream = ["modelscope/FunASR#1478"]
seen = "1.0.7/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32"
"""

Load = Callable[[str], KnownIssues]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> KnownIssues:
        path = tmp_path / "known.toml"
        path.write_text(f"schema = 1\n{text}", encoding="utf-8")
        return load_known_issues(path, variants=OWN)

    return load


def problems(load: Load, text: str) -> tuple[str, ...]:
    with pytest.raises(MatrixError) as caught:
        load(text)
    return caught.value.problems


def cell(
    release: str = "1.0.7",
    variant: str = "paraformer_streaming",
    shape: str = "v8404-h320",
    check: str = "finetune@train",
    place: str = "cpu-fp32",
) -> Cell:
    return Cell.parse(f"{release}/{variant}/{shape}/reduced/{check}/{place}")


def test_an_issue_is_read(load: Load) -> None:
    [issue] = load(ISSUE).issues
    assert (issue.id, issue.releases, issue.status) == ("streaming", ">=1.0.7,<1.0.12", Status.FAILED)
    assert issue.signatures == (SIGNATURE,)
    assert issue.upstream == ("modelscope/FunASR#1478",)
    assert (issue.title, issue.remedy) == ("The loss is given hidden states", "Take 1.0.12.")
    assert issue.explained
    assert load(ISSUE.replace('remedy = "Take 1.0.12."', "")).issues[0].remedy == ""


FULL = """
[[issue]]
id = "all"
title = "With every key"
severity = "minor"
releases = ["1.0.7", "1.0.9"]
code = ["funasr/bin/train_ds.py:main", "funasr/models/ctc/ctc.py:CTC"]
variants = ["paraformer", "paraformer_streaming"]
checks = ["finetune", "decode"]
shapes = ["v8404-h320", "v*-h512"]
entry = "train_ds"
devices = ["cpu", "cuda"]
status = "crashed"
signatures = ["A@a:f", "Finding@found"]
applies_when = { processes = ">1" }
cause = "A cause."
remedy = "A remedy."
upstream = ["modelscope/FunASR#1478", "a/b#2"]
seen = "1.0.9/paraformer/v8404-h320/reduced/finetune@train_ds/cpu-fp32"
varies = "The order of a sum."
published = "Its own recipe."
"""
LEAST = """
[[issue]]
id = "least"
title = "With as few keys as there can be"
severity = "wrong"
releases = ">=1.0"
checks = "construct"
signatures = "A@a:f"
cause = "A cause."
seen = "1.0.9/paraformer/v8404-h320/reduced/construct/cpu-fp32"
"""


def test_every_key_of_an_issue_is_read_and_most_may_be_missing(load: Load) -> None:
    assert load(FULL + LEAST).issues == (
        KnownIssue(
            id="all",
            title="With every key",
            severity=Severity.MINOR,
            releases=("1.0.7", "1.0.9"),
            code=(
                CodePlace(file="funasr/bin/train_ds.py", name="main"),
                CodePlace(file="funasr/models/ctc/ctc.py", name="CTC"),
            ),
            variants=("paraformer", "paraformer_streaming"),
            checks=(Check.FINETUNE, Check.DECODE),
            shapes=("v8404-h320", "v*-h512"),
            entry=Entry.TRAIN_DS,
            devices=(Device.CPU, Device.CUDA),
            status=Status.CRASHED,
            signatures=("A@a:f", "Finding@found"),
            applies_when=(Condition(name="processes", test=">1"),),
            cause="A cause.",
            remedy="A remedy.",
            upstream=("modelscope/FunASR#1478", "a/b#2"),
            seen="1.0.9/paraformer/v8404-h320/reduced/finetune@train_ds/cpu-fp32",
            varies="The order of a sum.",
            published="Its own recipe.",
        ),
        KnownIssue(
            id="least",
            title="With as few keys as there can be",
            severity=Severity.WRONG,
            releases=">=1.0",
            checks=(Check.CONSTRUCT,),
            signatures=("A@a:f",),
            cause="A cause.",
            seen="1.0.9/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        ),
    )


def test_the_signatures_of_findings_are_kept_apart(load: Load) -> None:
    full, least = load(FULL + LEAST).issues
    assert (full.failing, full.finding_signatures, full.expects_failure) == (("A@a:f",), {"Finding@found"}, True)
    assert (least.failing, least.finding_signatures, least.expects_failure) == (("A@a:f",), frozenset(), True)
    (found,) = load(LEAST.replace("A@a:f", "Finding@found")).issues
    assert (found.failing, found.expects_failure) == ((), False)
    (hangs,) = load(LEAST.replace('signatures = "A@a:f"', 'status = "timed_out"')).issues
    assert (hangs.signatures, hangs.expects_failure) == ((), True)


def test_of_several_shapes_and_devices_any_is_enough(load: Load) -> None:
    known = load(FULL)
    for shape, covered in (("v8404-h320", True), ("v1-h512", True), ("v8501-h320", False)):
        at = cell("1.0.7", "paraformer", shape, "finetune@train_ds")
        assert bool(known.issues[0].covers(at)) is covered
    assert known.issues[0].covers(cell("1.0.7", "paraformer", "v1-h512", "finetune@train_ds", "cuda-bf16"))
    assert known.issues[0].covers(cell("1.0.7", "paraformer_streaming", "v1-h512", "decode@train_ds"))
    assert not known.issues[0].covers(cell("1.0.7", "paraformer", "v1-h512", "decode@train"))


def test_an_issue_runs_where_some_of_its_code_does(load: Load) -> None:
    """`main` runs with its trainer only, the CTC loss with every model that has one."""
    (issue,) = load(FULL).issues
    at = cell("1.0.7", "paraformer", "v1-h512", "finetune@train_ds")
    assert issue.runs_in(CodeThatRan.expected(at))
    other = CodeThatRan.expected(cell("1.0.7", "paraformer", "v1-h512", "finetune@train"))
    assert issue.runs_in(other), "its model has a CTC"
    without = CodeThatRan(entry=Entry.TRAIN, whole=False, named=frozenset())
    assert not issue.runs_in(without)
    assert load(FULL).matching(at, without) == ()
    assert load(FULL).matching(at) == (issue,)
    assert load(LEAST).issues[0].runs_in(without)


@pytest.mark.parametrize(
    ("code", "place", "expected"),
    [
        ((), "funasr/models/ctc/ctc.py:CTC", True),
        (("funasr/models/ctc/ctc.py:CTC",), "", True),
        (("funasr/models/ctc/ctc.py:CTC",), "decoder_classes", True),
        (("funasr/models/ctc/ctc.py:CTC",), "funasr/models/ctc/ctc.py:forward", True),
        (("funasr/models/ctc/ctc.py:CTC",), "funasr/models/sanm/encoder.py:forward", False),
        (("funasr/models/ctc/ctc.py:CTC", "funasr/bin/train.py:main"), "funasr/models/sanm/encoder.py:forward", True),
    ],
)
def test_a_finding_is_at_the_place_of_its_code(code: tuple[str, ...], place: str, expected: bool, load: Load) -> None:
    (least,) = load(LEAST).issues
    assert replace(least, code=tuple(map(CodePlace.parse, code))).is_at(place) is expected


def test_a_release_candidate_is_a_release_of_the_range(load: Load) -> None:
    assert load(ISSUE).matching(cell(release="1.0.9rc1"))


def test_a_problem_names_the_file_and_its_place(load: Load, tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=re.escape(str(tmp_path / "known.toml"))):
        load(ISSUE.replace('releases = ">=', 'releases = "=>'))
    (problem,) = problems(load, ISSUE.replace('seen = "1.0.7/', 'seen = "1.0.6/'))
    assert "seen" in problem.split(":")[0]
    (tmp_path / "other.toml").write_text("schema = 2\n")
    with pytest.raises(MatrixError, match="expected 1, found 2"):
        load_known_issues(tmp_path / "other.toml", variants=OWN)


def test_an_empty_file_knows_no_issue(load: Load) -> None:
    assert load("").issues == ()


def test_an_issue_covers_the_cells_that_it_speaks_of(load: Load) -> None:
    known = load(ISSUE)
    for covered in (
        cell(),
        cell(release="1.0.11"),
        cell(check="finetune@train_ds"),
        cell(check="loss_contract"),
        cell(shape="v8501-h320"),
        cell(place="cuda-bf16"),
    ):
        assert known.matching(covered) == known.issues, covered.id


def test_an_issue_covers_no_other_cells(load: Load) -> None:
    known = load(ISSUE)
    for other in (
        cell(release="1.0.6"),
        cell(release="1.0.12"),
        cell(release="main"),
        cell(variant="paraformer"),
        cell(shape="v8404-h512"),
        cell(check="construct"),
        Cell.parse("1.0.7/-/-/-/import/cpu-fp32"),
    ):
        assert known.matching(other) == (), other.id


def test_a_local_release_goes_by_its_version(load: Load) -> None:
    local = cell(release="1.0.8+local.1a2b3c4d")
    assert load(ISSUE).matching(local)
    assert load(ISSUE.replace('">=1.0.7,<1.0.12"', '["1.0.7", "1.0.8"]')).matching(local)
    assert not load(ISSUE.replace('">=1.0.7,<1.0.12"', '["1.0.7", "1.0.9"]')).matching(local)


def test_releases_can_be_listed_one_by_one(load: Load) -> None:
    known = load(ISSUE.replace('">=1.0.7,<1.0.12"', '["1.0.7", "1.0.9"]'))
    assert known.matching(cell(release="1.0.9"))
    assert not known.matching(cell(release="1.0.8"))
    assert not known.matching(cell(release="main")), "a release whose version is not known"


def test_the_gap_in_a_specifier_is_a_gap(load: Load) -> None:
    known = load(ISSUE.replace("<1.0.12", "<1.0.12,!=1.0.9"))
    assert not known.matching(cell(release="1.0.9"))
    assert known.matching(cell(release="1.0.10"))


def test_an_entry_point_and_a_device_narrow_an_issue(load: Load) -> None:
    known = load(ISSUE + 'entry = "train_ds"\ndevices = ["cpu"]\n')
    assert known.issues[0].entry is Entry.TRAIN_DS
    assert known.issues[0].devices == (Device.CPU,)
    assert known.matching(cell(check="finetune@train_ds"))
    assert not known.matching(cell(check="finetune@train"))
    assert known.matching(cell(check="loss_contract"))
    assert not known.matching(cell(check="finetune@train_ds", place="cuda-fp32"))


def test_an_issue_of_the_import_needs_no_variant(load: Load) -> None:
    text = "".join(line + "\n" for line in ISSUE.splitlines() if not line.startswith(("variants", "shapes")))
    text = text.replace('["loss_contract", "finetune"]', '"import"').replace(
        "1.0.7/paraformer_streaming/v8404-h320/reduced/loss_contract", "1.0.7/-/-/-/import"
    )
    assert load(text).matching(Cell.parse("1.0.8/-/-/-/import/cpu-fp32"))


def test_a_failure_fits_by_status_and_signature() -> None:
    issue = KnownIssue(
        id="x",
        title="x",
        severity=Severity.BROKEN,
        releases=">=1",
        checks=(),
        signatures=("A@a:f", "B@b:g"),
        cause="x",
        seen="x",
    )
    assert issue.fits(Status.FAILED, Failure(type="A", message="", signature="A@a:f"))
    assert issue.fits(Status.FAILED, Failure(type="B", message="other words", signature="B@b:g"))
    assert not issue.fits(Status.FAILED, Failure(type="A", message="", signature="A@a:g"))
    assert not issue.fits(Status.CRASHED, Failure(type="A", message="", signature="A@a:f"))
    assert not issue.fits(Status.FAILED, None)


def test_a_time_out_fits_without_a_signature() -> None:
    issue = KnownIssue(
        id="x",
        title="x",
        severity=Severity.BROKEN,
        releases=">=1",
        checks=(),
        status=Status.TIMED_OUT,
        cause="x",
        seen="x",
    )
    assert issue.fits(Status.TIMED_OUT, None)
    assert not issue.fits(Status.TIMED_OUT, Failure(type="A", message="", signature="A@a:f"))
    assert not issue.fits(Status.OUT_OF_MEMORY, None)


def test_what_is_not_yet_explained_says_so(load: Load) -> None:
    for cause in ("Not yet explained.", "not yet explained", " Not Yet Explained. "):
        assert not load(ISSUE.replace("The decoder returns before its output layer.", cause)).issues[0].explained
    assert load(ISSUE.replace("The decoder returns", "Not yet explained: it returns")).issues[0].explained


def test_all_problems_are_reported_at_once_each_with_its_place(load: Load) -> None:
    text = """
isue = 1
[[issue]]
id = "one"
titel = "x"
releases = "1.0.7 or so"
variants = ["parafromer"]
checks = ["loss_contrct", "finetune"]
shapes = ["320"]
entry = "trian"
devices = ["cpus"]
status = "passed"
severity = "wrnog"
signatures = []
cause = ""
upstream = ["1478"]
seen = "1.0.7"
[[issue]]
id = "two"
title = "y"
releases = ["1.0.x"]
cause = "z"
seen = "1.0.7/-/-/-/import/cpu-fp32"
entry = ["train"]
severity = "minor"
"""
    assert problems(load, text) == (
        'isue: unknown key, did you mean "issue"?',
        '[[issue]] #1 titel: unknown key, did you mean "title"?',
        '[[issue]] #1 entry: "trian": did you mean "train"?',
        '[[issue]] #1 status: "passed": legal here: failed, timed_out, crashed, out_of_memory',
        '[[issue]] #1 severity: "wrnog": did you mean "wrong"?',
        "[[issue]] #1 title: missing",
        '[[issue]] #1 releases: "1.0.7 or so" is no specifier such as ">=1.0.7,<1.0.12"',
        '[[issue]] #1 variants: "parafromer": did you mean "paraformer"?',
        '[[issue]] #1 checks: "loss_contrct": did you mean "loss_contract"?',
        '[[issue]] #1 shapes: "320": expected a form like v*-h320',
        '[[issue]] #1 devices: "cpus": did you mean "cpu"?',
        "[[issue]] #1 signatures: the list is empty; expected strings",
        '[[issue]] #1 cause: expected a text, found ""',
        '[[issue]] #1 upstream: "1478": expected owner/name#1',
        "[[issue]] #1 signatures: missing: a failure is recognised by its signature",
        "[[issue]] #2 entry: expected one text, found a list",
        '[[issue]] #2 releases: "1.0.x": expected a version such as 1.0.7',
        "[[issue]] #2 checks: missing",
        "[[issue]] #2 signatures: missing: a failure is recognised by its signature",
    )


def test_an_issue_says_how_grave_it_is(load: Load) -> None:
    assert load(ISSUE).issues[0].severity is Severity.BROKEN
    assert load(ISSUE.replace('"broken"', '"minor"')).issues[0].severity is Severity.MINOR
    [problem] = problems(load, ISSUE.replace('severity = "broken"', ""))
    assert problem == "[[issue]] #1 severity: missing: one of broken, wrong, minor"


def test_two_issues_of_one_name_are_a_problem(load: Load) -> None:
    assert problems(load, ISSUE + ISSUE) == ('[[issue]] #2 id: "streaming" names an issue above',)


def test_an_issue_has_to_cover_the_cell_in_which_it_was_seen(load: Load) -> None:
    at = "1.0.12/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32"
    assert problems(load, ISSUE.replace('seen = "1.0.7', 'seen = "1.0.12')) == (
        f'[[issue]] #1 seen: the issue does not cover the cell "{at}" in which it was seen',
    )


def test_some_of_the_code_has_to_run_in_the_cell_in_which_it_was_seen(load: Load) -> None:
    at = "1.0.7/paraformer_streaming/v8404-h320/reduced/finetune@train/cpu-fp32"
    text = ISSUE.replace("1.0.7/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32", at)
    places = {name: f"funasr/bin/{name}.py:main" for name in ("train", "train_ds")}
    assert load(f'{text}code = "{places["train"]}"').issues
    assert load(f"{text}code = {list(places.values())}").issues
    assert load(f'{text}code = ["{places["train_ds"]}", "funasr/models/ctc/ctc.py:CTC"]').issues
    for code in ('"{train_ds}"', '["{train_ds}", "funasr/train_utils/trainer_ds.py"]'):
        assert problems(load, f"{text}code = {code.format_map(places)}") == (
            f'[[issue]] #1 code: none of it runs in the cell "{at}" in which it was seen',
        )


def test_code_is_named_by_its_file_and_class(load: Load) -> None:
    place = "funasr/models/ctc/ctc.py"
    assert problems(load, f'{ISSUE}code = ["{place}:CTC", "{place}", "ctc.py"]') == (
        f'[[issue]] #1 code: "{place}": name the class: whether a model\'s code runs is known by its classes',
        '[[issue]] #1 code: "ctc.py": expected a file of FunASR\'s and a name in it, such as '
        "funasr/models/ctc/ctc.py:CTC",
    )


def test_of_two_issues_the_wrong_one_is_reported(load: Load) -> None:
    wrong = LEAST.replace('"A cause."', "3")
    for text in (wrong + ISSUE, ISSUE + wrong):
        number = 1 if text.startswith(wrong) else 2
        assert problems(load, text) == (f"[[issue]] #{number} cause: expected a text, found 3",)


def test_what_was_seen_has_to_be_a_cell(load: Load) -> None:
    assert problems(load, ISSUE.replace("1.0.7/paraformer_streaming/v8404-h320/reduced/loss_contract", "1.0.7")) == (
        "[[issue]] #1 seen: not a cell id: '1.0.7/cpu-fp32' (expected six parts between slashes)",
    )


def test_an_entry_point_without_finetune_is_a_problem(load: Load) -> None:
    [problem] = problems(load, ISSUE.replace(', "finetune"', "") + 'entry = "train"\n')
    assert problem == "[[issue]] #1 entry: only checks about a trainer have an entry point"


def test_an_empty_specifier_is_a_problem(load: Load) -> None:
    [problem] = problems(load, ISSUE.replace(">=1.0.7,<1.0.12", ""))
    assert problem == '[[issue]] #1 releases: expected a text, found ""'


@pytest.mark.parametrize("head", ["", "schema = 2\n", "schema = true\n", 'schema = "1"\n'])
def test_another_schema_is_a_problem(tmp_path: Path, head: str) -> None:
    path = tmp_path / "known.toml"
    path.write_text(head)
    with pytest.raises(MatrixError, match="schema: expected 1"):
        load_known_issues(path, variants=OWN)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="no such file"):
        load_known_issues(tmp_path / "known.toml", variants=OWN)


def test_the_committed_file_can_be_read() -> None:
    load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())


def test_no_two_of_the_committed_issues_have_one_title() -> None:
    """A title is read alone, in a report: "the same with" something says nothing there."""
    issues = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available()).issues
    titles = [issue.title for issue in issues]
    assert len(set(titles)) == len(titles)
    assert [title for title in titles if title.lower().startswith("the same")] == []


def test_the_example_at_the_head_of_the_committed_file_can_be_read(load: Load) -> None:
    lines = (ROOT / "matrices" / "known_issues.toml").read_text(encoding="utf-8").splitlines()
    example = [line.removeprefix("#   ") for line in lines if line.startswith("#   ")]
    [issue] = load("\n".join(example)).issues
    assert issue.entry is Entry.TRAIN_DS
