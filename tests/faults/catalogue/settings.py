"""Faults in where a training starts, and in settings other than the default that the trainer does not keep.

The latter show under a configuration of `tests/faults/configurations.py` and nowhere else.
"""

from __future__ import annotations

from harness.core.cells import Check, Entry, Severity

from ..records import Edit, Expected, Family, Fault
from .checkpoints import LOADING
from .trainers import BIN_DS, BIN_PLAIN, DS, PLAIN

AUTO_MODEL = ("auto/auto_model.py",)
SECOND_DECODER = ("models/e_paraformer/decoder.py",)
"""Registers the decoder of models/paraformer/decoder.py once more; in a full import, this copy wins."""

_LOADED = "dst_state[k] = src_state[k_src]"
_START = Expected(check=Check.FINETUNE, signature="NotTrained@*start*", severity=Severity.BROKEN)
_MEMORY = "memory_mask = myutils.sequence_mask(hlens, device=memory.device)[:, None, :]"


def _not_trained(conditions: str) -> Expected:
    return Expected(check=Check.FINETUNE, signature=f"NotTrained@{conditions}", or_graver=True)


def _loading(name: str, title: str, new: str, *, entry: Entry = Entry.TRAIN_DS) -> Fault:
    return Fault(
        name=name,
        family=Family.START,
        title=title,
        edits=(Edit(files=LOADING, old=_LOADED, new=new),),
        expected=_START,
        variant="paraformer" if entry is Entry.TRAIN else "paraformer_streaming",
        entry=entry,
    )


_SKIPS = 'dst_state[k] = dst_state[k] if k.startswith("encoder.encoders.") else src_state[k_src]'

FAULTS = (
    _loading(
        "encoder-blocks-not-loaded", "The checkpoint's encoder blocks, but for the first, are not loaded.", _SKIPS
    ),
    _loading(
        "encoder-blocks-not-loaded-train",
        "The checkpoint's encoder blocks, but for the first, are not loaded (train.py).",
        _SKIPS,
        entry=Entry.TRAIN,
    ),
    _loading("nothing-loaded", "The checkpoint is read, and none of it is taken.", "pass"),
    _loading(
        "loaded-in-half-precision",
        "The checkpoint's weights are rounded to half precision as they are loaded.",
        "dst_state[k] = src_state[k_src].half().float() if src_state[k_src].is_floating_point() else src_state[k_src]",
    ),
    _loading(
        "biases-not-loaded",
        "Of the checkpoint, everything is loaded but biases.",
        'dst_state[k] = dst_state[k] if k.endswith(".bias") else src_state[k_src]',
    ),
    Fault(
        name="checkpoint-not-found",
        family=Family.START,
        title="The checkpoint is looked for under another name, is not there, and a line is printed.",
        edits=(
            Edit(
                files=AUTO_MODEL,
                old="if os.path.exists(init_param):",
                new='init_param = f"{init_param}.pt"\n            if os.path.exists(init_param):',
                below="        # init_param\n",
            ),
        ),
        expected=_START,
    ),
    Fault(
        name="clipped-at-five-whatever-is-stated",
        family=Family.SETTINGS,
        title="Gradients are clipped at 5 where the configuration says 1.",
        edits=(Edit(files=DS, old="max_norm=self.grad_clip,", new="max_norm=5.0,", below="def update_step("),),
        expected=_not_trained("*clipping*"),
        configuration="adamw",
    ),
    Fault(
        name="clipped-at-five-whatever-is-stated-train",
        family=Family.SETTINGS,
        title="Gradients are clipped at 5 where the configuration says 1 (train.py).",
        edits=(Edit(files=PLAIN, old="max_norm=self.grad_clip,", new="max_norm=5.0,"),),
        expected=_not_trained("*clipping*"),
        variant="paraformer",
        entry=Entry.TRAIN,
        configuration="adamw",
    ),
    Fault(
        name="frozen-part-moves",
        family=Family.SETTINGS,
        title="The predictor is trained though the configuration freezes it.",
        edits=(Edit(files=BIN_DS, old="p.requires_grad = False", new="pass"),),
        expected=_not_trained("*frozen*"),
        configuration="frozen-predictor",
    ),
    Fault(
        name="frozen-part-moves-train",
        family=Family.SETTINGS,
        title="The predictor is trained though the configuration freezes it (train.py).",
        edits=(Edit(files=BIN_PLAIN, old="p.requires_grad = False", new="pass"),),
        expected=_not_trained("*frozen*"),
        variant="paraformer",
        entry=Entry.TRAIN,
        configuration="frozen-predictor",
    ),
    Fault(
        name="accumulation-ignored",
        family=Family.SETTINGS,
        title="The optimizer is stepped for each batch where two are to be accumulated.",
        edits=(Edit(files=DS, old='self.accum_grad = kwargs.get("accum_grad", 1)', new="self.accum_grad = 1"),),
        expected=_not_trained("*steps*"),
        configuration="accumulates",
    ),
    Fault(
        name="warm-up-ignored",
        family=Family.SETTINGS,
        title="The scheduler warms up for as many steps as its default says, whatever the configuration does.",
        edits=(
            Edit(
                files=("schedulers/warmup_lr.py",),
                old="self.warmup_steps = warmup_steps",
                new="self.warmup_steps = 25000",
            ),
        ),
        expected=_not_trained("*schedule*"),
        configuration="short-warmup",
    ),
    Fault(
        name="second-decoder-attends-to-one-frame",
        family=Family.HEARING,
        title="The decoder that wins in a full import attends to the first frame only; the other one is sound.",
        edits=(
            Edit(
                files=SECOND_DECODER,
                old=_MEMORY,
                new=f"{_MEMORY}\n"
                "        memory_mask = memory_mask * (torch.arange(memory.size(1), device=memory.device) < 1)",
                below="class ParaformerSANMDecoder(BaseTransformerDecoder):",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="FramesUnheard@decoder"),
        variant="paraformer",
    ),
)
