"""What the reports say is drawn from every outcome, and can be repeated by command."""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase

from report_factory import RELEASES, atlas, cell, judged, loss_failure, outcome, run_of, tuned

from harness.commands.arguments import make_parser
from harness.core.cells import Status
from harness.report.summary import summarise


def summary_of(outcomes, **options):
    return summarise(run_of(outcomes), judged(outcomes), **options)


def test_every_outcome_is_counted_once():
    outcomes = atlas(RELEASES[:12])
    summary = summary_of(outcomes)
    assert summary.cells == len(outcomes) == sum(tally.cells for tally in summary.statuses)
    assert summary.cells == sum(tally.cells for tally in summary.verdicts)
    assert summary.releases == 12


def test_a_cell_that_occurs_twice_counts_with_the_last():
    at = cell("1.4.0", "construct")
    again = judged([outcome(at, Status.FAILED, failure=loss_failure(1, 2))])
    summary = summarise(run_of(), (*again, *judged([outcome(at)])))
    assert (summary.cells, summary.failures) == (1, ())


def test_fine_tunes_that_came_to_no_step_are_counted():
    skipped = outcome(cell("1.4.0", "finetune@train_ds"), Status.SKIPPED)
    failed = outcome(cell("1.4.1", "finetune@train_ds"), Status.FAILED, failure=loss_failure(1, 2))
    assert summary_of([tuned("1.4.0"), skipped, failed]).without_curve == 1


def test_the_example_is_a_cell_that_failed():
    failed = outcome(cell("1.4.1", "construct"), Status.FAILED, failure=loss_failure(1, 2))
    assert summary_of([outcome(cell("1.4.0", "construct")), failed]).example == failed.cell.id


def test_the_commands_name_one_cell_and_no_more():
    summary = summary_of(atlas(RELEASES[:8]))
    again = shlex.split(summary.commands[1].text)
    glob = again[again.index("--only") + 1]
    assert again[:3] == ["funasr-harness", "run", "matrices/atlas.toml"]
    assert [found.cell.id for found in atlas(RELEASES[:8]) if fnmatchcase(found.cell.id, glob)] == [summary.example]


def test_the_program_understands_the_commands():
    for command in summary_of([outcome(cell("1.4.0", "construct"))]).commands:
        program, *arguments = shlex.split(command.text)
        assert program == "funasr-harness"
        make_parser().parse_args(arguments)
