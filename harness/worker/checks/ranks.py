"""Training with several processes, as torchrun starts them: do they end with one model, and is it a single process's?

Two small trainings. In the first every row is the same utterance and every forward pass begins with the same seed, so
that whatever rows a process gets, its gradient is a single process's, and so is the average: the weights have to be
equal to those of one process after as many steps, up to rounding. In the second the rows differ and gradients are
accumulated over two batches: the processes see different speech, and still have to end with equal weights.

On GPUs each process has one of its own, and they talk by NCCL; on a CPU they talk by gloo. FunASR's trainers take
processes without GPUs to be impossible: they set CUDA's device, and hand its number to `DistributedDataParallel`.
Both are answered here in torch, not in the trainer, and reported as a compatibility shim.

The processes are forked, by a process that has not looked for a GPU, and are told by torchrun's variables who they are.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import shutil
import socket
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.core import processes
from harness.worker.release import model, shims
from harness.worker.trainer import children, launch, options, speech

STEPS = 3
PATIENCE_SECONDS = 120.0
"""How long a process waits for the others before it gives up."""
WEIGHTS, LOSSES, NORMS, ROWS = "weights", "losses", "norms", "rows"
UNCLIPPED = 1e9
"""Clipping would make gradients of any size equal, and so does Adam: their norms are compared besides the weights."""
NOT_ASKED = "not asked"
SAME, OTHER = "same rows", "accumulating other rows"
WITHOUT_DITHER = {"frontend_conf": {"dither": 0.0}}


def compare(request: Mapping[str, Any], count: int) -> dict[str, Any]:
    """For each of the two trainings: how far the ranks are apart, and from a single process's weights, relatively.

    Beside the first the losses of each step: a single process's, and each rank's.
    """
    if request["device"] != "cpu" and request["finetune"]["gpus"] < count:
        return {NOT_ASKED: f"{count} processes need as many GPUs, and there is {request['finetune']['gpus']}"}
    place = Path.cwd() / "ranks"
    # A child of its own: building a model starts threads, and what has threads cannot be forked into ranks.
    laid_out = launch.apart(request, "laying-out", partial(_lay_out, request, place, count))
    found: dict[str, Any] = {}
    if laid_out.failure:
        return {SAME: {"failure": laid_out.failure["signature"]}}
    for name in _singles(request):
        single = launch.apart(request, name, partial(_alone, request, place, name))
        if single.failure:
            return {SAME: {"failure": single.failure["signature"]}}
    for name, accumulate in ((SAME, 1), (OTHER, 2)):
        work = partial(_together, request, place, (count, accumulate))
        answer = launch.apart(request, f"ranks-{accumulate}", work)
        found[name] = {"failure": answer.failure["signature"]} if answer.failure else answer.value
    shutil.rmtree(place, ignore_errors=True)
    return found


def _lay_out(request: Mapping[str, Any], place: Path, count: int, _room: children.ChildContext) -> None:
    place.mkdir()
    speech.copy_folder(request["model_folder"], place / "model", request["seed"], WITHOUT_DITHER)
    rows = speech.read_rows(speech.few_rows(request))
    for accumulate, distinct in ((1, 1), (2, 2 * count)):
        # One batch more than is trained on: some samplers lose the last.
        wanted = count * (STEPS * accumulate + 1)
        speech.write_rows(speech.repeated(rows, distinct, wanted), place / f"rows-{accumulate}.jsonl")


def _singles(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Files of a single process's trainings: on a GPU two, because there equal trainings differ by its noise."""
    return ("single",) if request["device"] == "cpu" else ("single", "again")


def _alone(request: Mapping[str, Any], place: Path, name: str, _room: children.ChildContext) -> None:
    import torch

    torch.save(_train(request, place, 1), place / f"{name}.pt")


def _together(request: Mapping[str, Any], place: Path, sizes: tuple[int, int], room: children.ChildContext) -> None:
    """This child is rank 0; the others are its own children, and leave their weights in files."""
    import torch

    count, accumulate = sizes
    _give_up_in_time()
    if request["device"] == "cpu":
        _do_without_gpus()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    others = [_fork_rank(request, rank, place, accumulate) for rank in range(1, count)]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}
    mine = _train(request, place, accumulate)
    for pid in others:
        os.waitpid(pid, 0)
    files = [Path(f"rank-{rank}.pt") for rank in range(1, count)]
    theirs = [torch.load(file, weights_only=True) for file in files if file.exists()]
    room.answer["ranks_ended"] = 1 + len(theirs)
    distances = [_apart(mine, other) for other in theirs]
    known = [one for one in distances if one is not None]
    # Rows that are the same make weights the same, exchanged gradients or not.
    room.answer["rows_differ"] = any(other[ROWS] != mine[ROWS] for other in theirs)
    room.answer["between_ranks"] = max(known) if known and len(known) == len(distances) == count - 1 else None
    if accumulate == 1:
        single, *again = [torch.load(place / f"{name}.pt", weights_only=True) for name in _singles(request)]
        room.answer["from_single"] = _apart(mine, single)
        room.answer["losses"] = {"single": single[LOSSES], "ranks": [one[LOSSES] for one in (mine, *theirs)]}
        room.answer["gradients_from_single"] = _norms_apart(mine, single)
        for other in again:
            room.answer["noise"] = _apart(single, other)
            room.answer["gradient_noise"] = _norms_apart(single, other)
            room.answer["losses"]["again"] = other[LOSSES]


def _fork_rank(request: Mapping[str, Any], rank: int, place: Path, accumulate: int) -> int:
    import torch

    parent, child = os.getpid(), os.fork()
    if child:
        return child
    status = 1
    try:
        processes.die_with_parent(parent)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.save(_train(request, place, accumulate), f"rank-{rank}.pt")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _train(request: Mapping[str, Any], place: Path, accumulate: int) -> dict[str, Any]:
    """The weights after `STEPS` optimizer steps, and the loss of each forward pass."""
    overlay, entry, seed = request["release"]["overlay"], request["entry"], request["seed"]
    model_class = launch.enter_whole(overlay, request["model_class"])
    dialect = options.of(overlay, request["release"]["version"], entry)
    training = {
        **launch.base(request, seed),
        "overrides": options.shared(request["finetune"].get("overrides", {})),
        "batch_size": 1,
        "epochs": 1,
        "model_folder": str(place / "model"),
        "train": str(place / f"rows-{accumulate}.jsonl"),
        "output_dir": str(Path.cwd() / "exp"),
        "in_order": True,
    }
    taken = _take_weights(model_class, seed)
    words = {
        "train_conf.accum_grad": accumulate,
        "train_conf.grad_clip": UNCLIPPED,
        "backend": "gloo" if request["device"] == "cpu" else "nccl",
    }
    with contextlib.suppress(_Enough):
        launch.run_trainer(entry, {**dialect.overrides(training), **words})
    plain = {key: [float(one) for one in taken[key]] for key in (LOSSES, NORMS)}
    return {**taken, **plain, ROWS: list(taken[ROWS])}


class _Enough(BaseException):
    """All steps have been taken; what follows, validating and saving, is another check's matter."""


def _take_weights(model_class: Any, seed: int) -> dict[str, Any]:
    """A mapping that will hold the losses so far, and the model's parameters after `STEPS` optimizer steps."""
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    from harness.worker.trainer.training_run import fingerprint

    forward = model_class.forward
    steps: list[bool] = []
    networks: list[Any] = []
    taken: dict[str, Any] = {WEIGHTS: {}, LOSSES: [], NORMS: [], ROWS: []}

    def seeded(network: Any, *args: Any, **kwargs: Any) -> Any:
        networks[:] = [network]
        if network.training and len(steps) < STEPS:
            taken[ROWS].append(fingerprint(kwargs.get("speech", args[0] if args else None)))
        model.seed_everything(seed)
        output = forward(network, *args, **kwargs)
        taken[LOSSES].append(output[0].detach())
        return output

    def stepping(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        norms = [one.grad.detach().double().norm() for one in networks[0].parameters() if one.grad is not None]
        taken[NORMS].append(sum(float(norm) ** 2 for norm in norms) ** 0.5)

    def stepped(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        steps.append(True)
        if len(steps) == STEPS:
            taken[WEIGHTS] = {name: one.detach().cpu().clone() for name, one in networks[0].named_parameters()}
            raise _Enough

    model_class.forward = seeded
    register_optimizer_step_pre_hook(stepping)
    register_optimizer_step_post_hook(stepped)
    return taken


def _apart(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> float | None:
    """Norm of the difference of the weights over their norm; None where one of them did not come so far."""
    here, there = mine[WEIGHTS], theirs[WEIGHTS]
    if not here or here.keys() != there.keys():
        return None
    difference = sum(float((here[name].double() - there[name].double()).square().sum()) for name in here)
    size = sum(float(one.double().square().sum()) for one in here.values())
    return float((difference / size) ** 0.5) if size else None


def _norms_apart(mine: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """The largest relative difference of the gradients' norms at a step; None where there is none to compare."""
    pairs = list(zip(mine[NORMS], other[NORMS], strict=False))
    return max((abs(a - b) / max(a, b) for a, b in pairs if a or b), default=None)


def _do_without_gpus() -> None:
    import torch

    shims.note(shims.WITHOUT_GPUS)
    torch.cuda.set_device = lambda _device: None
    wrapped = torch.nn.parallel.DistributedDataParallel
    begin = wrapped.__init__

    @functools.wraps(begin)
    def without_devices(self: Any, module: Any, *_args: Any, **kwargs: Any) -> None:
        begin(self, module, **{**kwargs, "device_ids": None})

    wrapped.__init__ = without_devices


def _give_up_in_time() -> None:
    """Where a process ends early, the others do not wait for it as long as torch would."""
    import torch.distributed

    join = torch.distributed.init_process_group

    @functools.wraps(join)
    def with_patience(*args: Any, **kwargs: Any) -> Any:
        return join(*args, **{"timeout": datetime.timedelta(seconds=PATIENCE_SECONDS), **kwargs})

    torch.distributed.init_process_group = with_patience


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
