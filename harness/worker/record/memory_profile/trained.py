"""The most that lives at once while FunASR's own trainer trains: what a prediction is held against on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.worker.record.memory_profile.ledger import AllocationLog
from harness.worker.record.memory_profile.likeness import as_on_cuda
from harness.worker.record.memory_profile.stepping import longest_chunks
from harness.worker.trainer import launch, options

STEPS = 3
"""From the second on a step meets the optimizer's state; the first is not counted."""


class _Enough(BaseException):
    """Ends the training; no trainer catches it."""


class _Watch:
    """Counts the steps of the trainer and reads the ledger between them."""

    def __init__(self, ledger: AllocationLog) -> None:
        self._ledger = ledger
        self.steps = 0
        self.found: dict[str, Any] = {}

    def attach(self, model_class: Any) -> None:
        """Watch the forward passes and the optimizer's steps."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        forward, watch = model_class.forward, self

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            watch.found |= {"frames": int(kwargs["speech"].shape[1]), "tokens": int(kwargs["text"].shape[1])}
            watch.found["utterances"] = len(kwargs["speech"])
            with longest_chunks(network):
                return forward(network, *args, **kwargs)

        model_class.forward = watched
        register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == STEPS:
            self.found["peak_bytes"] = self._ledger.peak
            raise _Enough
        self._ledger.forget_peak()


def peak(request: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes under `peak_bytes` in the evidence, with the form of the batch.

    The optimizer is asked for its `foreach` form, which is what it takes on a GPU by itself.
    """
    release = request["release"]
    model_class = launch.enter_whole(release["overlay"], request["model_class"])
    dialect = options.of(release["overlay"], release["version"], request["entry"])
    training = launch.lay_out(request, Path.cwd(), request["seed"])
    ledger = AllocationLog()
    ledger.begin_step()
    ledger.begin("load")
    watch = _Watch(ledger)
    watch.attach(model_class)
    words = {**dialect.overrides(training), "optim_conf.foreach": True}
    try:
        with as_on_cuda(), ledger:
            launch.run_trainer(request["entry"], words)
    except _Enough:
        return {"status": "passed", "reason": "", "evidence": watch.found}
    return {"status": "errored", "reason": f"the training ended after {watch.steps} steps", "evidence": watch.found}
