"""The page in a real browser: no errors, no requests, and links that lead into what is folded away."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from page_reader import Page
from report_factory import RELEASES, atlas, judged, run_of

from harness.report import write_reports
from harness.text.plain import anchor

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


def browse(address, profile, *options):
    """Load a page without a network; the finished document, and what the browser's console said."""
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", f"--user-data-dir={profile}"),
            *(options or ("--dump-dom",)),
            address,
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    outcomes = atlas(RELEASES[:14])
    return write_reports(run_of(outcomes), judged(outcomes), tmp_path_factory.mktemp("report")).html


def test_the_page_loads_without_a_word_from_the_console(report, tmp_path):
    document, console = browse(report.as_uri(), tmp_path)
    assert "Find a release" in document, "the page's own script did not run"
    assert console == []


def test_a_link_of_the_grid_opens_the_evidence_that_it_leads_to(report, tmp_path):
    document, _ = browse(report.as_uri(), tmp_path)
    page = Page.of(document)
    target = anchor("1.0.8/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32")
    assert f"#{target}" in page.values("href")
    assert target in page.values("id")
    assert open_cards(document, target) == [False]
    followed, console = browse(f"{report.as_uri()}#{target}", tmp_path)
    assert open_cards(followed, target) == [True]
    assert console == []


def open_cards(document, target):
    """Whether the card that holds an anchor stands open."""
    cards = re.split(r"(?=<details class=\"card\")", document)[1:]
    return [bool(re.match(r"<details class=\"card\" open", card)) for card in cards if f'id="{target}"' in card]


def test_the_policy_stops_what_a_release_might_smuggle_in(report, tmp_path):
    smuggled = '<script>document.title = "owned"</script><img src="https://example.org/x.png"></main>'
    altered = tmp_path / "altered.html"
    altered.write_text(report.read_text(encoding="utf-8").replace("</main>", smuggled), encoding="utf-8")
    document, console = browse(altered.as_uri(), tmp_path / "profile")
    assert "<title>owned</title>" not in document
    assert len([line for line in console if "Content Security Policy" in line]) == 2


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_can_be_drawn(report, tmp_path, width):
    picture = tmp_path / "page.png"
    browse(report.as_uri(), tmp_path / "profile", f"--window-size={width},900", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000, "the picture is blank"
