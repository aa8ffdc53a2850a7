"""Faults in how the loss is built and reckoned, and in what goes into it."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cells import Check, Severity, Status

from ..records import Edit, Expected, Family, Fault

MODEL = ("models/paraformer/model.py",)
STREAMING = ("models/paraformer_streaming/model.py",)
SMOOTHING = ("losses/label_smoothing_loss.py",)
DECODERS = ("models/paraformer/decoder.py", "models/e_paraformer/decoder.py")
"""Both register the decoder that the models use, and which of them counts depends on the order of imports."""
SOS_EOS = ("models/transformer/utils/add_sos_eos.py",)

LOSS_SIZE = Edit(files=MODEL, old="size=vocab_size,", new="", below="self.criterion_att = LabelSmoothingLoss(")
"""The argument that the faults below replace."""


def _size(new: str) -> tuple[Edit, ...]:
    return (Edit(files=MODEL, old=LOSS_SIZE.old, new=f"size={new},", below=LOSS_SIZE.below),)


_WRONG_SIZE = Expected(check=Check.CONSTRUCT, signature="LossBuiltForOtherVocabulary@criterion_att")
_PROPERTY = Expected(check=Check.PROPERTIES)
_ASSERTED = Expected(
    check=Check.LOSS_CONTRACT, signature="AssertionError@funasr/losses/label_smoothing_loss.py:forward"
)
SCORED = "olens = tgt_mask.sum(1)\n        if self.output_layer is not None and return_hidden is False:"
"""Where the decoder's `forward` decides whether it projects."""
_NEVER_SCORED = "olens = tgt_mask.sum(1)\n        if False:"

FAULTS = (
    Fault(
        name="loss-one-class-less",
        family=Family.LOSS_SIZE,
        title="The attention loss is built for one class less than the vocabulary has tokens.",
        edits=_size("vocab_size - 1"),
        expected=_WRONG_SIZE,
    ),
    Fault(
        name="loss-for-hidden-size",
        family=Family.LOSS_SIZE,
        title="The attention loss is built for the encoder's width.",
        edits=_size("encoder_output_size"),
        expected=_WRONG_SIZE,
        variant="paraformer",
    ),
    Fault(
        name="loss-for-published-size",
        family=Family.LOSS_SIZE,
        title="The attention loss is built for 8404 classes whatever the vocabulary.",
        edits=_size("8404"),
        expected=_WRONG_SIZE,
    ),
    Fault(
        name="hidden-states-into-loss",
        family=Family.HIDDEN_STATES,
        title="The decoder gives its hidden states in place of scores.",
        edits=(Edit(files=DECODERS, old=SCORED, new=_NEVER_SCORED),),
        expected=_ASSERTED,
    ),
    Fault(
        name="hidden-states-unasserted",
        family=Family.HIDDEN_STATES,
        title="The decoder gives its hidden states, and the loss takes any width and folds the labels into it.",
        edits=(
            Edit(files=DECODERS, old=SCORED, new=_NEVER_SCORED),
            Edit(
                files=SMOOTHING,
                old="assert x.size(2) == self.size",
                new="target = torch.where(target < 0, target, target % x.size(2))",
                below="class LabelSmoothingLoss",
            ),
            Edit(
                files=SMOOTHING,
                old="x = x.contiguous().view(-1, self.size)",
                new="x = x.contiguous().view(-1, x.size(2))",
            ),
            Edit(
                files=STREAMING,
                old="decoder_out_1st.view(-1, self.vocab_size)",
                new="decoder_out_1st.view(-1, decoder_out_1st.size(2))",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="LossWidth@criterion_att"),
    ),
    Fault(
        name="hidden-states-padded",
        family=Family.HIDDEN_STATES,
        title="The decoder pads its hidden states with zeros to the width of the vocabulary.",
        edits=(
            Edit(
                files=DECODERS,
                old="x = self.output_layer(hidden)",
                new="x = torch.nn.functional.pad(hidden, (0, self.output_layer.out_features - hidden.size(-1)))",
                below=SCORED,
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="ProjectionNotCalled@decoder.output_layer"),
    ),
    Fault(
        name="padding-index-blank",
        family=Family.PADDING_INDEX,
        title="The loss takes the blank for padding, and the padding for a label.",
        edits=(
            Edit(
                files=MODEL,
                old="padding_idx=ignore_id,",
                new="padding_idx=blank_id,",
                below="self.criterion_att = LabelSmoothingLoss(",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT),
    ),
    Fault(
        name="padding-index-end",
        family=Family.PADDING_INDEX,
        title="Labels are padded with the end of sentence, and the loss takes each end of sentence for padding.",
        edits=(
            Edit(files=SOS_EOS, old="pad_list(ys_out, ignore_id)", new="pad_list(ys_out, eos)"),
            Edit(
                files=MODEL,
                old="padding_idx=ignore_id,",
                new="padding_idx=eos,",
                below="self.criterion_att = LabelSmoothingLoss(",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="padding-counted-in-loss",
        family=Family.PADDING_COUNTED,
        title="What is reckoned at padded positions stays in the loss.",
        edits=(
            Edit(files=SMOOTHING, old="kl.masked_fill(ignore.unsqueeze(1), 0).sum() / denom", new="kl.sum() / denom"),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="padding-made-a-label",
        family=Family.PADDING_COUNTED,
        title="Labels are padded with the end of sentence, which the loss then counts.",
        edits=(Edit(files=SOS_EOS, old="pad_list(ys_out, ignore_id)", new="pad_list(ys_out, eos)"),),
        expected=_PROPERTY,
    ),
    Fault(
        name="smoothing-mass-beyond-one",
        family=Family.SMOOTHING,
        title="The label keeps a mass of one, and the smoothing comes on top of it.",
        edits=(Edit(files=SMOOTHING, old="self.confidence = 1.0 - smoothing", new="self.confidence = 1.0"),),
        expected=_PROPERTY,
    ),
    Fault(
        name="smoothing-spread-over-all",
        family=Family.SMOOTHING,
        title="The smoothing is shared among all classes, the label's own among them, whose mass is then overwritten.",
        edits=(Edit(files=SMOOTHING, old="self.smoothing / (self.size - 1)", new="self.smoothing / self.size"),),
        expected=_PROPERTY,
    ),
    Fault(
        name="smoothing-ignored",
        family=Family.SMOOTHING,
        title="The configured label smoothing is not used.",
        edits=(
            Edit(
                files=MODEL,
                old="smoothing=lsm_weight,",
                new="smoothing=0.0,",
                below="self.criterion_att = LabelSmoothingLoss(",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="normaliser-counts-padding",
        family=Family.NORMALISER,
        title="The loss is divided by the number of positions, padded ones among them.",
        edits=(
            Edit(
                files=SMOOTHING,
                old="total = len(target) - ignore.sum().item()",
                new="total = len(target)",
                below="class LabelSmoothingLoss",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="normalisers-swapped",
        family=Family.NORMALISER,
        title="The loss is divided by the batch where it should be by its tokens, and the other way round.",
        edits=(
            Edit(
                files=SMOOTHING,
                old="denom = total if self.normalize_length else batch_size",
                new="denom = batch_size if self.normalize_length else total",
                below="class LabelSmoothingLoss",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="labels-folded-into-vocabulary",
        family=Family.LABELS,
        title="The loss takes labels outside the vocabulary for the last token.",
        edits=(
            Edit(
                files=SMOOTHING,
                old="true_dist.scatter_(1, target.unsqueeze(1), self.confidence)",
                new="true_dist.scatter_(1, target.clamp(0, self.size - 1).unsqueeze(1), self.confidence)",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="loss-detached",
        family=Family.DETACHED,
        title="The loss that the model returns is cut off from it.",
        edits=(
            Edit(
                files=STREAMING,
                old="loss = loss_att + loss_pre * self.predictor_weight",
                new="loss = (loss_att + loss_pre * self.predictor_weight).detach()",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="NoGradient@loss"),
    ),
    Fault(
        name="attention-loss-detached",
        family=Family.DETACHED,
        title="The attention loss counts and teaches nothing.",
        edits=(
            Edit(
                files=STREAMING,
                old="loss = loss_att + loss_pre * self.predictor_weight",
                new="loss = loss_att.detach() + loss_pre * self.predictor_weight",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="NoGradient@decoder"),
    ),
    Fault(
        name="predictor-loss-dropped",
        family=Family.PREDICTOR_LOSS,
        title="The predictor's loss is reckoned and logged, and left out of the sum.",
        edits=(Edit(files=STREAMING, old="loss = loss_att + loss_pre * self.predictor_weight", new="loss = loss_att"),),
        expected=replace(Expected(check=Check.LOSS_CONTRACT, signature="LossNotTheSum@model"), severity=Severity.WRONG),
    ),
    Fault(
        name="predictor-loss-scaled-away",
        family=Family.PREDICTOR_LOSS,
        title="The predictor's loss enters the sum a million times too small.",
        edits=(
            Edit(
                files=MODEL,
                old="self.predictor_weight = predictor_weight",
                new="self.predictor_weight = predictor_weight * 1e-6",
            ),
        ),
        expected=replace(Expected(check=Check.LOSS_CONTRACT, signature="LossNotTheSum@model"), severity=Severity.WRONG),
        variant="paraformer",
    ),
    Fault(
        name="predictor-loss-of-itself",
        family=Family.PREDICTOR_LOSS,
        title="The predicted token count is compared with itself, so that its loss is always zero.",
        edits=(
            Edit(
                files=STREAMING,
                old="self.criterion_pre(ys_pad_lens.type_as(pre_token_length), pre_token_length)",
                new="self.criterion_pre(pre_token_length, pre_token_length)",
            ),
        ),
        expected=replace(_PROPERTY, severity=Severity.BROKEN),
    ),
    Fault(
        name="loss-hangs",
        family=Family.SLEEPS,
        title="The loss never returns.",
        edits=(
            Edit(
                files=SMOOTHING,
                old="assert x.size(2) == self.size",
                new="__import__('time').sleep(1e6)",
                below="class LabelSmoothingLoss",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, status=Status.TIMED_OUT),
    ),
)
