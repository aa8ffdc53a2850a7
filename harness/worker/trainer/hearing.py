"""After a training: is the model right because of the speech that it was given?

The trained model runs forward on utterances with their own speech, with the speech of other utterances, and with
silence, in evaluation and in training mode. Text, text length and number of frames stay the same. So a model that
ignores the speech gives the same scores each time, whatever it knows of lengths, positions and texts. An exact test
decides outside: `harness/rules/hearing.py`.

If the decoder's first pass receives no target tokens (Paraformer's, before its sampler), its correct tokens are
counted. A decoder with teacher forcing is scored in the same way. Without a decoder, each utterance's loss is compared.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.process import failures
from harness.worker.release import model
from harness.worker.trainer.reference_features import ReferenceFrontend, is_supported

OTHERS = 3
"""Number of other utterances whose speech each text is given."""
MOST_UTTERANCES = 36
MOST_FRAMES = 2400
"""Stacked frames of all utterances together, 144 s of speech: more would take longer than the training."""
MOST_BY_LOSS = 12
"""Utterances that run one by one, each with five kinds of speech in two modes."""
MODES: Mapping[str, bool] = {"evaluation": False, "training": True}
USUAL_INPUTS = frozenset({"speech", "speech_lengths", "text", "text_lengths"})
_PADDING = -1
_SEED = 977


@dataclass(frozen=True, kw_only=True)
class HeldOutExample:
    """An utterance in the form of the model's input."""

    features: Any
    """float32 `[stacked frames, width]`, normalised."""
    tokens: tuple[int, ...]


@dataclass
class SpeechInputs:
    """Distinct utterances as the trainer fed them, until there are enough to compare."""

    examples: dict[tuple[int, ...], HeldOutExample] = field(default_factory=dict)
    unusual: str = ""
    """The name of a forward input that the comparison cannot make; else empty."""

    def note(self, batch: Mapping[str, Any]) -> None:
        """Copy the batch's new utterances to the CPU."""
        if self.unusual or self._full():
            return
        self.unusual = next((name for name in sorted(batch) if name not in USUAL_INPUTS), "")
        if self.unusual or not set(batch) >= USUAL_INPUTS:
            return
        frames, counts = (
            batch[name].detach().cpu().reshape(-1).tolist() for name in ("speech_lengths", "text_lengths")
        )
        texts = batch["text"].detach().cpu().tolist()
        for row, (length, count) in enumerate(zip(frames, counts, strict=True)):
            tokens = tuple(texts[row][:count])
            if tokens not in self.examples and not self._full():
                features = batch["speech"][row, :length].detach().cpu().float().clone()
                self.examples[tokens] = HeldOutExample(features=features, tokens=tokens)

    def _full(self) -> bool:
        frames = sum(len(example.features) for example in self.examples.values())
        return len(self.examples) >= MOST_UTTERANCES or (len(self.examples) > OTHERS and frames >= MOST_FRAMES)


def examples_of(folder: Path, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[HeldOutExample]:
    """Rows of built-in speech, with features that are computed without the release's code.

    Empty if the config has features or a tokenizer that the reference does not support.
    """
    import numpy
    import soundfile
    import torch

    if not is_supported(config) or config.get("tokenizer") != "CharTokenizer":
        return []
    reference = ReferenceFrontend.of(config["frontend_conf"], folder / "am.mvn")
    ids = {token: number for number, token in enumerate(json.loads((folder / "tokens.json").read_text("utf-8")))}
    examples = []
    for row in rows:
        samples, _rate = soundfile.read(row["source"], dtype="int16")
        features = reference.normalised(reference.features(samples)).astype(numpy.float32)
        examples.append(
            HeldOutExample(
                features=torch.from_numpy(features), tokens=tuple(ids[character] for character in row["target"])
            )
        )
    return examples


def compare(
    network: Any,
    forward: Callable[..., Any],
    held_out: Sequence[HeldOutExample],
    trained_on: SpeechInputs,
    *,
    install_dir: str,
) -> dict[str, Any]:
    """The scores of each text with its own speech, with that of other utterances, and with silence.

    Args:
        network: The trained model.
        forward: The original forward of its class.
        held_out: Utterances that the training never saw; if empty, those of the training are used.
        heard: Utterances of the training.
        install_dir: The release's install prefix, for the signature of an exception.

    Returns:
        `{"of", "score", "first_pass", "tokens", "modes": {mode: {"own": […], "others": [[…], …], "silence": […]}}}`:
            for each text the correct tokens of its first and second half, or its negative loss; `first_pass`: whether
            the scored pass received no target tokens; `{"raised": signature}` for a mode in which the forward pass
            raised; `{"not_observed": why}` if there is nothing to compare.
    """
    if trained_on.unusual:
        return {"not_observed": f"the model's forward takes {trained_on.unusual}, which the comparison cannot make"}
    examples = list(held_out or trained_on.examples.values())
    if len(examples) <= OTHERS:
        return {"not_observed": f"{len(examples)} utterances; the comparison needs {OTHERS + 1}"}
    trial = _Trial(network=network, forward=forward, examples=examples[:MOST_UTTERANCES])
    result: dict[str, Any] = {
        "of": "held_out" if held_out else "training",
        "score": "tokens",
        "first_pass": callable(getattr(network, "sampler", None)) or getattr(network, "decoder", None) is None,
    }
    modes: dict[str, Any] = {}
    for name, training in MODES.items():
        try:
            modes[name] = trial.scores(training=training)
        except _NoTokens:
            result["score"] = "loss"
            trial.examples = trial.examples[:MOST_BY_LOSS]
            modes[name] = trial.losses(training=training)
        except Exception as error:
            modes[name] = {"raised": failures.describe(error, install_dir)["signature"]}
    return {**result, "tokens": [_halves([1] * len(example.tokens)) for example in trial.examples], "modes": modes}


class _NoTokens(Exception):
    """The model has no decoder that scores the tokens of a text at their positions."""


@dataclass
class _Trial:
    network: Any
    forward: Callable[..., Any]
    examples: list[HeldOutExample]

    def scores(self, *, training: bool) -> dict[str, Any]:
        """By tokens of the decoder's first pass: all texts in one batch."""
        speech = self._speech()
        with _in_mode(self.network, training):
            own_speech, *other_speech = [self._right(features) for features in speech]
        return {"own": own_speech, "others": other_speech[:-1], "silence": other_speech[-1]}

    def losses(self, *, training: bool) -> dict[str, Any]:
        """By the negative loss: one text after the other."""
        with _in_mode(self.network, training):
            own_speech, *other_speech = [
                [
                    [-self._loss(features_of_text, example)]
                    for features_of_text, example in zip(features, self.examples, strict=True)
                ]
                for features in self._speech()
            ]
        return {"own": own_speech, "others": other_speech[:-1], "silence": other_speech[-1]}

    def _speech(self) -> Iterator[list[Any]]:
        """The speech for each text: its own, that of other utterances, and silence; with equal numbers of frames."""
        import torch

        count = len(self.examples)
        for shift in range(OTHERS + 1):
            shifted = [self.examples[(row + shift) % count].features for row in range(count)]
            yield [
                _as_long(features, len(example.features))
                for features, example in zip(shifted, self.examples, strict=True)
            ]
        quietest = torch.cat([example.features for example in self.examples]).quantile(0.01, dim=0)
        yield [quietest.expand_as(example.features).clone() for example in self.examples]

    def _right(self, features: Sequence[Any]) -> list[list[int]]:
        import torch

        first: list[Any] = []

        def decoded(_module: Any, _args: Any, output: Any) -> None:
            first.append(output[0] if isinstance(output, tuple) else output)

        decoder = getattr(self.network, "decoder", None)
        if not isinstance(decoder, torch.nn.Module):
            raise _NoTokens
        handle = decoder.register_forward_hook(decoded)
        try:
            self._run(features, [example.tokens for example in self.examples])
        finally:
            handle.remove()
        longest = max(len(example.tokens) for example in self.examples)
        if not first or first[0].ndim != 3 or first[0].shape[0] != len(self.examples) or first[0].shape[1] < longest:
            raise _NoTokens
        best = first[0].argmax(-1).cpu().tolist()
        return [
            _halves(
                [
                    int(decoded_token == target_token)
                    for decoded_token, target_token in zip(row, example.tokens, strict=False)
                ]
            )
            for row, example in zip(best, self.examples, strict=True)
        ]

    def _loss(self, features: Any, example: HeldOutExample) -> float:
        return float(self._run([features], [example.tokens])[0])

    def _run(self, features: Sequence[Any], texts: Sequence[Sequence[int]]) -> Any:
        import torch

        # Equal random numbers each time: only the speech differs.
        model.seed_everything(_SEED)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return self.forward(self.network, **_collated(features, texts, device))


@contextlib.contextmanager
def _in_mode(network: Any, training: bool) -> Iterator[None]:
    """Set training or evaluation mode, and restore the previous one."""
    was_training = network.training
    network.train(training)
    try:
        yield
    finally:
        network.train(was_training)


def _collated(features: Sequence[Any], texts: Sequence[Sequence[int]], device: Any) -> dict[str, Any]:
    """In the form of FunASR's collator: padded with 0 and -1, lengths `[batch, 1]`."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    batch = {
        "speech": pad_sequence(list(features), batch_first=True),
        "speech_lengths": torch.tensor([[len(feature)] for feature in features], dtype=torch.int32),
        "text": pad_sequence([torch.tensor(text) for text in texts], batch_first=True, padding_value=_PADDING),
        "text_lengths": torch.tensor([[len(text)] for text in texts], dtype=torch.int32),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _as_long(features: Any, frames: int) -> Any:
    """The features `[frames, width]` cut or repeated to this number of frames."""
    times = -(-frames // len(features))
    return features.repeat(times, 1)[:frames]


def _halves(values: Sequence[int]) -> list[int]:
    middle = -(-len(values) // 2)
    return [sum(values[:middle]), sum(values[middle:])]
