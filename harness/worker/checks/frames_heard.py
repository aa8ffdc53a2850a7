"""Whether the loss depends on every frame of speech, by gradients: of the features, along decoder and predictor.

A frame is heard if the gradient of the loss with respect to it is not zero. A frame that is masked, replaced or cut off
has a gradient of exactly zero, so no threshold is needed. Padded frames are ignored.

- `features`: the gradient of the model's input.
- `decoder`: the gradient of the encoder's output through the memory that the decoder receives.
- `predictor`: the gradient of the encoder's output through the predictor's acoustic embeddings. For decoders that
  receive token ids (SCAMA's, UniASR's) the predictor gives alignments and no embeddings; then it is the gradient
  through the predictor's input.

A sound model does not hear every frame in every pass. SpecAug hides some: a frame counts if one of `MOST_MASKS` draws
of SpecAug lets it through; the gradient at SpecAug's output is propagated through further calls of SpecAug alone. And
if rounding leaves the sum of the predictor's weights a little below the number of tokens, the last token never fires.
An utterance all of whose other tokens the sampler replaced is then heard by no embedding, and a streaming decoder's
last token attends to nothing. So frames are collected over several passes (see `harness.worker.checks.loss_contract`).

Gradients do not show what a model does with the frames that it hears, such as permuting or averaging them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.worker.checks.taps import Tap, first, is_whole

MOST_MASKS = 64
"""Maximum draws of SpecAug; a sound one has let every frame through after about five. A mask that hides a frame half of
the time hides it 64 times in a row with a probability of 5e-20."""

_PART = re.compile(r"(encoder|predictor|decoder)(\d*)")

FrameCounts = Mapping[str, Sequence[Sequence[int]]]
"""Per path and utterance: heard frames, all frames."""


class FramesHeard:
    """Observes forward and backward passes of a network without changing a value.

    Args:
        groups: A variant's parameter groups; encoders, predictors and decoders are found by their names.
        config: The model's config, as `AutoModel` completed it.
    """

    def __init__(self, network: Any, groups: Mapping[str, Sequence[str]], config: Mapping[str, Any]) -> None:
        self._config = config
        self._heard: dict[str, list[list[bool]]] = {}
        """Per path, utterance and frame: whether a pass has heard it."""
        self._features: Any = None
        self._lengths: list[int] = []
        self._specaug: Any = None
        self._specaug_call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._masked, self._unmasked = Tap(), Tap()
        self._encoders: dict[str, Tap] = {}
        """This and the next three are keyed by the number in the part's name: `encoder2` is "2"."""
        self._places: dict[str, list[Any]] = {}
        self._decoders: dict[str, Tap] = {}
        self._predictors: dict[str, tuple[Tap, Tap]] = {}
        """The input and the output of each."""
        self._spelling: set[str] = set()
        """Numbers of the decoders that receive token ids."""
        self._stride = 1
        """Frames of the features per frame of the first encoder's output."""
        self._attach(network, groups)

    def begin_pass(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a pass: returns the batch, with features whose gradient is recorded."""
        for tap in self._taps():
            tap.clear()
        self._places.clear()
        self._features = batch["speech"].detach().clone().requires_grad_()
        self._lengths = batch["speech_lengths"].reshape(-1).tolist()
        # Encoders change their input in place, which is not allowed for a leaf tensor.
        return {name: tensor.clone() for name, tensor in {**batch, "speech": self._features}.items()}

    def gather(self) -> bool:
        """Collect the heard frames after a backward pass with a retained graph; whether every frame has been heard.

        A path is missing if the model has no such part, or did not call it.
        """
        for tap in self._taps():
            tap.close()
        self._add("features", self._of_features())
        for path, number, tap in self._paths():
            source = number if number in self._encoders else ""
            encoder = self._encoders.get(source)
            if tap.used and encoder is not None and encoder.nodes and source in self._places:
                reached = _nonzero(tap.back_to(encoder.nodes[0]), encoder.nodes[0])
                rows = zip(self._places[source], reached, strict=True)
                self._add(path, [(places & row).any(dim=-1).tolist() for places, row in rows])
        return misfit(self.counts()) is None

    def counts(self) -> dict[str, list[list[int]]]:
        """The counts so far, see `FrameCounts`."""
        counts = {path: [[sum(row), len(row)] for row in rows] for path, rows in self._heard.items()}
        for row, frames_heard in enumerate(self._heard.get("features", ())):
            # The remainder of a strided convolution at an utterance's end, less than a stride, does not count.
            left_over = next(
                (number for number, frame_heard in enumerate(reversed(frames_heard)) if frame_heard), len(frames_heard)
            )
            if left_over < self._stride:
                counts["features"][row][1] -= left_over
        return counts

    def _add(self, path: str, rows: list[list[bool]]) -> None:
        before = self._heard.get(path, rows)
        self._heard[path] = [[a or b for a, b in zip(*both, strict=True)] for both in zip(before, rows, strict=True)]

    def _taps(self) -> Iterator[Tap]:
        yield from (self._masked, self._unmasked, *self._encoders.values(), *self._decoders.values())
        for pair in self._predictors.values():
            yield from pair

    def _paths(self) -> Iterator[tuple[str, str, Tap]]:
        # At a ratio of 1 the sampler replaces every embedding of an untrained model.
        replaced = (self._config.get("model_conf") or {}).get("sampling_ratio", 0.0) >= 1.0
        for number, (input_tap, output_tap) in self._predictors.items():
            yield f"predictor{number}", number, input_tap if replaced or number in self._spelling else output_tap
        for number, input_tap in self._decoders.items():
            yield f"decoder{number}", number, input_tap

    def _attach(self, network: Any, groups: Mapping[str, Sequence[str]]) -> None:
        import torch

        specaug = getattr(network, "specaug", None)
        if isinstance(specaug, torch.nn.Module):
            self._specaug = specaug
            specaug.register_forward_pre_hook(self._before_specaug, with_kwargs=True)
            self._unmasked.before(specaug)
            self._masked.behind(specaug)
        for group, prefixes in groups.items():
            named = _PART.fullmatch(group)
            module = getattr(network, prefixes[0], None) if prefixes else None
            if named is None or not isinstance(module, torch.nn.Module):
                continue
            part, number = named.groups()
            if part == "encoder":
                self._encoders[number] = tap = Tap()
                module.register_forward_hook(self._after_encoder(number), with_kwargs=True)
                tap.behind(module)
            elif part == "decoder":
                self._decoders[number] = tap = Tap()
                module.register_forward_pre_hook(self._before_decoder(number), with_kwargs=True)
                tap.before(module)
            else:
                self._predictors[number] = input_tap, output_tap = Tap(), Tap()
                input_tap.before(module)
                output_tap.behind(module)

    def _before_specaug(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._specaug_call = args, kwargs

    def _after_encoder(self, number: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            encoded, source = first(output), first([*args, *kwargs.values()])
            if encoded is None or source is None or encoded.dim() != 3 or number in self._places:
                return
            chunks = getattr(module, "overlap_chunk_cls", None)
            lengths = [argument for argument in (*args, *kwargs.values()) if is_whole(argument)]
            if chunks is None and isinstance(output, tuple):
                lengths = [item for item in output if is_whole(item)] or lengths
            if not lengths and encoded.shape[1] != source.shape[1]:
                return
            frames = lengths[0].reshape(-1).tolist() if lengths else self._lengths
            self._places[number] = [frame_positions(count, encoded, chunks) for count in frames]
            if not number:
                self._stride = max(1, source.shape[1] // encoded.shape[1])

        return hook

    def _before_decoder(self, number: str) -> Any:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if any(
                is_whole(argument) and argument.dim() == 2 and argument.shape[1] > 1
                for argument in (*args, *kwargs.values())
            ):
                self._spelling.add(number)

        return hook

    def _of_features(self) -> list[list[bool]]:
        heard_frames = _nonzero(self._features.grad, self._features)
        for row, length in enumerate(self._lengths):
            heard_frames[row, length:] = True
        for _ in range(MOST_MASKS):
            if bool(heard_frames.all()):
                break
            through = self._through_another_mask()
            if through is None:
                break
            heard_frames |= through
        return [row[:length] for row, length in zip(heard_frames.tolist(), self._lengths, strict=True)]

    def _through_another_mask(self) -> Any:
        """Which frames another draw of SpecAug lets through to the loss; None if that is unknown."""
        import torch

        if not self._masked.gradients or not self._unmasked.nodes:
            return None
        unmasked, gradient = self._unmasked.nodes[0], self._masked.gradients[0]
        if may_hide_all(self._config.get("specaug_conf") or {}, min(self._lengths)):
            output = unmasked
        else:
            args, kwargs = self._specaug_call
            # `forward` directly, because the hooks belong to the observed pass.
            output = first(self._specaug.forward(unmasked.clone(), *args[1:], **kwargs))
        if output is None or output.shape != gradient.shape or not output.requires_grad:
            return None
        back = torch.autograd.grad(output, self._features, gradient, retain_graph=True, allow_unused=True)[0]
        return _nonzero(back, self._features)


def misfit(counts: FrameCounts) -> tuple[str, str] | None:
    """The first path along which frames are not heard, and the message; None if all are heard."""
    for path, rows in counts.items():
        missing = [
            (number, total - heard_count, total)
            for number, (heard_count, total) in enumerate(rows)
            if heard_count < total
        ]
        if missing:
            along = "" if path == "features" else f" along the {path}"
            unheard, total_frames = sum(count for _, count, _ in missing), sum(total for _, total in rows)
            details = ", ".join(f"{count} of the {total} of utterance {number}" for number, count, total in missing)
            return path, f"the loss does not depend{along} on {unheard} of {total_frames} frames of speech: {details}"
    return None


def frame_positions(count: int, output: Any, chunks: Any) -> Any:
    """The positions of an utterance's frames in an encoder's output: bool `[frames, positions]`.

    An encoder with chunks (`overlap_chunk` in funasr/models/scama/chunk_utilis.py) outputs chunk after chunk. Each
    chunk starts with the look-back of its convolution and contains frames of its neighbours on both sides, so a frame
    has several positions.
    """
    import torch

    width = output.shape[1]
    positions = torch.zeros(count, width, dtype=torch.bool, device=output.device)
    for frame in range(count):
        places = [frame]
        if chunks is not None:
            size, stride, shift = chunks.chunk_size_cur, chunks.stride_cur, chunks.shfit_fsmn
            within = [(chunk, frame + chunks.pad_left_cur - chunk * stride) for chunk in range(-(-count // stride))]
            places = [chunk * (size + shift) + shift + row for chunk, row in within if 0 <= row < size]
        positions[frame, [place for place in places if place < width]] = True
    return positions


def may_hide_all(masks: Mapping[str, Any], frames: int) -> bool:
    """Whether the configured time masks may cover this number of frames: then no number of draws need uncover all."""
    number = masks.get("num_time_mask", 2) if masks.get("apply_time_mask", True) else 0
    width, share = masks.get("time_mask_width_range") or 0, masks.get("time_mask_width_ratio_range") or 0
    widest = max(width) if isinstance(width, list | tuple) else width
    largest = max(share) if isinstance(share, list | tuple) else share
    return bool(number * max(widest, largest * frames) >= frames)


def _nonzero(gradient: Any, like: Any) -> Any:
    """`[batch, frames]`: True where the gradient is not zero."""
    import torch

    if gradient is None:
        return torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
    return (gradient != 0).any(dim=-1)
