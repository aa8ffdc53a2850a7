"""The section about drift: groups with their curves, divergences with what is known of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from drift_scene import LOSSES, divergence_of, recording_of, tuned_to
from page_reader import Page
from report_factory import judged, run_of

from harness.compare.drift.recordings import RecordedPlace, add_recording
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.summary import Summary, summarise

OTHER = (9.0, 8.5, 8.1, 7.5)
OUTCOMES = (
    tuned_to("1.4.0"),
    tuned_to("1.4.1"),
    tuned_to("1.4.1", entry="train_ds"),
    tuned_to("1.4.3", OTHER),
    tuned_to("1.4.3", OTHER, entry="train_ds"),
    tuned_to("1.4.4", OTHER[:3]),
)


def summary(folder: Path | None = None) -> Summary:
    published = [f"1.4.{number}" for number in range(5)]
    return summarise(replace(run_of(OUTCOMES), folder=folder), judged(OUTCOMES), published=published)


def test_a_divergence_that_both_trainers_show_is_reported_once() -> None:
    drift = summary().drift
    assert drift is not None
    assert [(one.before, one.after, len(one.series)) for one in drift.divergences] == [
        ("1.4.1", "1.4.3", 2),
        ("1.4.3", "1.4.4", 1),
    ]
    assert drift.unexplained == 1
    assert drift.divergences[0].between == ("1.4.2",)


def test_groups_have_the_curves_of_the_section_about_learning() -> None:
    found = summary()
    assert found.drift is not None
    numbers = {found.curve(group.example).number for series in found.drift.series for group in series.groups}
    assert numbers == {curve.number for curve in found.curves}
    page = Page.of(render_html(found))
    assert "drift" in page.values("id")
    assert all(f"#curve-{number}" in page.values("href") for number in numbers)


def test_what_was_recorded_is_reported_on_the_page_and_in_markdown_and_escaped(tmp_path: Path) -> None:
    divergence = divergence_of(tuned_to("1.4.1"), tuned_to("1.4.3", OTHER))
    place = RecordedPlace(
        kind="output_value", name="<i>pre|dictor</i>", code="funasr/models/paraformer/cif_predictor.py:2", detail=""
    )
    add_recording(tmp_path, recording_of(divergence, first=place))
    found = summary(tmp_path)
    assert found.drift is not None
    assert found.drift.unexplained == 0
    page = Page.of(render_html(found))
    assert (
        "`<i>pre|dictor</i>` (funasr/models/paraformer/cif_predictor.py:2) is the first module to differ" in page.text
    )
    said = render_markdown(found)
    assert "&#60;i&#62;pre&#124;dictor" in said
    assert "+ acoustic_embeds = cif_v1(hidden)" in said


def test_a_run_without_two_curves_has_no_such_section() -> None:
    one = (tuned_to("1.4.0", LOSSES),)
    found = summarise(run_of(one), judged(one))
    assert found.drift is None
    assert 'id="drift"' not in render_markdown(found)
