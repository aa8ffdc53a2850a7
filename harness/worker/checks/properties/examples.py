"""Examples: tiny configs derived from the variant's own, and batches for them, as Hypothesis strategies.

An example's text is complete: YAML with the config as FunASR's model class takes it, and under `example` the batch and
everything else that a property drew.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PADDING = -1
"""The padding of FunASR's collator for token ids, and the default `ignore_id` of its models."""
SPECIAL = 3
"""Ids 0, 1 and 2 are blank, start and end of sentence (`blank_id`, `sos`, `eos` of `Paraformer.__init__`)."""
_LEFT_OUT = {
    *("frontend", "frontend_conf", "tokenizer", "tokenizer_conf", "dataset", "dataset_conf", "train_conf"),
    *("optim", "optim_conf", "scheduler", "scheduler_conf", "specaug", "specaug_conf", "normalize", "normalize_conf"),
}
"""Sections that the model class does not use, or that would change the features: masks, normalisation."""
MOST_FRAMES = 18
MOST_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Example:
    """A drawn model and a batch for it: the complete input of a property."""

    config: Mapping[str, Any]
    """A config as `AutoModel` passes it to the model class, with `input_size` and `vocab_size`."""
    frames: tuple[int, ...]
    """Stacked frames of each utterance."""
    tokens: tuple[int, ...]
    """Tokens of each utterance, without the end of sentence."""
    seed: int
    """Seed of the weights, the features, the token ids and the model's own draws."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further values that the property drew."""

    @property
    def conf(self) -> Mapping[str, Any]:
        """The model's own settings."""
        conf: Mapping[str, Any] = self.config["model_conf"]
        return conf

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return int(self.config["vocab_size"])

    @property
    def targets(self) -> tuple[int, ...]:
        """Tokens of each utterance that the decoder predicts: with the end of sentence if `predictor_bias` is 1."""
        return tuple(count + self.conf.get("predictor_bias", 0) for count in self.tokens)

    @property
    def key(self) -> str:
        """Identifies the example."""
        return json.dumps([self.config, self.frames, self.tokens, self.seed, self.options], sort_keys=True)

    @property
    def text(self) -> str:
        """YAML that `Example.parse` reads."""
        from omegaconf import OmegaConf

        drawn = {"frames": list(self.frames), "tokens": list(self.tokens), "seed": self.seed, **self.options}
        content = {**copy.deepcopy(dict(self.config)), "example": drawn}
        return str(OmegaConf.to_yaml(OmegaConf.create(content)))

    @classmethod
    def parse(cls, text: str) -> Example:
        """Read an example's `text`.

        Raises:
            ValueError: it is not the text of an example.
        """
        from omegaconf import OmegaConf

        try:
            content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
            drawn = content.pop("example")
            frames, tokens, seed = (drawn.pop(name) for name in ("frames", "tokens", "seed"))
        except Exception as error:
            raise ValueError(f"not a saved counter-example: {' '.join(str(error).split())}") from None
        return cls(config=content, frames=tuple(frames), tokens=tuple(tokens), seed=seed, options=drawn)


@dataclass(frozen=True, kw_only=True)
class ExampleSpec:
    """What a property needs of its examples."""

    sampler: bool = False
    """Whether the sampler may be active: it shows the decoder randomly drawn target tokens."""
    ctc: float | None = None
    """The share of CTC in the loss; None draws one that may be 0."""
    look_ahead: bool = False
    """Whether the predictor's convolution looks ahead as in the variant; else it looks back only."""
    rows: tuple[int, int] = (1, MOST_ROWS)
    shortest: int = 1
    """Fewest frames of an utterance."""
    most_frames: int = MOST_FRAMES
    """Most frames of an utterance."""
    fewest_targets: int = 2
    """Fewest tokens of an utterance that the decoder predicts; one token has a property of its own."""
    least_hidden: int = 4
    one_chunk: bool = False
    """Whether the streaming encoder has one chunk configuration; of two it uses the first in evaluation."""
    chunk_frames: int = 0
    """If not 0, every chunk has this many frames and no overlap."""
    decoder_looks_back: int = 3
    """Most chunks of look-back of the streaming decoder."""
    one_long: bool = False
    """Whether the first utterance has the maximum length and the others are much shorter."""
    dropout: float = 0.0
    """The value of all dropout rates."""
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Further values to draw: choices by name, the simplest first."""


def strategy(base: Mapping[str, Any], spec: ExampleSpec) -> Any:
    """A Hypothesis strategy of examples: the base config with small dimensions."""
    from hypothesis import strategies as st

    @st.composite
    def examples(draw: Any) -> Example:
        config = _model(draw, base, spec)
        rows = draw(st.integers(*spec.rows))
        bias = config["model_conf"].get("predictor_bias", 0)
        fewest = max(1, spec.fewest_targets - bias)
        shortest = max(spec.shortest, 2 * fewest - 1)
        frames = tuple(draw(st.integers(shortest, spec.most_frames)) for _ in range(rows))
        if spec.one_long:
            frames = (MOST_FRAMES, *(min(count, MOST_FRAMES // 2) for count in frames[1:]))
        # The predictor fires at most once a frame, and CTC needs a frame between equal tokens.
        tokens = tuple(draw(st.integers(fewest, max(fewest, (count - 1) // 2 - bias))) for count in frames)
        options = {name: draw(st.sampled_from(values)) for name, values in spec.options.items()}
        seed = draw(st.integers(0, 999))
        return Example(config=config, frames=frames, tokens=tokens, seed=seed, options=options)

    return examples()


def own_dimensions(base: Mapping[str, Any], spec: ExampleSpec, *, vocab_size: int, hidden_size: int) -> Example:
    """The cell's own vocabulary and hidden size, with the fewest blocks, and edge cases in one batch."""
    numbers = {
        "heads": _divisor(hidden_size, base.get("encoder_conf", {}).get("attention_heads", 4)),
        "hidden_size": hidden_size,
        "vocab_size": vocab_size,
        "input_size": 16,
        "linear_units": 32,
        "encoder_blocks": 2,
        "decoder_blocks": 1,
        "kernel_size": base.get("encoder_conf", {}).get("kernel_size", 11),
    }
    config = _sized(base, numbers, spec)
    if not spec.sampler:
        config["model_conf"]["sampling_ratio"] = 0.0
    frames = (17, 9, max(4, spec.shortest))[: spec.rows[1]]
    options = {name: values[0] for name, values in spec.options.items()}
    return Example(config=config, frames=frames, tokens=(7, 3, 1)[: len(frames)], seed=0, options=options)


def _model(draw: Any, base: Mapping[str, Any], spec: ExampleSpec) -> dict[str, Any]:
    from hypothesis import strategies as st

    heads = draw(st.sampled_from([1, 2, 4]))
    least = max(1, -(-spec.least_hidden // (2 * heads)))
    numbers = {
        "heads": heads,
        # The decoder's positional encodings are pairs of sine and cosine, so the width must be even.
        "hidden_size": 2 * heads * draw(st.integers(least, least + 2)),
        "vocab_size": draw(st.integers(SPECIAL + 2, 30)),
        # The sinusoidal positions need an even number above 2.
        "input_size": 2 * draw(st.integers(2, 6)),
        "linear_units": draw(st.integers(1, 12)),
        "encoder_blocks": draw(st.integers(1, 3)),
        "decoder_blocks": draw(st.integers(1, 2)),
        # The gap between chunks is half of it; the predictor's convolution, with one frame of look-ahead, needs a gap.
        "kernel_size": 2 * draw(st.integers(1, 5)) + 1,
    }
    config = _sized(base, numbers, spec)
    model = config["model_conf"]
    model["lsm_weight"] = draw(st.sampled_from([0.0, 0.1, 0.5]))
    model["length_normalized_loss"] = draw(st.booleans())
    model["predictor_weight"] = draw(st.sampled_from([1.0, 0.5]))
    model["predictor_bias"] = draw(st.sampled_from([0, 1] if spec.fewest_targets > 1 else [0]))
    # Fractions whose product with a count is exact.
    model["sampling_ratio"] = draw(st.sampled_from([0.0, 0.25, 0.75, 1.0])) if spec.sampler else 0.0
    model["ctc_weight"] = draw(st.sampled_from([0.0, 0.3])) if spec.ctc is None else spec.ctc
    if "chunk_size" in config.get("encoder_conf", {}):
        config["encoder_conf"] |= _chunks(draw, spec)
    return config


def _chunks(draw: Any, spec: ExampleSpec) -> dict[str, Any]:
    """One or two chunk configurations; in training the model draws one per batch."""
    from hypothesis import strategies as st

    conf: dict[str, list[int]] = {"chunk_size": [], "stride": [], "pad_left": []}
    for _ in range(1 if spec.one_chunk else draw(st.integers(1, 2))):
        stride, before, ahead = draw(st.integers(1, 6)), draw(st.integers(0, 1)), draw(st.integers(0, 3))
        if spec.chunk_frames:
            stride, before, ahead = spec.chunk_frames, 0, 0
        conf["chunk_size"].append(before + stride + ahead)
        conf["stride"].append(stride)
        conf["pad_left"].append(before)
    count = len(conf["stride"])
    for name, most in (("encoder", 3), ("decoder", spec.decoder_looks_back)):
        conf[f"{name}_att_look_back_factor"] = [draw(st.integers(0, most)) for _ in range(count)]
    return conf


def _sized(base: Mapping[str, Any], numbers: Mapping[str, int], spec: ExampleSpec) -> dict[str, Any]:
    """The base config with these dimensions."""
    config: dict[str, Any] = copy.deepcopy({key: value for key, value in base.items() if key not in _LEFT_OUT})
    config["input_size"], config["vocab_size"] = numbers["input_size"], numbers["vocab_size"]
    config.setdefault("model_conf", {})
    encoder, decoder, predictor = (config.get(f"{part}_conf", {}) for part in ("encoder", "decoder", "predictor"))
    backward_only = decoder.get("sanm_shfit", 0) >= (decoder.get("kernel_size", 1) - 1) // 2 > 0
    for part in (encoder, decoder):
        _put(part, "attention_heads", numbers["heads"])
        _put(part, "linear_units", numbers["linear_units"])
        _put(part, "kernel_size", numbers["kernel_size"])
    _put(encoder, "output_size", numbers["hidden_size"])
    _put(encoder, "num_blocks", numbers["encoder_blocks"])
    _put(decoder, "num_blocks", numbers["decoder_blocks"])
    _put(decoder, "att_layer_num", numbers["decoder_blocks"])
    _put(decoder, "sanm_shfit", (numbers["kernel_size"] - 1) // 2 if backward_only else 0)
    _put(predictor, "idim", numbers["hidden_size"])
    if not spec.look_ahead:
        _put(predictor, "r_order", 0)
    for part in (*config.values(),):
        if isinstance(part, dict):
            part.update({key: spec.dropout for key in part if key.endswith("dropout_rate")})
    return config


def _put(part: dict[str, Any], key: str, value: int) -> None:
    """Set a value that the config has; components without such a value stay unchanged."""
    if key in part:
        part[key] = value


def _divisor(number: int, most: int) -> int:
    return next(heads for heads in range(most, 0, -1) if number % heads == 0)
