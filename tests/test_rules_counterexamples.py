"""Stored counter-examples reach the cells of the releases and variants that their issue covers, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.core.cells import Cell, Check, Severity
from harness.core.errors import StoreError
from harness.rules.counterexamples import FINDING, FOLDER, load_counterexamples
from harness.rules.known_issues import KnownIssue, KnownIssues, load_known_issues
from harness.run.prepare import no_stored_examples
from harness.variants.catalogue import available, load_variant

ROOT = Path(__file__).parent.parent
FILE = ROOT / "matrices" / "known_issues.toml"
CELL = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/properties/cpu-fp32")
ISSUE = KnownIssue(
    id="blank-last",
    title="The last is blank",
    severity=Severity.BROKEN,
    releases=">=1.4",
    checks=(Check.PROPERTIES,),
    signatures=(f"{FINDING}@last_is_not_blank", "PropertyFails@so_is_the_first", "LossWidth@criterion_att"),
    cause="not yet explained",
    seen=CELL.id,
)


def beside(folder: Path, *issues: KnownIssue) -> Path:
    """A file of known issues with one stored counter-example."""
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "blank-last.paraformer.yaml").write_text("example: {}\n")
    return folder / "known_issues.toml"


def test_an_issues_counter_example_is_held_against_the_properties_that_it_names(tmp_path: Path) -> None:
    stored = load_counterexamples(KnownIssues(issues=(ISSUE,)), beside(tmp_path))
    assert stored(CELL) == {"last_is_not_blank": "example: {}\n", "so_is_the_first": "example: {}\n"}


@pytest.mark.parametrize(
    "cell",
    [
        replace(CELL, release="1.3.0"),
        replace(CELL, variant="paraformer_streaming"),
        replace(CELL, check=Check.LOSS_CONTRACT),
    ],
    ids=["another release", "another variant", "another check"],
)
def test_elsewhere_everything_is_searched(tmp_path: Path, cell: Cell) -> None:
    issue = replace(ISSUE, checks=(Check.PROPERTIES, Check.LOSS_CONTRACT))
    assert load_counterexamples(KnownIssues(issues=(issue,)), beside(tmp_path))(cell) == {}
    assert no_stored_examples(CELL) == {}


def test_an_issue_without_one_is_searched(tmp_path: Path) -> None:
    other = replace(ISSUE, id="another")
    assert load_counterexamples(KnownIssues(issues=(other,)), beside(tmp_path))(CELL) == {}


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = beside(tmp_path)
    (tmp_path / FOLDER / "blank-last.paraformer.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(StoreError, match=r"blank-last\.paraformer\.yaml cannot be read: not UTF-8"):
        load_counterexamples(KnownIssues(issues=(ISSUE,)), file)(CELL)


def test_one_that_may_not_be_read_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    stored = load_counterexamples(KnownIssues(issues=(ISSUE,)), beside(tmp_path))
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StoreError, match=r"blank-last\.paraformer\.yaml cannot be read: Permission denied") as caught:
        stored(CELL)
    assert caught.value.cause


@pytest.mark.parametrize("path", sorted((ROOT / "matrices" / FOLDER).glob("*")), ids=lambda path: path.name)
def test_each_committed_one_belongs_to_an_issue_and_is_of_its_variant(path: Path) -> None:
    name, variant, ending = path.name.rsplit(".", 2)
    (issue,) = [one for one in load_known_issues(FILE, variants=available()).issues if one.id == name]
    assert ending == "yaml"
    assert variant in available()
    assert any(signature.startswith(f"{FINDING}@") for signature in issue.signatures)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["model"] == load_variant(variant).config["model"]
    assert {"frames", "tokens", "seed"} <= set(content["example"])


def test_every_property_that_is_known_to_fail_has_one() -> None:
    issues = load_known_issues(FILE, variants=available())
    stored = load_counterexamples(issues, FILE)
    failing = [
        issue
        for issue in issues.issues
        if Check.PROPERTIES in issue.checks and all(one.startswith("PropertyFails@") for one in issue.signatures)
    ]
    assert failing
    for issue in failing:
        named = {one.partition("@")[2] for one in issue.signatures}
        assert named <= set(stored(Cell.parse(issue.seen))), issue.id
