"""What `explain` reads: every form of a traceback that users paste, in bounded memory, and nothing of it acts."""

from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path

import pytest

from harness.core.cells import Frame
from harness.explain.frame_lines import place_of
from harness.explain.lines import LONGEST_LINE, kind_of_binary, lines_of
from harness.explain.reading import LogRecord, read_log
from harness.explain.tracebacks import LoggedError
from harness.explain.training_lines import TrainingRecord, whole_step

CASES = Path(__file__).parent / "explain_cases"

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/env/lib/python3.8/site-packages/funasr/bin/train.py", line 44, in main_hydra
    main(**kwargs)
  File "/opt/env/lib/python3.8/site-packages/funasr/losses/label_smoothing_loss.py", line 51, in forward
    assert x.size(2) == self.size
AssertionError
"""
FRAMES = (
    Frame(file="funasr/bin/train.py", line=44, function="main_hydra", code="main(**kwargs)"),
    Frame(
        file="funasr/losses/label_smoothing_loss.py",
        line=51,
        function="forward",
        code="assert x.size(2) == self.size",
    ),
)


def read(text: str | bytes) -> LogRecord:
    return read_log(io.BytesIO(text.encode() if isinstance(text, str) else text))


def only(text: str | bytes) -> LoggedError:
    (error,) = read(text).errors
    return error


def test_a_traceback_has_its_frames_type_and_message() -> None:
    error = only(TRACEBACK)
    assert error.frames == FRAMES
    assert error.signature == "AssertionError@funasr/losses/label_smoothing_loss.py:forward"
    assert error.text == "assert x.size(2) == self.size"


@pytest.mark.parametrize("prefix", ["[rank0]: ", "[default1]:", "3: ", "> ", "2024-06-14T19:10:38.123456Z ", "[0]: "])
def test_prefixes_of_ranks_quotations_and_containers_are_taken_off(prefix: str) -> None:
    text = "".join(f"{prefix}{line}\n" for line in TRACEBACK.splitlines())
    assert only(text).frames == FRAMES


def test_ranks_that_print_in_turns_have_a_traceback_each() -> None:
    other = TRACEBACK.replace("AssertionError", "RuntimeError: connection lost")
    pairs = zip(TRACEBACK.splitlines(), other.splitlines(), strict=True)
    text = "".join(f"[rank0]: {a}\n[rank1]: {b}\n" for a, b in pairs)
    assert [(one.rank, one.type) for one in read(text).errors] == [("0", "AssertionError"), ("1", "RuntimeError")]


def test_a_line_that_two_ranks_print_at_once_counts_once() -> None:
    doubled = "".join(f"{line}\n{line}\n" for line in TRACEBACK.splitlines())
    assert read(doubled).errors[0].frames == FRAMES


def test_progress_bars_colours_and_log_lines_do_not_disturb() -> None:
    noise = "rank: 0, Training Epoch: 1:  25%|\x1b[34m██▌    \x1b[0m| 1/4 [00:00<00:02,  1.36it/s]\r"
    lines = TRACEBACK.splitlines()
    text = noise * 3 + lines[0] + "\n" + "".join(f"\x1b[31m{line}\x1b[0m\n{noise}\n" for line in lines[1:-1])
    text += "[2024-06-14 19:10:38,367][root][INFO] - Train epoch: 0, rank: 0\n" + lines[-1] + "\n"
    assert only(text).frames == FRAMES


def test_crlf_and_powershells_utf16_are_read() -> None:
    assert only(TRACEBACK.replace("\n", "\r\n")).frames == FRAMES
    assert only(b"\xff\xfe" + TRACEBACK.encode("utf-16-le")).frames == FRAMES


def test_markers_below_the_code_are_no_code() -> None:
    marked = TRACEBACK.replace("self.size\n", "self.size\n           ^^^^^^^^^^~~~~~~~~~~~\n")
    assert only(marked).frames == FRAMES


def test_a_page_that_lost_the_indentation_still_gives_frames_and_code() -> None:
    flat = "".join(f"{line.strip()}\n" for line in TRACEBACK.splitlines())
    assert only(flat).frames == FRAMES


def test_a_traceback_without_its_beginning_or_its_end_is_what_there_is() -> None:
    lines = TRACEBACK.splitlines(keepends=True)
    assert only("".join(lines[3:])).frames == FRAMES[1:]
    cut = only("".join(lines[:-1]))
    assert (cut.type, cut.frames) == ("", FRAMES)


def test_a_notebooks_frames_have_the_line_of_the_arrow() -> None:
    old = """\
---------------------------------------------------------------------------
AssertionError                            Traceback (most recent call last)
<ipython-input-3-5a1> in <module>
      1 from funasr import AutoModel
----> 2 main(**kwargs)

~/env/lib/python3.8/site-packages/funasr/losses/label_smoothing_loss.py in forward(self, x, target)
     49             target: target signal masked with self.padding_id (batch, seqlen)
---> 51         assert x.size(2) == self.size
     52         batch_size = x.size(0)

AssertionError:
"""
    new = """\
AssertionError                            Traceback (most recent call last)
Cell In[3], line 2
      1 from funasr import AutoModel
----> 2 main(**kwargs)

File ~/env/lib/python3.10/site-packages/funasr/losses/label_smoothing_loss.py:51, in LabelSmoothingLoss.forward(self, x)
     49             target: target signal
---> 51         assert x.size(2) == self.size
     52         batch_size = x.size(0)

AssertionError:
"""
    for text in (old, new):
        assert only(text).frames[-1] == FRAMES[1]
        assert only(text).frames[0].file == "<notebook>"


def test_a_chain_keeps_what_came_before() -> None:
    text = TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
    text += TRACEBACK.replace("AssertionError", "ValueError: second")
    text += "\nThe above exception was the direct cause of the following exception:\n\n"
    text += TRACEBACK.replace("AssertionError", "hydra.errors.InstantiationException: third")
    error = only(text)
    assert error.type == "InstantiationException"
    assert [one.type for one in error.chain] == ["AssertionError", "ValueError"]


def test_a_workers_exception_within_anothers_message_is_found() -> None:
    inner = TRACEBACK.replace("Traceback", "Original Traceback").replace("AssertionError", "KeyError: 'source'")
    error = only(
        TRACEBACK.replace("AssertionError", "KeyError: Caught KeyError in DataLoader worker process 0.") + inner
    )
    assert (error.text, [one.text for one in error.chain]) == (
        "'source'",
        ["Caught KeyError in DataLoader worker process 0."],
    )


def test_a_message_of_several_lines_is_whole_and_ends_at_the_next_line_of_the_log() -> None:
    text = TRACEBACK.replace(
        "AssertionError",
        "RuntimeError: Error(s) in loading state_dict for Paraformer:\n"
        "\tsize mismatch for decoder.embed.0.weight: copying a param\n"
        "[2024-06-14 19:10:38,367][root][INFO] - next",
    )
    assert only(text).message.endswith("decoder.embed.0.weight: copying a param")


def test_a_printed_stack_without_an_exception_is_no_error() -> None:
    stack = "".join(TRACEBACK.splitlines(keepends=True)[1:3])
    assert read("Stack (most recent call last):\n" + stack + "all is well here\n" * 80).errors == []


def test_words_that_look_like_an_exception_are_none() -> None:
    text = (
        "Notice: If you want to use whisper, please `pip install -U openai-whisper`\nERROR: data is empty!\nerror: x\n"
    )
    assert read(text).errors == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/usr/lib/python3.8/site-packages/funasr/bin/train.py", "funasr/bin/train.py"),
        ("/home/x/FunASR/examples/paraformer/../../../funasr/bin/train.py", "funasr/bin/train.py"),
        ("/workspace/funasr/funasr/bin/train.py", "funasr/bin/train.py"),
        ("funasr/bin/train.py", "funasr/bin/train.py"),
        (r"C:\Users\x\FunASR-main\funasr\bin\train.py", "funasr/bin/train.py"),
        ("/opt/envs/funasr/lib/python3.10/site-packages/torch/nn/modules/module.py", "torch/nn/modules/module.py"),
        ("/opt/funasr/lib/python3.10/site-packages/hydra/main.py", "hydra/main.py"),
        ("/opt/env/lib/python3.11/json/decoder.py", "json/decoder.py"),
        ("/home/someone/secret/finetune.py", "finetune.py"),
        ("<frozen runpy>", "<frozen runpy>"),
    ],
)  # fmt: skip
def test_a_place_has_nothing_of_the_users_machine(path: str, place: str) -> None:
    assert place_of(path) == place


def test_a_line_of_any_length_takes_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        left = 60

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    tracemalloc.start()
    lines = list(lines_of(Endless()))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(one) for one in lines] == [LONGEST_LINE]
    assert peak < 10 << 20


def test_what_follows_a_line_that_is_too_long_is_read() -> None:
    assert only(b"x" * (3 << 20) + b"\n" + TRACEBACK.encode()).frames == FRAMES


def test_lines_are_the_same_wherever_a_block_ends() -> None:
    data = (TRACEBACK * 3).replace("\n", "\r\n").encode()
    whole = [one for one in lines_of(io.BytesIO(data)) if one]

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(random.Random(self.tell()).randint(1, 40))

    assert [one for one in lines_of(Slow(data)) if one] == whole


def test_files_that_are_no_text_are_named() -> None:
    assert "zip" in kind_of_binary(b"PK\x03\x04rest")
    assert kind_of_binary(TRACEBACK.encode()) == ""


def test_no_input_raises() -> None:
    chosen = random.Random(0)
    pieces = [
        *TRACEBACK.splitlines(),
        "\x00",
        "\x1b[2J",
        "[rank0]: ",
        "----> 999999999999999999 x",
        "In [1]",
        "%" * 500,
    ]
    pieces += [
        "Original Traceback (most recent call last):",
        "The above exception was the direct cause of the following",
    ]
    pieces += [
        "epoch: 1/2, (loss: nan)",
        "train, rank: 0, epoch: 0/4, step: 1/4, (loss_avg_rank: -inf), (lr: x)",
        "\udcff",
    ]
    for _ in range(300):
        text = "\n".join(chosen.choices(pieces, k=chosen.randint(1, 30)))
        read(text.encode("utf-8", "surrogateescape"))


def test_a_line_that_is_a_step_and_nothing_else_is_read_the_same_and_faster() -> None:
    """Both ways of reading a step agree, in all forms that releases since 1.0.18 log."""
    lines = [
        line
        for path in sorted(CASES.glob("*.log"))
        for line in path.read_bytes().splitlines()
        if b"(loss_avg_rank" in line
    ]
    whole = [found for line in lines if (found := whole_step(line))]
    assert len(whole) > 0.9 * len([line for line in lines if line.startswith(b"[20")])
    assert {found["what"] for found in whole} == {b"train", b"val"}
    slowly, fast = TrainingRecord(), TrainingRecord()
    for found in whole:
        slowly.read(found.string)
        fast.read_whole(found)
    assert slowly.steps > 100
    assert slowly == fast
    # With anything else in it, it is read with the rest of the log.
    assert whole_step(whole[0].string + b" RuntimeError: no") is None
    assert whole_step(b"[rank0]:" + whole[0].string) is None
