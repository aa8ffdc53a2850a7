"""Configurations other than the default: a variant's YAML with some settings changed, as a user has it.

A sound release has to pass in each of them, and some faults show in no other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.core.cells import Check
from harness.variants.catalogue import load_variant

VARIANTS = ("paraformer", "paraformer_streaming")
ON_THE_MODEL = (Check.CONSTRUCT, Check.LOSS_CONTRACT)
TRAINED = (*ON_THE_MODEL, Check.FINETUNE)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is changed in a variant's file."""

    name: str
    title: str
    """What a user wants with it."""
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further settings of the trainer, by dotted path."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Values of the model's config, by dotted path."""
    reduced: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Dimensions of the reduced depth, by dotted path."""
    checks: tuple[Check, ...] = ON_THE_MODEL

    def written(self, variant: str, folder: Path) -> Path:
        """The changed YAML of a built-in variant, written into `folder`.

        Raises:
            KeyError: a path leads nowhere in the config.
        """
        data = copy.deepcopy(yaml.safe_load(load_variant(variant).path.read_text("utf-8")))
        block = data["harness"]
        block["training"] = {**block.get("training", {}), **self.training}
        block["reduced"] = {**block["reduced"], **self.reduced}
        for path, value in self.config.items():
            *parents, last = path.split(".")
            place = data
            for key in parents:
                place = place[key]
            if last not in place:
                raise KeyError(path)
            place[last] = value
        file = folder / f"{named(variant, self.name)}.yaml"
        file.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), "utf-8")
        return file


def named(variant: str, configuration: str) -> str:
    """The name that a variant has in cell ids under a configuration."""
    return f"{variant}-{configuration}"


CONFIGURATIONS: Mapping[str, Configuration] = {
    one.name: one
    for one in (
        Configuration(
            name="adamw",
            title="AdamW with weight decay, and gradients clipped at 1.",
            training={"optim": "adamw", "optim_conf.weight_decay": 0.01, "train_conf.grad_clip": 1.0},
            checks=TRAINED,
        ),
        Configuration(
            name="short-warmup",
            title="A warm-up of the variant's own, shorter than the matrix's.",
            training={"scheduler_conf.warmup_steps": 4},
            checks=TRAINED,
        ),
        Configuration(
            name="frozen-predictor",
            title="The predictor is frozen.",
            training={"freeze_param": "predictor"},
            checks=TRAINED,
        ),
        Configuration(
            name="frozen-encoder",
            title="The encoder is frozen.",
            training={"freeze_param": "encoder"},
            checks=TRAINED,
        ),
        Configuration(
            name="validates-within-epochs",
            title="Validation and a checkpoint after every second step.",
            training={"train_conf.validate_interval": 2, "train_conf.save_checkpoint_interval": 2},
            checks=TRAINED,
        ),
        Configuration(
            name="pairs",
            title="Batches of two utterances.",
            training={"dataset_conf.batch_size": 2},
            checks=TRAINED,
        ),
        Configuration(
            name="accumulates",
            title="Gradients of two batches to a step.",
            training={"train_conf.accum_grad": 2},
            checks=TRAINED,
        ),
        Configuration(name="hard-labels", title="No label smoothing.", config={"model_conf.lsm_weight": 0.0}),
        Configuration(name="no-sampler", title="No sampler.", config={"model_conf.sampling_ratio": 0.0}),
        Configuration(
            name="all-replaced",
            title="A sampler that replaces every embedding.",
            config={"model_conf.sampling_ratio": 1.0},
        ),
        Configuration(
            name="wide-masks",
            title="Time masks that may hide a short utterance whole.",
            config={"specaug_conf.time_mask_width_range": [0, 40], "specaug_conf.num_time_mask": 2},
        ),
        Configuration(name="no-masks", title="No SpecAug.", config={"specaug": None, "specaug_conf": None}),
        Configuration(
            name="no-dropout",
            title="No dropout.",
            config={
                f"{part}_conf.{key}": 0.0
                for part, keys in (
                    ("encoder", ("dropout_rate", "positional_dropout_rate", "attention_dropout_rate")),
                    ("decoder", ("dropout_rate", "self_attention_dropout_rate", "src_attention_dropout_rate")),
                )
                for key in keys
            },
        ),
        Configuration(
            name="deeper",
            title="Four blocks of the encoder and three of the decoder.",
            reduced={"encoder_conf.num_blocks": 4, "decoder_conf.num_blocks": 3, "decoder_conf.att_layer_num": 3},
        ),
        Configuration(
            name="eight-heads",
            title="Eight attention heads.",
            config={"encoder_conf.attention_heads": 8, "decoder_conf.attention_heads": 8},
        ),
        Configuration(
            name="batch-normalised",
            title="A loss that is divided by utterances.",
            config={"model_conf.length_normalized_loss": False},
        ),
    )
}
