"""`report`: the reports of a run, written again from its outcomes."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.common import locked_labels
from harness.commands.predictions import add_predictions
from harness.core.errors import InputError
from harness.performance.baselines import load_baselines
from harness.performance.baselines.compare import compare
from harness.report import write_reports
from harness.report.baselines import line
from harness.report.terminal import answer, summary
from harness.rules.known_issues import load_known_issues
from harness.rules.verdicts import exit_code, judge
from harness.run.store import load_run
from harness.text.terminal import say, say_result, width
from harness.variants.catalogue import available


def main(options: argparse.Namespace) -> int:
    """Judge the outcomes by today's known issues and write the reports; the exit status is that of the run."""
    folder = _folder(options)
    if options.predict:
        say(f"predictions added: {add_predictions(folder, options)}")
    return conclude(options, folder, options.output or folder)


def conclude(options: argparse.Namespace, folder: Path, output: Path) -> int:
    """Judge the outcomes of a run, write the reports into `output` and print the answer; returns the exit status."""
    run = load_run(folder)
    for notice in run.notices:
        say(notice, style="yellow")
    judged = judge(run.outcomes, load_known_issues(options.known_issues, variants=available()))
    against = compare([item.outcome for item in judged], run.provenance, load_baselines(options.baselines))
    published = locked_labels(options.lock)
    paths = write_reports(run, judged, output, published=published, against=against)
    for path in (paths.html, paths.markdown, paths.junit):
        print(path)
    text = answer(judged, published, width=width())
    say_result("\n".join(filter(None, (text and f"\n{text}\n", summary(judged), line(against)))))
    return exit_code(judged, changed=against.changed(), missing=run.missing)


def _folder(options: argparse.Namespace) -> Path:
    """The folder of the run to report: the one named, or the one that a bundle's result is imported into."""
    if (options.run is None) == (options.import_result is None):
        raise InputError("report needs either the folder of a run or --import with the result file of a bundle")
    if options.run is not None:
        return Path(options.run)
    from harness.bundle.result import import_result

    folder = import_result(options.import_result, options.output)
    say(f"imported into {folder}")
    return folder
