"""Conditions of known issues: how each is written, and for which values it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.built_in import KNOWN_ISSUES_NAME, built_in_folder
from harness.core.errors import MatrixError
from harness.rules.issue_conditions import FACTS, Condition
from harness.rules.known_issues import KnownIssue, load_known_issues
from harness.variants.catalogue import available

SETTING = "train_conf.accum_grad"
NO_NAME = (
    "expected a setting such as train_conf.accum_grad, or one of processes, device, one_character_rows, "
    "configuration.json, resumes_within_epoch"
)
NO_TEST = "expected a test such as >1, ==cpu, !=example, set, unset, on or off"


@pytest.mark.parametrize(
    ("test", "holding", "others"),
    [
        (">1", [2, 1.5, "2"], [1, 0, None, "x", [2]]),
        (">=1", [1, 1.0, 2], [0, 0.99, None, "x"]),
        ("<1", [0, 0.99, -1], [1, 2, None, "x"]),
        ("<=1", [1, 0, "0.5"], [1.01, 2, None, "x"]),
        ("==0", [0, 0.0, False, "0"], [1, None, "", "x"]),
        ("!=0", [1, None, "x"], [0, 0.0, "0.0"]),
        ("==cpu", ["cpu"], ["cuda", None, 0, "CPU"]),
        ("!=example", ["token", None, 3], ["example"]),
        ("==None", [None, "None"], ["none", 0]),
        ("set", [0, "", False, []], [None]),
        ("unset", [None], [0, "", False]),
        ("on", [True, 1, "x"], [False, 0, None, ""]),
        ("off", [False, 0, None, ""], [True, 1, "x"]),
    ],
)
def test_a_condition_compares(test: str, holding: list[Any], others: list[Any]) -> None:
    condition = Condition(name=SETTING, test=test)
    assert condition.problem() == ""
    assert [value for value in [*holding, *others] if condition.holds(value)] == holding
    assert {type(condition.holds(value)) for value in [*holding, *others]} == {bool}


@pytest.mark.parametrize("name", [*FACTS, SETTING, "a.b", "a_b.c.d", "_conf.x1"])
def test_a_condition_is_about_a_fact_or_a_setting(name: str) -> None:
    condition = Condition(name=name, test="set")
    assert condition.problem() == ""
    assert condition.of_a_setting is (name not in FACTS)
    assert str(condition) == f"{name} set"


@pytest.mark.parametrize(
    "name", ["accum_grad", "Train.accum", "train_conf.", ".accum", "a..b", "a.b ", "1a.b", "ä.b", ""]
)
def test_a_name_that_is_neither_is_a_problem(name: str) -> None:
    assert Condition(name=name, test=">1").problem() == NO_NAME


@pytest.mark.parametrize(
    "test",
    [
        *("", ">", "=1", "1", "many", "> 1", "is set", "sets", "Set", "set 1"),
        *("=>1", "<>1", "==", "!1", ">many", ">1x", "<1.", ">==1"),
    ],
)
def test_a_test_that_compares_nothing_is_a_problem(test: str) -> None:
    assert Condition(name="processes", test=test).problem() == NO_TEST


ISSUE = """schema = 1
[[issue]]
id = "x"
title = "y"
severity = "wrong"
releases = ">=1.0.0"
checks = ["loss_contract"]
signatures = ["ValueError@funasr/a.py:f"]
cause = "c"
seen = "1.4.16/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"
"""


def issue_with(folder: Path, written: str) -> KnownIssue:
    path = folder / "known.toml"
    path.write_text(f"{ISSUE}{written}\n", encoding="utf-8")
    (issue,) = load_known_issues(path, variants=available()).issues
    return issue


def test_the_conditions_of_an_issue_are_read(tmp_path: Path) -> None:
    issue = issue_with(tmp_path, 'applies_when = { processes = ">1", "train_conf.accum_grad" = "set" }')
    assert [str(one) for one in issue.applies_when] == ["processes >1", "train_conf.accum_grad set"]
    assert (issue.by_setting, issue.reported_elsewhere) == (True, False)
    published = issue_with(tmp_path, 'applies_when = { processes = ">1" }\npublished = "its own recipe"')
    assert (published.by_setting, published.published) == (False, "its own recipe")


def test_an_issue_may_be_reported_elsewhere_or_be_met_by_every_training(tmp_path: Path) -> None:
    elsewhere = issue_with(tmp_path, 'applies_when = "reported elsewhere"')
    assert (elsewhere.applies_when, elsewhere.reported_elsewhere, elsewhere.by_setting) == ((), True, False)
    every = issue_with(tmp_path, "")
    assert (every.applies_when, every.reported_elsewhere, every.by_setting) == ((), False, False)


PLACE = "[[issue]] #1 applies_when"


@pytest.mark.parametrize(
    ("written", "problems"),
    [
        ('{ acum_grad = ">1" }', (f'{PLACE}: "acum_grad >1": {NO_NAME}',)),
        ('{ processes = "many" }', (f'{PLACE}: "processes many": {NO_TEST}',)),
        (
            '{ processes = "many", x = ">1", device = "==cpu" }',
            (
                f'{PLACE}: "processes many": {NO_TEST}',
                f'{PLACE}: "x >1": {NO_NAME}',
            ),
        ),
        (
            '{ "train_conf.accum_grad" = 2 }',
            (f'{PLACE}: "train_conf.accum_grad 2": {NO_TEST}',),
        ),
        ('{ "train_conf.accum_grad" = true }', (f'{PLACE}: "train_conf.accum_grad True": {NO_TEST}',)),
        ('"never"', (f'{PLACE}: expected a table of conditions, or "reported elsewhere"',)),
        ('["processes"]', (f'{PLACE}: expected a table of conditions, or "reported elsewhere"',)),
    ],
)
def test_each_condition_that_is_none_is_a_problem(tmp_path: Path, written: str, problems: tuple[str, ...]) -> None:
    with pytest.raises(MatrixError) as caught:
        issue_with(tmp_path, f"applies_when = {written}")
    assert caught.value.problems == problems


def test_conditions_name_facts_or_settings_and_the_head_of_the_file_describes_them() -> None:
    path = built_in_folder() / KNOWN_ISSUES_NAME
    issues = load_known_issues(path, variants=available()).issues
    assert any(issue.reported_elsewhere for issue in issues)
    used = {one.name for issue in issues for one in issue.applies_when if not one.of_a_setting}
    assert used == set(FACTS)
    assert "applies_when" in path.read_text("utf-8").partition("schema = 1")[0]
