"""Records as the observers of a training write them, for tests: 300 steps, some ranks, with or without a GPU."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from functools import cache

from harness.watch.reading import parse_line
from harness.watch.state import TrainingState

GIB = 2**30
BEGAN = 1_790_000_000.0


@dataclass(frozen=True)
class Recorded:
    """What a recording is like."""

    steps: int = 300
    ranks: int = 1
    gpu: bool = False
    epochs: int = 3
    attention: bool = True
    normalize_length: bool = True
    ended: bool = False
    nan_at: int | None = None
    model: str = "Paraformer"


def lines(recorded: Recorded) -> dict[str, list[dict]]:
    """The records by the file that they lie in."""
    files = {f"rank-{rank}.jsonl": list(_rank(recorded, rank)) for rank in range(recorded.ranks)}
    if recorded.gpu:
        files["cards.jsonl"] = list(_cards(recorded))
    return files


@cache
def state_of(recorded: Recorded) -> TrainingState:
    """The state after all records, each read as from a file."""
    state = TrainingState()
    for file, records in lines(recorded).items():
        for record in records:
            state.add(file, parse_line(json.dumps(record).encode()))
    return state


def _rank(recorded: Recorded, rank: int):
    chance = random.Random(rank)
    yield _process(recorded, rank)
    yield _training(recorded, rank)
    for step in range(1, recorded.steps + 1):
        yield _step(recorded, rank, step, chance)
        per_epoch = recorded.steps // recorded.epochs
        if step % per_epoch == 0:
            epoch, at = step // per_epoch - 1, BEGAN + step
            yield {"kind": "epoch", "at": at, "epoch": epoch, "step": step, "batches": per_epoch,
                   "utterances": 8 * per_epoch, "distinct": 8 * per_epoch}  # fmt: skip
            yield {"kind": "validation", "at": at, "step": step, "epoch": epoch, "batches": 4,
                   "loss": 2.9 - 0.2 * epoch, "stats": {"acc": 0.3 + 0.1 * epoch}, "seconds": 1.5}  # fmt: skip
            if rank == 0:
                yield {"kind": "checkpoint", "at": at, "step": step, "epoch": epoch, "path": f"exp/model.pt.ep{epoch}",
                       "bytes": 880_000_000, "seconds": 2.1, "tensors": 956, "missing": [],
                       "other_values": []}  # fmt: skip
    if recorded.ended:
        yield {"kind": "end", "at": BEGAN + recorded.steps + 3, "step": recorded.steps, "epoch": recorded.epochs - 1,
               "how": "finished", "status": 0, "exception": "", "traceback": [], "post_mortem": None}  # fmt: skip


def _process(recorded: Recorded, rank: int) -> dict:
    return {
        "kind": "process", "at": BEGAN - 20, "format": 1, "host": "trainer", "pid": 4000 + rank, "parent": 3999,
        "rank": rank, "local_rank": rank, "world_size": recorded.ranks,
        "argv": ["train_ds.py", "++model=paraformer-zh", "++train_data_set_list=data/train.jsonl"],
        "working_directory": "/home/somebody/finetune", "python": "3.11.7", "torch": "2.6.0", "funasr": "1.2.6",
        "funasr_folder": "/home/somebody/env/funasr",
    }  # fmt: skip


def _training(recorded: Recorded, rank: int) -> dict:
    per_epoch = recorded.steps // recorded.epochs
    return {
        "kind": "training", "at": BEGAN, "trainer": "funasr.train_utils.trainer_ds.Trainer",
        "entry": "funasr/bin/train_ds.py", "model": recorded.model, "device": f"cuda:{rank}" if recorded.gpu else "cpu",
        "wrapped": "DistributedDataParallel" if recorded.ranks > 1 else "",
        "in_force": {
            "source": "trainer", "max_epoch": recorded.epochs, "accum_grad": 1, "grad_clip": 5, "optim": "adam",
            "optim_conf": {"lr": 0.0002}, "scheduler": "warmuplr", "scheduler_conf": {"warmup_steps": 100},
            "train_conf": {"max_epoch": recorded.epochs, "keep_nbest_models": 10, "avg_nbest_model": 5},
            "frontend_conf": {"fs": 16000, "frame_shift": 10, "lfr_m": 7, "lfr_n": 6},
            "dataset_conf": {"batch_type": "token", "batch_size": 6000, "num_workers": 4},
        },
        "output_dir": "exp", "batches": per_epoch, "rows": 8 * per_epoch * recorded.ranks, "first_epoch": 0,
        "groups": [{"name": "encoder", "parameters": 160_000_000, "trainable": 160_000_000},
                   {"name": "decoder", "parameters": 60_000_000, "trainable": 60_000_000}],
        "optimizer": "Adam", "scheduler": "WarmupLR", "label_smoothing": 0.1,
        "normalize_length": recorded.normalize_length, "vocabulary": 8404,
        "initialised_from": "paraformer-zh/model.pt",
    }  # fmt: skip


def _step(recorded: Recorded, rank: int, step: int, chance: random.Random) -> dict:
    attention = 5.6 * math.exp(-step / 90) + 1.4 + chance.gauss(0, 0.12)
    loss: float | str = attention + 1.5 * math.exp(-step / 40) + 0.2 if recorded.attention else attention * 30
    scale = 12.0 if recorded.attention and not recorded.normalize_length else 1.0
    stats = {"acc": min(0.97, 1.02 - math.exp(-step / 150) + chance.random() * 0.02)}
    if recorded.attention:
        stats |= {"loss_att": attention * scale, "loss_pre": 0.2}
    if recorded.nan_at is not None and step >= recorded.nan_at:
        loss, stats["loss_att"] = "nan", "nan"
    memory = {"resident": int(3.1 * GIB + 200_000 * step)}
    if recorded.gpu:
        peak = int((14 + 2 * min(1, step / 50)) * GIB)
        memory |= {"allocated": int(9.4 * GIB), "reserved": peak + GIB, "peak_allocated": peak,
                   "peak_reserved": peak + GIB}  # fmt: skip
    return {
        "kind": "step", "at": BEGAN + step, "step": step, "epoch": (step - 1) // (recorded.steps // recorded.epochs),
        "skipped": False,
        "forwards": [{"loss": loss, "stats": stats, "utterances": 8, "frames": 120, "tokens": 16, "frames_used": 800,
                      "tokens_used": 96}],
        "learning_rates": [0.0002 * min(step / 100, (100 / step) ** 0.5)],
        "gradient_norm": "inf" if step == recorded.nan_at else 12 * math.exp(-step / 60) + 2 + chance.random(),
        "clipped_at": 5.0, "scale": None,
        "seconds": {"data": 0.12 + 0.1 * chance.random(), "forward": 0.31, "backward": 0.42, "optimizer": 0.06,
                    "other": 0.02, "observers": 0.003, **_BETWEEN.get(step, {})},
        "memory": memory, "unigram": 5.31 - 0.4 * math.exp(-step / 10), "tokens_seen": 96 * step,
    }  # fmt: skip


_BETWEEN = {step: {"validation": 1.5, "checkpoint": 2.1} for step in (101, 201, 290)}


def _cards(recorded: Recorded):
    for sample in range(0, recorded.steps, 2):
        for index in range(recorded.ranks):
            yield {"kind": "card", "at": BEGAN + sample, "index": index, "name": "NVIDIA A10", "total": 24 * GIB,
                   "used": 18 * GIB, "by_process": {str(4000 + index): 17 * GIB, "77": GIB // 2},
                   "utilisation": 87}  # fmt: skip
