"""Which properties hold in which releases, and a counterexample for each one that does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.core.cells import Check, Severity
from harness.core.evidence.properties import PropertyEvidence, PropertyMetrics, PropertyResult
from harness.core.versions import Order, Span
from harness.rules.verdicts import JudgedOutcome
from harness.text.plain import plain

FAILS, KNOWN, HOLDS, NOT_TESTED, DOES_NOT_APPLY = "fails", "known", "holds", "not_tested", "does_not_apply"
_GRAVITY = (FAILS, KNOWN, HOLDS, NOT_TESTED, DOES_NOT_APPLY)

WORDS: Mapping[str, str] = {
    "classes_fit": "each loss is built for, and receives, as many classes as the vocabulary has tokens",
    "loss_is_its_definition": "the label-smoothing loss is what its definition and torch's cross_entropy say",
    "padding_is_left_out_of_the_loss": "scores in the padding change neither the loss nor its gradient",
    "parts_add_up": "attention, CTC and predictor loss are theirs, and the loss is their weighted sum",
    "order_of_the_batch_does_not_matter": "the order of a batch changes nothing",
    "order_of_the_vocabulary_does_not_matter": "another order of the token ids, kept throughout, changes nothing",
    "padded_frames_do_not_matter": "the content of padded frames changes nothing",
    "utterances_do_not_touch_each_other": "the loss of a batch is the mean of its utterances' alone",
    "predictor_ends_where_the_utterance_ends": "the predicted token count ignores longer utterances in the batch",
    "labels_outside_the_vocabulary_are_refused": "token ids outside the vocabulary are an error",
    "lengths_agree": "targets, encoder, predictor and decoder agree on how many frames and tokens there are",
    "one_target_is_enough": "utterances of one target each can be trained on",
    "predictor_fires_for_every_token": "every token has an embedding from the frames, the last one too",
    "every_token_sees_frames": "the decoder's chunk mask leaves every token a frame to see",
    "sampler_shows_a_share_of_what_was_missed": "the second pass gets as many targets as the sampling ratio says",
    "gradients_reach_every_part": "gradients are finite and reach encoder, predictor and decoder",
    "frozen_parts_stay_without_gradient": "frozen parameters get no gradient, and the others get the same as before",
    "chunks_see_no_future": "frames after a chunk's look-ahead change nothing in it",
    "tokens_see_no_future": "frames after a token's chunk change none of its scores",
    "one_chunk_is_full_context": "one chunk that holds the whole utterance is full context",
    "one_seed_gives_one_model": "a model that is built twice from one seed is the same",
    "evaluation_gives_the_loss_of_training": "without dropout and sampling, evaluation gives the loss of training",
    "evaluation_draws_nothing": "evaluation gives the same loss twice, whatever dropout is configured",
    "ctc_in_evaluation_draws_nothing": "the same for CTC",
}
"""Each property in words, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class PropertyUse:
    """Releases in which a property came to the same."""

    status: str
    """`fails`, `known` (its saved counterexample still fails), `holds`, `not_tested` or `does_not_apply`."""
    severity: Severity | None
    """Where it fails, in the newest of them."""
    spans: tuple[Span, ...]
    examples: int
    """Drawn for it in all these cells."""
    message: str
    """Of the newest of them: the figures of the violation, or why it does not apply."""
    counterexample: str
    """YAML to paste, of the newest of them; empty where there is none."""
    cell: str
    """The id of a cell of the newest release."""


@dataclass(frozen=True, kw_only=True)
class PropertyRow:
    """One property of one variant."""

    name: str
    words: str
    status: str
    """The gravest, over all releases."""
    uses: tuple[PropertyUse, ...]
    """The gravest first."""


@dataclass(frozen=True, kw_only=True)
class VariantProperties:
    """What the `properties` cells of one variant gave."""

    variant: str
    cells: int
    examples: int
    """Drawn in all of them."""
    fewest: int
    """Drawn in the cell that drew fewest."""
    rows: tuple[PropertyRow, ...]

    @property
    def anchor(self) -> str:
        """The fragment that leads to the variant."""
        return f"properties-{self.variant}"


def variant_properties(judged: Iterable[JudgedOutcome], order: Order) -> tuple[VariantProperties, ...]:
    """The cells with results, by variant; the properties in the order of `WORDS`, unknown ones last."""
    cells: dict[str, list[JudgedOutcome]] = defaultdict(list)
    age = {label: number for number, label in enumerate(order.labels)}
    for item in sorted(judged, key=lambda item: age.get(item.outcome.cell.release, -1)):
        cell = item.outcome.cell
        if cell.check is Check.PROPERTIES and cell.variant and _results(item):
            cells[cell.variant].append(item)
    return tuple(_variant(name, members, order) for name, members in sorted(cells.items()))


def _variant(name: str, members: list[JudgedOutcome], order: Order) -> VariantProperties:
    results: dict[str, dict[str, list[tuple[JudgedOutcome, PropertyResult]]]] = defaultdict(lambda: defaultdict(list))
    for item in members:
        for result in _results(item):
            results[result.name][result.status].append((item, result))
    known = [*(word for word in WORDS if word in results), *sorted(results.keys() - WORDS.keys())]
    drawn = [(item.outcome.metrics_as(PropertyMetrics) or PropertyMetrics()).examples or 0 for item in members]
    return VariantProperties(
        variant=name,
        cells=len(members),
        examples=sum(drawn),
        fewest=min(drawn),
        rows=tuple(_row(property_name, results[property_name], order) for property_name in known),
    )


def _row(
    name: str, members_by_status: Mapping[str, list[tuple[JudgedOutcome, PropertyResult]]], order: Order
) -> PropertyRow:
    uses = tuple(
        _use(name, status, members_by_status[status], order) for status in sorted(members_by_status, key=_gravity)
    )
    return PropertyRow(name=name, words=WORDS.get(name, name), status=uses[0].status, uses=uses)


def _use(name: str, status: str, members: list[tuple[JudgedOutcome, PropertyResult]], order: Order) -> PropertyUse:
    newest, result = members[-1]
    return PropertyUse(
        status=status,
        severity=newest.severity_of(name),
        spans=order.spans({item.outcome.cell.release for item, _ in members}),
        examples=sum(result.examples for _, result in members),
        message=plain(result.message),
        counterexample=_counterexample(newest, name),
        cell=newest.outcome.cell.id,
    )


def _gravity(status: str) -> int:
    return _GRAVITY.index(status) if status in _GRAVITY else 0


def _results(item: JudgedOutcome) -> tuple[PropertyResult, ...]:
    evidence = item.outcome.common
    return (evidence.properties or ()) if isinstance(evidence, PropertyEvidence) else ()


def _counterexample(item: JudgedOutcome, name: str) -> str:
    evidence = item.outcome.common
    examples = evidence.counterexamples if isinstance(evidence, PropertyEvidence) else ()
    return next((plain(example.config) for example in examples if example.property == name), "")
