"""Faults in what is saved, resumed, averaged, loaded and decoded."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cells import Check, Entry, Severity

from ..records import Edit, Expected, Family, Fault
from .trainers import DS, PLAIN

AVERAGE = ("train_utils/average_nbest_models.py",)
LOADING = ("train_utils/load_pretrained_model.py",)
TOKENIZER = ("tokenizer/abs_tokenizer.py",)

_CHECKPOINT = Expected(check=Check.CHECKPOINT)
_DECODE = Expected(check=Check.DECODE)
_RESUME = 'if os.path.isfile(ckpt):\n                    checkpoint = torch.load(ckpt, map_location="cpu")'
_SAVE = "elif self.rank == 0:"

FAULTS = (
    Fault(
        name="resume-forgets-optimizer",
        family=Family.RESUME,
        title="A resumed training begins with an optimizer that knows nothing of the steps before.",
        edits=(Edit(files=DS, old='optim.load_state_dict(checkpoint["optimizer"])', new="pass"),),
        expected=_CHECKPOINT,
    ),
    Fault(
        name="resume-forgets-optimizer-train",
        family=Family.RESUME,
        title="A resumed training begins with an optimizer that knows nothing of the steps before (trainer.py).",
        edits=(Edit(files=PLAIN, old='optim.load_state_dict(checkpoint["optimizer"])', new="pass"),),
        expected=_CHECKPOINT,
        entry=Entry.TRAIN,
    ),
    Fault(
        name="resume-forgets-epoch",
        family=Family.RESUME,
        title="A resumed training begins with the first epoch again.",
        edits=(
            Edit(files=DS, old='self.start_epoch = checkpoint["epoch"]', new="self.start_epoch = 0", below=_RESUME),
        ),
        expected=_CHECKPOINT,
    ),
    Fault(
        name="resume-forgets-scheduler",
        family=Family.RESUME,
        title="A resumed training warms up again.",
        edits=(Edit(files=DS, old='scheduler.load_state_dict(checkpoint["scheduler"])', new="pass"),),
        expected=_CHECKPOINT,
    ),
    Fault(
        name="resume-forgets-weights",
        family=Family.RESUME,
        title="A resumed training goes on with the weights that it was started with.",
        edits=(Edit(files=DS, old="dst_state[k] = src_state[k_ddp]", new="pass"),),
        expected=_CHECKPOINT,
    ),
    Fault(
        name="average-is-the-best",
        family=Family.AVERAGE,
        title="The averaged model is the first of the checkpoints that were to be averaged.",
        edits=(Edit(files=AVERAGE, old="torch.mean(stacked_tensors, dim=0)", new="stacked_tensors[0]"),),
        expected=replace(_CHECKPOINT, severity=Severity.BROKEN),
    ),
    Fault(
        name="average-of-nothing",
        family=Family.AVERAGE,
        title="No checkpoint is found fit to be averaged, and no averaged model is written.",
        edits=(Edit(files=AVERAGE, old="if value is not None and os.path.isfile(ckpt):", new="if False:"),),
        expected=replace(_CHECKPOINT, severity=Severity.BROKEN),
    ),
    Fault(
        name="average-a-sum",
        family=Family.AVERAGE,
        title="The averaged model is the sum of the checkpoints.",
        edits=(Edit(files=AVERAGE, old="torch.mean(stacked_tensors, dim=0)", new="torch.sum(stacked_tensors, dim=0)"),),
        expected=replace(_CHECKPOINT, severity=Severity.BROKEN),
    ),
    Fault(
        name="tensor-not-saved",
        family=Family.CHECKPOINT,
        title="The predictor's last layer is in no checkpoint.",
        edits=(
            Edit(
                files=DS,
                old="state_dict = model.state_dict()",
                new='state_dict = {k: v for k, v in model.state_dict().items() if "cif_output" not in k}',
                below=_SAVE,
            ),
        ),
        expected=replace(_CHECKPOINT, severity=Severity.BROKEN),
    ),
    Fault(
        name="first-weights-saved",
        family=Family.CHECKPOINT,
        title="Every checkpoint holds the weights of the first one.",
        edits=(
            Edit(
                files=DS,
                old="state_dict = model.state_dict()",
                new="first = {k: v.clone() for k, v in model.state_dict().items()}\n"
                '                self.first = state_dict = getattr(self, "first", first)',
                below=_SAVE,
            ),
        ),
        expected=replace(_CHECKPOINT, severity=Severity.BROKEN),
    ),
    Fault(
        name="decoder-not-loaded",
        family=Family.INFERENCE,
        title="A fine-tuned folder is loaded without its decoder.",
        edits=(
            Edit(
                files=LOADING,
                old="dst_state[k] = src_state[k_src]",
                new='dst_state[k] = dst_state[k] if k.startswith("decoder.") else src_state[k_src]',
            ),
        ),
        expected=_DECODE,
    ),
    Fault(
        name="tokens-shifted",
        family=Family.INFERENCE,
        title="Each token that is recognised is written as the one after it in the token list.",
        edits=(
            Edit(
                files=TOKENIZER,
                old="return [self.token_list[i] for i in integers]",
                new="return [self.token_list[(i + 1) % len(self.token_list)] for i in integers]",
            ),
        ),
        expected=_DECODE,
    ),
    Fault(
        name="chunks-forget",
        family=Family.INFERENCE,
        title="In streaming inference the predictor forgets at each chunk what it had heard of an unfinished token.",
        edits=(
            Edit(
                files=("models/paraformer/cif_predictor.py",),
                old='if cache is not None and "cif_alphas" in cache and "cif_hidden" in cache:',
                new="if False:",
                below="class CifPredictorV2(torch.nn.Module):",
            ),
        ),
        expected=_DECODE,
    ),
)
