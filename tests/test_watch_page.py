"""The page of a watched training, its server, its Markdown, the lines at the end, and TensorBoard's event files."""

from __future__ import annotations

import http.client
import json
import re
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
from page_reader import Page
from test_report_browser import CHROMIUM, browse
from watch_recordings import BEGAN, Recorded, lines, state_of
from watch_states import process

from harness.core.cells import Severity
from harness.report import watch_report
from harness.report.page_server import PageServer
from harness.report.watch_chart import PageChart, PageLine, draw
from harness.report.watch_page import charts, render_watch_page
from harness.report.watch_report import LivePage, write_report
from harness.report.watch_summary import summarise
from harness.watch import scalars
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.layout import compose
from harness.watch.overview import overview
from harness.watch.reading import parse_line
from harness.watch.records import BatchUtterance, Ended, PostMortem
from harness.watch.sections import View
from harness.watch.state import TrainingState
from harness.watch.terminal import minute_line

SMUGGLED = "<script>document.title = 'owned'</script>\u202e\x1b[2J"
FINDINGS = (
    WatchFinding(severity=Severity.MINOR, rule="starved-by-data", message="38 % of a step is spent waiting", step=50),
    WatchFinding(
        severity=Severity.BROKEN,
        rule="loss-not-finite",
        message="the loss is NaN",
        step=120,
        rank=1,
        evidence=(f"key {SMUGGLED}",),
        remedy="lower the learning rate",
    ),
)
FORECASTS = (Forecast(label="the training", value="12 min left", detail="143 of 300 steps"),)


def died(state: TrainingState) -> TrainingState:
    """A state whose first rank ended by a lack of memory."""
    rank = state.training_ranks[0]
    found = PostMortem(
        phase="backward",
        batch=(BatchUtterance(key=SMUGGLED, frames=900, tokens=40), BatchUtterance(key="short", frames=100, tokens=4)),
        padded_frames=1800,
        weights=2**30,
        allocated=20 * 2**30,
        reserved=23 * 2**30,
        card=24 * 2**30,
        wanted=2**31,
    )
    ended = Ended(
        at=BEGAN + 301, step=300, epoch=2, how="exception", status=1,
        exception="torch.OutOfMemoryError: CUDA out of memory", traceback=("Traceback", SMUGGLED), post_mortem=found,
    )  # fmt: skip
    state.ranks[rank.file] = replace(rank, ended=ended)
    return state


def page_of(state, findings=FINDINGS, *, running):
    summary = summarise(state, findings, FORECASTS, running=running)
    return render_watch_page(state, summary, output=("last line", SMUGGLED))


def test_the_page_has_every_part_and_needs_nothing_from_elsewhere():
    page = Page.of(page_of(state_of(Recorded(ranks=2, gpu=True)), running=True))
    for part in ("Loss", "unigram baseline of loss_att", "Accuracy", "Learning rate", "Gradient norm", "by phase",
                 "Memory of rank 1", "GPU 0, all processes, by NVML", "12 min left", "lower the learning rate",
                 "optim_conf.lr", "last line", "exp/model.pt.ep2", "running"):  # fmt: skip
        assert part in page.text
    assert page.text.index("the loss is NaN") < page.text.index("38 % of a step")
    assert not [value for name in ("src", "href", "action") for value in page.values(name) if value != "data:,"]
    assert page.tags.count("svg") >= 9


def test_what_was_recorded_is_shown_and_never_obeyed():
    text = page_of(died(state_of(Recorded(gpu=True, ranks=1, steps=299))), running=False)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "script-src 'none'" in text or "script-src &#39;none&#39;" in text


def test_the_post_mortem_has_the_batch_its_padding_and_the_memory_by_part():
    text = Page.of(page_of(died(state_of(Recorded(gpu=True, steps=297))), running=False)).text
    assert "in phase backward" in text
    assert "2 utterances, 44.4 % padding" in text
    for part in ("weights", "1,024 MiB", "reserved by torch and not used", "3,072 MiB", "the refused allocation"):
        assert part in text


def test_a_page_before_any_record_is_whole():
    state = TrainingState()
    assert "no training step yet" in page_of(state, (), running=True)
    assert "no training was observed" in page_of(state, (), running=False)


@pytest.mark.parametrize(
    "recorded", [Recorded(steps=1, epochs=1), Recorded(nan_at=1, steps=3), Recorded(attention=False)]
)
def test_odd_trainings_have_a_page(recorded):
    text = page_of(state_of(recorded), running=True)
    assert "nan" not in "".join(path for _, name, path in Page.of(text).attributes if name == "d")
    assert ("unigram baseline of loss_att" in text) == recorded.attention


@pytest.mark.parametrize("odd", [
    {"forwards": []}, {"seconds": {}}, {"learning_rates": []}, {"gradient_norm": None, "clipped_at": None},
    {"seconds": {"data": "nan"}}, {"seconds": {"data": 1e308, "forward": 1e308}}, {"gradient_norm": 1e308},
    {"gradient_norm": -1e299}, {"learning_rates": [1e-320]}, {"unigram": "inf"}, {"step": 10**15}, {"step": 1},
    {"memory": {"resident": None}}, {"epoch": -1},
])  # fmt: skip
def test_odd_records_end_neither_page_nor_display(odd):
    state, (records,) = TrainingState(), lines(Recorded(steps=3)).values()
    for record in records:
        changed = odd if record["kind"] == "step" and record["step"] == 3 else {}
        state.add("odd.jsonl", parse_line(json.dumps({**record, **changed}).encode()))
    for running in (True, False):
        assert "<svg" in page_of(state, running=running)
    for width, height in ((80, 24), (200, 50)):
        view = View(state=state, now=overview(state), began=BEGAN, at=BEGAN, findings=FINDINGS, forecasts=FORECASTS,
                    output=(), log="", page="")  # fmt: skip
        assert compose(view, width, height)
    assert minute_line(overview(state), FINDINGS, FORECASTS)


def test_a_fault_of_the_page_does_not_end_the_watching(tmp_path, monkeypatch):
    page = LivePage(state_of(Recorded()), tmp_path)
    page._next = 0.0
    monkeypatch.setattr(watch_report, "render_watch_page", lambda *_, **__: 1 / 0)
    page.update(FINDINGS, FORECASTS)
    assert page.problem == "a fault of the harness itself, in the page: ZeroDivisionError: division by zero"


def test_no_peak_is_lost_in_a_long_curve():
    values = [1.0] * 4000
    values[1234] = 9.0
    chart = PageChart(title="", lines=[PageLine(name="", steps=range(1, 4001), values=values, kind="0")], label="")
    drawn = str(draw(chart))
    level = min(
        float(point.split(" ")[1].split("h")[0]) for point in drawn.split(' d="')[-1].split('"')[0].split("L")[1:]
    )
    assert level < 40
    assert len(drawn) < 40_000


def test_the_curves_are_drawn_with_the_recorded_values():
    state = state_of(Recorded())
    loss = next(iter(charts(state)))
    assert list(loss.lines[0].values) == state.training_ranks[0].curves["loss"].values
    assert [line.name for line in loss.lines][-1] == "loss in the validations"


def ask(server, method="GET", path=None, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest(method, server.path if path is None else path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"127.0.0.1:{server.port}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def server():
    one = PageServer(page=b"<p>the page</p>")
    yield one
    one.close()


def test_the_server_gives_its_page_to_whoever_knows_the_address(server):
    assert ask(server) == (200, b"<p>the page</p>")
    assert ask(server, host=f"localhost:{server.port}") == (200, b"<p>the page</p>")
    server.page = b"the next"
    assert ask(server)[1] == b"the next"
    assert ask(server, "HEAD") == (200, b"")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1:1"])
def test_another_host_is_refused(server, host):
    assert ask(server, host=host) == (421, b"")


@pytest.mark.parametrize("path", ["/", "/report.html", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/etc/passwd"])
def test_nothing_else_is_served(server, path):
    assert ask(server, path=path) == (404, b"")


def test_nothing_can_be_sent_to_the_server(server):
    assert [ask(server, method)[0] for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [501] * 4
    assert server.address.startswith("http://127.0.0.1:")
    assert len(server.path) == 14, "72 bits that nobody can guess"


def test_a_page_that_cannot_be_written_is_said_and_ends_nothing(tmp_path):
    folder = tmp_path / "gone"
    page = LivePage(state_of(Recorded()), folder)
    assert "report.html is not up to date" in page.problem
    folder.mkdir()
    page._next = 0.0
    page.update(FINDINGS, FORECASTS)
    assert page.problem == ""
    assert "the loss is NaN" in (folder / "report.html").read_text("utf-8")


def test_the_report_says_in_twenty_lines_what_matters_most(tmp_path):
    many = tuple(replace(FINDINGS[0], rule=f"rule-{number}") for number in range(30))
    report = write_report(tmp_path, state_of(Recorded(ended=True)), (*many, FINDINGS[1]), FORECASTS)
    assert len(report.lines) == 20
    assert report.lines[0] == "Paraformer, train_ds, Adam + WarmupLR, cpu: finished."
    assert report.lines[1].startswith("300 steps and 3 whole epochs of 800 rows in 5 min 00 s, lately 9")
    assert "the unigram baseline is 5.3100" in report.lines[2]
    assert report.lines[3] == "broken loss-not-finite: step 120, rank 1: the loss is NaN"
    assert report.lines[-3].endswith("more findings")
    assert report.lines[-2:] == (f"page: {tmp_path / 'report.html'}", f"text: {tmp_path / 'report.md'}")


def test_the_markdown_escapes_what_was_recorded(tmp_path):
    report = write_report(tmp_path, died(state_of(Recorded(gpu=True, steps=294))), FINDINGS, FORECASTS)
    text = report.markdown.read_text("utf-8")
    assert "<script" not in re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "&#60;script&#62;" in text, "the key of an utterance"
    assert "\u202e" not in text
    assert "44.4 % padding" in text
    assert text.index("broken: loss-not-finite") < text.index("minor: starved-by-data")
    assert "nothing found" in "\n".join(write_report(tmp_path, state_of(Recorded(ended=True)), ()).lines)


def events_in(path):
    """The scalars of an event file, by tag; the records' checksums are tensorboardX's matter."""
    from tensorboardX.proto.event_pb2 import Event

    content, found = path.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_the_scalars_are_those_that_were_recorded(tmp_path):
    state = state_of(Recorded(ranks=2, gpu=True, nan_at=290))
    writer = scalars.ScalarWriter(state, tmp_path)
    writer.update()
    writer.close()
    assert writer.problem == ""
    (first,) = (tmp_path / "tensorboard" / "rank0").iterdir()
    found = events_in(first)
    curve = state.training_ranks[0].curves["loss_att"]
    assert [step for step, _ in found["train/loss_att"]] == curve.steps
    assert [value for _, value in found["train/loss_att"]][:289] == pytest.approx(curve.values[:289])
    assert found["train/loss_att"][-1][1] != found["train/loss_att"][-1][1]
    assert found["validation/loss"] == [(100, pytest.approx(2.9)), (200, pytest.approx(2.7)), (300, pytest.approx(2.5))]
    assert found["memory_MiB/allocated"][0][1] == pytest.approx(9625.6, abs=0.1)
    assert {"train/unigram_baseline_of_loss_att", "seconds/data", "train/learning_rate"} <= set(found)
    assert (tmp_path / "tensorboard" / "rank1").is_dir()


def test_writing_scalars_does_not_import_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from harness.watch import scalars; from harness.watch.state import *;"
        "scalars.ScalarWriter(TrainingState(), Path(sys.argv[1])); assert 'tensorboardX' in sys.modules;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_without_tensorboardx_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    writer = scalars.ScalarWriter(state_of(Recorded()), tmp_path)
    writer.update()
    writer.close()
    assert writer.problem == "no TensorBoard scalars: tensorboardX is not installed with the harness"
    assert not list(tmp_path.iterdir())


def test_scalars_on_a_full_disk_end_nothing(tmp_path):
    writer = scalars.ScalarWriter(state_of(Recorded()), tmp_path)
    (tmp_path / "tensorboard").write_text("in the way")
    writer.update()
    assert writer.problem.startswith("no more TensorBoard scalars: ")


LOCAL = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)


class Turning(PageServer):
    """Serves a page that runs to whoever asks first, and its end to all others."""

    pages: tuple[str, str] = ("", "")

    def __getattribute__(self, name):
        if name != "page":
            return super().__getattribute__(name)
        first, then = self.pages
        self.pages = (then, then)
        return first.encode()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_takes_over_what_is_new(tmp_path):
    state = state_of(Recorded(ranks=2, gpu=True))
    server = Turning()
    server.pages = (page_of(state, FINDINGS[:1], running=True), page_of(state, running=False))
    try:
        document, console = browse(server.address, tmp_path, *LOCAL, "--virtual-time-budget=15000", "--dump-dom")
    finally:
        server.close()
    text = Page.of(document).text
    assert "the loss is NaN" in text, "the page did not take over the new one"
    assert 'data-running="yes"' in document, "the page was loaded anew"
    assert "<title>owned</title>" not in document
    assert console == []


def test_a_training_that_failed_before_its_first_step_says_so_with_its_traceback():
    state = TrainingState()
    state.add("host-100.jsonl", process())
    ended = Ended(
        at=1.0,
        step=0,
        epoch=0,
        how="exception",
        status=1,
        exception="builtins.KeyError: 'planted'",
        traceback=("  raise KeyError('planted')",),
    )
    state.add("host-100.jsonl", ended)
    summary = summarise(state, (), (), running=False)
    assert summary.status == "no training step was taken: builtins.KeyError: 'planted'"
    assert "raise KeyError" in render_watch_page(state, summary)
    assert summarise(TrainingState(), (), (), running=False).status == "no training was observed"
