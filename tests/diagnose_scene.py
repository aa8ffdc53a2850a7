"""Two miniature releases, one with a cause planted in its code, run and compared as `diagnose` does it."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_release
from forked import Forked

from harness.compare.diagnose.diagnosis import Diagnosis, diagnose
from harness.compare.diagnose.evidence import ComparedSide, Evidence
from harness.compare.diagnose.runner import EVIDENCE, Traced
from harness.compare.diagnose.traces import Trace
from harness.core.cells import Cell, Failure, Outcome, Status

MODEL = """
import torch
from funasr.losses.label_smoothing_loss import LabelSmoothingLoss
from funasr.register import tables

def weighted(hidden, weights):
    return hidden * weights

class Encoder(torch.nn.Module):
    def __init__(self, hidden_size, dropout_rate=0.0, **kwargs):
        super().__init__()
        self.scale = kwargs.get("scale", 1.0)
        self.linear = torch.nn.Linear(5, hidden_size)
        self.dropout = torch.nn.Dropout(dropout_rate)

    def forward(self, speech):
        return self.dropout(self.linear(speech)) * self.scale

class Decoder(torch.nn.Module):
    def __init__(self, hidden_size, outputs):
        super().__init__()
        self.output_layer = torch.nn.Linear(hidden_size, outputs)

    def forward(self, hidden, mask=None, return_hidden=False):
        if mask is not None:
            hidden = hidden * mask
        if self.output_layer is not None and return_hidden is False:
            hidden = self.output_layer(hidden)
        return hidden

@tables.register("model_classes", "Tiny")
class Tiny(torch.nn.Module):
    def __init__(self, vocab_size, hidden_size=6, **kwargs):
        super().__init__()
        self.encoder = Encoder(hidden_size, **kwargs)
        self.predictor = torch.nn.Linear(hidden_size, 1)
        self.decoder = Decoder(hidden_size, vocab_size)
        self.criterion_att = LabelSmoothingLoss(vocab_size, strict=True)

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        hidden = self.encoder(speech)
        weights = torch.sigmoid(self.predictor(hidden))
        hidden = weighted(hidden, weights)
        mask = torch.ones(hidden.size(0), text.size(1), 1)
        hidden = hidden + hidden.mean(1, keepdim=True)
        scores = self.decoder(hidden[:, : text.size(1)], mask)
        loss = self.criterion_att(scores, text)
        return loss, {"loss": loss.detach()}, torch.tensor(len(text))
"""
FILES: Mapping[str, str] = {**tiny_release.FILES, "models/tiny.py": MODEL}
CONF = {"hidden_size": 6, "scale": 2.0, "predictor_weight": 0.5}


def write(folder: Path, edits: Mapping[str, str], *, file: str = "models/tiny.py") -> Path:
    """A miniature release with these parts of one file replaced."""
    text = FILES[file]
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return tiny_release.write_package(folder, {**FILES, file: text}, init=tiny_release.IMPORTS_ALL)


def folder_of(place: Path) -> Path:
    """The model folder of both."""
    folder = tiny_release.write_model_folder(place)
    config = json.loads((folder / "config.yaml").read_text(encoding="utf-8"))
    config["model_conf"] = CONF
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    return folder


def ask(install_dir: str, folder: str, check: str, wish: dict[str, Any]) -> dict[str, Any]:
    """In a child: the cell's answer with its recording."""
    from harness.core import wire
    from harness.worker.checks import dispatch

    request = tiny_release.request(Path(install_dir), check, Path(folder), whole=check == "finetune", trace=wish)
    request["finetune"]["seeds"] = 1
    if check == "finetune":
        Path("train.jsonl").touch()
    answer: dict[str, Any] = wire.strict(dispatch.run(request))
    return answer


def traced(forked: Forked, install_dir: Path, folder: Path, label: str, check: str = "loss_contract") -> Traced:
    """A release's cell, as `Asker` gives it."""
    answer = forked(ask, install_dir=str(install_dir), folder=str(folder), check=check, wish={"passes": [0]})
    evidence = dict(answer["evidence"])
    raw = evidence.pop(EVIDENCE, None)
    outcome = Outcome(
        cell=Cell.parse(f"{label}/tiny/v23-h6/reduced/{check}/cpu-fp32"),
        status=Status(answer["status"]),
        reason=answer["reason"],
        failure=Failure.from_json(answer["failure"]) if answer["failure"] else None,
        evidence=evidence,
    )
    return Traced(outcome=outcome, trace=Trace.from_json(raw) if raw else None, raw=raw, install_dir=install_dir)


_sound: dict[tuple[int, str], Traced] = {}


def sound(forked: Forked, check: str) -> Traced:
    """The sound release's cell, recorded once for all tests."""
    key = (id(forked), check)
    if key not in _sound:
        room = Path(tempfile.mkdtemp(prefix="sound-"))
        atexit.register(shutil.rmtree, room, ignore_errors=True)
        _sound[key] = traced(forked, write(room / "release", {}), folder_of(room / "model"), "1.0.0", check)
    return _sound[key]


def compare(
    forked: Forked, room: Path, edits: Mapping[str, str], *, check: str = "loss_contract", file: str = "models/tiny.py"
) -> tuple[Diagnosis, Evidence]:
    """A sound release and one with these edits: `mine` is the edited one."""
    mine = traced(forked, write(room / "mine", edits, file=file), folder_of(room / "model"), "2.0.0", check)
    other = sound(forked, check)
    evidence = Evidence(mine=ComparedSide(traced=mine), other=ComparedSide(traced=other))
    return diagnose(evidence, why="the test says so", advice="Go back to 1.0.0."), evidence
