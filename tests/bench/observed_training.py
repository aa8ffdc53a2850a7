"""Trainings with and without the observer, in turn: `python observed_training.py ORDER.json RESULT.json`.

Each training is forked from this process, as the harness forks its cells, and is that of the `finetune` check.
Only the time after each optimizer step is taken in both; that takes microseconds.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ends = list[tuple[float, float, float]]
"""After each optimizer step: the time, the processor time so far, and how much of it went to the observer's code."""


def main(order_path: str, result_path: str) -> None:
    order = json.loads(Path(order_path).read_text("utf-8"))
    for name in order["preload"]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    runs = [
        _forked(order["request"], observed, Path(order["folder"]) / str(n)) for n, observed in enumerate(order["turns"])
    ]
    Path(result_path).write_text(json.dumps(runs), encoding="utf-8")


def _forked(request: dict[str, Any], observed: bool, folder: Path) -> Ends:
    folder.mkdir()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            (folder / "ends.json").write_text(json.dumps(_train(request, observed)), encoding="utf-8")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a training ended with {status}")
    ends: Ends = json.loads((folder / "ends.json").read_text("utf-8"))
    # Checkpoints of each epoch: gigabytes, over all trainings.
    shutil.rmtree(folder)
    return ends


def _train(request: dict[str, Any], observed: bool) -> Ends:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from harness.worker.checks import finetune
    from harness.worker.release import shims
    from harness.worker.trainer import children, recorder

    spent = [0.0]
    if observed:
        _time_the_observer(recorder.TrainingRecorder, spent)
    else:
        recorder.TrainingRecorder.attach = lambda *_: None  # type: ignore[method-assign]
    ends: Ends = []
    register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time(), spent[0])))
    shims.apply(request["device"])
    # As the check does it in a child of its own; here this process is one.
    room = children.ChildContext(Path.cwd())
    finetune.train(request, request["seed"], room)
    if bool(room.answer["metrics"]["steps"]) != observed:
        raise SystemExit("the observer was there, or not, against what was asked")
    return ends


def _time_the_observer(observer: Any, spent: list[float]) -> None:
    """Have `spent[0]` hold the processor time within the observer's code, what it stands around left out."""
    import torch

    attach = observer.attach

    def attached(self: Any, model_class: Any) -> None:
        model_class.forward = _timed(model_class.forward, spent, -1)
        torch.nn.utils.clip_grad_norm_ = _timed(torch.nn.utils.clip_grad_norm_, spent, -1)
        attach(self, model_class)
        model_class.forward = _timed(model_class.forward, spent, +1)
        torch.nn.utils.clip_grad_norm_ = _timed(torch.nn.utils.clip_grad_norm_, spent, +1)

    observer.attach = attached
    observer._stepping = _timed(observer._stepping, spent, +1)
    observer._stepped = _timed(observer._stepped, spent, +1)


def _timed(function: Callable[..., Any], spent: list[float], sign: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[0] += sign * (time.process_time() - begin)

    return timed


if __name__ == "__main__":
    main(*sys.argv[1:])
