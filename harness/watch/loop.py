"""Watching a training loop of one's own: `with watching(model, optimizer, folder) as observer: …`.

torch is imported when it is called, not by this module.
"""

from __future__ import annotations

from harness.worker.watch.loop import LoopObserver, watching

__all__ = ["LoopObserver", "watching"]
