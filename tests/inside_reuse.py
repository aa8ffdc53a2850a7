"""The checks of `test_reuse_run` and `test_reuse_gate`, in a release's process: a cell calls the small release of
`reuse_scene`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import Any

from harness.worker.checks import dispatch
from harness.worker.record import code_used
from harness.worker.release import importer


def enter(entering: Mapping[str, Any]) -> None:
    code_used.begin(entering["install_dir"])
    importer.remember(entering["install_dir"], dispatch._full_import(entering["below"]))
    importer.import_components_only(entering["install_dir"], entering["version"])


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    if request["check"] == "registrations":
        rows = request["rows"]
        if rows is None:
            raise SystemExit(3)
        return {"status": "passed", "reason": "", "evidence": {"registry": {"registrations": rows}}}
    install_dir = request["release"]["install_dir"]
    components = [tuple(pair) for pair in request["components"]]
    importer.import_components(install_dir, components)
    tables = importlib.import_module("funasr.register").tables
    answer = tables.model_classes["Model"]().forward(1)
    if request["draws_on_label"]:
        # what no fingerprint holds: a fault of the harness
        answer += int(request["release"]["label"].rpartition(".")[2])
    # long enough for the outside to say in time what need not run
    time.sleep(request.get("seconds", 0.2))
    for name in request.get("calls", ()):
        module, _, function = name.partition(":")
        answer = getattr(importlib.import_module(module), function)(answer)
    orders = [importer.import_order(install_dir, components)]
    return {
        "status": "passed",
        "reason": "",
        "failure": None,
        "metrics": {"parameters": answer, **request.get("metrics", {})},
        "evidence": {},
        "shims": [],
        code_used.RESULT: {**(code_used.so_far() or {}), "registry": orders},
    }
