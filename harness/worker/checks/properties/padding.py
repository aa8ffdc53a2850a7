"""What lies after an utterance's end, and who else is in the batch, is nobody's business."""

from __future__ import annotations

from harness.worker.checks.properties.building import build, fill_padding, make_batch, select
from harness.worker.checks.properties.comparing import same, same_edges, same_gradients
from harness.worker.checks.properties.drawing import Example, Wish
from harness.worker.checks.properties.running import forward, gradients
from harness.worker.checks.properties.subject import Property, Subject, only_paraformer, only_with_predictor


def _padded_frames(example: Example, _subject: Subject) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    here = forward(network, batch, example.seed)
    slopes = gradients(network, here.loss)
    value = example.options["garbage"]
    there = forward(network, fill_padding(batch, value, example.seed), example.seed)
    same_edges(here, there, [(row, row) for row in range(len(example.frames))], example.targets)
    same(f"the loss with zeros and with about {value} in the padded frames", here.value, there.value)
    same_gradients("with something else in the padded frames", slopes, gradients(network, there.loss))


def _company(example: Example, _subject: Subject) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    rows = range(len(example.frames))
    together = forward(network, batch, example.seed)
    alone = [forward(network, select(batch, [row]), example.seed) for row in rows]
    for row in rows:
        same_edges(alone[row], together, [(0, row)], [example.targets[row]])
    by_token = example.conf["length_normalized_loss"]
    sizes = {
        "loss_att": example.targets if by_token else [1] * len(rows),
        "loss_pre": example.targets if by_token else [1] * len(rows),
        "loss_ctc": [1] * len(rows),
    }
    for name, weights in sizes.items():
        parts = [done.part(name) for done in alone]
        known = [part * weight for part, weight in zip(parts, weights, strict=True) if part is not None]
        mean = sum(known) / sum(weights) if known else None
        same(f"{name} of a batch and the mean of its utterances' one by one", together.part(name), mean)


def _predictor_alone(example: Example, _subject: Subject) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    together = forward(network, batch, example.seed).seen.predictor[1]
    for row, frames in enumerate(example.frames):
        alone = forward(network, select(batch, [row]), example.seed).seen.predictor[1]
        same(
            f"tokens predicted for an utterance of {frames} frames alone, and beside one of {max(example.frames)}",
            float(alone[0].detach()),
            float(together[row].detach()),
        )


PADDED_FRAMES = Property(
    name="padded_frames_do_not_matter",
    wish=Wish(rows=(2, 4), options={"garbage": (1.0, -3.0, 100.0)}),
    holds=_padded_frames,
    share=2,
)
COMPANY = Property(
    name="utterances_do_not_touch_each_other",
    wish=Wish(rows=(2, 3)),
    holds=_company,
    applies=only_paraformer,
    share=2,
)
PREDICTOR_ALONE = Property(
    name="predictor_ends_where_the_utterance_ends",
    wish=Wish(rows=(2, 3), look_ahead=True, ctc=0.0),
    holds=_predictor_alone,
    applies=only_with_predictor,
)
