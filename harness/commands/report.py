"""`report`: the reports of a run, written anew from its outcomes."""

from __future__ import annotations

import argparse

from harness.commands.common import locked_labels
from harness.judge.known import load_known_issues
from harness.judge.verdicts import exit_code, judge
from harness.report import write_reports
from harness.runs import load_run
from harness.terminal import say
from harness.variants import available


def main(options: argparse.Namespace) -> int:
    """Judge the outcomes by today's known issues and write the reports; the exit status is that of the run."""
    run = load_run(options.run)
    for notice in run.notices:
        say(notice, style="yellow")
    judged = judge(run.outcomes, load_known_issues(options.known_issues, variants=available()))
    paths = write_reports(run, judged, options.output or options.run, published=locked_labels(options.lock))
    for path in (paths.html, paths.markdown, paths.junit):
        print(path)
    return exit_code(judged)
