"""Every link of the documentation, and every page that the code names, exists, with its anchor."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import parse

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for folder in (".", "docs", "reports") for page in (ROOT / folder).glob("*.md"))
NAMED_IN = sorted(
    path
    for folder in ("harness", "tests", "matrices", ".github")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".toml", ".yaml", ".yml", ".j2") and path != Path(__file__)
)
EXAMPLE = "docs/x.md"
"""A path in a patch of a test, which is no page."""


def without_code(text: str) -> str:
    """The page without code: what looks like a heading or a link there is none."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that code hosts make of headings: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ +(.+?) *$", without_code(text), flags=re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.replace("`", "")).lower().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


def broken(target: str, folder: Path) -> str:
    """What is wrong with a relative link; empty if it leads somewhere."""
    path, _, anchor = target.partition("#")
    page = (folder / path).resolve()
    if not page.exists():
        return f"{target}: no such file"
    if anchor and page.suffix == ".md" and anchor not in anchors(page.read_text(encoding="utf-8")):
        return f"{target}: no such heading"
    return ""


def links(text: str) -> Iterator[str]:
    """The relative links of a page; one to a heading of the page itself begins with `#`."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text))):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = [page.name + link if link.startswith("#") else link for link in links(page.read_text(encoding="utf-8"))]
    assert [problem for target in targets if (problem := broken(target, page.parent))] == []


def test_every_page_that_the_code_names_exists() -> None:
    named = [
        (path.relative_to(ROOT), target)
        for path in NAMED_IN
        for target in re.findall(r"docs/[\w-]+\.md(?:#[\w-]+)?", path.read_text(encoding="utf-8"))
        if target != EXAMPLE
    ]
    assert named
    assert [(str(path), problem) for path, target in named if (problem := broken(target, ROOT))] == []


@pytest.mark.parametrize("target", ["docs/none.md", "docs/checks.md#no-such-heading"])
def test_a_link_that_leads_nowhere_is_found(target: str) -> None:
    assert broken(target, ROOT)
    assert list(links(f"[a]({target}) `[b](c)` [d](https://example.org)")) == [target]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        text = page.read_text(encoding="utf-8")
        found = {(page.parent / link.partition("#")[0]).resolve() for link in links(text)}
        waiting += [other for other in found if other in PAGES and other not in reached]
    assert [page.name for page in PAGES if page not in reached and page.name != "CHANGELOG.md"] == []


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `funasr-harness` command in a block of shell lines, without comments and prompts."""
    for block in re.findall(r"^```shell\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.replace("$cell", "CELL"), comments=True)
            if words[:1] == ["funasr-harness"]:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_that_the_command_line_takes(page: Path) -> None:
    for arguments in commands(page.read_text(encoding="utf-8")):
        assert parse(arguments).command


def test_a_command_with_an_unknown_option_is_found() -> None:
    (arguments,) = commands("```shell\nfunasr-harness run pr --no-such-option  # a comment\n```\n")
    with pytest.raises(SystemExit):
        parse(arguments)


def test_the_page_of_explain_lists_the_rules_that_read_logs_without_errors() -> None:
    page = (ROOT / "reports" / "explain_rules.md").read_text(encoding="utf-8")
    listed = {name for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE) for name in row.split("`")[1::2]}
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "harness" / "explain").glob("silent_*.py"))
    assert listed == set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', code))


def test_every_line_of_the_changelog_has_an_area_and_is_there_once() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for version in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        assert "\n- " not in version.partition("\n### ")[0], "a new line goes under its area, see the head of the file"
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(set(lines)) == len(lines)
