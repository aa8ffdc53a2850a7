"""One run of a release's own trainer, watched so closely that two runs can be compared tensor by tensor.

Random numbers must not stand between two runs that should be equal, and no release saves the state of its generators.
So every forward pass begins with a seed that is made from its batch: equal weights and an equal batch give an equal
loss, whatever was drawn before. The recipe stays as it is, dropout and masking included; only the dither of the
frontend, which is drawn while the data is loaded, is switched off in the copy of the model folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.release import model
from harness.worker.release.rebinding import rebind
from harness.worker.trainer import in_force, launch, options

WITHOUT_DITHER = {"dither": 0.0}
UNSHUFFLED = {"dataset_conf.shuffle": False}
"""Where the order of an epoch is drawn from the process's generator: an order that no release promises to keep."""
_DRAWS_FROM_PROCESS = "np.random.shuffle"


@dataclass(frozen=True, kw_only=True)
class ReleaseTrainer:
    """How a release's trainer is called in all runs of a cell."""

    overlay: str
    version: str
    entry: str
    model_class: str
    seed: int
    device: str
    folder: Path
    """The base model's folder, with its initial checkpoint."""
    train: Path
    valid: Path
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The variant's own settings, without those that the check makes itself."""

    @classmethod
    def of(cls, request: Mapping[str, Any], here: Path, **recipe: Any) -> ReleaseTrainer:
        """The trainer that a request names, with its files below `here`; `recipe` is how long and how fast."""
        return cls(
            overlay=request["release"]["overlay"],
            version=request["release"]["version"],
            **{name: request[name] for name in ("entry", "model_class", "seed", "device")},
            folder=here / "model",
            train=here / "train.jsonl",
            valid=here / "valid.jsonl",
            overrides=options.shared(request["finetune"].get("overrides", {})),
            **recipe,
        )

    @property
    def dialect(self) -> options.TrainerOptions:
        """The words of this release."""
        return options.of(self.overlay, self.version, self.entry)

    def run(self, output: Path, watch: TrainingTrace, **overrides: Any) -> None:
        """Run the trainer in this process, into `output`; `overrides` are further `++key=value` pairs.

        Raises:
            whatever the release raises.
        """
        watch.attach(launch.enter_whole(self.overlay, self.model_class))
        words = self.dialect.overrides(
            {
                "model_folder": str(self.folder),
                "train": str(self.train),
                "valid": str(self.valid),
                # where one epoch more is run than asked for, one less is asked for
                "epochs": self.epochs - self.dialect.extra_epoch,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "warmup_steps": self.warmup_steps,
                "seed": self.seed,
                "device": self.device,
                "output_dir": str(output),
                "overrides": self.overrides,
            }
        )
        samplers = Path(self.overlay) / "funasr/datasets/audio_datasets/samplers.py"
        if watch.seeds_batches and _DRAWS_FROM_PROCESS in samplers.read_text(encoding="utf-8"):
            words |= UNSHUFFLED
        launch.run_trainer(self.entry, {**words, **overrides})


@dataclass
class TrainingTrace:
    """What is seen of one run; `seen` is plain data and whole at any moment."""

    before_forward: Callable[[], None] = lambda: None
    """Called just before each forward pass of the training: after all that followed upon the pass before it, its
    checkpoint too."""
    seeds_batches: bool = True
    """Whether each forward pass begins with a seed that is made from its batch."""
    takes_first_weights: bool = False
    """Whether the model's weights are taken down before the first forward pass, and the optimizer's state before its
    first step."""
    seen: dict[str, Any] = field(
        default_factory=lambda: {
            "batches": [],
            "losses": [],
            "learning_rates": [],
            "validations": [],
            "saved": [],
        }
    )
    network: Any = None
    optimizer: Any = None
    in_force: in_force.InForce = field(default_factory=in_force.InForce)
    _validating: bool = False

    def attach(self, model_class: Any) -> None:
        """Watch the forward passes of `model_class`, the optimizer's steps, and what is saved."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        forward, watch = model_class.forward, self

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            if not (network.training and torch.is_grad_enabled()):
                output = forward(network, *args, **kwargs)
                watch._validated(output)
                return output
            watch._begin(network, kwargs)
            output = forward(network, *args, **kwargs)
            watch.seen["losses"].append(float(output[0].detach()))
            return output

        model_class.forward = watched
        register_optimizer_step_pre_hook(self._before_step)
        save = torch.save
        rebind(save, self._saving(save))

    def _begin(self, network: Any, batch: Mapping[str, Any]) -> None:
        self.network, self._validating = network, False
        name = batch_name(batch)
        if not self.forwards:
            self.in_force.look()
        if self.takes_first_weights and not self.forwards:
            self.seen["weights"] = weights(network)
        self.before_forward()
        self.seen["batches"].append(name)
        if self.seeds_batches:
            model.seed_everything(int(name, 16) % 2**31)

    def _validated(self, output: Any) -> None:
        if not self._validating:
            self._validating = True
            self.seen["validations"].append({"losses": [], "accuracies": []})
        accuracy = output[1].get("acc")
        self.seen["validations"][-1]["losses"].append(float(output[0].detach()))
        self.seen["validations"][-1]["accuracies"].append(None if accuracy is None else float(accuracy))

    def _before_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self.optimizer = optimizer
        self.seen["learning_rates"].append(float(optimizer.param_groups[0]["lr"]))
        if self.takes_first_weights and len(self.seen["learning_rates"]) == 1:
            self.seen["moments"] = self.moments()

    def configuration(self) -> dict[str, Any]:
        """The configuration in force, and how many parameters it freezes; empty where it was not found."""
        config = self.in_force.plain()
        named = {} if self.network is None else dict(self.network.named_parameters())
        still = [name for name, one in named.items() if not one.requires_grad]
        return {**config, "frozen": len(in_force.frozen_by(config, list(named), still))} if config else {}

    @property
    def forwards(self) -> int:
        """How many forward passes the training has behind it."""
        return len(self.seen["batches"])

    def just_saved(self) -> str:
        """The name of the checkpoint that was saved since the last forward pass; empty if none was."""
        saved = self.seen["saved"]
        return saved[-1]["name"] if saved and saved[-1]["after_forward"] == self.forwards else ""

    def moments(self) -> dict[str, str]:
        """What the optimizer remembers of each parameter, each tensor by its hash; empty before its first step."""
        if self.network is None or self.optimizer is None:
            return {}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        return {
            f"{names.get(parameter, '?')}:{key}": fingerprint(value)
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
        }

    def _saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(obj, f, *args, **kwargs)
            name = Path(f).name if isinstance(f, str | Path) else ""
            if name.startswith("model.pt.ep") and self.network is not None:
                self.seen["saved"].append(
                    {
                        "name": name,
                        "after_forward": self.forwards,
                        "after_validation": len(self.seen["validations"]),
                        "weights": weights(self.network),
                    }
                )
            return result

        return save


def weights(network: Any) -> dict[str, str]:
    """Each tensor of the model's state by its hash."""
    return {name: fingerprint(tensor) for name, tensor in network.state_dict().items()}


def fingerprint(value: Any) -> str:
    """A hash over type, shape and every bit of a tensor; the value itself, as text, of anything else."""
    import torch

    if not isinstance(value, torch.Tensor):
        return repr(value)
    plain = value.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else b""
    return hashlib.blake2b(data, digest_size=8, person=f"{plain.dtype}"[-16:].encode()).hexdigest() + str(
        list(plain.shape)
    )


def batch_name(batch: Mapping[str, Any]) -> str:
    """A batch by what is in it: the hash of its token ids and lengths, in the order of its rows."""
    found = hashlib.blake2b(digest_size=6)
    for key in ("text", "text_lengths", "speech_lengths"):
        tensor = batch.get(key)
        if tensor is not None:
            found.update(fingerprint(tensor).encode())
    return found.hexdigest()


def lay_out_base(model_folder: str, here: Path, seed: int, *, dither: bool = False) -> None:
    """The base model's folder: a copy, with a checkpoint to start from, see `model.write_start`; called in a child."""
    from omegaconf import OmegaConf

    shutil.copytree(model_folder, here)
    config: Any = OmegaConf.load(here / "config.yaml")
    if not dither:
        config["frontend_conf"] = {**config.get("frontend_conf", {}), **WITHOUT_DITHER}
        OmegaConf.save(config, here / "config.yaml")
    model.write_start(str(here), here / "model.pt", seed)


def lay_out_speech(source: str, here: Path, count: int) -> list[dict[str, Any]]:
    """Write the `count` shortest utterances of a jsonl file to another, in their old order; what was chosen.

    The shortest, because a step costs as much as its longest utterance.
    """
    # Not by `splitlines`, which would also break inside a text that holds U+2028.
    lines = [line for line in Path(source).read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = [json.loads(line) for line in lines]
    chosen = sorted(sorted(range(len(rows)), key=lambda row: rows[row].get("source_len", 0))[:count])
    write_jsonl([rows[row] for row in chosen], here)
    return [rows[row] for row in chosen]


def write_jsonl(rows: Sequence[Mapping[str, Any]], here: Path) -> None:
    """One JSON object a line, as FunASR's datasets read them."""
    here.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
