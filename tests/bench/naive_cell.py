"""One cell in a process of its own, as one would write it first: `python naive_cell.py REQUEST.json RESULT.json`.

It imports funasr in full, then asks the very question that the harness asks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(request_path: str, result_path: str) -> None:
    request = json.loads(Path(request_path).read_text("utf-8"))
    from harness.worker.checks import construct, loss_contract
    from harness.worker.process import failures
    from harness.worker.release import importer, shims

    importer.put_on_path(request["release"]["install_dir"])
    shims.apply(request["device"])
    try:
        import funasr  # noqa: F401

        result = {"construct": construct.construct, "loss_contract": loss_contract.loss_contract}[request["check"]](
            request
        )
    except Exception as error:
        result = {"status": "failed", "reason": str(failures.describe(error, request["release"]["install_dir"]))}
    Path(result_path).write_text(json.dumps({"status": result["status"], "reason": result["reason"]}), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
