"""What a log shows without an error: each fault in the trainer's own lines, beside a sound log that is not accused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.explain.explain import explain_stream
from harness.explain.explanation import LogReport

EPOCHS = 4
STEPS = 5
PATIENCE = "[2026-01-31 12:00:00,000][root][INFO] - "


IGNORED = "Exception ignored in: <function _releaseLock at 0x7f>\nTraceback (most recent call last):\n"
IGNORED += '  File "/opt/lib/python3.10/logging/__init__.py", line 228, in _releaseLock\n    def _releaseLock():\n'
IGNORED += "BrokenPipeError: [Errno 32] Broken pipe\n"
UNLOADED = (
    "[2026-01-31 12:00:00,000][root][ERROR] - Loading wav failed! Audio file not found, Traceback (most "
    "recent call last):\n"
    '  File "/opt/env/lib/python3.10/site-packages/funasr/datasets/sense_voice_datasets/datasets.py", line 375, in x\n'
    "    data_src = load_audio_text_image_video(source, fs=self.fs)\n"
    "FileNotFoundError: Audio file not found\n\n"
)


def step_line(
    epoch: int,
    step: int,
    *,
    loss: float | str,
    accuracy: float | None = 0.5,
    rate: float = 1e-4,
    tag: str = "train",
    memory: float = 2.0,
    epochs: int = EPOCHS,
    name: str = "acc",
    rank: int = 0,
) -> str:
    """A step as releases since 1.0.28 log it."""
    shown = f"{loss:.3f}" if isinstance(loss, float) else loss
    statistics = [("loss_att", 1.0), *([(name, accuracy)] if accuracy is not None else []), ("loss", 1.0)]
    return (
        f"{PATIENCE}{tag}, rank: {rank}, epoch: {epoch}/{epochs}, data_slice: 0/1, step_in_slice: {step + 1}/{STEPS}, "
        f"step_in_epoch: {step + 1}, total step: {epoch * STEPS + step + 1}, (loss_avg_rank: {shown}), "
        f"(loss_avg_slice: {shown}), (ppl_avg_slice: 1.000e+00), (acc_avg_slice: 0.000), (lr: {rate:.3e}), "
        f"{statistics}, {{'data_load': '0.001'}}, GPU, memory: usage: {memory:.3f} GB, peak: 9.000 GB\n"
    )


def training(
    losses: list[float | str] | None = None,
    *,
    accuracies: list[float] | None = None,
    rates: list[float] | None = None,
    valid: list[float] | None = None,
    memory: list[float] | None = None,
    name: str = "acc",
    best: str = "Update best acc: 0.5000, exp/model.pt.best",
    finished: bool = True,
    validates: bool = True,
) -> str:
    """A log of a training; a value per epoch of what is given."""
    losses = losses or [4.0, 3.0, 2.0, 1.0]
    text = f"funasr version: 1.4.16.\n{PATIENCE}total_num of samplers: 20, data/train.jsonl\n"
    for epoch in range(EPOCHS):
        text += f"{PATIENCE}Train epoch: {epoch}, rank: 0\n\n"
        for step in range(STEPS):
            text += step_line(
                epoch,
                step,
                loss=losses[epoch],
                accuracy=accuracies[epoch] if accuracies else 0.5,
                rate=(rates[epoch] if rates else 1e-4) * (1 + step / 100 if rates else 1),
                memory=memory[epoch] if memory else 2.0,
                name=name,
            )
        if validates:
            text += f"{PATIENCE}Validate epoch: {epoch + 1}, rank: 0\n\n"
            text += step_line(epoch + 1, 0, loss=valid[epoch] if valid else 4.0 - epoch, rate=0.0, tag="val", name=name)
        text += f"{PATIENCE}Save checkpoint: {epoch + 1}, rank: 0, local_rank: 0\n\n{PATIENCE}{best}\n"
        text += f"{PATIENCE}\nCheckpoint saved to exp/model.pt.ep{epoch + 1}\n"
    return text + ("average_checkpoints: ['exp/model.pt.ep1']\n" if finished else "")


def read(text: str) -> LogReport:
    return explain_stream(io.BytesIO(text.encode()), source="x", named=None, cache=Path("/nowhere"))


def rules(text: str) -> list[str]:
    return [one.rule for one in read(text).explanations]


def test_a_sound_training_is_not_accused() -> None:
    report = read(training())
    assert report.fine
    assert report.notes == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("continued from a good model", training([0.5, 0.51, 0.5, 0.5], accuracies=[0.95] * 4)),
        ("warm-up longer than an epoch", training(rates=[1e-5, 2e-5, 3e-5, 2e-5])),
        ("few steps from scratch", training([8.7, 8.6, 8.5, 8.4], accuracies=[0.0, 0.0, 0.0, 0.01])),
        ("still running", training([8.7] * 4, accuracies=[0.1] * 4, finished=False).rpartition("Train epoch")[0]),
        ("ranked by loss", training(name="acc_rich", best="Update best loss: 1.0000, exp/model.pt.best")),
        ("overfitted", training(valid=[2.0, 1.5, 1.8, 2.5])),
        ("two skipped steps", training() + f"{PATIENCE}The grad norm is inf. Skipping updating the model.\n" * 2),
        ("memory that wavers", training(memory=[2.0, 3.5, 2.1, 3.6])),
        ("only part of a log", "".join(training().splitlines(keepends=True)[10:20])),
        ("an exception that Python ignores", training() + IGNORED),
        ("LoRA", training() + "Warning, miss key in ckpt: encoder.lora_A, exp/model.pt\n"),
    ],
    ids=lambda one: one if len(one) < 40 else "log",
)  # fmt: skip
def test_a_sound_neighbour_of_a_fault_is_not_accused(name: str, text: str) -> None:
    assert rules(text) == [], name


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("loss-no-number", training([4.0, "nan", "nan", "nan"])),
        ("loss-no-number", training([4.0, "inf", 2.0, 1.0])),
        ("steps-skipped", training() + f"{PATIENCE}The grad norm is nan. Skipping updating the model.\n" * 6),
        ("rate-zero", training(rates=[0.0] * 4)),
        ("rate-never-reached", training([8.7] * 4, rates=[1e-8, 2e-8, 3e-8, 4e-8])),
        ("nothing-changes", training([8.1, 8.0, 8.2, 8.1], valid=[8.123] * 4)),
        ("loss-rises", training([2.0, 3.0, 4.0, 5.0])),
        ("loss-stands-still", training([8.7, 8.6, 8.7, 8.7], accuracies=[0.1] * 4)),
        ("accuracy-zero", training([9.0, 8.0, 7.0, 6.0], accuracies=[0.0] * 4)),
        ("accuracy-never-computed", training(name="acc_rich", best="Update best acc: 0.0000, exp/model.pt.best")),
        ("never-validated", training(validates=False)),
        ("memory-grows", training(memory=[2.0, 3.0, 4.0, 5.0])),
        ("no-rows", training().replace("samplers: 20,", "samplers: 0,")),
        ("start-missing", training() + "error, init_param does not exist!: /data/model.pt\n"),
        ("start-missing", training() + f"{PATIENCE}Checkpoint does not exist, init randomly: /data/model.pt\n"),
        ("tensors-missing", training() + "Warning, miss key in ckpt: decoder.x.weight, exp/model.pt\n"),
        ("tensors-missing", training() + "Miss key in ckpt: model: decoder.x.weight, ckpt: decoder.x.weight\n"),
        (
            "tensors-of-other-size",
            training()
            + f"{PATIENCE}ignore_init_mismatch:True, dst: ('decoder.embed.0.weight', torch.Size([4234, 512])), "
            "src: ('decoder.embed.0.weight', torch.Size([8404, 512]))\n",
        ),
        ("recordings-not-loaded", training() + UNLOADED),
        ("batches-halved", training() + f"{PATIENCE}Warning, b * t: 900 > 600, drop half data 0th, beg:1\n"),
        ("empty-batches", training() + f"{PATIENCE}ERROR: data is empty!\n"),
    ],
)
def test_a_fault_in_the_lines_is_named_alone(rule: str, text: str) -> None:
    assert rules(text) == [rule]


def test_an_empty_validation_set_hides_no_fault_of_the_steps() -> None:
    text = training(rates=[0.0] * 4).replace("samplers: 20,", "samplers: 0,")
    assert set(rules(text)) == {"no-rows", "rate-zero"}


def test_epochs_without_a_batch_are_named() -> None:
    lines = [one for one in training().splitlines(keepends=True) if "loss_avg_rank" not in one]
    sampler = f"{PATIENCE}rank: 0, dataloader start from step: 0, batch_num: {{}}, after: {{}}\n"
    assert rules("".join(lines) + sampler.format(0, 0)) == ["no-steps"]
    report = read("".join(lines) + sampler.format(3, 3))
    assert report.fine
    assert "log_interval" in report.notes[0]


def test_a_progress_bar_without_a_step_is_named() -> None:
    bar = "rank: 0, Training Epoch: 1: 0it [00:00, ?it/s]\rrank: 0, Training Epoch: 1: 0it [00:00, ?it/s]\n"
    assert rules(bar + "Checkpoint saved to exp/model.pt.ep0\n") == ["no-steps"]


@pytest.mark.parametrize("form", ["1.0.6", "1.0.17"])
def test_the_lines_of_older_trainers_are_read(form: str) -> None:
    text = ""
    for epoch in range(4):
        for step in range(5):
            statistics = "[('loss_att', 1.0), ('acc', 0.0)]"
            if form == "1.0.6":
                text += f"Train epoch: {epoch}/4, step {step}/5, {{}}, (loss: nan), {statistics}: 10%| | 1/4\r"
            else:
                text += f"2024-03-01 12:00:00, rank: 0, epoch: {epoch}/4, step: {step + 1}/5, total step: 1, "
                text += f"(loss: nan), (lr: 1.000e-04), {statistics}, {{}}, GPU: 10%| | 1/4\r"
    assert rules(text) == ["loss-no-number"]


def test_the_losses_of_the_first_rank_count() -> None:
    lines = [step_line(0, step, loss=1.0, rank=rank) for step in range(5) for rank in (0, 1, 2, 3)]
    assert any("5 training steps" in fact for fact in read("".join(lines)).facts)


def test_an_error_that_training_went_on_after_is_a_note() -> None:
    caught = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    x()\nValueError: bad row\n'
    half = len(training()) // 2
    cut = training().rfind("\n", 0, half) + 1
    report = read(training()[:cut] + caught + training()[cut:])
    assert report.fine
    assert any("did not end the training" in note for note in report.notes)
    assert rules(training() + caught) == ["outside-funasr"]


def test_a_training_that_was_ended_from_outside_is_said_to_end_there() -> None:
    cut = training(finished=False).rpartition("Train epoch")[0]
    assert any("without an error" in note for note in read(cut).notes)


def test_signal_nine_is_the_machines_and_the_ranks_own_error_comes_first() -> None:
    summary = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n  exitcode  : -9 (pid: 1)\n"
    summary = 'Traceback (most recent call last):\n  File "run.py", line 1, in <module>\n    main()\n' + summary
    assert rules(summary) == ["signal-9"]
    own = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    x()\n'
    own += "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    assert rules(own + summary) == ["card-is-full"]


def test_the_rate_that_was_configured_is_said_where_the_log_has_it() -> None:
    settings = "{'model': 'Paraformer', 'optim': 'adam', 'optim_conf': {'lr': 0.0002}, 'scheduler_conf': "
    settings += "{'warmup_steps': 30000}}\n"
    (one,) = read(settings + training([8.7] * 4, rates=[1e-8, 2e-8, 3e-8, 4e-8])).explanations
    assert "of 0.0002" in one.title
    assert "30,000 steps" in one.cause
