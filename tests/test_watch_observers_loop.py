"""The observers in a plain training loop: what they record, what they leave as it is, and how they fail."""

from __future__ import annotations

import copy
import hashlib
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from harness.watch.reading import RecordFolder
from harness.watch.records import (
    Ended,
    EpochEnded,
    ObserverFailed,
    ProcessStarted,
    ReadBack,
    Record,
    Saved,
    TrainingStarted,
    TrainingStep,
    Validated,
)

STEPS = 6


def records(folder: Path) -> list[Record]:
    reader = RecordFolder(folder)
    found = [record for _, record in reader.read()]
    assert not any(one.damaged for one in reader.files.values()), [one.first_damage for one in reader.files.values()]
    return found


def of(kind: type[Any], folder: Path) -> list[Any]:
    return [one for one in records(folder) if isinstance(one, kind)]


# In children with torch


def model_class() -> Any:
    import torch

    class Net(torch.nn.Module):
        """As a model of FunASR's: it returns loss, statistics and weight."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.3))
            self.decoder = torch.nn.Linear(16, 20)

        def forward(self, speech: Any, text: Any, text_lengths: Any = None) -> Any:
            scores = self.decoder(self.encoder(speech))
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), text.flatten())
            return loss, {"acc": (scores.argmax(-1) == text).float().mean(), "loss": loss.detach()}, len(speech)

    return Net


def loop(
    folder: str, *, watched: bool = True, plant: str = "", accumulate: int = 1, save: str = "", fail_at: int = -1
) -> dict[str, Any]:
    """Train; returns what must be the same with and without observers."""
    import contextlib

    import torch

    from harness.worker.watch import loop as observed

    net_class = model_class()
    forward = net_class.forward
    torch.manual_seed(3)
    model = net_class()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = [{"speech": torch.randn(5, 8), "text": torch.randint(0, 20, (5,))} for _ in range(2 * STEPS)]
    loader = torch.utils.data.DataLoader(rows, batch_size=2, shuffle=True)  # type: ignore[arg-type,var-annotated]
    losses = []
    if plant:
        plant_failure(plant)
    around: Any = observed.watching(model, optimizer, folder) if watched else contextlib.nullcontext()
    with around as observer:
        if watched:
            observer.epoch(4)
        for number, batch in enumerate(loader):
            if number == fail_at:
                batch = {**batch, "speech": batch["speech"][..., :7]}
            loss, _, _ = model(**batch)
            (loss / accumulate).backward()
            if (number + 1) % accumulate == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item().hex())
        model.eval()
        with torch.no_grad():
            losses.append(model(**batch)[0].item().hex())
        model.train()
        state = {"state_dict": model.state_dict()}
        if save == "wrong":
            state = {"state_dict": {n: one + 1 if "decoder" in n else one for n, one in model.state_dict().items()}}
        if save:
            torch.save(state, f"{folder}/model.pt")
    assert net_class.forward is forward
    assert list(inspect.signature(torch.nn.Module.train).parameters) == ["self", "mode"]
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model).state_dict()))
    weights = b"".join(one.numpy().tobytes() for one in copied.values())
    drawn = torch.get_rng_state().numpy().tobytes()
    return {
        "losses": losses,
        "weights": hashlib.sha256(weights).hexdigest(),
        "drawn": hashlib.sha256(drawn).hexdigest(),
    }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PLANTS = {
    "batches": "batches.BatchObserver.arrived",
    "unigram": "unigram.UnigramBaseline.add",
    "memory": "memory.MemoryMeter.read",
    "phases": "phases.StepPhases.enter",
    "clipping": "observer.TrainingObserver.clipped",
    "steps": "observer.TrainingObserver.stepped",
    "forward": "observer.TrainingObserver.forward_ends",
    "epochs": "observer.TrainingObserver.epoch_numbered",
    "validation": "observer.TrainingObserver.end_validation",
    "checkpoints": "saving.SavingObserver.saved",
    "configuration": "observer.TrainingObserver._training_fields",
    "read_back": "saving.SavingObserver.read_back",
    "rest": "observer.TrainingObserver.finish",
    "end": "endings.name_of",
    "post_mortem": "endings.post_mortem",
}
"""By observer, a function of its that is made to fail."""
ONLY_WHEN_FAILING = ("end", "post_mortem")


def plant_failure(name: str) -> None:
    import importlib

    module, _, path = PLANTS[name].partition(".")
    holder: Any = importlib.import_module(f"harness.worker.watch.{module}")
    *outer, last = path.split(".")
    for one in outer:
        holder = getattr(holder, one)
    assert callable(getattr(holder, last))

    def fails(*_args: Any, **_kwargs: Any) -> Any:
        raise ZeroDivisionError(f"planted in {name}")

    setattr(holder, last, fails)


def with_scaler(folder: str) -> list[float]:
    """Mixed precision: the third loss is infinite, so that the scaler leaves the step out."""
    import torch

    from harness.worker.watch.loop import watching

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with watching(model, optimizer, folder) as observer:
        for number in range(4):
            loss = model(torch.ones(2, 4)).mean() * (float("inf") if number == 2 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            observer.step(loss, {"number": number})
    return [scaler.get_scale()]


def with_skipping_trainer(folder: str) -> int:
    """A trainer that takes no step for a norm that is not finite, as FunASR's does."""
    import torch

    from harness.worker.watch.loop import watching

    net = model_class()()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    taken = 0
    with watching(net, optimizer, folder):
        for number in range(4):
            loss, _, _ = net(torch.ones(2, 5, 8), torch.zeros(2, 5, dtype=torch.long))
            (loss * (float("nan") if number == 1 else 1.0)).backward()
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            if torch.isfinite(norm):
                optimizer.step()
                taken += 1
            optimizer.zero_grad()
    return taken


# In this process


@pytest.fixture(scope="module")
def plain(forked: Forked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The loop without observers."""
    found: dict[str, Any] = forked(loop, folder=str(tmp_path_factory.mktemp("plain")), watched=False)
    return found


def test_a_loop_is_recorded_and_the_same(forked: Forked, tmp_path: Path, plain: dict[str, Any]) -> None:
    assert forked(loop, folder=str(tmp_path), save="sound") == plain
    (started,), (training,) = of(ProcessStarted, tmp_path), of(TrainingStarted, tmp_path)
    assert started.funasr is None
    assert (training.model, training.optimizer, training.device, training.trainer) == ("Net", "Adam", "cpu", "")
    assert [(one.name, one.parameters) for one in training.groups] == [("encoder", 144), ("decoder", 340)]
    steps = of(TrainingStep, tmp_path)
    assert [one.step for one in steps] == list(range(1, STEPS + 1))
    assert [one.forwards[0].loss.hex() for one in steps] == plain["losses"][:-1]
    for one in steps:
        assert (one.epoch, one.learning_rates, one.clipped_at, one.skipped) == (4, (0.01,), 0.5, False)
        assert one.gradient_norm > 0
        assert (one.forwards[0].utterances, one.forwards[0].frames, one.forwards[0].tokens) == (2, 5, 5)
        assert set(one.forwards[0].stats) == {"acc", "loss"}
        assert {"forward", "backward", "optimizer"} <= set(one.seconds)
        assert one.memory.resident > 0
        assert one.tokens_seen == 10 * one.step
    (validated,), (saved,), (epoch,) = of(Validated, tmp_path), of(Saved, tmp_path), of(EpochEnded, tmp_path)
    assert validated.loss.hex() == plain["losses"][-1]
    assert (saved.tensors, saved.missing, saved.other_values) == (4, (), ())
    assert (epoch.epoch, epoch.batches, epoch.utterances, epoch.distinct) == (4, STEPS, 2 * STEPS, 2 * STEPS)
    (read,), (ended,) = of(ReadBack, tmp_path), of(Ended, tmp_path)
    assert (read.tensors, read.equal, read.skipped) == (4, 4, "")
    assert read.moved == {"encoder": 1.0, "decoder": 1.0}
    assert (ended.how, ended.step) == ("finished", STEPS)
    assert not of(ObserverFailed, tmp_path)


@pytest.mark.parametrize("plant", sorted(set(PLANTS) - set(ONLY_WHEN_FAILING)))
def test_an_observer_that_fails_takes_itself_out(
    forked: Forked, tmp_path: Path, plain: dict[str, Any], plant: str
) -> None:
    assert forked(loop, folder=str(tmp_path), save="sound", plant=plant) == plain
    assert {one.observer for one in of(ObserverFailed, tmp_path)} == {plant}
    assert all("planted in" in one.error for one in of(ObserverFailed, tmp_path))
    assert len(of(Ended, tmp_path)) == 1
    # The others go on.
    assert len(of(TrainingStep, tmp_path)) == (0 if plant == "steps" else STEPS)


def failing(folder: str, plant: str = "") -> str:
    try:
        loop(folder, fail_at=3, plant=plant)
    except RuntimeError as error:
        return str(error)
    return ""


def test_a_step_that_fails_leaves_a_post_mortem(forked: Forked, tmp_path: Path) -> None:
    message = forked(failing, folder=str(tmp_path))
    (ended,) = of(Ended, tmp_path)
    assert (ended.how, ended.step, ended.exception) == ("exception", 3, f"builtins.RuntimeError: {message}")
    assert "in forward" in "\n".join(ended.traceback)
    mortem = ended.post_mortem
    assert mortem.phase == "forward"
    assert mortem.padded_frames == 10
    assert len({one.key for one in mortem.batch}) == 2
    assert mortem.weights == 4 * (144 + 340)
    assert mortem.optimizer_state > mortem.weights
    assert not of(ReadBack, tmp_path)


@pytest.mark.parametrize("plant", ONLY_WHEN_FAILING)
def test_an_observer_of_failures_that_fails_changes_no_exception(forked: Forked, tmp_path: Path, plant: str) -> None:
    assert "shapes cannot be multiplied" in forked(failing, folder=str(tmp_path), plant=plant)
    assert {one.observer for one in of(ObserverFailed, tmp_path)} == {plant}


def test_a_checkpoint_with_other_values_is_seen(forked: Forked, tmp_path: Path) -> None:
    forked(loop, folder=str(tmp_path), save="wrong")
    names = ("decoder.weight", "decoder.bias")
    (saved,), (read,) = of(Saved, tmp_path), of(ReadBack, tmp_path)
    assert (saved.missing, saved.other_values) == ((), names)
    assert (read.equal, read.different) == (2, names)


def test_accumulated_passes_are_one_step(forked: Forked, tmp_path: Path) -> None:
    forked(loop, folder=str(tmp_path), accumulate=4)
    assert [len(one.forwards) for one in of(TrainingStep, tmp_path)] == [4]
    (epoch,) = of(EpochEnded, tmp_path)
    assert (epoch.batches, epoch.batches_without_step) == (STEPS, STEPS % 4)


def test_a_step_that_the_scaler_leaves_out_is_skipped(forked: Forked, tmp_path: Path) -> None:
    assert forked(with_scaler, folder=str(tmp_path)) == [4.0]
    steps = of(TrainingStep, tmp_path)
    assert [one.skipped for one in steps] == [False, False, True, False]
    assert [one.scale for one in steps] == [8.0, 8.0, 8.0, 4.0]
    assert [one.forwards[0].stats["number"] for one in steps] == [0, 1, 2, 3]
    assert steps[2].forwards[0].loss in (float("inf"), float("-inf"))


def test_a_step_that_the_trainer_leaves_out_is_skipped(forked: Forked, tmp_path: Path) -> None:
    assert forked(with_skipping_trainer, folder=str(tmp_path)) == 3
    steps = of(TrainingStep, tmp_path)
    assert [one.skipped for one in steps] == [False, True, False, False]
    assert steps[1].gradient_norm != steps[1].gradient_norm


def with_old_torch(folder: str) -> list[int]:
    """Without the hooks that torch 2.0 brought, and with a scheduler that binds the optimizer's step."""
    import sys

    import torch

    from harness.worker.watch import start

    for name in ("register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"):
        delattr(sys.modules["torch.optim.optimizer"], name)
    start.begin(folder)
    observer: Any = start._begun
    net = model_class()()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    observer.watch_model(net)
    steps = []
    for _ in range(3):
        net(torch.ones(2, 5, 8), torch.zeros(2, 5, dtype=torch.long))[0].backward()
        optimizer.step()
        scheduler.step()
        steps.append(observer.steps)
    return steps


def test_steps_are_seen_in_a_torch_without_hooks_for_them(forked: Forked, tmp_path: Path) -> None:
    assert forked(with_old_torch, folder=str(tmp_path)) == [1, 2, 3]
    assert [one.learning_rates for one in of(TrainingStep, tmp_path)] == [
        (0.1,),
        (pytest.approx(0.01),),
        (pytest.approx(0.001),),
    ]


def compiled(folder: str) -> list[float]:
    """A compiled model, whose graph must not break at an observer."""
    import torch

    from harness.worker.watch.loop import watching

    net = torch.nn.Linear(4, 1)
    model: Any = torch.compile(net, backend="eager", fullgraph=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    with watching(model, optimizer, folder) as observer:
        for _ in range(3):
            loss = model(torch.ones(2, 4)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            observer.step(loss)
            losses.append(loss.item())
    return losses


def test_a_compiled_model_is_observed_by_its_steps(forked: Forked, tmp_path: Path) -> None:
    losses = forked(compiled, folder=str(tmp_path))
    assert [one.forwards[0].loss for one in of(TrainingStep, tmp_path)] == losses
    assert not of(ObserverFailed, tmp_path)


# A GPU, by a small fake: this code runs on none


class FakeEvent:
    """An event in a stream; the test says when the GPU has passed it."""

    over: bool = False

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self.over = True

    def elapsed_time(self, other: FakeEvent) -> float:
        return 1000 * (other.at - self.at)


class FakeWriter:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, kind: str, fields: dict[str, Any]) -> None:
        self.written.append({"kind": kind, **fields})


class NumberOnGpu:
    """A tensor of one number: reading it would wait for the GPU, so only copying is possible."""

    class device:
        type = "a GPU"

    def __init__(self, value: float) -> None:
        self.value = value

    def detach(self) -> NumberOnGpu:
        return self

    def numel(self) -> int:
        return 1

    def is_complex(self) -> bool:
        return False

    def reshape(self, _shape: Any) -> Any:
        import torch

        return torch.tensor(self.value)


def on_a_gpu() -> list[Any]:
    from harness.worker.watch.observer import TrainingObserver

    writer: Any = FakeWriter()
    observer = TrainingObserver(writer)
    events: list[FakeEvent] = []

    def event() -> FakeEvent:
        events.append(FakeEvent())
        return events[-1]

    observer._event = event  # type: ignore[method-assign]
    counts = []
    for number in (1, 2):
        forward = {"loss": observer.scalars.note(NumberOnGpu(float(number))), "stats": {"acc": 0.5}}
        fields = {"step": number, "forwards": [forward], "gradient_norm": None, "scale": None}
        observer._queue("step", fields, [("forward", 0.0, FakeEvent(1.0)), ("other", 9.0, FakeEvent(1.5))])
        counts.append(len(writer.written))
    events[0].over = True
    observer.flush()
    counts.append(len(writer.written))
    observer.flush(wait=True)
    observer._queue(
        "step", {**fields, "step": 3, "forwards": [{"loss": observer.scalars.note(NumberOnGpu(3.0)), "stats": {}}]}, []
    )
    observer.give_up_waiting()
    found = [(one["step"], one["forwards"][0]["loss"], one["seconds"]) for one in writer.written]
    return [counts, found]


def test_a_record_waits_for_the_gpu_and_the_gpu_for_no_record(forked: Forked) -> None:
    counts, found = forked(on_a_gpu)
    assert counts == [0, 0, 1]
    # The third step's number never came: the GPU was in trouble.
    assert found == [[1, 1.0, {"forward": 0.5}], [2, 2.0, {"forward": 0.5}], [3, None, {}]]


def memory_on_a_gpu() -> dict[str, Any]:
    from types import SimpleNamespace

    import torch

    from harness.worker.watch.memory import MemoryMeter, said_by_torch

    def pool(current: int, peak: int) -> dict[str, Any]:
        return {"all": {"current": current, "peak": peak}}

    cuda: Any = torch.cuda
    cuda.memory_stats_as_nested_dict = lambda _device: {"allocated_bytes": pool(5, 7), "reserved_bytes": pool(8, 9)}
    cuda.get_device_properties = lambda _device: SimpleNamespace(total_memory=24)
    cuda.reset_peak_memory_stats = None
    meter = MemoryMeter()
    meter.attach(SimpleNamespace(type="cuda"))
    message = (
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.94 GiB is"
        " free. Of the allocated memory 20.50 GiB is allocated by PyTorch, and 1.10 GiB is reserved by PyTorch"
    )
    return {"step": meter.read(), "failure": meter.at_failure(), "said": said_by_torch(message)}


def test_memory_of_a_gpu_is_the_allocators(forked: Forked) -> None:
    found = forked(memory_on_a_gpu)
    expected = {"allocated": 5, "reserved": 8, "peak_allocated": 7, "peak_reserved": 9}
    assert {name: found["step"][name] for name in expected} == expected
    assert found["failure"] == {**expected, "card": 24}
    gib = 2**30
    assert found["said"] == {"wanted": 2.5 * gib, "card": round(23.65 * gib), "allocated": 20.5 * gib}
