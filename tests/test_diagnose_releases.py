"""The reported bug and its repair, in real releases: the true cause is named, and a patch shows both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import cli

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent
MATRIX = """
schema = 1
name = "diagnosed"
description = "the reported bug"
[axes]
release = ["1.0.18"]
variant = ["paraformer_streaming"]
vocab_size = [8404]
hidden_size = [320]
depth = ["reduced"]
device = ["cpu"]
check = ["loss_contract"]
[limits]
timeout_seconds = { loss_contract = 600 }
"""
UNDO = """\
--- a/funasr/models/paraformer/decoder.py
+++ b/funasr/models/paraformer/decoder.py
@@ -351,8 +351,8 @@
         hlens: torch.Tensor,
         ys_in_pad: torch.Tensor,
         ys_in_lens: torch.Tensor,
-        chunk_mask: torch.Tensor = None,
         return_hidden: bool = False,
         return_both: bool = False,
+        chunk_mask: torch.Tensor = None,
     ) -> Tuple[torch.Tensor, torch.Tensor]:
         \"\"\"Forward decoder.
"""


def test_undoing_the_repair_is_a_regression_with_its_true_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    (tmp_path / "undo.patch").write_text(UNDO, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = ["--matrix", "matrix.toml", "--lock", str(ROOT / "matrices" / "releases.lock.toml"), "-o", "gate"]
    jobs = str(len(os.sched_getaffinity(0)))
    status = cli.main(
        ["gate", "--source", "1.0.18", "--apply", "undo.patch", "--against", "1.0.18", "--jobs", jobs, *options]
    )
    said = capsys.readouterr()
    assert status == 1, said.err
    assert "1 regressed, 0 fixed" in said.out
    assert "passes `chunk_mask` as fifth positional argument to `decoder`" in said.out
    assert "whose fifth parameter is `return_hidden`; in 1.0.18 it is `chunk_mask`" in said.out
    assert "`decoder.output_layer` (320 → 8404) is never called" in said.out
    assert "`criterion_att` receives [4, 9, 320] instead of [4, 9, 8404]" in said.out
