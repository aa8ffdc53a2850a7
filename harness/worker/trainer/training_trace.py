"""A training run recorded so that two runs can be compared bit by bit.

Random numbers must not make two equal runs differ, and no release saves the state of its generators. So each forward
pass is seeded from its batch: equal weights and an equal batch give an equal loss, whatever was drawn before. Dropout
and masking stay on. Only the frontend's dither, which is drawn while the data is loaded, is switched off in the copy of
the model folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.release import model
from harness.worker.release.importer import rebind
from harness.worker.trainer import in_force, launch, options

UNSHUFFLED = {"dataset_conf.shuffle": False}
"""For releases that draw an epoch's order from the process's generator: they do not promise to keep it."""
_DRAWS_FROM_PROCESS = "np.random.shuffle"


@dataclass(frozen=True, kw_only=True)
class ReleaseTrainer:
    """The arguments of a release's trainer that all runs of a cell share."""

    install_dir: str
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
    """The variant's own settings, without those that the check sets itself."""

    @classmethod
    def of(cls, request: Mapping[str, Any], work_folder: Path, **recipe: Any) -> ReleaseTrainer:
        """The trainer of a request, with its files below `here`; `recipe` sets duration and learning rate."""
        return cls(
            install_dir=request["release"]["install_dir"],
            version=request["release"]["version"],
            **{name: request[name] for name in ("entry", "model_class", "seed", "device")},
            folder=work_folder / "model",
            train=work_folder / "train.jsonl",
            valid=work_folder / "valid.jsonl",
            overrides=options.shared_overrides(request["finetune"].get("overrides", {})),
            **recipe,
        )

    @property
    def trainer_options(self) -> options.TrainerOptions:
        """The trainer options of this release."""
        return options.trainer_options(self.install_dir, self.version, self.entry)

    def run(self, output: Path, trace: TrainingTrace, **overrides: Any) -> None:
        """Run the trainer in this process, into `output`; `overrides` are further `++key=value` pairs.

        Raises:
            whatever the release raises.
        """
        trace.attach(launch.import_model_class(self.install_dir, self.model_class))
        settings = self.trainer_options.overrides(
            {
                "model_folder": str(self.folder),
                "train": str(self.train),
                "valid": str(self.valid),
                # if the trainer runs one epoch more than configured, one less is configured
                "epochs": self.epochs - self.trainer_options.extra_epoch,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "warmup_steps": self.warmup_steps,
                "seed": self.seed,
                "device": self.device,
                "output_dir": str(output),
                "overrides": self.overrides,
            }
        )
        samplers = Path(self.install_dir) / "funasr/datasets/audio_datasets/samplers.py"
        if trace.seeds_batches and _DRAWS_FROM_PROCESS in samplers.read_text(encoding="utf-8"):
            settings |= UNSHUFFLED
        launch.run_trainer(self.entry, {**settings, **overrides})


@dataclass
class TrainingTrace:
    """Observations of one run for a bitwise comparison; `seen` is plain data and complete at any time.

    `recorder.TrainingRecorder` differs: it measures losses, time and memory of an unseeded training, and hashes
    nothing.
    """

    before_forward: Callable[[], None] = lambda: None
    """Called just before each training forward pass, after everything that follows the previous one, such as its
    checkpoint."""
    seeds_batches: bool = True
    """Whether each forward pass begins with a seed from its batch."""
    records_start: bool = False
    """Whether weights are hashed before the first forward pass, and optimizer state before its first step."""
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
        """Observe the forward passes of `model_class`, the optimizer's steps, and what is saved."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        forward, trace = model_class.forward, self

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            if not (network.training and torch.is_grad_enabled()):
                output = forward(network, *args, **kwargs)
                trace._validated(output)
                return output
            trace._begin(network, kwargs)
            output = forward(network, *args, **kwargs)
            trace.seen["losses"].append(float(output[0].detach()))
            return output

        model_class.forward = watched
        register_optimizer_step_pre_hook(self._before_step)
        save = torch.save
        rebind(save, self._saving(save))

    def _begin(self, network: Any, batch: Mapping[str, Any]) -> None:
        self.network, self._validating = network, False
        name = batch_hash(batch)
        if not self.forwards:
            self.in_force.read_frames()
        if self.records_start and not self.forwards:
            self.seen["weights"] = parameter_hashes(network)
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
        if self.records_start and len(self.seen["learning_rates"]) == 1:
            self.seen["moments"] = self.optimizer_state_hashes()

    def configuration(self) -> dict[str, Any]:
        """The effective configuration, and how many parameters it freezes; empty if it was not found."""
        config = self.in_force.to_dict()
        named = {} if self.network is None else dict(self.network.named_parameters())
        not_trainable = [name for name, parameter in named.items() if not parameter.requires_grad]
        return {**config, "frozen": len(in_force.frozen_by(config, list(named), not_trainable))} if config else {}

    @property
    def forwards(self) -> int:
        """Number of training forward passes so far."""
        return len(self.seen["batches"])

    def just_saved(self) -> str:
        """The name of the checkpoint saved since the last forward pass; empty if none was."""
        saved = self.seen["saved"]
        return saved[-1]["name"] if saved and saved[-1]["after_forward"] == self.forwards else ""

    def optimizer_state_hashes(self) -> dict[str, str]:
        """The hash of each tensor of the optimizer's state, by parameter and key; empty before its first step."""
        if self.network is None or self.optimizer is None:
            return {}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        return {
            f"{names.get(parameter, '?')}:{key}": state_hash(value)
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
                        "weights": parameter_hashes(self.network),
                    }
                )
            return result

        return save


def parameter_hashes(network: Any) -> dict[str, str]:
    """The hash of each tensor of the model's state dict."""
    return {name: state_hash(tensor) for name, tensor in network.state_dict().items()}


def checkpoint_hashes(path: Path) -> dict[str, str]:
    """The hash of each tensor of a plain state dict in a file."""
    import torch

    return {
        name: state_hash(tensor) for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items()
    }


def state_hash(value: Any) -> str:
    """A hash over dtype, shape and every bit of a tensor; the `repr` of anything else."""
    import torch

    if not isinstance(value, torch.Tensor):
        return repr(value)
    plain = value.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else b""
    return hashlib.blake2b(data, digest_size=8, person=f"{plain.dtype}"[-16:].encode()).hexdigest() + str(
        list(plain.shape)
    )


def batch_hash(batch: Mapping[str, Any]) -> str:
    """A hash of a batch's token ids and lengths, in the order of its rows."""
    hashed = hashlib.blake2b(digest_size=6)
    for key in ("text", "text_lengths", "speech_lengths"):
        tensor = batch.get(key)
        if tensor is not None:
            hashed.update(state_hash(tensor).encode())
    return hashed.hexdigest()
