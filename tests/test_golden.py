"""The wording of each formatter as a whole, in a golden file each; everything else is tested by codes and records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from golden_files import assert_golden
from report_factory import RELEASES, atlas, blocked, cell, judged, loss_failure, outcome, run_of, tuned
from test_diagnose_format import diagnosis
from transitions_scene import BAD, GOOD, OTHER, oracle, row_of
from watch_recordings import Recorded, state_of

from harness.compare.gate import format as gate_format
from harness.compare.gate.format import Gate
from harness.compare.gate.pairs import CellPair, pair
from harness.compare.transitions.find import find
from harness.compare.transitions.format import render_search
from harness.core.cells import Failure, Outcome, Severity, Status
from harness.explain import terminal as explain_format
from harness.explain.explanation import LogExplanation, LogReport, Owner
from harness.preflight import terminal as preflight_format
from harness.preflight.all_releases.release_table import ReleaseReason, table_of
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart, Report
from harness.report.markdown import render_markdown
from harness.report.one_cell import RunOfCell, render_cell
from harness.report.summary import summarise
from harness.report.terminal import answer
from harness.report.watch_report import write_report
from harness.run.provenance import ReuseFacts
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast

OLD, NEW = RELEASES[11], RELEASES[12]


def small_run() -> list[Outcome]:
    """A broken release and a sound one, and a failure that is not listed."""
    low = outcome(cell(OLD, "loss_contract"), Status.FAILED, failure=loss_failure(320, 8404))
    unlisted = Failure(type="PropertyFails", message="m", signature="PropertyFails@parts_add_up")
    return [
        low,
        blocked(cell(OLD, "finetune@train"), low.cell),
        tuned(NEW, "train_ds"),
        outcome(cell(NEW, "properties"), Status.FAILED, "parts_add_up: m", failure=unlisted),
    ]


def test_the_answer_of_a_run_in_the_terminal() -> None:
    assert_golden("run.txt", answer(judged(atlas(RELEASES[:16])), RELEASES[:16], width=100) + "\n")


def test_the_report_of_a_run_in_markdown() -> None:
    outcomes = small_run()
    assert_golden("run.md", render_markdown(summarise(run_of(outcomes), judged(outcomes), published=RELEASES)))


def test_one_cell_as_show_prints_it() -> None:
    low = outcome(
        cell(OLD, "loss_contract"), Status.FAILED, failure=loss_failure(320, 8404), started="2026-01-01T08:00:00Z"
    )
    run = run_of([low])
    (one,) = judged([low])
    assert_golden(
        "show.txt", render_cell(RunOfCell(folder=Path("runs/atlas"), provenance=run.provenance, judged=one)) + "\n"
    )


def test_a_gate_in_the_terminal_and_as_a_comment() -> None:
    def at(release: str, check: str, status: str = "passed") -> Outcome:
        reason = "" if status == "passed" else "the loss receives tensors of the wrong width"
        failure = Failure(type="A", message="m", signature="A@f") if status == "failed" else None
        return outcome(cell(release, check), Status(status), reason, failure=failure)

    broken = at("1.4.16+patch", "loss_contract", "failed")
    pairs = (
        pair(broken, at("1.4.16", "loss_contract")),
        pair(blocked(cell("1.4.16+patch", "finetune@train"), broken.cell), at("1.4.16", "finetune@train")),
        pair(at("1.4.16+patch", "construct"), at("1.4.16", "construct")),
        pair(at("1.4.16+patch", "properties"), at("1.4.16", "properties", "failed")),
        pair(at("1.4.16+patch", "data", "errored"), at("1.4.16", "data")),
    )
    why = diagnosis(cause="`return_hidden` receives the chunk mask.", advice="Pass it by name.")
    gate = Gate(
        source="1.4.16+patch", of="a checkout at 0123456", against="1.4.16", matrix="pr", pairs=pairs,
        diagnoses={broken.cell.id: why}, notices=("No GPU: the cells run on the CPU.",),
    )  # fmt: skip
    assert_golden("gate.txt", gate_format.terminal(gate) + "\n")
    assert_golden("gate.md", gate_format.comment(gate))


def test_a_gate_that_took_outcomes_over() -> None:
    def both(check: str, **evidence: object) -> CellPair:
        mine = replace(outcome(cell("1.4.16+patch", check), Status.PASSED, ""), evidence=evidence)
        return pair(mine, outcome(cell("1.4.16", check), Status.PASSED, ""))

    pairs = (both("construct", reused={"cell": "c", "ran": "t"}), both("loss_contract"), both("finetune@train"))
    facts = ReuseFacts(seed=1, reused=1, confirmed=2)
    gate = Gate(source="1.4.16+patch", of="a patch", against="1.4.16", matrix="pr", pairs=pairs, diagnoses={},
                reuse=facts)  # fmt: skip
    wrong = replace(gate, reuse=replace(facts, refuted=(pairs[1].mine.cell.id,)))
    shown = (gate_format.terminal(gate), gate_format.terminal(wrong), gate_format.comment(gate))
    assert_golden("gate_reused.txt", "\n\n".join(shown) + "\n")


def test_a_search_for_transitions() -> None:
    found = find(row_of(9), oracle(BAD, BAD, GOOD, GOOD, None, GOOD, GOOD, OTHER, OTHER), known={})
    assert_golden("bisect.txt", "\n".join(render_search(found)) + "\n")
    assert_golden(
        "bisect_without.txt", "\n".join(render_search(find(row_of(3), oracle(GOOD, GOOD, GOOD), known={}))) + "\n"
    )


def test_preflight_in_the_terminal() -> None:
    findings = (
        PreflightFinding(
            severity=Severity.BROKEN, rule="source-len-unit", count=8, remedy="divide `source_len` by 160",
            message="`source_len` is in samples; FunASR counts frames of 10 ms.",
            place=Place(file="data/train.jsonl", line=3, key="utt-3"), evidence=("16000 for 1.0 s",),
        ),
        PreflightFinding(
            severity=Severity.MINOR, rule="warm-up-long", message="The warm-up outlasts the training.",
            place=Place(key="scheduler_conf.warmup_steps"),
        ),
    )  # fmt: skip
    facts = tuple(
        PreflightFact(section="data", label=label, value=value) for label, value in (("rows", "8"), ("epochs", "2"))
    )
    report = Report.of("1.4.16", [PreflightPart(findings=findings, facts=facts, skipped="memory: no --gpu was named")])
    about = {"model": "my-model", "data": "train.jsonl", "release": "FunASR 1.4.16", "trainer": "", "card": ""}
    for name, verbose in (("preflight.txt", False), ("preflight_verbose.txt", True)):
        lines = preflight_format.render(report, about, verbose=verbose)
        assert_golden(name, "\n".join(line.plain for line in lines) + "\n")


def test_preflight_for_every_release() -> None:
    fault = ReleaseReason(severity=Severity.BROKEN, rule="known-a", text="The loss does not fit.")
    ignored = ReleaseReason(severity=Severity.WRONG, rule="known-b", text="The scheduler is stepped too often.")
    reasons = {
        "1.0.16": [fault, ignored],
        "1.0.17": [fault],
        "1.0.18": [ignored],
        "1.0.19": [],
        "1.1.0": [],
        "1.2.0": [ignored],
    }
    assert_golden(
        "preflight_releases.txt", "\n".join(table_of(reasons, base="1.0.18", read=4, atlas=True).lines()) + "\n"
    )


def test_the_end_of_a_watched_training(tmp_path: Path) -> None:
    findings = (
        WatchFinding(
            severity=Severity.BROKEN, rule="loss-not-finite", message="the loss is NaN", step=120, rank=1,
            evidence=("key utt-3",), remedy="lower the learning rate",
        ),
        WatchFinding(severity=Severity.MINOR, rule="starved-by-data", message="38 % of a step is waiting", step=50),
    )  # fmt: skip
    forecasts = (Forecast(label="the training", value="12 min left", detail="143 of 300 steps"),)
    report = write_report(tmp_path, state_of(Recorded(ended=True)), findings, forecasts)
    assert_golden("watch.txt", "\n".join(report.lines).replace(str(tmp_path), "watched") + "\n")
    text = report.markdown.read_text("utf-8").replace(str(tmp_path), "watched")
    assert_golden("watch.md", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(local time)".ljust(19), text))


def test_what_a_log_means() -> None:
    known = LogExplanation(
        owner=Owner.FUNASR, rule="some-issue", severity=Severity.BROKEN, title="The loss does not fit.",
        cause="The decoder returns hidden states.", releases="1.0.12 – 1.0.17", remedy="Upgrade to 1.0.18 or later.",
        commands=("funasr-harness show CELL",), evidence=("assert x.size(2) == self.size",),
        upstream=("modelscope/FunASR#1478",), at=57, count=2, ranks=("0", "1"),
    )  # fmt: skip
    unknown = LogExplanation(owner=Owner.UNKNOWN, rule="unknown", severity=Severity.WRONG, title="KeyError: 'x'", at=9)
    report = LogReport(
        source="train.log", release="FunASR 1.0.14 (as you say)", facts=("57 lines", "no step"),
        explanations=(known, unknown), notes=("The log ends within an epoch.",),
    )  # fmt: skip
    sound = LogReport(source="train.log", release="FunASR 1.4.16 (as the log says)", facts=("300 steps",))
    for name, one in (("explain.txt", report), ("explain_sound.txt", sound)):
        assert_golden(name, "\n".join(line.plain for line in explain_format.render(one)) + "\n")
