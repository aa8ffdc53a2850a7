"""What the readers of TOML tables say of values that the matrix's own tests do not plant."""

from __future__ import annotations

from harness.config.toml_tables import Problems, Table, did_you_mean


def table(**values: object) -> Table:
    return Table(values=values, place="[some]", problems=Problems(source="x.toml"))


def test_a_near_word_is_suggested() -> None:
    assert did_you_mean("finetun", ["finetune", "import"]) == 'did you mean "finetune"?'


def test_words_are_listed_when_none_is_near() -> None:
    assert did_you_mean("passed", ["failed", "crashed"]) == "legal here: failed, crashed"


def test_true_is_not_a_number() -> None:
    some = table(count=True, share=True, sizes=[True])
    assert some.integer("count", default=1, least=0) is None
    assert some.positive("share", default=1.0) is None
    assert some.sizes("sizes") is None
    assert len(some.problems.found) == 3


def test_a_value_that_is_missing_has_its_default() -> None:
    some = table()
    assert some.integer("count", default=4, least=1) == 4
    assert some.positive("share", default=0.5) == 0.5
    assert some.text("name", default="x") == "x"
    assert not some.problems.found


def test_a_text_that_may_be_left_out_may_be_empty() -> None:
    assert table(remedy="").text("remedy", default="") == ""
    assert table(remedy="").text("remedy") is None


def test_one_string_stands_for_a_list_only_where_that_is_said() -> None:
    some = table(names="a")
    assert some.texts("names", lone=True) == ("a",)
    assert some.texts("names") is None


def test_an_item_given_twice_counts_once() -> None:
    assert table(sizes=[3, 1, 3]).sizes("sizes") == (3, 1)


def test_the_same_problem_is_reported_once() -> None:
    some = table(sizes=[])
    some.sizes("sizes")
    some.sizes("sizes")
    assert some.problems.found == ["[some] sizes: the list is empty; expected whole numbers above 0"]
