"""What a user of preflight reads: the verdict, the terminal's twenty lines, the record and the page."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import Page
from rich.console import Console

from harness import cli
from harness.core.cells import Severity
from harness.preflight.all_releases.release_table import ReleaseReason, ReleaseTable, table_of
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart, Report
from harness.preflight.terminal import MOST_SHOWN, render, render_table
from harness.preflight.verdict import record, sentence
from harness.report.preflight_page import render_preflight, render_releases

ABOUT = {"model": "my-model", "data": "train.jsonl", "release": "FunASR 1.4.16", "trainer": "", "card": ""}
HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\u202e"


def finding(severity: Severity, rule: str = "some-rule", **others: object) -> PreflightFinding:
    place = Place(file="data/train.jsonl", line=3, key="utt-3")
    usual = {"message": "The row vanishes.", "place": place, "evidence": ("a", "b"), "remedy": "type this"}
    return PreflightFinding(severity=severity, rule=rule, **{**usual, **others})  # type: ignore[arg-type]


def report(*findings: PreflightFinding, skipped: tuple[str, ...] = ()) -> Report:
    facts = (
        PreflightFact(section="data", label="rows", value="8"),
        PreflightFact(section="data", label="trained on", value="7"),
    )
    return Report.of(
        "1.4.16", [PreflightPart(findings=findings, facts=facts), *(PreflightPart(skipped=one) for one in skipped)]
    )


def text_of(one: Report, *, verbose: bool = False) -> str:
    return "\n".join(line.plain for line in render(one, ABOUT, verbose=verbose))


def test_the_gravest_come_first_and_minor_ones_do_not_stop() -> None:
    found = report(finding(Severity.MINOR), finding(Severity.BROKEN), finding(Severity.WRONG))
    assert [one.severity for one in found.findings] == ["broken", "wrong", "minor"]
    assert not found.go
    assert sentence(found) == (
        "No go: 1 problem stops this training or ruins its result, and 1 problem makes it train something else than"
        " configured."
    )
    sound = report(finding(Severity.MINOR), skipped=("no jsonl was named",))
    assert sound.go
    assert sentence(sound) == (
        "Go: nothing was found that stops or changes this training (1 remark); 1 part not checked."
    )


def test_what_two_parts_say_of_one_key_is_said_once() -> None:
    def of(rule: str, key: str) -> PreflightFinding:
        return finding(Severity.BROKEN, rule, place=Place(key=key))

    refused, built = of("key-refused", "encoder_conf.dropout"), of("model-not-built", "encoder_conf.dropout")
    other = of("model-not-built", "encoder_conf.attention_heads")
    assert [one.rule for one in report(refused, built, other).findings] == ["key-refused", "model-not-built"]


def test_a_later_load_of_the_base_is_said_once() -> None:
    seen = finding(Severity.MINOR, "later-load-takes-base")
    known = finding(Severity.WRONG, "known-fine-tuned-folder-loads-its-base")
    assert [one.rule for one in report(seen, known).findings] == [known.rule]
    assert [one.rule for one in report(seen).findings] == [seen.rule]


def test_a_dry_run_that_ends_where_the_code_says_so_is_one_finding() -> None:
    where = Place(file="funasr/models/transformer/model.py", line=313)
    foreseen = finding(Severity.BROKEN, "validation-ends", place=replace(where, key="_calc_ctc_loss"), evidence=())
    tried = finding(Severity.BROKEN, "training-ends", place=where)
    (one,) = report(foreseen, tried).findings
    assert (one.rule, one.evidence) == ("validation-ends", ("the dry run ended at this line",))
    elsewhere = report(foreseen, replace(tried, place=replace(where, line=99))).findings
    assert [(one.rule, one.evidence) for one in elsewhere] == [("validation-ends", ()), ("training-ends", ("a", "b"))]


def test_many_findings_are_few_lines_and_all_with_verbose() -> None:
    many = report(*(finding(Severity.BROKEN, f"rule-{n}") for n in range(50)), finding(Severity.MINOR))
    short, whole = text_of(many), text_of(many, verbose=True)
    assert short.count("✗ broken") == MOST_SHOWN
    assert "43 broken, 1 minor more: -v shows them" in short
    assert len(short.splitlines()) <= 30
    assert short.count("→ type this") == 4
    assert short.count("  The row vanishes.") == MOST_SHOWN
    assert whole.count("✗ broken") == 50
    assert "│ b" in whole
    assert "│ b" not in short


def test_a_finding_says_place_count_evidence_and_remedy() -> None:
    text = text_of(report(finding(Severity.WRONG, count=5000)))
    assert "≠ wrong  train.jsonl:3, utt-3  × 5,000  some-rule" in text
    assert "→ type this" in text
    assert "data  rows: 8 · trained on: 7" in text


def test_foreign_text_is_shown_and_not_obeyed() -> None:
    bad = report(finding(Severity.WRONG, message=HOSTILE, evidence=(HOSTILE,), remedy=HOSTILE))
    stream = io.StringIO()
    for line in render(bad, {**ABOUT, "model": HOSTILE}):
        Console(file=stream, force_terminal=False).print(line)
    assert "\x1b" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()
    page = Page.of(render_preflight(bad, {**ABOUT, "model": HOSTILE}))
    assert "script" not in page.tags
    assert json.dumps(record(bad, ABOUT), ensure_ascii=True)


def test_the_page_has_every_finding_and_allows_no_script() -> None:
    text = render_preflight(report(finding(Severity.BROKEN), finding(Severity.MINOR), skipped=("no card",)), ABOUT)
    assert "script-src &#39;none&#39;" in text or "script-src 'none'" in text
    assert "Stops the training, or ruins its result: 1" in text
    assert "train.jsonl:3, utt-3" in text
    assert "no card" in text


@pytest.mark.parametrize(("columns", "widest"), [(80, 80), (200, 120)])
def test_no_sentence_is_cut_or_wider_than_one_reads(monkeypatch: pytest.MonkeyPatch, columns: int, widest: int) -> None:
    monkeypatch.setattr("harness.preflight.terminal.width", lambda: columns)
    long = "The row of this jsonl vanishes " * 9 + "for good."
    many = report(*(finding(Severity.BROKEN, f"rule-{n}", message=long) for n in range(5)))
    lines = [line.plain for line in render(many, {**ABOUT, "data": "train-of-my-own.jsonl " * 6})]
    assert max(map(len, lines)) <= widest
    assert " ".join(line.strip() for line in lines).count("for good.") == 5


def releases(text: str = "The loss does not fit.") -> ReleaseTable:
    fault = ReleaseReason(severity=Severity.BROKEN, rule="known-a model", text=text)
    return table_of({"1.0.16": [fault], "1.0.17": [], "1.0.18": []}, base="1.0.18", read=3, atlas=True)


def test_the_page_of_every_release_says_how_many_are_sound_and_what_to_install() -> None:
    text = render_releases(releases(), ABOUT)
    assert "Go with 2 of 3 published releases" in text
    assert "pip install funasr==1.0.18" in text
    assert text.index("1.0.17, 1.0.18") < text.index("1.0.16")
    assert "The loss does not fit." in text
    none = table_of({"1.0.16": releases().groups[-1].reasons}, base="1.0.16", read=1, atlas=True)
    assert "No go: something stops or changes this training in each of 1 published" in render_releases(none, ABOUT)
    assert "pip install" not in render_releases(none, ABOUT)
    page = Page.of(render_releases(releases(HOSTILE), {"model": HOSTILE}))
    assert "script" not in page.tags


def test_every_release_fits_a_terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.preflight.terminal.width", lambda: 80)
    lines = [line.plain for line in render_table(releases("long " * 40 + HOSTILE), ABOUT)]
    assert lines[0] == "my-model · train.jsonl · FunASR 1.4.16"
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)
    assert lines[-1] == "Best: pip install funasr==1.0.18"


def test_what_needs_one_release_is_refused_with_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["preflight", str(tmp_path), "--release", "all", "--dry-run", "--gpu", "24GB", "--fix", "rows.jsonl"]
    assert cli.main(asked) == 2
    assert "--dry-run, --gpu, --fix" in capsys.readouterr().err


def test_a_path_that_does_not_exist_ends_with_all_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train, script = str(tmp_path / "none.jsonl"), str(tmp_path / "finetune.sh")
    status = cli.main(["preflight", str(tmp_path), "--train", train, "--script", script])
    said = capsys.readouterr().err
    assert status == 2
    assert "--train" in said
    assert "--script" in said


def test_only_preflight_takes_words_after_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["list", "pr", "--", "++a=1"])
    assert left.value.code == 2
    assert "takes no words" in capsys.readouterr().err
