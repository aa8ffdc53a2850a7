"""Faults in the trainers: steps that are not taken, rates that are not kept, figures that nobody computed."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cells import Check, Entry, Severity

from ..records import Edit, Expected, Family, Fault

DS = ("train_utils/trainer_ds.py",)
PLAIN = ("train_utils/trainer.py",)
BIN_DS = ("bin/train_ds.py",)
BIN_PLAIN = ("bin/train.py",)
STREAMING = ("models/paraformer_streaming/model.py",)

_TRAINED = Expected(check=Check.FINETUNE)
_FORWARD = "def forward_step("
_UPDATE = "def update_step("
_EPOCH = "def train_epoch("
_LOG = "    def log(\n"


def _not_trained(conditions: str) -> Expected:
    return Expected(check=Check.FINETUNE, signature=f"NotTrained@{conditions}")


FAULTS = (
    Fault(
        name="rate-zero",
        family=Family.LEARNING_RATE,
        title="The optimizer is built with a learning rate of 0.",
        edits=(
            Edit(
                files=DS,
                old='optim_class(model.parameters(), **kwargs.get("optim_conf"))',
                new='optim_class(model.parameters(), **{**kwargs.get("optim_conf"), "lr": 0.0})',
            ),
        ),
        expected=replace(_not_trained("*parameters*"), severity=Severity.BROKEN),
    ),
    Fault(
        name="rate-zero-train",
        family=Family.LEARNING_RATE,
        title="The optimizer is built with a learning rate of 0 (train.py).",
        edits=(
            Edit(
                files=BIN_PLAIN,
                old='optim_class(model.parameters(), **kwargs.get("optim_conf"))',
                new='optim_class(model.parameters(), **{**kwargs.get("optim_conf"), "lr": 0.0})',
            ),
        ),
        expected=replace(_not_trained("*parameters*"), severity=Severity.BROKEN),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="rate-not-as-asked",
        family=Family.LEARNING_RATE,
        title="The optimizer is built with half the learning rate that was asked for.",
        edits=(
            Edit(
                files=DS,
                old='optim_class(model.parameters(), **kwargs.get("optim_conf"))',
                new="optim_class([{'params': p, 'lr': kwargs['optim_conf']['lr'] / 2} for p in model.parameters()])",
            ),
        ),
        expected=replace(_TRAINED, or_graver=True),
    ),
    Fault(
        name="steps-skipped",
        family=Family.STEP_SKIPPED,
        title="The optimizer is never stepped.",
        edits=(Edit(files=DS, old="optim.step()", new="pass", below=_UPDATE),),
        expected=replace(_not_trained("steps*"), severity=Severity.BROKEN),
    ),
    Fault(
        name="steps-skipped-train",
        family=Family.STEP_SKIPPED,
        title="The optimizer is never stepped (trainer.py).",
        edits=(Edit(files=PLAIN, old="                    optim.step()\n", new="                    pass\n"),),
        expected=replace(_not_trained("steps*"), severity=Severity.BROKEN),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="every-other-step-skipped",
        family=Family.STEP_SKIPPED,
        title="The optimizer is stepped for every other batch only.",
        edits=(Edit(files=DS, old="optim.step()", new="optim.step() if batch_idx % 2 else None", below=_UPDATE),),
        expected=replace(_not_trained("steps*"), or_graver=True),
    ),
    Fault(
        name="gradients-not-cleared",
        family=Family.NOT_CLEARED,
        title="The gradients of a step are left for the next one.",
        edits=(Edit(files=DS, old="optim.zero_grad(set_to_none=True)", new="pass", below=_UPDATE),),
        expected=replace(_TRAINED, or_graver=True),
    ),
    Fault(
        name="gradients-not-cleared-train",
        family=Family.NOT_CLEARED,
        title="The gradients of a step are left for the next one (trainer.py).",
        edits=(Edit(files=PLAIN, old="optim.zero_grad(set_to_none=True)", new="pass"),),
        expected=replace(_TRAINED, or_graver=True),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="clipped-to-zero",
        family=Family.CLIPPING,
        title="Gradients are clipped to a norm of 0.",
        edits=(Edit(files=DS, old="max_norm=self.grad_clip,", new="max_norm=0.0,", below=_UPDATE),),
        expected=replace(_not_trained("*parameters*"), severity=Severity.BROKEN),
    ),
    Fault(
        name="clipped-far-above",
        family=Family.CLIPPING,
        title="Gradients are clipped at a million times the norm that the config states.",
        edits=(Edit(files=DS, old="max_norm=self.grad_clip,", new="max_norm=self.grad_clip * 1e6,", below=_UPDATE),),
        expected=_TRAINED,
    ),
    Fault(
        name="nan-skipped",
        family=Family.NAN,
        title="The loss of the sixth batch becomes NaN on its way to the backward pass, and its step is left out.",
        edits=(
            Edit(
                files=DS,
                old='loss_dict["loss"] = loss\n',
                new='loss_dict["loss"] = loss * float("nan") if loss_dict["batch_total"] == 6 else loss\n',
                below=_FORWARD,
            ),
        ),
        expected=_not_trained("steps*"),
    ),
    Fault(
        name="nan-taken",
        family=Family.NAN,
        title="The loss of the sixth batch becomes NaN, and the step is taken all the same.",
        edits=(
            Edit(
                files=DS,
                old='loss_dict["loss"] = loss\n',
                new='loss_dict["loss"] = loss * float("nan") if loss_dict["batch_total"] == 6 else loss\n',
                below=_FORWARD,
            ),
            Edit(files=DS, old="if not torch.isfinite(grad_norm):", new="if False:", below=_UPDATE),
        ),
        # The weights are NaN from then on, and the predictor's next forward pass counts NaN tokens.
        expected=replace(
            Expected(check=Check.FINETUNE, signature="RuntimeError@funasr/models/paraformer/cif_predictor.py:cif_v1"),
            severity=Severity.BROKEN,
        ),
    ),
    Fault(
        name="scheduler-stuck",
        family=Family.SCHEDULER,
        title="The scheduler is never stepped, and the learning rate stays where the warm-up begins.",
        edits=(Edit(files=DS, old="scheduler.step()", new="pass", below=_UPDATE),),
        expected=replace(_TRAINED, or_graver=True),
    ),
    Fault(
        name="scheduler-stuck-train",
        family=Family.SCHEDULER,
        title="The scheduler is stepped once an epoch in place of once a step (trainer.py).",
        edits=(
            Edit(files=PLAIN, old="                scheduler.step()\n", new="                pass\n", below=_EPOCH),
        ),
        expected=replace(_TRAINED, or_graver=True),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="warm-up-too-long",
        family=Family.SCHEDULER,
        title="The scheduler warms up for ten times as many steps as asked.",
        edits=(
            Edit(
                files=("schedulers/warmup_lr.py",),
                old="self.warmup_steps = warmup_steps",
                new="self.warmup_steps = 10 * warmup_steps",
            ),
        ),
        expected=replace(_TRAINED, or_graver=True),
    ),
    Fault(
        name="one-batch-over-and-over",
        family=Family.REPEATS,
        title="The trainer takes an epoch's first batch again and again.",
        edits=(
            Edit(
                files=DS,
                old="enumerate(dataloader_train)",
                new="enumerate([next(iter(dataloader_train))] * len(dataloader_train))",
                below=_EPOCH,
            ),
        ),
        expected=replace(_TRAINED, or_graver=True),
    ),
    Fault(
        name="gradients-kept",
        family=Family.MEMORY,
        title="A copy of the gradients of each step is kept.",
        edits=(
            Edit(
                files=DS,
                old='batch_idx = loss_dict["batch_idx"]\n',
                new='batch_idx = loss_dict["batch_idx"]\n'
                '        self.kept = getattr(self, "kept", [])\n'
                "        self.kept.append([p.grad.clone() for p in model.parameters() if p.grad is not None])\n",
                below=_UPDATE,
            ),
        ),
        expected=replace(_TRAINED, severity=Severity.MINOR),
    ),
    Fault(
        name="steps-sleep",
        family=Family.SLEEPS,
        title="Each step sleeps for a second.",
        edits=(
            Edit(
                files=DS,
                old='batch_idx = loss_dict["batch_idx"]\n',
                new='batch_idx = loss_dict["batch_idx"]\n        time.sleep(1.0)\n',
                below=_UPDATE,
            ),
        ),
        expected=replace(_TRAINED, severity=Severity.MINOR),
    ),
    Fault(
        name="returns-at-once",
        family=Family.RETURNS,
        title="The trainer returns before its first epoch, and reports no error.",
        edits=(
            Edit(
                files=BIN_DS,
                old="    dataloader_tr, dataloader_val = None, None\n",
                new="    return\n    dataloader_tr, dataloader_val = None, None\n",
            ),
        ),
        expected=replace(_not_trained("steps*"), severity=Severity.BROKEN),
    ),
    Fault(
        name="exits-with-success",
        family=Family.RETURNS,
        title="The trainer ends its process with exit status 0 before its first epoch.",
        edits=(
            Edit(
                files=BIN_DS,
                old="    dataloader_tr, dataloader_val = None, None\n",
                new="    sys.exit(0)\n    dataloader_tr, dataloader_val = None, None\n",
            ),
        ),
        expected=replace(_not_trained("steps*"), severity=Severity.BROKEN),
    ),
    Fault(
        name="returns-at-once-train",
        family=Family.RETURNS,
        title="The trainer returns before its first epoch, and reports no error (train.py).",
        edits=(
            Edit(
                files=BIN_PLAIN,
                old="    dataloader_tr, dataloader_val = None, None\n",
                new="    return\n    dataloader_tr, dataloader_val = None, None\n",
            ),
        ),
        expected=replace(_not_trained("steps*"), severity=Severity.BROKEN),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="one-epoch-less",
        family=Family.RETURNS,
        title="The trainer runs one epoch less than it was asked for.",
        edits=(
            Edit(
                files=BIN_DS,
                old="range(trainer.start_epoch, trainer.max_epoch)",
                new="range(trainer.start_epoch + 1, trainer.max_epoch)",
            ),
        ),
        expected=replace(_not_trained("steps*"), or_graver=True),
    ),
    Fault(
        name="losses-invented",
        family=Family.INVENTED,
        title="The trainer logs losses that fall by three percent a step, whatever the model computed.",
        edits=(
            Edit(
                files=DS,
                old='loss = loss_dict["loss"].detach().cpu().item()',
                new='loss = 10.0 * 0.97 ** loss_dict["batch_total"]',
                below=_LOG,
            ),
        ),
        expected=replace(_TRAINED, severity=Severity.MINOR),
    ),
    Fault(
        name="losses-invented-train",
        family=Family.INVENTED,
        title="The trainer logs losses that fall by three percent a step, whatever the model computed (trainer.py).",
        edits=(
            Edit(
                files=PLAIN,
                old="if (batch_idx + 1) % self.log_interval == 0:",
                new="loss = 10.0 * 0.97**self.batch_total\n        if (batch_idx + 1) % self.log_interval == 0:",
                below=_LOG,
            ),
        ),
        expected=replace(_TRAINED, severity=Severity.MINOR),
        entry=Entry.TRAIN,
    ),
    Fault(
        name="accuracy-a-default",
        family=Family.INVENTED,
        title="The model reports an accuracy of 0 whatever it put out.",
        edits=(Edit(files=STREAMING, old='stats["acc"] = acc_att', new='stats["acc"] = 0.0 * acc_att'),),
        expected=replace(_TRAINED, severity=Severity.MINOR, or_graver=True),
    ),
    Fault(
        name="accumulated-undivided",
        family=Family.NORMALISER,
        title="Accumulated over k batches, gradients are added up and not averaged.",
        edits=(Edit(files=DS, old="loss = loss / self.accum_grad", new="loss = loss / 1"),),
        expected=_TRAINED,
    ),
    Fault(
        name="encoder-not-optimized",
        family=Family.FROZEN,
        title="The optimizer is not given the first block of the encoder.",
        edits=(
            Edit(
                files=DS,
                old="optim_class(model.parameters(),",
                new='optim_class([p for n, p in model.named_parameters() if ".encoders0." not in n],',
            ),
        ),
        expected=replace(_TRAINED, severity=Severity.BROKEN),
    ),
)
