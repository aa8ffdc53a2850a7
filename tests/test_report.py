"""Reports are written whole or not at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_factory import judged, run_of, tuned

from harness.core.errors import StoreError
from harness.report import write_reports

OUTCOMES = (tuned("1.4.0"), tuned("1.4.1"))


def write(folder, **options):
    return write_reports(run_of(OUTCOMES), judged(OUTCOMES), folder, **options)


def test_three_files_are_written_and_nothing_else_is_left(tmp_path):
    paths = write(tmp_path / "new" / "reports")
    assert sorted(path.name for path in paths.html.parent.iterdir()) == [
        "compatibility.html",
        "compatibility.md",
        "junit.xml",
    ]
    assert paths.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert paths.markdown.read_text(encoding="utf-8").startswith("# ")
    ElementTree.fromstring(paths.junit.read_bytes())


def test_the_same_run_gives_the_same_bytes(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    assert one.html.read_bytes() == other.html.read_bytes()
    assert one.markdown.read_bytes() == other.markdown.read_bytes()
    assert one.junit.read_bytes() == other.junit.read_bytes()


def test_the_title_is_the_callers(tmp_path):
    paths = write(tmp_path, title="Mine & yours")
    assert "<title>Mine &amp; yours</title>" in paths.html.read_text(encoding="utf-8")
    assert paths.markdown.read_text(encoding="utf-8").startswith("# Mine &#38; yours")


def test_a_release_that_was_published_and_not_run_ends_a_range(tmp_path):
    outcomes = (tuned("1.4.0"), tuned("1.4.2"), tuned("1.4.3"))
    paths = write_reports(run_of(outcomes), judged(outcomes), tmp_path, published=["1.4.1"])
    assert "1.4.0, 1.4.2, 1.4.3" in paths.markdown.read_text(encoding="utf-8")


def test_when_no_more_can_be_written_the_older_report_stays_whole(tmp_path):
    paths = write(tmp_path)
    before = paths.html.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match=r"compatibility\.html cannot be written"):
            write(tmp_path, title="another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert paths.html.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="next: "):
        write(tmp_path / "file" / "reports")


def test_asking_for_reports_brings_neither_templates_nor_tables_in():
    code = "import sys, harness.report; print(sorted({'jinja2', 'tabulate', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == "[]"
