"""Trainings with and without the observers of `watch`, in turn: `python watched_training.py ORDER.json RESULT.json`.

All are forked from one process that has imported the release. After each optimizer step the time, the processor time,
and the processor time within the observers are taken in both; at the end the highest resident memory.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main(order_path: str, result_path: str) -> None:
    order = json.loads(Path(order_path).read_text("utf-8"))
    from harness.worker.release import importer, shims

    importer.import_all(order["request"]["release"]["install_dir"])
    shims.apply(order["request"]["device"])
    runs = [_forked(order["request"], turn, Path(order["folder"]) / str(n)) for n, turn in enumerate(order["turns"])]
    Path(result_path).write_text(json.dumps(runs), encoding="utf-8")


def _forked(request: dict[str, Any], observed: bool, folder: Path) -> dict[str, Any]:
    (folder / "records").mkdir(parents=True)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            (folder / "result.json").write_text(json.dumps(_train(request, observed)), encoding="utf-8")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a training failed")
    found: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    if bool(list((folder / "records").iterdir())) != observed:
        raise SystemExit("the observers were there, or not, against what was asked")
    shutil.rmtree(folder)
    return found


def _train(request: dict[str, Any], observed: bool) -> dict[str, Any]:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from harness.worker.trainer import launch, memory, options
    from harness.worker.watch import start

    spent = [0.0]
    if observed:
        _time_the_observers(spent)
        start.begin("records")
    ends: list[tuple[float, float, float]] = []
    register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time(), spent[0])))
    training = launch.prepare_training(request, Path.cwd(), request["seed"])
    release = request["release"]
    chosen = options.trainer_options(release["install_dir"], release["version"], request["entry"])
    meter = memory.meter("cpu")
    meter.reset()
    launch.run_trainer(request["entry"], chosen.overrides(training))
    return {"ends": ends, "peak": meter.peaks()["peak_resident_bytes"]}


def _time_the_observers(spent: list[float]) -> None:
    """Have `spent[0]` hold the processor time within calls of observers; one within another counts once."""
    from harness.worker.watch.writing import ObserverGuard

    call, depth = ObserverGuard.__call__, [0]

    def timed(self: Any, *args: Any) -> Any:
        if depth[0]:
            return call(self, *args)
        depth[0], began = 1, time.process_time()
        try:
            return call(self, *args)
        finally:
            spent[0] += time.process_time() - began
            depth[0] = 0

    ObserverGuard.__call__ = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
