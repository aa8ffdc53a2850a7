"""Releases of FunASR in miniature: as little as the checks touch, with a fault where one is asked for.

The model has an encoder, a predictor and a decoder of one layer each; `model_conf.fault` names what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VOCAB_SIZE = 23
HIDDEN_SIZE = 6
INPUT_SIZE = 5
GROUPS = {"encoder": ["encoder"], "predictor": ["predictor"], "decoder": ["decoder"]}

REGISTER = """
class Tables:
    def register(self, table, name):
        def note(registered):
            self.__dict__.setdefault(table, {})[name] = registered
            return registered
        return note

tables = Tables()
"""

AUTO_MODEL = """
import json, os
from funasr.register import tables

class AutoModel:
    def __init__(self, **kwargs):
        if kwargs["model_conf"].get("fault") == "auto_model_raises":
            raise KeyError("planted in AutoModel")
        with open(kwargs["tokenizer_conf"]["token_list"], encoding="utf-8") as file:
            vocab_size = len(json.load(file))
        kwargs["input_size"] = 5
        self.model = tables.model_classes[kwargs["model"]](vocab_size, **kwargs["model_conf"])
        if os.path.exists(str(kwargs.get("init_param"))):
            import torch
            state = torch.load(kwargs["init_param"], weights_only=True)
            skips = "encoder." if kwargs["model_conf"].get("fault") == "loads_no_encoder" else "nothing"
            state = {name: value for name, value in state.items() if not name.startswith(skips)}
            self.model.load_state_dict(state, strict=False)
        self.kwargs = kwargs
"""

LOSS = """
import torch

class LabelSmoothingLoss(torch.nn.Module):
    def __init__(self, size, strict):
        super().__init__()
        self.size = size
        self.strict = strict

    def forward(self, x, target):
        if self.strict:
            assert x.size(2) == self.size
        wanted = target.clamp(0, x.size(2) - 1)
        return torch.nn.functional.cross_entropy(x.flatten(0, 1), wanted.flatten())
"""

MODEL = """
import torch
from funasr.losses.label_smoothing_loss import LabelSmoothingLoss
from funasr.register import tables

class Decoder(torch.nn.Module):
    def __init__(self, hidden_size, outputs):
        super().__init__()
        self.output_layer = torch.nn.Linear(hidden_size, outputs)

    def forward(self, memory, weights, tokens, fault):
        # Each token hears a frame of its own, and the mean of all of them.
        heard = memory[:, :1] if fault == "first_frame_only" else memory
        hidden = (heard[:, :tokens] + heard.mean(1, keepdim=True)).expand(-1, tokens, -1)
        hidden = hidden + weights.mean(1, keepdim=True)
        if fault in ("hidden_states", "hidden_states_unnoticed"):
            return hidden
        return self.output_layer(hidden)

class Masks(torch.nn.Module):
    # Hides single frames: a few at random, or as a fault says.

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, speech, lengths=None):
        hidden = torch.rand(speech.shape[:2]) < 0.3
        if self.fault == "masks_everything":
            hidden[:] = True
        if self.fault == "masks_the_third":
            hidden[:, 2] = True
        return speech.masked_fill(hidden.unsqueeze(-1), 0.0), lengths

@tables.register("model_classes", "Tiny")
class Tiny(torch.nn.Module):
    def __init__(self, vocab_size, hidden_size=6, fault="", **_):
        super().__init__()
        self.fault = fault
        self.passes = 0
        self.encoder = torch.nn.Linear(5, hidden_size)
        self.predictor = torch.nn.Linear(hidden_size, 1)
        self.decoder = Decoder(hidden_size, vocab_size + (fault == "other_outputs"))
        if fault == "no_projection":
            self.decoder.head = self.decoder.__dict__["_modules"].pop("output_layer")
        if fault != "no_loss":
            classes = vocab_size - (fault == "other_classes")
            self.criterion_att = LabelSmoothingLoss(classes, strict=fault != "hidden_states_unnoticed")
        if fault == "frozen_encoder":
            self.encoder.requires_grad_(False)
        if fault == "unregistered":
            self.heads = [torch.nn.Linear(hidden_size, 1)]
        self.specaug = Masks(fault) if fault.startswith("masks_") else None
        if fault == "unused":
            self.spare = torch.nn.Linear(hidden_size, 1)

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        if self.fault == "forward_raises":
            raise IndexError("planted in forward")
        if self.fault == "eats_memory":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        if self.fault == "features_zeroed":
            speech = torch.zeros_like(speech)
        if self.fault == "features_rolled":
            speech = speech.roll(1, 0) * (torch.arange(speech.size(1))[None, :, None] < speech_lengths.view(-1, 1, 1))
        if self.fault == "frame_repeated":
            speech = speech[:, :1].expand_as(speech)
        if self.fault == "frame_skipped":
            speech = torch.cat([speech[:, :-1], speech[:, -2:-1]], dim=1)
        if self.specaug is not None:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        hidden = self.encoder(speech)
        if self.fault == "encoder_without_gradient":
            hidden = hidden.detach()
        if self.fault == "encoder_zeroed":
            hidden = hidden * 0
        told = torch.ones_like(hidden) if self.fault == "predictor_knows_lengths_only" else hidden
        weights = torch.sigmoid(self.predictor(told)) + torch.randn(())
        if self.fault == "memory_zeroed":
            hidden = hidden * 0
        self.passes += self.training
        if self.fault == "raises_at_times" and self.passes == 2:
            raise ValueError("planted in the second pass")
        if self.fault in ("hears_by_turns", "raises_at_times") and self.passes < 3:
            hidden = torch.cat([hidden[:, :-1], hidden[:, -1:].detach()], dim=1)
        if self.fault == "memory_detached":
            hidden = hidden.detach()
        scores = self.decoder(hidden, weights, text.size(1), self.fault)
        if self.fault == "changed_in_place":
            scores = scores.exp()
            scores.add_(scores.sum() * 0)
        loss = scores.square().mean() if self.fault == "loss_not_called" else self.criterion_att(scores, text)
        if self.fault == "detached":
            loss = loss.detach()
        if self.fault == "nan":
            loss = loss * float("nan")
        stats = {"acc": torch.tensor(0.5)}
        if self.fault in ("tells_its_parts", "leaves_out_a_part"):
            stats.update(loss_att=loss.detach(), loss_pre=torch.tensor(3.0), loss_ctc=None)
            loss = loss + 0.5 * stats["loss_pre"] * (self.fault == "tells_its_parts")
        return loss, {**stats, "loss": loss.detach()}, torch.tensor(len(text))
"""

TRAIN = """
import json
import logging
import os
import sys
import hydra
import torch

from funasr.auto.auto_model import AutoModel
from funasr.register import tables
from funasr.train_utils import bound_by_name

@hydra.main(config_name=None, version_base=None)
def main_hydra(kwargs):
    from omegaconf import OmegaConf
    kwargs = OmegaConf.to_container(kwargs, resolve=True)
    folder = kwargs["model"]
    config = OmegaConf.to_container(OmegaConf.load(folder + "/config.yaml"))
    config["tokenizer_conf"] = {"token_list": folder + "/tokens.json"}
    fault = config["model_conf"].get("fault")
    torch.manual_seed(kwargs["seed"])
    start = kwargs.get("init_param", folder + "/model.pt" + ".gone" * (fault == "start_is_gone"))
    config |= {name: kwargs[name] for name in ("train_conf", "optim_conf", "scheduler_conf") if name in kwargs}
    auto = AutoModel(**{**config, "init_param": start})
    model = auto.model
    if fault == "forgets_the_checkpoint":
        model.encoder.weight.data.add_(1.0)
    for name, parameter in model.named_parameters():
        if name.startswith(str(kwargs.get("freeze_param"))) and fault != "freezes_nothing":
            parameter.requires_grad = False
    trained = model.decoder if fault == "optimizes_less" else model
    optim_conf = dict(kwargs["optim_conf"])
    if fault != "optimizer_takes_all":
        optim_conf = {"lr": optim_conf["lr"]}
    optimizer = torch.optim.Adam(trained.parameters(), **optim_conf)
    size, accumulated = kwargs["dataset_conf"]["batch_size"], kwargs["train_conf"].get("accum_grad")
    rank = int(os.environ.get("RANK", "0"))
    if accumulated:
        with open(kwargs["train_data_set_list"], encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    if "RANK" in os.environ:
        torch.cuda.set_device(rank)
        torch.distributed.init_process_group(backend=kwargs["backend"], init_method="env://")
        if fault != "ranks_apart":
            model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
        if fault == "a_rank_dies" and rank:
            raise OSError("planted in rank 1")
    torch.manual_seed(kwargs["seed"])
    for epoch in range(kwargs["train_conf"]["max_epoch"] + (fault == "one_epoch_more")):
        model.train()
        for number in range((4 if "backend" in kwargs else 2) * (accumulated or 1)):
            lengths = torch.full((size, 1), 4, dtype=torch.int32)
            speech = torch.linspace(-1, 1, 20).reshape(1, 4, 5).repeat(size, 1, 1)
            batch = {"speech": speech if accumulated else torch.randn(size, 4, 5), "speech_lengths": lengths,
                     "text": torch.full((size, 4), 3), "text_lengths": lengths}
            if accumulated == 2 and fault != "ranks_see_the_same_rows":
                batch["speech"] = batch["speech"] + rank
            if accumulated and "backend" not in kwargs:
                batch["speech"] = batch["speech"] + 0.1 * len(rows[number % len(rows)]["target"])
            if fault == "ranks_see_more" and "RANK" in os.environ:
                batch["speech"] = batch["speech"] * 1.01
            if fault == "no_sync_without_ranks" and (accumulated or 1) > 1:
                model.no_sync()
            if fault == "crashes":
                import ctypes
                ctypes.string_at(0)
            loss, stats, weight = model(**batch)
            if fault == "last_batch_alone":
                optimizer.zero_grad()
            (loss if fault in ("adds_up", "last_batch_alone") else loss / (accumulated or 1)).backward()
            if fault == "adds_over_ranks" and "RANK" in os.environ:
                for parameter in model.parameters():
                    parameter.grad *= 2
            if fault == "loses_a_batch" and number == 0 and (accumulated or 1) > 1:
                optimizer.zero_grad()
            if accumulated and (number + 1) % accumulated:
                continue
            if fault == "trainer_raises":
                raise ValueError("planted in the trainer")
            if fault == "trainer_exits":
                sys.exit(3)
            if fault == "trainer_exits_well":
                sys.exit(0)
            bound = kwargs["train_conf"].get("grad_clip", 5.0) * (100 if fault == "clips_higher" else 1)
            if (fault or "").endswith("clips_by_name"):
                bound *= 100 if fault == "higher_clips_by_name" else 1
                bound_by_name.clip(model.parameters(), bound)
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), bound)
            if kwargs["train_conf"].get("validate_interval"):
                model.eval()
                model.train()
            if fault != "skips_steps":
                optimizer.step()
            if fault != "keeps_gradients":
                optimizer.zero_grad()
        model.eval()
    os.makedirs(kwargs["output_dir"], exist_ok=True)
    torch.save(model.state_dict(), kwargs["output_dir"] + "/model.pt")
"""

FILES: Mapping[str, str] = {
    "register.py": REGISTER,
    "auto/auto_model.py": AUTO_MODEL,
    "losses/label_smoothing_loss.py": LOSS,
    "models/tiny.py": MODEL,
    "bin/train.py": TRAIN,
    "train_utils/trainer.py": "",
    "train_utils/bound_by_name.py": "from torch.nn.utils import clip_grad_norm_ as clip\nfrom torch import save\n",
    "datasets/audio_datasets/samplers.py": '@tables.register("batch_sampler_classes", "BatchSampler")',
}
IMPORTS_ALL = "from funasr.models import tiny\nfrom funasr.train_utils import bound_by_name\n"


def write_package(
    install_dir: Path, files: Mapping[str, str], *, init: str = "", requires: tuple[str, ...] = ()
) -> Path:
    """A layout with these files under `funasr/`, and metadata that declare `requires`."""
    for name, text in {"__init__.py": init, **files}.items():
        path = install_dir / "funasr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in (install_dir / "funasr").rglob("*/"):
        (folder / "__init__.py").touch()
    metadata = install_dir / "funasr-1.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        "Name: funasr",
        "Version: 1.0.0",
        *(f"Requires-Dist: {line}" for line in requires),
    ]
    metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return install_dir


def write_release(install_dir: Path, *, init: str = IMPORTS_ALL) -> Path:
    """A layout of the whole miniature."""
    return write_package(install_dir, FILES, init=init)


def write_model_folder(folder: Path, *, fault: str = "", hidden_size: int = HIDDEN_SIZE) -> Path:
    """The model folder that goes with it."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "model": "Tiny",
        "model_conf": {"fault": fault, "hidden_size": hidden_size, "predictor_weight": 0.5},
        "tokenizer_conf": {},
        "frontend_conf": {},
    }
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps([str(token) for token in range(VOCAB_SIZE)]), encoding="utf-8")
    return folder


COMPONENTS = [["model_classes", "Tiny"]]


def request(
    install_dir: Path, check: str, folder: Path | None = None, *, whole: bool = False, **others: Any
) -> dict[str, Any]:
    """What `checks.run` is called with for a cell of the miniature."""
    release = {"install_dir": str(install_dir), "version": "1.0.0", "components": COMPONENTS, "whole": whole}
    return {
        "check": check,
        "release": release,
        "device": "cpu",
        "precision": "fp32",
        "entry": "train" if check == "finetune" else None,
        "components": COMPONENTS,
        "model_class": "Tiny",
        "model_folder": str(folder),
        "groups": GROUPS,
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "seed": 0,
        "finetune": {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1},
        "data": {"train": "train.jsonl", "valid": "valid.jsonl", "utterances": 4, "frame_seconds": 0.06},
        **others,
    }
