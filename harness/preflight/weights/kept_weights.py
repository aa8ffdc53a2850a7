"""What of a checkpoint arrives in the model, and whether output, loss, tokens and special ids agree in size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.weights.tensor_fates import CheckpointTensor, ModelTensor, TensorFates, share
from harness.preflight.weights.trained_features import differ_in_features, of_another_size

_NEW_THAT_MATTERS = 0.01
"""Share of the parameters; a release may have added a tensor that the checkpoint's did not have."""
_DROPPED_THAT_MATTERS = 0.05
"""Share of the checkpoint."""
_HALF = frozenset({"float16", "bfloat16"})
_PARTS = {"embed": "embedding", "output_layer": "output layer", "ctc_lo": "CTC output", "hotword": "hotword output"}


def check_weights(inputs: Inputs, fates: TensorFates) -> Iterator[PreflightFinding]:
    """The findings about a model that was built, and a checkpoint that was loaded."""
    yield from _sizes(inputs, fates)
    if not fates.loads or fates.failure is not None:
        return
    place = Place(file=fates.loads[-1])
    if not any(parameter.loaded for parameter in fates.parameters):
        yield _nothing(fates, place)
        return
    yield from _other_shapes(inputs, fates, place)
    yield from _absent(fates, place)
    yield from _dropped(fates, place)
    yield from _numbers(fates, place)


def _share(value: float) -> str:
    percents = value * 100
    return f"{percents:.0f} %" if percents >= 1 else "less than 1 %"


def _nothing(fates: TensorFates, place: Place) -> PreflightFinding:
    prefix = _prefix(fates)
    if {tensor.name for tensor in fates.checkpoint} & {tensor.name for tensor in fates.parameters}:
        return _not_unwrapped(fates, place)
    remedy = f"++scope_map=[{prefix},None]" if prefix else "use the checkpoint that belongs to this config.yaml"
    message = "no tensor of the checkpoint arrives in the model: the start is random, without an error"
    if fates.is_optimizer_state:
        message = "the file holds the state of an optimizer and no weights: the start is random, without an error"
        remedy = "use the model.pt of the model's folder, or a checkpoint that the trainer wrote"
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="nothing-loaded",
        message=message,
        place=place,
        evidence=(
            f"in the checkpoint: {', '.join(tensor.name for tensor in fates.checkpoint[:3]) or 'no tensor'}",
            f"in the model: {', '.join(tensor.name for tensor in fates.parameters[:3])}",
        ),
        remedy=remedy,
    )


def _not_unwrapped(fates: TensorFates, place: Place) -> PreflightFinding:
    """A trainer's checkpoint, of which an early release takes the outer keys for tensors."""
    keys = ", ".join(fates.keys[:8])
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="nothing-loaded",
        message=(
            "this release does not look into the checkpoint of a trainer for the weights: the start is random, without "
            "an error"
        ),
        place=place,
        evidence=(f"in the checkpoint: {keys}",),
        remedy=(
            'save the weights alone: python -c \'import torch; torch.save(torch.load("model.pt", weights_only=True)'
            '["state_dict"], "weights.pt")\''
        ),
    )


def _prefix(fates: TensorFates) -> str:
    """What the checkpoint's names have before the model's."""
    names = {tensor.name for tensor in fates.checkpoint}
    for parameter in fates.parameters[:1]:
        for name in names:
            if name.endswith(f".{parameter.name}"):
                prefix = name.removesuffix(parameter.name)
                if all(f"{prefix}{other.name}" in names for other in fates.parameters):
                    return prefix
    return ""


def _other_shapes(inputs: Inputs, fates: TensorFates, place: Place) -> Iterator[PreflightFinding]:
    """Apart: what differs in the vocabulary alone, in the features alone, and the rest."""
    vocabulary = fates.vocabulary
    other = fates.of_another_shape()
    first = [tensor for tensor in other if _differs_in_vocabulary(tensor, vocabulary)]
    remaining = [tensor for tensor in other if tensor not in first]
    for size, tensors in differ_in_features(fates, remaining).items():
        yield of_another_size(inputs, fates, size, tensors, place)
        remaining = [tensor for tensor in remaining if tensor not in tensors]
    if first and first[0].found_shape is not None:
        sizes = f"{first[0].found_shape[0]} → {vocabulary}"
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="vocabulary-not-the-checkpoints",
            message=(
                f"{_named(first)}, {sizes} tokens, are newly initialised: {_share(share(fates.parameters, first))} of "
                f"the parameters; {_everything_else(fates, remaining)}"
            ),
            place=place,
            evidence=tuple(_shapes_in_words(tensor) for tensor in first[:5]),
            remedy=(
                "use the token list of the checkpoint; for tokens of your own, expect to train these layers from the "
                "start"
            ),
            count=len(first),
        )
    if remaining:
        share_kept = fates.share_kept
        yield PreflightFinding(
            severity=Severity.BROKEN if share_kept < 0.05 else Severity.WRONG,
            rule="tensors-of-another-shape",
            message=(
                f"{len(remaining)} tensors have another shape in the checkpoint and are newly initialised, silently: "
                f"{_share(share(fates.parameters, remaining))} of the parameters; {_share(share_kept)} are kept"
            ),
            place=place,
            evidence=(f"by module: {_modules(remaining)}", *(_shapes_in_words(tensor) for tensor in remaining[:4])),
            remedy="use the config.yaml that belongs to the checkpoint",
            count=len(remaining),
        )


def _everything_else(fates: TensorFates, remaining: Sequence[ModelTensor]) -> str:
    more = remaining or fates.absent()
    return f"{_share(fates.share_kept)} are loaded" if more else "everything else is loaded"


def _differs_in_vocabulary(tensor: ModelTensor, vocabulary: int | None) -> bool:
    found_shape = tensor.found_shape
    return found_shape is not None and tensor.shape[:1] == (vocabulary,) and found_shape[1:] == tensor.shape[1:]


def _named(tensors: Sequence[ModelTensor]) -> str:
    words = [next((word for part, word in _PARTS.items() if part in tensor.name), tensor.name) for tensor in tensors]
    return " and ".join(dict.fromkeys(words))


def _shapes_in_words(tensor: ModelTensor) -> str:
    return f"{tensor.name}: {list(tensor.found_shape or ())} in the checkpoint, {list(tensor.shape)} in the model"


def _modules(tensors: Sequence[ModelTensor | CheckpointTensor]) -> str:
    counted = Counter(tensor.name.partition(".")[0] for tensor in tensors)
    return ", ".join(f"{name} {count}" for name, count in counted.most_common(6))


def _absent(fates: TensorFates, place: Place) -> Iterator[PreflightFinding]:
    absent = fates.absent()
    if not absent:
        return
    part = share(fates.parameters, absent)
    yield PreflightFinding(
        severity=Severity.WRONG if part >= _NEW_THAT_MATTERS else Severity.MINOR,
        rule="tensors-not-in-checkpoint",
        message=(
            f"{len(absent)} tensors of the model are not in the checkpoint and are newly initialised, silently: "
            f"{_share(part)} of the parameters"
        ),
        place=place,
        evidence=(f"by module: {_modules(absent)}", *(tensor.name for tensor in absent[:3])),
        remedy="use the config.yaml that belongs to the checkpoint, or a checkpoint of this architecture",
        count=len(absent),
    )


def _dropped(fates: TensorFates, place: Place) -> Iterator[PreflightFinding]:
    dropped = fates.dropped()
    part = share(fates.checkpoint, dropped)
    if part < _DROPPED_THAT_MATTERS:
        return
    yield PreflightFinding(
        severity=Severity.WRONG,
        rule="checkpoint-tensors-dropped",
        message=(
            f"{len(dropped)} tensors of the checkpoint have no place in the model and are dropped, without an error: "
            f"{_share(part)} of the checkpoint; the model is smaller than the one that was trained"
        ),
        place=place,
        evidence=(f"by module: {_modules(dropped)}", *(tensor.name for tensor in dropped[:3])),
        remedy="use the config.yaml that belongs to the checkpoint",
        count=len(dropped),
    )


def _numbers(fates: TensorFates, place: Place) -> Iterator[PreflightFinding]:
    half = [tensor for tensor in fates.checkpoint if tensor.type in _HALF]
    if fates.not_finite:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="weights-not-finite",
            message="the checkpoint holds nan or inf: the loss is nan from the first step",
            place=place,
            evidence=tuple(fates.not_finite[:3]),
            remedy="use an earlier checkpoint, or the base model's",
            count=len(fates.not_finite),
        )
    if half:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="weights-in-half-precision",
            message=f"the checkpoint's weights are {half[0].type}: the training starts from rounded numbers",
            place=place,
            remedy="use the float32 checkpoint where there is one",
            count=len(half),
        )


def _sizes(inputs: Inputs, fates: TensorFates) -> Iterator[PreflightFinding]:
    outputs, vocabulary = set(fates.outputs.values()), fates.vocabulary
    for name, size in fates.losses.items():
        if outputs and size not in outputs:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="loss-size",
                message=f"the loss `{name}` has {size} classes and the output {_few(outputs)}: the first step fails",
                place=inputs.settings.place("model_conf"),
                evidence=tuple(f"{layer}: {width}" for layer, width in fates.outputs.items()),
                remedy="use the config.yaml of the model's folder, or a release that trains this architecture",
            )
    if vocabulary is not None and outputs and vocabulary not in outputs:
        yield PreflightFinding(
            severity=Severity.BROKEN if max(outputs) < vocabulary else Severity.WRONG,
            rule="tokens-output-size",
            message=f"the token list has {vocabulary} tokens and the model's output {_few(outputs)}",
            place=inputs.settings.place("tokenizer_conf.token_list"),
            evidence=tuple(f"{layer}: {width}" for layer, width in fates.outputs.items()),
            remedy="use the token list that belongs to the config, and no vocab_size of your own",
        )
    widest = max(outputs, default=vocabulary or 0)
    for name, number in (*fates.attributes.items(), *_label_ids(inputs)):
        if name not in ("vocab_size", "ignore_id") and widest and number >= widest:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="special-id-beyond-output",
                message=f"`{name}` is {number}, and the output has the ids 0 to {widest - 1}: a label out of range",
                place=inputs.settings.place(name if "." in name else f"model_conf.{name}"),
                remedy=f"set it to an id below {widest} that no text contains, in a copy of config.yaml",
            )


def _label_ids(inputs: Inputs) -> Iterator[tuple[str, int]]:
    value = inputs.settings.get("dataset_conf.seaco_id")
    if isinstance(value, int):
        yield "dataset_conf.seaco_id", value


def _few(numbers: set[int]) -> str:
    return " and ".join(map(str, sorted(numbers)[:3]))
