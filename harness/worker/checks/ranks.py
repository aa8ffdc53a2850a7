"""Training with several processes, as torchrun starts them: equal weights on all ranks, and those of one process?

Two small trainings. In the first, every row is the same utterance and every forward pass has the same seed. Whatever
rows a process gets, its gradient is a single process's, and so is the average: after equal numbers of steps the weights
must equal those of one process, up to rounding. In the second, the rows differ and gradients are accumulated over two
batches: the processes see different speech, and must still end with equal weights.

On GPUs each process has its own and NCCL is used; on a CPU gloo is used. FunASR's trainers assume that their processes
have GPUs: they set CUDA's device, and pass its number to `DistributedDataParallel`. On a CPU both calls are replaced in
torch, not in the trainer, and reported as a compatibility shim.

The processes are forked by a process that has not initialised CUDA; torchrun's environment variables give them their
ranks.
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
from harness.worker.trainer import children, launch, options

STEPS = 3
PATIENCE_SECONDS = 120.0
"""How long a process waits for the others before it raises."""
WEIGHTS, LOSSES, NORMS, ROWS = "weights", "losses", "norms", "rows"
UNCLIPPED = 1e9
"""Clipping gives gradients of any size one norm, and Adam hides their size: gradient norms are compared as well."""
NOT_MEASURED = "not_measured"
WAITED = "waited_for_a_processor"
"""In the answer of a training that raised: seconds, of the process that waited longest."""
SAME, OTHER = "same rows", "accumulating other rows"


def compare(request: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Per training: relative distances of the weights between the ranks, and from a single process.

    The first training also has the losses of each step: of a single process, and of each rank.
    """
    if request["device"] != "cpu" and request["finetune"]["gpus"] < count:
        return {NOT_MEASURED: f"{count} processes need as many GPUs, and the cell has {request['finetune']['gpus']}"}
    place = Path.cwd() / "ranks"
    # A child of its own: building a model starts threads, and a process with threads cannot be forked into ranks.
    laid_out = launch.run_in_child(request, "laying-out", partial(_prepare, request, place, count))
    trainings: dict[str, Any] = {}
    if laid_out.failure:
        return {SAME: {"failure": laid_out.failure["signature"]}}
    for name in single_trainings(request):
        single = launch.run_in_child(request, name, partial(_train_alone, request, place, name))
        if single.failure:
            return {SAME: {"failure": single.failure["signature"]}}
    for name, accumulate in ((SAME, 1), (OTHER, 2)):
        work = partial(_train_with_ranks, request, place, (count, accumulate))
        answer = launch.run_in_child(request, f"ranks-{accumulate}", work)
        waited = answer.value.get(WAITED, 0.0)
        if answer.failure and waited >= PATIENCE_SECONDS / 2:
            trainings = {NOT_MEASURED: f"the machine was busy: a process waited {waited:.0f} s for a processor"}
            break
        trainings[name] = {"failure": answer.failure["signature"]} if answer.failure else answer.value
    shutil.rmtree(place, ignore_errors=True)
    return trainings


def _prepare(request: Mapping[str, Any], place: Path, count: int, _context: children.ChildContext) -> None:
    place.mkdir()
    launch.copy_folder(request["model_folder"], place / "model", request["seed"], launch.WITHOUT_DITHER)
    rows = launch.read_rows(launch.few_rows(request))
    for accumulate, distinct in ((1, 1), (2, 2 * count)):
        # One batch more than the steps need: some samplers lose the last.
        row_count = count * (STEPS * accumulate + 1)
        launch.write_rows(launch.repeated(rows, distinct, row_count), place / f"rows-{accumulate}.jsonl")


def single_trainings(request: Mapping[str, Any]) -> tuple[str, ...]:
    """File names of the single-process trainings: two on a GPU, because equal trainings differ by its noise."""
    return ("single",) if request["device"] == "cpu" else ("single", "again")


def _train_alone(request: Mapping[str, Any], place: Path, name: str, _context: children.ChildContext) -> None:
    import torch

    torch.save(train(request, place, 1), place / f"{name}.pt")


def _train_with_ranks(
    request: Mapping[str, Any], place: Path, sizes: tuple[int, int], context: children.ChildContext
) -> None:
    """This child is rank 0; the others are its own children and save their weights to files.

    Args:
        sizes: The number of processes; the number of batches to accumulate.
    """
    import torch

    count, accumulate = sizes
    _limit_join_time()
    if request["device"] == "cpu":
        _allow_missing_gpus()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    others = [_fork_rank(request, rank, place, accumulate) for rank in range(1, count)]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}
    try:
        own_result = train(request, place, accumulate)
    except BaseException:
        context.answer[WAITED] = max(map(_waited_seconds, (os.getpid(), *others)))
        raise
    for pid in others:
        os.waitpid(pid, 0)
    files = [Path(f"rank-{rank}.pt") for rank in range(1, count)]
    other_results = [torch.load(file, weights_only=True) for file in files if file.exists()]
    context.answer["ranks_ended"] = 1 + len(other_results)
    distances = [_relative_distance(own_result, other) for other in other_results]
    known = [distance for distance in distances if distance is not None]
    # Equal rows give equal weights even without an exchange of gradients.
    context.answer["rows_differ"] = any(other[ROWS] != own_result[ROWS] for other in other_results)
    context.answer["between_ranks"] = max(known) if known and len(known) == len(distances) == count - 1 else None
    if accumulate == 1:
        single, *again = [torch.load(place / f"{name}.pt", weights_only=True) for name in single_trainings(request)]
        context.answer["from_single"] = _relative_distance(own_result, single)
        context.answer["losses"] = {
            "single": single[LOSSES],
            "ranks": [result[LOSSES] for result in (own_result, *other_results)],
        }
        context.answer["gradients_from_single"] = _relative_norm_difference(own_result, single)
        for other in again:
            context.answer["noise"] = _relative_distance(single, other)
            context.answer["gradient_noise"] = _relative_norm_difference(single, other)
            context.answer["losses"]["again"] = other[LOSSES]


def _waited_seconds(pid: int) -> float:
    """How long the thread that waited longest could have run and got no processor; a hung process waits for none."""
    return max((waited for _, waited in processes.processor_times(pid).values()), default=0) / 1e9


def _fork_rank(request: Mapping[str, Any], rank: int, place: Path, accumulate: int) -> int:
    import torch

    parent, child = os.getpid(), os.fork()
    if child:
        return child
    status = 1
    try:
        processes.die_with_parent(parent)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.save(train(request, place, accumulate), f"rank-{rank}.pt")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def train(request: Mapping[str, Any], place: Path, accumulate: int) -> dict[str, Any]:
    """The weights after `STEPS` optimizer steps, and the loss of each forward pass."""
    install_dir, entry, seed = request["release"]["install_dir"], request["entry"], request["seed"]
    model_class = launch.import_model_class(install_dir, request["model_class"])
    trainer_options = options.trainer_options(install_dir, request["release"]["version"], entry)
    training = {
        **launch.base_training(request, seed),
        "overrides": options.shared_overrides(request["finetune"].get("overrides", {})),
        "batch_size": 1,
        "epochs": 1,
        "model_folder": str(place / "model"),
        "train": str(place / f"rows-{accumulate}.jsonl"),
        "output_dir": str(Path.cwd() / "exp"),
        "in_order": True,
    }
    recorded = _record_steps(model_class, seed)
    overrides = {
        "train_conf.accum_grad": accumulate,
        "train_conf.grad_clip": UNCLIPPED,
        "backend": "gloo" if request["device"] == "cpu" else "nccl",
    }
    with contextlib.suppress(_StepsDone):
        launch.run_trainer(entry, {**trainer_options.overrides(training), **overrides})
    plain = {key: [float(value) for value in recorded[key]] for key in (LOSSES, NORMS)}
    return {**recorded, **plain, ROWS: list(recorded[ROWS])}


class _StepsDone(BaseException):
    """All steps have been taken; validating and saving are another check's subject."""


def _record_steps(model_class: Any, seed: int) -> dict[str, Any]:
    """A mapping that will hold the losses so far, and the model's parameters after `STEPS` optimizer steps."""
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    from harness.worker.trainer.training_trace import state_hash

    forward = model_class.forward
    steps: list[bool] = []
    networks: list[Any] = []
    recorded: dict[str, Any] = {WEIGHTS: {}, LOSSES: [], NORMS: [], ROWS: []}

    def seeded(network: Any, *args: Any, **kwargs: Any) -> Any:
        networks[:] = [network]
        if network.training and len(steps) < STEPS:
            recorded[ROWS].append(state_hash(kwargs.get("speech", args[0] if args else None)))
        model.seed_everything(seed)
        output = forward(network, *args, **kwargs)
        recorded[LOSSES].append(output[0].detach())
        return output

    def stepping(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        norms = [
            parameter.grad.detach().double().norm()
            for parameter in networks[0].parameters()
            if parameter.grad is not None
        ]
        recorded[NORMS].append(sum(float(norm) ** 2 for norm in norms) ** 0.5)

    def stepped(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        steps.append(True)
        if len(steps) == STEPS:
            recorded[WEIGHTS] = {
                name: parameter.detach().cpu().clone() for name, parameter in networks[0].named_parameters()
            }
            raise _StepsDone

    model_class.forward = seeded
    register_optimizer_step_pre_hook(stepping)
    register_optimizer_step_post_hook(stepped)
    return recorded


def _relative_distance(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    """Norm of the weights' difference over their norm; None if one of the trainings ended early."""
    first_weights, second_weights = first[WEIGHTS], second[WEIGHTS]
    if not first_weights or first_weights.keys() != second_weights.keys():
        return None
    difference = sum(
        float((first_weights[name].double() - second_weights[name].double()).square().sum()) for name in first_weights
    )
    size = sum(float(tensor.double().square().sum()) for tensor in first_weights.values())
    return float((difference / size) ** 0.5) if size else None


def _relative_norm_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    """The largest relative difference of the gradient norms of a step; None without a common step."""
    pairs = list(zip(first[NORMS], second[NORMS], strict=False))
    return max((abs(a - b) / max(a, b) for a, b in pairs if a or b), default=None)


def _allow_missing_gpus() -> None:
    import torch

    shims.note(shims.WITHOUT_GPUS)
    torch.cuda.set_device = lambda _device: None
    wrapped = torch.nn.parallel.DistributedDataParallel
    begin = wrapped.__init__

    @functools.wraps(begin)
    def without_devices(self: Any, module: Any, *_args: Any, **kwargs: Any) -> None:
        begin(self, module, **{**kwargs, "device_ids": None})

    wrapped.__init__ = without_devices


def _limit_join_time() -> None:
    """If a process ends early, the others wait less long for it than torch's default."""
    import torch.distributed

    join = torch.distributed.init_process_group

    @functools.wraps(join)
    def with_patience(*args: Any, **kwargs: Any) -> Any:
        return join(*args, **{"timeout": datetime.timedelta(seconds=PATIENCE_SECONDS), **kwargs})

    torch.distributed.init_process_group = with_patience


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
