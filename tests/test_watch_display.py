"""The live display of a watched training: its parts in a terminal of 80 and 200 columns, and lines without one."""

from __future__ import annotations

import io
import time

import pyte
import pytest
from rich.console import Console
from watch_recordings import BEGAN, Recorded, state_of

from harness.core.cells import Severity
from harness.text import units
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.layout import compose
from harness.watch.overview import baseline_curve, overview, recent, speech_per_frame, step_seconds
from harness.watch.sections import View
from harness.watch.state import TrainingState
from harness.watch.terminal import LINE_SECONDS, LiveDisplay, OutputTail, can_draw

FINDINGS = (
    WatchFinding(severity=Severity.BROKEN, rule="loss-not-finite", message="the loss is NaN", step=120),
    WatchFinding(severity=Severity.MINOR, rule="starved", message="38 % of a step is spent waiting", rank=1),
)
FORECASTS = (Forecast(label="the training", value="12 min left", detail="143 of 300 steps"),)
SIZES = ((80, 24), (80, 50), (200, 50), (60, 16), (140, 24), (140, 29), (300, 80))


def shown(state, width, height, findings=FINDINGS, output=("epoch: 1/3, step 143",), at=BEGAN + 301):
    """The display's rows as plain text."""
    view = View(
        state=state,
        now=overview(state),
        began=BEGAN - 30,
        at=at,
        findings=findings,
        forecasts=FORECASTS,
        output=output,
        log="watch/output.log",
        page="",
    )
    return [row.plain for row in compose(view, width, height)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_display_fits_the_terminal_and_has_every_part(width, height):
    state = state_of(Recorded(ranks=2, gpu=True))
    rows = shown(state, width, height)
    assert len(rows) <= height
    assert max(map(len, rows)) <= width
    text = "\n".join(rows)
    loss = units.loss(state.training_ranks[0].curves["loss_att"].values[-1])
    for part in ("Paraformer", "epoch 2/3", "step 300", f"loss_att {loss}", "unigram baseline 5.3100", "acc", "12 min"):
        assert part in text
    for part in ("learning rate", "gradient norm", "a step", "waiting", "backward", "rank 0 allocated 9,626", "broken"):
        assert part in text
    assert "epoch: 1/3, step 143" in text


def test_a_gpu_is_shown_with_what_others_use_and_a_cpu_as_no_gpu():
    with_gpu = "\n".join(shown(state_of(Recorded(gpu=True)), 200, 50))
    assert "GPU 0 18,432 of 24,576 MiB, this training 17,408, others 1,024" in with_gpu
    assert "NVML 17,408" in with_gpu
    without = "\n".join(shown(state_of(Recorded()), 200, 50))
    assert "no GPU, main 3,2" in without
    assert "GPU 0" not in without


def test_the_speech_of_a_second_follows_from_the_frontend_in_force():
    state = state_of(Recorded(ranks=2))
    now = overview(state)
    frames = sum(800 * 50 / sum(map(step_seconds, recent(rank))) for rank in state.training_ranks)
    assert now.frames_per_second == pytest.approx(frames)
    assert now.speech_per_second == pytest.approx(frames * 0.06)
    assert "s of speech a second" in "\n".join(shown(state, 80, 24))
    assert speech_per_frame(None) is None


def test_validation_and_saving_are_no_part_of_a_step():
    state = state_of(Recorded())
    now = overview(state)
    (rank,) = state.training_ranks
    validated = [step for step in rank.recent if "validation" in step.seconds]
    assert validated
    drawn = dict(zip(rank.curves["seconds"].steps, rank.curves["seconds"].values, strict=True))
    for step in validated:
        between = step.seconds["validation"] + step.seconds.get("checkpoint", 0.0)
        assert drawn[step.step] == pytest.approx(sum(step.seconds.values()) - between)
    assert 0.93 < now.seconds < 1.04
    assert not {"validation", "checkpoint"} & set(now.phases)
    assert sum(now.phases.values()) == pytest.approx(now.seconds)


def test_the_baseline_is_in_the_unit_of_the_attention_loss():
    per_token = state_of(Recorded()).training_ranks[0]
    per_utterance = state_of(Recorded(normalize_length=False)).training_ranks[0]
    assert baseline_curve(per_token).values[-1] == pytest.approx(5.31)
    assert baseline_curve(per_utterance).values[-1] == pytest.approx(5.31 * 12)


def test_without_an_attention_loss_no_baseline_is_drawn_and_that_is_said():
    state = state_of(Recorded(attention=False))
    assert not baseline_curve(state.training_ranks[0]).values
    text = "\n".join(shown(state, 80, 24))
    assert "no unigram baseline" in text
    assert "5.31" not in text


def test_a_loss_that_is_not_finite_is_a_cross():
    assert "×" in "\n".join(shown(state_of(Recorded(nan_at=280)), 80, 24))
    assert "×" not in "\n".join(shown(state_of(Recorded()), 80, 24))


def test_before_the_first_step_the_display_says_so():
    rows = shown(TrainingState(), 80, 24, findings=(), at=BEGAN)
    assert rows[0] == "waiting for the first training step, 30.0 s so far"
    assert any("findings: none" in row for row in rows)


def test_a_training_that_stands_still_is_seen():
    state = state_of(Recorded())
    assert "no step for" not in "\n".join(shown(state, 80, 24, at=BEGAN + 305))
    assert "no step for 2 min 00 s" in "\n".join(shown(state, 80, 24, at=BEGAN + 420))


def test_what_the_training_prints_cannot_move_the_cursor():
    hostile = "\x1b[2J\x1b]0;owned\x07[bold red]text\u202e"
    rows = shown(state_of(Recorded()), 80, 24, output=(hostile,))
    assert not any(character in row for row in rows for character in "\x1b\x07\u202e")
    assert any("[bold red]text" in row for row in rows)


def test_of_a_progress_bar_the_last_state_is_kept():
    tail = OutputTail()
    tail.add("start\r\n  1%|  |\r 50%|= |")
    assert tail.lines == ["start", " 50%|= |"]
    tail.add("\r100%|==|\nend")
    assert tail.lines == ["start", "100%|==|", "end"]


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = BEGAN

    def __call__(self):
        return self.now


def test_without_a_terminal_there_is_a_line_a_minute_and_each_finding_once(tmp_path):
    clock, written = Clock(), io.StringIO()
    display = LiveDisplay(state_of(Recorded()), tmp_path, console=Console(file=written, width=80), clock=clock)
    for _ in range(int(2.5 * LINE_SECONDS)):
        display.update(FINDINGS[:1], FORECASTS, "noise\n")
        clock.now += 1
    display.close()
    lines = written.getvalue().splitlines()
    assert lines[0] == "broken: loss-not-finite: step 120: the loss is NaN"
    assert len(lines) == 3
    assert "epoch 2/3, step 300, loss 1." in lines[1]
    assert "(unigram baseline of loss_att 5.3100), acc 0.8" in lines[1]
    assert " % waiting for data" in lines[1]
    assert lines[1].endswith("no GPU, the training 12 min left; 1 broken")
    assert "\x1b" not in written.getvalue()


class Terminal:
    """A terminal of a given size, and a console that draws on it."""

    def __init__(self, width, height):
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        self.encoding = "utf-8"
        self.console = Console(file=self, force_terminal=True, width=width, height=height, color_system="standard")

    def write(self, text):
        self._stream.feed(text.replace("\n", "\r\n"))

    def flush(self):
        pass

    def resize(self, width, height):
        self.screen.resize(height, width)
        self.console.width, self.console.height = width, height

    @property
    def rows(self):
        return [row.rstrip() for row in self.screen.display]


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.delenv("CI", raising=False)


def test_on_a_terminal_the_display_is_drawn_in_place_and_leaves_nothing_behind(tmp_path, drawn):
    clock, terminal = Clock(), Terminal(80, 24)
    terminal.write("$ funasr-harness watch\n")
    state = TrainingState()
    display = LiveDisplay(state, tmp_path, page="http://127.0.0.1:1234/secret/", console=terminal.console, clock=clock)
    display.update((), (), "loading\n")
    assert terminal.rows[:2] == ["$ funasr-harness watch", "waiting for the first training step, 0 ms so far"]
    assert terminal.screen.cursor.hidden
    trained = state_of(Recorded())
    state.ranks, state.cards = trained.ranks, trained.cards
    for part in ("epoch: 0/3\n", "epoch: 1/3\r", "epoch: 2/3"):
        clock.now += 100
        display.update(FINDINGS, FORECASTS, part)
    rows = terminal.rows
    title = rows.index("Paraformer, train_ds, Adam + WarmupLR, cpu")
    assert rows[title + 1].endswith("http://127.0.0.1:1234/secret/")
    assert [row for row in rows if "epoch: " in row] == ["epoch: 0/3", "epoch: 2/3"]
    assert sum("findings: " in row for row in rows) == 1
    display.close()
    assert not any("step" in row for row in terminal.rows)
    assert not terminal.screen.cursor.hidden


def test_a_fault_of_the_display_gives_the_terminal_back_and_lines_follow(tmp_path, drawn, monkeypatch):
    clock, terminal = Clock(), Terminal(80, 24)
    display = LiveDisplay(state_of(Recorded()), tmp_path, console=terminal.console, clock=clock)
    monkeypatch.setattr("harness.watch.terminal.compose", lambda *_: 1 / 0)
    display.update(FINDINGS, FORECASTS, "")
    assert display.problem == "a fault of the harness itself, in the display: ZeroDivisionError: division by zero"
    assert not terminal.screen.cursor.hidden
    clock.now += LINE_SECONDS
    display.update(FINDINGS, FORECASTS, "")
    assert "epoch 2/3, step 300" in "".join(terminal.rows)


def test_a_terminal_that_changes_its_size_shows_one_display(tmp_path, drawn):
    clock, terminal = Clock(), Terminal(200, 50)
    display = LiveDisplay(state_of(Recorded()), tmp_path, console=terminal.console, clock=clock)
    display.update(FINDINGS, FORECASTS, "")
    assert sum("findings: " in row for row in terminal.rows) == 1
    terminal.resize(80, 24)
    display.update(FINDINGS, FORECASTS, "")
    assert terminal.rows[0] == "Paraformer, train_ds, Adam + WarmupLR, cpu"
    assert sum("findings: " in row for row in terminal.rows) == 1
    display.close()


@pytest.mark.parametrize("console", [
    Console(file=io.StringIO(), force_terminal=True, width=40, height=24),
    Console(file=io.StringIO(), force_terminal=True, width=80, height=10),
    Console(file=io.StringIO(), width=80, height=24),
    Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), force_terminal=True, width=80, height=24),
])  # fmt: skip
def test_a_terminal_that_cannot_show_the_display_gets_lines(console, drawn):
    assert not can_draw(console)
    assert can_draw(Terminal(80, 24).console)


def test_drawing_takes_a_fiftieth_of_a_core_at_most(tmp_path, drawn, monkeypatch):
    terminal, clock = Terminal(80, 24), Clock()
    display = LiveDisplay(state_of(Recorded()), tmp_path, console=terminal.console, clock=clock)
    spent = iter([0.0, 0.4])
    monkeypatch.setattr(time, "thread_time", lambda: next(spent))
    display.update((), (), "first\n")
    clock.now += 19
    display.update((), (), "second\n")
    assert "second" not in terminal.rows[-2:]
    monkeypatch.undo()
    clock.now += 2
    display.update((), (), "")
    assert "second" in "".join(terminal.rows)
    display.close()
