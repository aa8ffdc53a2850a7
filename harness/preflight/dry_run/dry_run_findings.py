"""What is wrong with a training that was tried: its start, its steps, its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.core.cells import Severity
from harness.preflight.dry_run.dry_run_answer import DryRun, Trained
from harness.preflight.dry_run.dry_run_request import Checkpoint
from harness.preflight.findings import Place, PreflightFact, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.rules.unigram import Criterion, Row, Unigram, UnigramTargets
from harness.text.units import memory

AS_RANDOM = 0.9
"""Share of a freshly initialised model's first loss from which on a start is at its level."""
UNTRAINED = 0.01
"""Root mean square distance of the norms' scales from 1. A fresh model's is 0, and Adam moves each scale by no more
than about the learning rate at a step: a training of thousands of steps is beyond it, one of a dozen is not."""
SECTION = "dry run"
UNIFORM = "loss of a uniform guess"


def of_start(inputs: Inputs, measured: DryRun, checkpoint: Checkpoint) -> Iterator[PreflightFinding]:
    """Whether the training starts from the checkpoint, and whether that knows anything."""
    first, random = measured.first, measured.random
    if first is None or random is None or first.main is None or random.main is None:
        return
    setting = inputs.settings.by_path.get("init_param")
    place = setting.place if setting and checkpoint.named else Place(file=str(inputs.model / checkpoint.in_copy))
    evidence = list(_levels(measured))
    if first.loss == random.loss:
        yield _fresh_start(checkpoint, place, evidence)
        return
    if not measured.at_depth or first.main < AS_RANDOM * random.main:
        return
    uniform = _uniform(measured)
    trained = measured.norm_deviation is not None and measured.norm_deviation > UNTRAINED
    worse = uniform is None or first.main >= uniform
    yield PreflightFinding(
        severity=Severity.WRONG if trained and worse else Severity.MINOR,
        rule="start-at-random-level",
        message="the weights are loaded, and predict these rows no better than freshly initialised ones: "
        + (
            "tokens, features or rows are not those that the checkpoint was trained with"
            if trained
            else "the checkpoint itself looks untrained (its norms are as initialised)"
        ),
        place=place,
        evidence=tuple(evidence),
        remedy="take tokens.json, am.mvn, config.yaml and model.pt from one and the same model"
        if trained
        else "for a fine-tune, take the model.pt of a pretrained model",
    )


def _fresh_start(checkpoint: Checkpoint, place: Place, evidence: Sequence[str]) -> PreflightFinding:
    if checkpoint.path is None and not checkpoint.named:
        return PreflightFinding(
            severity=Severity.MINOR,
            rule="start-without-checkpoint",
            message="the training starts from freshly initialised weights: the folder has no checkpoint",
            place=place,
            evidence=tuple(evidence),
            remedy="for a fine-tune, put the model's model.pt into the folder",
        )
    why = "the file does not exist" if checkpoint.missing else "this release takes nothing from it"
    return PreflightFinding(
        severity=Severity.WRONG,
        rule="start-is-random",
        message=f"the training starts from freshly initialised weights and not from the checkpoint: {why}, "
        "and FunASR continues without it",
        place=place,
        evidence=tuple(evidence),
        remedy="++init_param=/path/to/model.pt, with the path of the pretrained weights",
    )


def of_steps(inputs: Inputs, trained: Trained) -> Iterator[PreflightFinding]:
    """Whether the steps train what they should."""
    if trained.steps == 0 and trained.forwards:
        return
    if trained.steps == 0:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="dry-run-no-step",
            message="the trainer ends without an error and without a step: no sampled row reaches training",
            place=Place(file=str(inputs.train or "")),
            evidence=(f"{len(trained.saved)} checkpoints were saved nevertheless",) if trained.saved else (),
            remedy="see the findings about the rows: their lengths and the limits in dataset_conf",
        )
        return
    if trained.not_finite is not None:
        number = trained.not_finite
        rate = f"learning rate {trained.learning_rates[number]:g}" if number < len(trained.learning_rates) else ""
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="loss-not-finite",
            message=f"the loss is no finite number from step {number + 1} on",
            place=inputs.settings.place("optim_conf.lr"),
            evidence=tuple(filter(None, (_losses(trained), rate))),
            remedy="++optim_conf.lr=0.0002, or look at the rows of that batch" if number else "look at the first rows",
        )
    if trained.learning_rates and not any(trained.learning_rates):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="learning-rate-zero",
            message="the learning rate is 0 at every step: nothing is learned",
            place=inputs.settings.place("optim_conf.lr"),
            remedy="++optim_conf.lr=0.0002",
        )
    if trained.frozen_but_trained:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="freeze-has-no-effect",
            message=f"freeze_param is {trained.freeze_asked!r}, and {trained.frozen_but_trained} of the parameters "
            "that it "
            "means are trained all the same",
            place=inputs.settings.place("freeze_param"),
            evidence=(f"{trained.trainable} parameter tensors are trained",),
            remedy="write the names as this release takes them: ++freeze_param=encoder",
            count=trained.frozen_but_trained,
        )
    if not trained.saved and not trained.cut and trained.failure is None:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="nothing-saved",
            message="the trainer ends without an error and saves no checkpoint",
            place=inputs.settings.place("train_conf"),
        )


def facts(
    measured: DryRun, *, sampled: int, listed: int, changed: Sequence[str], gpu: str | None = None
) -> Iterator[PreflightFact]:
    """What was measured; `gpu` is the name of the card, None on a CPU."""
    training = measured.training
    depth = "at the model's own depth" if measured.whole else "few blocks of each stack, with their weights"
    yield _fact("rows", f"{sampled} of {listed}, the longest among them")
    yield _fact("changed for it", ", ".join([depth, *changed]))
    if not training.steps:
        return
    yield _fact("steps", f"{training.steps}{', then its time was over' if training.cut else ''}")
    yield _fact("loss", _losses(training))
    usual = sorted(training.step_seconds)[len(training.step_seconds) // 2] if training.step_seconds else None
    if usual is not None:
        where = f"on {gpu}" if gpu else "on a CPU with one thread; a GPU is much faster"
        yield _fact("time of a step here", f"{usual:.2g} s {where}")
    if training.peak_reserved_bytes is not None:
        reserved = memory(training.peak_reserved_bytes)
        yield _fact("memory of these steps, measured", f"{reserved} reserved by torch, without CUDA's own")
    for line in _levels(measured):
        label, _, value = line.partition(": ")
        yield _fact(label, value, detail=label == UNIFORM)
    if training.from_checkpoint is not None and training.parameters:
        share = training.from_checkpoint / training.parameters
        yield _fact("numbers that begin as in the checkpoint", f"{share:.1%}")
    if training.frozen:
        yield _fact("parameter tensors frozen, as asked", str(training.frozen))
    if training.without_gradient:
        yield _fact("parts without a gradient", ", ".join(training.without_gradient))
    yield _fact("validation batches", str(training.validations), detail=True)
    yield _fact("checkpoints saved", ", ".join(training.saved) or "none", detail=True)


def _levels(measured: DryRun) -> Iterator[str]:
    first, random = measured.first, measured.random
    if first is not None and first.main is not None:
        depth = "" if measured.at_depth else " (few blocks only: it says nothing of the checkpoint's worth)"
        yield f"first loss: {first.main:.3f}{depth}"
    if random is not None and random.main is not None:
        yield f"first loss of freshly initialised weights: {random.main:.3f}"
    uniform, unigram = _uniform(measured), _unigram(measured)
    if uniform is not None:
        yield f"{UNIFORM}: {uniform:.3f}"
    if unigram is not None:
        yield f"loss of the best constant guess on these rows: {unigram:.3f}"


def _uniform(measured: DryRun) -> float | None:
    criterion, batch = Criterion.of(measured.training.criterion), _batch(measured)
    if criterion is None or batch is None:
        return None
    even = Unigram.of(criterion, Counter(range(criterion.classes)))
    return even.loss(batch)


def _unigram(measured: DryRun) -> float | None:
    criterion, targets = Criterion.of(measured.training.criterion), UnigramTargets.of(measured.training.targets)
    batch = _batch(measured)
    if criterion is None or targets is None or batch is None:
        return None
    return Unigram.of(criterion, targets.counts()).loss(batch)


def _batch(measured: DryRun) -> tuple[Row, ...] | None:
    """The first batch; None where no guess of tokens can be compared with its loss."""
    if measured.first is None or not measured.first.by_token:
        return None
    targets = UnigramTargets.of(measured.training.targets)
    return targets.steps[0][0] if targets else None


def _losses(trained: Trained) -> str:
    known = ["?" if loss is None else f"{loss:.3g}" for loss in trained.losses]
    return " ".join(known if len(known) <= 8 else [*known[:4], "…", *known[-3:]])


def _fact(label: str, value: str, *, detail: bool = False) -> PreflightFact:
    return PreflightFact(section=SECTION, label=label, value=value, detail=detail)
