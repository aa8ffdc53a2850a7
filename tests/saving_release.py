"""A miniature release that saves, resumes, averages, ranks and loads as FunASR does, with the faults asked for.

What it lacks is what the checks do not touch: its audio is the name of the file, its text the lengths of words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_release

AUTO_MODEL = """
import json, logging, os
import torch
from omegaconf import OmegaConf
from funasr.register import tables

def load(model, path, ignore, fault):
    given = torch.load(path, map_location="cpu", weights_only=True)
    given = given.get("state_dict", given)
    state = model.state_dict()
    for name in state:
        if name not in given:
            print("Warning, miss key in ckpt: " + name)
        elif ignore and given[name].shape != state[name].shape:
            if "silent_mismatch" not in fault:
                logging.warning("ignore_init_mismatch: " + name)
        else:
            state[name] = given[name]
    model.load_state_dict(state)

class AutoModel:
    def __init__(self, **kwargs):
        if "model_conf" not in kwargs:
            folder = kwargs["model"]
            config = OmegaConf.to_container(OmegaConf.load(folder + "/config.yaml"), resolve=True)
            base = config.get("init_param")
            kwargs = {**config, **kwargs, "model": config["model"], "init_param": folder + "/model.pt"}
            if "folder_loads_base" in config["model_conf"]["fault"] and base:
                kwargs["init_param"] = base
            if os.path.exists(folder + "/tokens.json"):
                kwargs["tokenizer_conf"] = {"token_list": folder + "/tokens.json"}
        with open(kwargs["tokenizer_conf"]["token_list"], encoding="utf-8") as file:
            vocab_size = len(json.load(file))
        torch.manual_seed(kwargs.get("seed", 0))
        self.model = tables.model_classes[kwargs["model"]](vocab_size, **kwargs["model_conf"])
        path = kwargs.get("init_param")
        if path is not None and os.path.exists(path):
            load(self.model, path, kwargs.get("ignore_init_mismatch", True), kwargs["model_conf"]["fault"])
        elif path is not None and "missing_init_param" in kwargs["model_conf"]["fault"]:
            print("error, init_param does not exist!: " + path)
        elif path is not None:
            raise FileNotFoundError(path)
        self.kwargs = kwargs

    def generate(self, input, **_):
        with open(str(input) + ".txt", encoding="utf-8") as file:
            text = file.read()
        learned = int(self.model.trained) > 0
        if "knows_without_learning" in self.model.fault:
            learned = True
        return [{"text": text if learned else "?" * len(text)}]
"""

MODEL = tiny_release.MODEL.replace(
    "        self.predictor = ", '        self.register_buffer("trained", torch.tensor(0))\n        self.predictor = '
).replace("        loss = scores", "        if self.training:\n            self.trained += 1\n        loss = scores")

TRAIN = """
import json, os, shutil
import hydra
import torch

from funasr import AutoModel
from funasr.register import tables

def batches(path, size, epoch, start):
    with open(path, encoding="utf-8") as file:
        rows = [row for line in file if (row := json.loads(line))["source_len"] <= 2048]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch)).tolist()
    for begin in range(start * size, len(rows), size):
        chosen = [rows[row] for row in order[begin : begin + size]]
        text = torch.tensor([[1 + (ord(mark) % 20) for mark in row["target"][:4]] for row in chosen])
        speech = torch.stack([torch.sin(text[row].float()[:, None] * torch.arange(1, 6)) for row in range(len(chosen))])
        lengths = torch.full((len(chosen), 1), 4, dtype=torch.int32)
        yield {"speech": speech, "speech_lengths": lengths, "text": text, "text_lengths": lengths}

class Trainer:
    def __init__(self, kwargs):
        auto = AutoModel(**kwargs)
        self.model, self.fault = auto.model, auto.model.fault
        self.conf, self.output = kwargs["train_conf"], kwargs["output_dir"]
        if "resume_twice" in self.fault and "resume" in self.conf:
            raise TypeError("Trainer() got multiple values for keyword argument 'resume'")
        self.kwargs = kwargs
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=kwargs["optim_conf"]["lr"])
        rise = lambda step: min(1.0, (step + 1) / 100)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rise)
        self.epoch = self.step = 0
        self.scores = {"acc": {}, "loss": {}}
        self.kind = self.conf.get("avg_keep_nbest_models_type", "acc")

    def path(self, name):
        return os.path.join(self.output, name)

    def validate(self):
        self.model.eval()
        losses, accuracies = [], []
        with torch.no_grad():
            for batch in batches(self.kwargs["valid_data_set_list"], 2, 0, 0):
                loss, stats, _ = self.model(**batch)
                losses.append(float(loss))
                accuracies.append(float(stats["acc"]))
        self.model.train()
        accuracy = 0.0 if "accuracy_stays_zero" in self.fault else sum(accuracies) / len(accuracies)
        return {"loss": sum(losses) / len(losses), "acc": accuracy}

    def save(self, epoch, step):
        name = f"model.pt.ep{epoch}" + (f".{step}" if step else "")
        for kind, score in self.validate().items():
            self.scores[kind][name] = score
        better = min if self.kind == "loss" else max
        ranked = self.scores[self.kind]
        best = next(iter(ranked)) if "best_is_first" in self.fault else better(ranked, key=ranked.get)
        state = dict(self.model.state_dict())
        if "checkpoint_without_tensor" in self.fault:
            del state["predictor.weight"]
        saved = {"epoch": epoch, "step": step, "state_dict": state, "optimizer": self.optimizer.state_dict(),
                 "scheduler": self.scheduler.state_dict(), "avg_keep_nbest_models_type": self.kind,
                 "best_step_or_epoch": best, "val_acc_step_or_epoch": self.scores["acc"],
                 "val_loss_step_or_epoch": self.scores["loss"]}
        torch.save(saved, self.path(name))
        torch.save(saved, self.path("model.pt"))
        if best == name:
            torch.save(saved, self.path("model.pt.best"))
        kept = sorted(ranked, key=ranked.get, reverse=self.kind == "acc")[: self.conf["keep_nbest_models"]]
        for other in ranked:
            if other not in kept and os.path.exists(self.path(other)):
                os.remove(self.path(other))

    def resume(self):
        if not os.path.exists(self.path("model.pt")):
            return
        found = torch.load(self.path("model.pt"), weights_only=True)
        self.model.load_state_dict(found["state_dict"], strict=False)
        if "resume_forgets_optimizer" not in self.fault:
            self.optimizer.load_state_dict(found["optimizer"])
        if "resume_forgets_schedule" not in self.fault:
            self.scheduler.load_state_dict(found["scheduler"])
        if "resume_raises" in self.fault:
            raise KeyError("planted in resume")
        if "resume_forgets_epoch" not in self.fault:
            self.epoch = found["epoch"]
        if "resume_forgets_step" not in self.fault:
            self.step = found["step"] or 0
        self.scores = {"acc": found["val_acc_step_or_epoch"], "loss": found["val_loss_step_or_epoch"]}

    def average(self):
        count, ranked = self.conf["avg_nbest_model"], self.scores[self.kind]
        names = sorted(ranked, key=ranked.get, reverse=self.kind == "acc")[:count]
        names = [name for name in names if os.path.exists(self.path(name))]
        if "average_of_one" in self.fault:
            names = names[:1]
        if "no_average" in self.fault:
            return
        states = [torch.load(self.path(name), weights_only=True)["state_dict"] for name in names]
        mean = {key: torch.stack([state[key].float() for state in states]).mean(0).to(states[0][key].dtype)
                for key in states[0]}
        torch.save({"state_dict": mean}, self.path(f"model.pt.avg{count}"))

    def run(self):
        torch.manual_seed(self.kwargs["seed"])
        self.resume()
        if "no_rows" not in self.fault and not any(batches(self.kwargs["train_data_set_list"], 2, 0, 0)):
            raise ValueError("no row can be trained on")
        self.model.train()
        interval, size = self.conf.get("save_checkpoint_interval", 1000000), self.kwargs["dataset_conf"]["batch_size"]
        for epoch in range(self.epoch, self.conf["max_epoch"]):
            for batch in batches(self.kwargs["train_data_set_list"], 2, epoch, self.step):
                loss, _, _ = self.model(**batch)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                self.step += 1
                if self.step % interval == 0:
                    self.save(epoch, self.step)
            self.step = 0
            self.save(epoch + 1, None)
        self.average()

@hydra.main(config_name=None, version_base=None)
def main_hydra(kwargs):
    from omegaconf import OmegaConf
    kwargs = OmegaConf.to_container(kwargs, resolve=True)
    folder = kwargs.pop("model")
    config = OmegaConf.to_container(OmegaConf.load(folder + "/config.yaml"))
    config["tokenizer_conf"] = {"token_list": folder + "/tokens.json"}
    kwargs = {**config, "init_param": folder + "/model.pt", **kwargs}
    os.makedirs(kwargs["output_dir"], exist_ok=True)
    OmegaConf.save(OmegaConf.create(kwargs), kwargs["output_dir"] + "/config.yaml")
    shutil.copy(folder + "/configuration.json", kwargs["output_dir"])
    Trainer(kwargs).run()
"""

SAMPLERS = '@tables.register("batch_sampler_classes", "BatchSampler")  # knows sort_size and start_step'
TRAINER = "# knows save_checkpoint_interval, avg_keep_nbest_models_type"

FILES: Mapping[str, str] = {
    **tiny_release.FILES,
    "auto/auto_model.py": AUTO_MODEL,
    "models/tiny.py": MODEL,
    "bin/train.py": TRAIN,
    "train_utils/trainer.py": TRAINER,
    "datasets/audio_datasets/samplers.py": SAMPLERS,
}
INIT = "from funasr.auto.auto_model import AutoModel\nfrom funasr.models import tiny\n"

TEXTS = ("一二三四五", "二三四五六", "三四五六七", "四五六七八", "五六七八九", "六七八九十")


def write_release(install_dir: Path) -> Path:
    """A layout of the miniature."""
    return tiny_release.write_package(install_dir, FILES, init=INIT)


def write_model_folder(folder: Path, *, fault: str = "") -> Path:
    """The model folder that goes with it."""
    tiny_release.write_model_folder(folder, fault=fault)
    (folder / "configuration.json").write_text("{}", encoding="utf-8")
    return folder


def write_speech(folder: Path) -> Path:
    """Six utterances as a jsonl file; beside each of its files lies its text."""
    rows = []
    for number, text in enumerate(TEXTS):
        source = folder / f"{number}.wav"
        (folder / f"{number}.wav.txt").write_text(text, encoding="utf-8")
        rows.append({"key": f"k{number}", "source": str(source), "source_len": 10, "target": text, "target_len": 5})
    path = folder / "speech.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def request(install_dir: Path, check: str, folder: Path, speech: Path, **settings: Any) -> dict[str, Any]:
    """What `checks.run` is called with for a cell of it."""
    data = {"train": str(speech), "valid": str(speech), "utterances": 6, "frame_seconds": 0.06}
    return tiny_release.request(
        install_dir, check, folder, whole=True, entry="train", data=data, settings={"learning_rate": 0.01, **settings}
    )
