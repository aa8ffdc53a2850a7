"""Text from outside reaches no terminal, page or file as anything but text, whichever field it stands in."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile_text import HOSTILE, LONG, MARK, NAME, planted, raw
from rich.console import Group
from rich.progress import Progress
from rich.text import Text
from test_report_browser import CHROMIUM, browse
from watch_states import examined, state, step

from harness import cli
from harness.compare.diagnose import format as diagnosis_format
from harness.compare.diagnose.diagnosis import Diagnosis
from harness.compare.gate.format import Gate
from harness.compare.gate.format import comment as gate_comment
from harness.compare.gate.format import terminal as gate_terminal
from harness.compare.gate.pairs import CellPair, Result
from harness.config.expansion import import_cell
from harness.core.cells import Cell, Check, Entry, Failure, Frame, Outcome, Severity, Status
from harness.core.durable import json_text
from harness.core.wire import strict
from harness.explain.explanation import LogReport
from harness.explain.terminal import record as explain_record
from harness.explain.terminal import render as explain_render
from harness.preflight.findings import Report
from harness.preflight.terminal import render as preflight_render
from harness.preflight.verdict import record as preflight_record
from harness.report import write_reports
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.one_cell import RunOfCell, cell_json, render_cell
from harness.report.preflight_page import render_preflight
from harness.report.summary import summarise
from harness.report.terminal import answer, summary
from harness.report.upstream.document import document
from harness.report.upstream.finding import UpstreamFinding, findings
from harness.report.upstream.trial import ScriptTrial
from harness.report.watch_report import write_report
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.outcome_lines import line_of
from harness.run.provenance import Provenance
from harness.run.store import OUTCOMES, RUN, LoadedRun, load_run
from harness.text.streams import VisibleStream, visible_streams
from harness.text.terminal import TextConsole, result_console, say
from harness.variants.catalogue import load_variant
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.records import KINDS
from harness.watch.state import TrainingState
from harness.watch.terminal import LiveDisplay

HARNESS = Path(__file__).parent.parent / "harness"
SHAPE = "v8404-h320/reduced"


def cells() -> Iterator[Cell]:
    """A cell of each check, of one release that is named as it should be."""
    yield import_cell("1.0.10")
    for check in Check:
        if check is not Check.IMPORT:
            entry = f"@{Entry.TRAIN}" if check.facts.through_trainer else ""
            yield Cell.parse(f"1.0.10/paraformer/{SHAPE}/{check}{entry}/cpu-fp32")


def outcomes(text: str = HOSTILE) -> tuple[Outcome, ...]:
    """An outcome of each check in each status, with the text in every field of its evidence and metrics."""
    found = []
    for number, status in enumerate(Status):
        for cell in cells():
            facts = cell.check.facts
            failure = planted(Failure, text, frames=(planted(Frame, text, file=f"funasr/{text}"),))
            found.append(
                Outcome(
                    cell=replace(cell, release=f"1.0.{number}"),
                    status=status,
                    reason=text,
                    failure=failure if status is Status.FAILED else None,
                    metrics=strict(plain_data(planted(facts.metrics, text))),
                    evidence=strict(plain_data(planted(facts.evidence, text))) | {text: text},
                    shims=(text,),
                    started=text,
                )
            )
    # Names of releases and variants come out of a file, too.
    named = replace(found[1].cell, release=text.replace("/", ""), variant=text.replace("/", ""))
    return (*found, replace(found[1], cell=named))


def plain_data(record: Any) -> Any:
    """A record as JSON has it."""
    import dataclasses

    return json.loads(json.dumps(dataclasses.asdict(record), default=str))


def test_the_planted_outcomes_have_their_checks_forms() -> None:
    """Otherwise their evidence would be dropped before it could be shown."""
    for outcome in outcomes():
        assert outcome.as_declared() is outcome


def issues(text: str = HOSTILE) -> KnownIssues:
    """A known issue for each check, with the text wherever a file of known issues may have one."""
    return KnownIssues(
        issues=tuple(
            planted(
                KnownIssue,
                text,
                id=f"issue-{number}",
                releases="==1.0.1",
                checks=(check,),
                signatures=(text,),
                code=(),
                variants=(),
                shapes=(),
                devices=(),
                entry=None,
                status=Status.FAILED,
                applies_when=(),
                severity=Severity.BROKEN,
            )
            for number, check in enumerate(Check)
        )
    )


def run(text: str = HOSTILE) -> LoadedRun:
    """A whole run."""
    provenance = planted(Provenance, text, schema=1, selected=None, cells=1)
    return LoadedRun(provenance=provenance, outcomes=outcomes(text))


@pytest.fixture(scope="module", params=[HOSTILE, LONG], ids=["hostile", "long"])
def world(request: pytest.FixtureRequest) -> tuple[LoadedRun, tuple[JudgedOutcome, ...]]:
    loaded = run(request.param)
    return loaded, judge(loaded.outcomes, issues(request.param))


def assert_shown(text: str, *, planted_text: bool = True) -> None:
    """It says what was planted, and nothing of it acts."""
    assert raw(text) == []
    text.encode("utf-8")
    if planted_text:
        assert MARK in text


def assert_printed(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """The same after it has gone the way to the terminal."""
    with visible_streams():
        print(text)
        say(text)
    written = capsys.readouterr()
    assert_shown(written.out)
    assert_shown(written.err)


def test_the_reader_sees_what_acts() -> None:
    """Otherwise nothing below could fail."""
    assert raw("plain 中文 text\n\twith — signs ✓") == []
    expected = "U+0000 U+0007 U+0008 U+001B U+007F U+009B U+009C U+009D U+200B U+202E U+2066 U+DC9B U+FEFF"
    assert raw(HOSTILE) == expected.split()


def test_a_new_field_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = plain_data(planted(Check.FINETUNE.facts.evidence))
    import dataclasses

    for kind in (Provenance, Failure, Check.FINETUNE.facts.evidence):
        made = planted(kind)
        texts = [field for field in dataclasses.fields(kind) if isinstance(getattr(made, field.name), str)]
        assert all(MARK in getattr(made, field.name) for field in texts)
    assert json.dumps(evidence).count(MARK) > 20


def test_the_reports_of_a_run(
    world: tuple[LoadedRun, tuple[JudgedOutcome, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, judged = world
    paths = write_reports(loaded, judged, tmp_path, title=HOSTILE)
    for path in (paths.html, paths.markdown, paths.junit):
        assert_shown(path.read_text("utf-8"))
    ElementTree.parse(paths.junit)
    made = summarise(loaded, judged, title=HOSTILE, published=(), against=None)
    assert_shown(render_html(made))
    assert_shown(render_markdown(made))
    page, text = paths.html.read_text("utf-8"), paths.markdown.read_text("utf-8")
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not any(word in prose for word in ("<script", "<img", "](javascript", "@everyone"))
    assert_printed(capsys, answer(judged, (), width=80) + summary(judged))


def test_a_message_of_a_megabyte_is_no_page_of_a_megabyte(tmp_path: Path) -> None:
    loaded = run("x")
    long = replace(loaded.outcomes[1], status=Status.FAILED, reason=LONG * 500, failure=planted(Failure, LONG * 500))
    paths = write_reports(loaded, judge((long,), KnownIssues()), tmp_path)
    assert paths.html.stat().st_size < 400_000
    assert paths.markdown.stat().st_size < 100_000
    assert paths.junit.stat().st_size < 400_000


def test_show(world: tuple[LoadedRun, tuple[JudgedOutcome, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    loaded, judged = world
    for one in judged:
        seen = RunOfCell(folder=Path(NAME), provenance=loaded.provenance, judged=one)
        assert_printed(capsys, render_cell(seen))
        told = json_text(cell_json(one.outcome.cell.id, [seen]))
        assert_shown(told)
        json.loads(told)


def test_the_reports_for_upstream() -> None:
    loaded = run()
    variant = load_variant("paraformer")
    written = 0
    for one in judge(loaded.outcomes, issues()):
        for finding in findings(one, variant):
            text = document(finding, one.outcome, _stack(), script=None, trial=None)
            assert_shown(text)
            for script in finding.scripts:
                assert_shown(script, planted_text=False)
                ast.parse(script)
                written += 1
    assert written
    finding = planted(UpstreamFinding, issue=planted(KnownIssue, releases=HOSTILE))
    trial = planted(ScriptTrial)
    assert_shown(document(finding, loaded.outcomes[1], _stack(), script=HOSTILE, trial=trial))


def _stack() -> Any:
    from cli_scene import STACK

    return replace(STACK, libraries={HOSTILE: HOSTILE})


def test_the_stored_run(tmp_path: Path) -> None:
    """It can be printed with `cat`, and is read back as it was."""
    loaded = run()
    for outcome in loaded.outcomes:
        line = line_of(outcome).decode("utf-8")
        assert_shown(line)
        assert Outcome.from_json(json.loads(line)) == outcome
    store(tmp_path, loaded)
    assert load_run(tmp_path).provenance == loaded.provenance


def store(folder: Path, loaded: LoadedRun) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OUTCOMES).write_bytes(b"".join(map(line_of, loaded.outcomes)))
    (folder / RUN).write_text(json_text(loaded.provenance.to_json()), encoding="utf-8")


def test_diagnosis_and_gate(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = planted(Diagnosis, cell=next(cells()), status=Status.FAILED, against_status=Status.PASSED)
    assert_printed(capsys, diagnosis_format.terminal(diagnosis))
    assert_shown(diagnosis_format.markdown(diagnosis))
    assert_shown(json_text(diagnosis.to_json()))
    mine = outcomes()
    pairs = tuple(CellPair(mine=one, other=one, result=result, reason=HOSTILE) for one in mine for result in Result)
    gate = planted(Gate, pairs=pairs, diagnoses={mine[0].cell.id: diagnosis})
    assert_printed(capsys, gate_terminal(gate))
    assert_shown(gate_comment(gate))
    assert_shown(json_text(gate.to_json()))


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    report = planted(LogReport)
    with visible_streams():
        for line in explain_render(report, verbose=True):
            result_console().print(line)
    assert_shown(capsys.readouterr().out)
    assert_shown(json_text(explain_record(report)))


def test_preflight(capsys: pytest.CaptureFixture[str]) -> None:
    report = planted(Report)
    about = {HOSTILE: HOSTILE, "model": HOSTILE}
    with visible_streams():
        for line in preflight_render(report, about, verbose=True):
            result_console().print(line)
    assert_shown(capsys.readouterr().out)
    assert_shown(json_text(preflight_record(report, about)))
    page = render_preflight(report, about)
    assert_shown(page)
    assert "<script" not in page


def test_watch(tmp_path: Path) -> None:
    for number, text in enumerate((HOSTILE, LONG)):
        clock = iter(range(0, 10**6, 100)).__next__
        watched = watched_state(text)
        found = (*examined(watched).values(), *(planted(WatchFinding, text, severity=one) for one in Severity))
        report = write_report(tmp_path / str(number), watched, found, (planted(Forecast, text),), output=[text, text])
        assert_shown(report.page.read_text("utf-8"))
        assert_shown(report.markdown.read_text("utf-8"))
        assert "<script" not in report.page.read_text("utf-8")
        for terminal in (True, False):
            written = io.StringIO()
            console = TextConsole(file=written, force_terminal=terminal, width=120, height=40, color_system=None)
            display = LiveDisplay(watched, tmp_path, log=text, page=text, console=console, clock=clock)
            display.update(found, (planted(Forecast, text),), text + "\n" + text)
            display.close()
            assert not display.problem
            assert_no_text_acts(written.getvalue())


def watched_state(text: str) -> TrainingState:
    """A training whose observers wrote the text wherever a record of theirs can have one."""
    made = state(100, into=TrainingState(), ended=None)
    for kind in KINDS.values():
        made.add("host-100.jsonl", planted(kind, text))
    made.add("host-100.jsonl", step(101, loss=1.0))
    return made


_OF_RICH = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
"""Colours and movements of the cursor; no title, no other sequence."""


def assert_no_text_acts(written: str) -> None:
    """Of what rich wrote only its own sequences act, and none of them clears the screen or sets the title."""
    for sequence in _OF_RICH.findall(written):
        assert re.fullmatch(r"\r|\x1b\[(\d*[A-GK]|\?25[lh]|[\d;]*m|\?1049[lh]|2?J|H)", sequence), sequence
    assert raw(_OF_RICH.sub("", written)) == []
    assert MARK in written


def test_a_console_shows_text_wherever_it_stands() -> None:
    for shown in (HOSTILE, Text(HOSTILE), Group(Text(HOSTILE), Text(HOSTILE, style="red"))):
        written = io.StringIO()
        console = TextConsole(file=written, force_terminal=True, width=80, color_system=None, markup=False)
        console.print(shown)
        assert raw(written.getvalue().replace("\x1b[0m", "")) == []
    written = io.StringIO()
    console = TextConsole(file=written, force_terminal=True, width=200, markup=False)
    with Progress(console=console) as progress:
        progress.add_task(HOSTILE.replace("[/x]", ""))
    assert_no_text_acts(written.getvalue())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "gb18030"])
def test_a_stream_writes_what_it_can_spell(encoding: str) -> None:
    raw_bytes = io.BytesIO()
    stream = VisibleStream(io.TextIOWrapper(raw_bytes, encoding=encoding, write_through=True), longest=200)
    print(HOSTILE, "中文 – …", file=stream)
    print(LONG, file=stream)
    written = raw_bytes.getvalue().decode(encoding)
    assert_shown(written)
    assert len(written.splitlines()[1]) <= 210


def test_the_output_of_a_watched_command_keeps_colours_and_progress_bars_and_no_more() -> None:
    below = io.StringIO()
    stream = VisibleStream(below)
    for part in ("10%\r20%\x1b[", "31mred\x1b[0m\x1b", "[K", HOSTILE, "\x1b]0;ow", "ned\x07\x1b[2", "J"):
        stream.pass_on(part)
    written = below.getvalue()
    assert written.startswith("10%\r20%\x1b[31mred\x1b[0m\x1b[K")
    assert raw(re.sub(r"\r|\x1b\[(31|0)?[mK]", "", written)) == []
    assert "\\x1b]0;owned\\x07" in written


IMPORT = import_cell("1.0.1").id
COMMANDS = [
    ("run", NAME),
    ("list", NAME),
    ("run", "pr", "--jsonl", NAME),
    ("run", "pr", "--only", NAME),
    ("run", "pr", "--known-issues", NAME),
    ("run", "pr", "--jobs", NAME),
    ("run", "pr", "--lock", NAME),
    ("report", NAME),
    ("report", "--import", NAME),
    ("pack", NAME),
    ("show", NAME),
    ("show", IMPORT, "--run", NAME),
    ("drift", NAME),
    ("bisect", NAME, "--check", "import"),
    ("diagnose", NAME),
    ("gate", NAME),
    ("estimate", "--variant", NAME, "--batch", "1"),
    ("baseline", "accept", NAME),
    ("releases", "fetch", NAME),
    ("cache", "--older-than", NAME),
    ("bundle", NAME, "-o", NAME),
    ("explain", NAME),
    ("explain", NAME + ".log"),
    ("preflight", NAME, "--train", NAME),
    ("preflight", NAME, "--script", NAME),
    ("watch", "--of", NAME),
    ("watch", "--card", NAME, "--", "true"),
    ("completion", NAME),
    (NAME,),
    ("--" + NAME,),
]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words).replace(NAME, "NAME") for words in COMMANDS])
def test_errors_and_what_they_quote(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path, an option's value, a name: argparse's messages and ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUNASR_HARNESS_CACHE", str(tmp_path / "cache"))
    try:
        status = cli.main(list(words))
    except SystemExit as error:
        status = int(error.code or 0)
    said = capsys.readouterr()
    assert raw(said.out + said.err) == []
    assert "a fault of the harness itself" not in said.err
    if words[0] != "explain":
        assert status not in (0, 1), said
        assert MARK in said.err


def test_the_commands_on_a_stored_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the files to the terminal, as a user has it."""
    monkeypatch.chdir(tmp_path)
    loaded = run()
    folder = tmp_path / NAME
    store(folder, replace(loaded, outcomes=loaded.outcomes[:-1]))
    log = tmp_path / f"{NAME}.log"
    log.write_bytes(
        f'{HOSTILE}\nTraceback (most recent call last):\n  File "{HOSTILE}", line 1, in {HOSTILE}\n'
        f"    {HOSTILE}\nValueError: {HOSTILE}\n".encode("utf-8", "surrogatepass")
    )
    seen = 0
    for words in (
        ("report", str(folder)),
        ("drift", str(folder)),
        ("drift", str(folder), "--json"),
        *(("show", outcome.cell.id, "--run", str(folder)) for outcome in loaded.outcomes[:3]),
        ("show", loaded.outcomes[0].cell.id, "--run", str(folder), "--json"),
        ("baseline", "accept", str(folder), "--yes", "--baselines", str(folder / "b")),
        ("explain", str(log)),
        ("explain", str(log), "--json", "-"),
        ("-v", "explain", HOSTILE.replace("\x00", "")),
        ("-v", "report", str(folder)),
        ("--debug", "show", HOSTILE, "--run", str(folder)),
    ):
        try:
            cli.main(list(words))
        except SystemExit as error:
            pytest.fail(f"{words}: {error}")
        said = capsys.readouterr()
        assert raw(said.out) == [], words
        assert raw(said.err) == [], words
        assert "a fault of the harness itself" not in said.err, (words, said.err)
        seen += MARK in said.out + said.err
    assert seen >= 10


def test_only_one_module_makes_consoles_and_nothing_writes_past_the_streams() -> None:
    """`sys.__stdout__`, a console of rich's own or a handler of `logging` would be a second way to the terminal."""
    ways = re.compile(r"\bConsole\(\s*[a-z)]|sys\.__std(out|err)__|StreamHandler|basicConfig|os\.write\([12],")
    allowed = {HARNESS / "text" / "terminal.py"}
    found = [
        f"{path.relative_to(HARNESS)}: {line}"
        for path in HARNESS.rglob("*.py")
        if "worker" not in path.parts and path not in allowed
        for line in path.read_text("utf-8").splitlines()
        if ways.search(line)
    ]
    assert found == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_pages_in_a_browser(tmp_path: Path) -> None:
    """Nothing runs, nothing is loaded, and the document that the browser made has no character that acts."""
    loaded = run()
    page = write_reports(loaded, judge(loaded.outcomes, issues()), tmp_path, title=HOSTILE).html
    preflight = tmp_path / "preflight.html"
    preflight.write_text(render_preflight(planted(Report), {"model": HOSTILE}), encoding="utf-8")
    for number, one in enumerate((page, preflight)):
        seen, console = browse(one.as_uri(), tmp_path / f"profile-{number}")
        assert console == []
        assert_shown(seen)
        assert "<title>owned" not in seen
        assert "onerror=" not in re.sub(r"&lt;img[^<]*", "", seen)


def test_the_first_word_to_a_real_terminal(tmp_path: Path) -> None:
    """In a process of its own: what argparse says before any command is called."""
    call = "import sys; from harness.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", call, "list", NAME],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env={"PYTHONPATH": str(HARNESS.parent), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 2
    assert_shown(done.stderr.decode("utf-8"))
