"""Faults that make a model deaf: speech that does not reach it, or of which it does not use what it says.

What no gradient can tell (another row's speech, another order, a mean over time) the trainings must: those faults are
expected at `finetune`, though `properties` may see some of them first.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Check, Entry, Severity

from ..records import Edit, Expected, Family, Fault
from .losses import DECODERS, MODEL, STREAMING
from .trainers import DS, PLAIN

VARIANTS = ("paraformer", "paraformer_streaming")
MASKS = ("models/specaug/mask_along_axis.py",)
PREDICTOR = ("models/paraformer/cif_predictor.py",)

_NOT_HEARD = Expected(check=Check.FINETUNE, signature="NotTrained@*hearing*", severity=Severity.BROKEN)
_FEATURES = "        with autocast(False):\n\n            # Data augmentation\n"
"""Where `Paraformer.encode`, which the streaming model inherits, is handed the features."""
_ENCODED = "            encoder_out = encoder_out[0]\n\n        return encoder_out, encoder_out_lens"
"""Where it gives what the encoder gave."""
_LENGTHS_MASK = (
    "        spoken = torch.arange(encoder_out.size(1), device=encoder_out.device) < encoder_out_lens[:, None]\n"
    "        spoken = spoken.unsqueeze(2).to(encoder_out.dtype)\n"
)
_MEMORY = "memory_mask = myutils.sequence_mask(hlens, device=memory.device)[:, None, :]"


def _unheard(path: str) -> Expected:
    return Expected(check=Check.LOSS_CONTRACT, signature=f"FramesUnheard@{path}")


def _in_both(name: str, title: str, edits: tuple[Edit, ...], expected: Expected) -> Iterator[Fault]:
    """The fault in code that both Paraformers run, one of each."""
    for variant, ending, which in zip(VARIANTS, ("", "-streaming"), ("offline", "streaming"), strict=True):
        yield Fault(
            name=name + ending,
            family=Family.HEARING,
            title=f"{title} ({which}).",
            edits=edits,
            expected=expected,
            variant=variant,
        )


def _features(line: str) -> tuple[Edit, ...]:
    return (Edit(files=MODEL, old=_FEATURES, new=f"        {line}\n{_FEATURES}"),)


def _encoded(lines: str) -> tuple[Edit, ...]:
    new = _ENCODED.replace("        return", f"{lines}        return")
    return (Edit(files=MODEL, old=_ENCODED, new=new),)


def _decoding(name: str, title: str, memory: str) -> Iterator[Fault]:
    """What the decoders of the two models are handed as memory, in place of the encoder's output."""
    places = (
        Edit(
            files=MODEL,
            old="decoder_outs = self.decoder(encoder_out,",
            new=f"decoder_outs = self.decoder({memory},",
            below="# 1. Forward decoder",
        ),
        Edit(
            files=STREAMING,
            old="encoder_out, encoder_out_lens, sematic_embeds, ys_pad_lens, scama_mask",
            new=f"{memory}, encoder_out_lens, sematic_embeds, ys_pad_lens, scama_mask",
        ),
    )
    for fault, edit in zip(_in_both(name, title, (), _unheard("decoder")), places, strict=True):
        yield Fault(
            name=fault.name,
            family=fault.family,
            title=fault.title,
            edits=(edit,),
            expected=fault.expected,
            variant=fault.variant,
        )


def _training(name: str, title: str, line: str) -> Iterator[Fault]:
    """What a trainer does to the speech of a batch before the model gets it; of each trainer and each model one."""
    places = {
        Entry.TRAIN_DS: Edit(
            files=DS,
            old="            retval = model(**batch)",
            new=f"            {line}\n            retval = model(**batch)",
            below="def forward_step(",
        ),
        Entry.TRAIN: Edit(
            files=PLAIN,
            old="                    retval = model(**batch)",
            new=f"                    {line}\n                    retval = model(**batch)",
        ),
    }
    for entry, edit in places.items():
        ending = "" if entry is Entry.TRAIN_DS else "-train"
        for fault in _in_both(name + ending, title, (edit,), _NOT_HEARD):
            yield Fault(
                name=fault.name,
                family=fault.family,
                title=fault.title.replace(").", f", {entry}.py)."),
                edits=fault.edits,
                expected=fault.expected,
                variant=fault.variant,
                entry=entry,
            )


FAULTS = (
    *_in_both(
        "features-zeroed",
        "The encoder is handed zeros for features",
        _features("speech = torch.zeros_like(speech)"),
        _unheard("features"),
    ),
    *_in_both(
        "features-constant",
        "Every feature is a half",
        _features("speech = torch.full_like(speech, 0.5)"),
        _unheard("features"),
    ),
    *_in_both(
        "frame-repeated",
        "An utterance's first frame stands in place of all the others",
        _features("speech = speech[:, :1].expand_as(speech).clone()"),
        _unheard("features"),
    ),
    *_in_both(
        "frames-cut-off",
        "Frames beyond the twentieth are replaced by zeros",
        _features("speech = torch.cat([speech[:, :20], torch.zeros_like(speech[:, 20:])], dim=1)"),
        _unheard("features"),
    ),
    *_in_both(
        "features-of-another-row",
        "Each utterance gets the features of its neighbour in the batch, and keeps its own length",
        _features("speech = speech.roll(1, 0)"),
        _unheard("features"),
    ),
    *_in_both(
        "speech-of-another-row",
        "Each utterance gets its neighbour's features and length",
        _features("speech, speech_lengths = speech.roll(1, 0), speech_lengths.roll(1, 0)"),
        _NOT_HEARD,
    ),
    *_in_both(
        "frames-shuffled",
        "An utterance's frames come in another order each time",
        _features(
            "speech = torch.stack([torch.cat([row[torch.randperm(int(n), device=row.device)], row[int(n) :]])"
            " for row, n in zip(speech, speech_lengths)])"
        ),
        _NOT_HEARD,
    ),
    *_in_both(
        "specaug-masks-everything",
        "SpecAug masks every frame and every bin",
        (
            Edit(
                files=MASKS,
                old="mask = mask.any(dim=1)",
                new="mask = torch.ones_like(mask.any(dim=1))",
                below="def mask_along_axis_lfr(",
            ),
        ),
        _unheard("features"),
    ),
    *_in_both(
        "encoder-output-zeroed",
        "What the encoder gives is multiplied by zero",
        _encoded("        encoder_out = encoder_out * 0\n"),
        Expected(check=Check.LOSS_CONTRACT, signature="NoGradient@encoder"),
    ),
    *_in_both(
        "encoder-output-detached",
        "What the encoder gives is cut off from it, for the decoder and the predictor",
        _encoded("        encoder_out = encoder_out.detach()\n"),
        Expected(check=Check.LOSS_CONTRACT, signature="NoGradient@encoder"),
    ),
    *_in_both(
        "encoder-output-averaged",
        "Every frame that the encoder gives is the mean of all frames of its utterance",
        _encoded(
            f"{_LENGTHS_MASK}"
            "        mean = (encoder_out * spoken).sum(1, keepdim=True) / spoken.sum(1, keepdim=True)\n"
            "        encoder_out = mean.expand_as(encoder_out).clone()\n"
        ),
        _NOT_HEARD,
    ),
    *_in_both(
        "first-frame-attended",
        "The decoder attends to the first frame and to no other",
        (
            Edit(
                files=DECODERS,
                old=_MEMORY,
                new=f"{_MEMORY}\n"
                "        memory_mask = memory_mask * (torch.arange(memory.size(1), device=memory.device) < 1)",
                below="class ParaformerSANMDecoder(BaseTransformerDecoder):",
            ),
        ),
        _unheard("decoder"),
    ),
    *_in_both(
        "predictor-knows-lengths-only",
        "The predictor takes ones for what the encoder gives, and knows the number of tokens alone",
        (
            Edit(
                files=PREDICTOR,
                old="h = hidden\n",
                new="hidden = torch.ones_like(hidden)\n            h = hidden\n",
                below="class CifPredictorV2(torch.nn.Module):",
            ),
        ),
        _unheard("predictor"),
    ),
    *_in_both(
        "embeddings-cut-off",
        "The acoustic embeddings are cut off from the frames that they are made of",
        (
            Edit(
                files=PREDICTOR,
                old="return acoustic_embeds, token_num, alphas, cif_peak",
                new="return acoustic_embeds.detach(), token_num, alphas, cif_peak",
                below="class CifPredictorV2(torch.nn.Module):",
            ),
        ),
        _unheard("predictor"),
    ),
    *_decoding("memory-zeroed", "The decoder is handed zeros for the encoder's output", "encoder_out * 0"),
    *_decoding("memory-detached", "What the decoder hears is cut off from the encoder", "encoder_out.detach()"),
    *_training(
        "speech-zeroed-in-training",
        "The trainer hands the model zeros for speech",
        'batch["speech"] = torch.zeros_like(batch["speech"])',
    ),
    *_training(
        "rows-mixed-up-in-training",
        "The trainer hands the model each row's speech with the text of its neighbour",
        'batch.update({k: batch[k].roll(1, 0) for k in ("speech", "speech_lengths")})',
    ),
    *_training(
        "frames-shuffled-in-training",
        "The trainer hands the model the frames of each batch in another order",
        'batch["speech"] = batch["speech"][:, torch.randperm(int(batch["speech_lengths"].min()))].contiguous();'
        ' batch["speech_lengths"] = torch.full_like(batch["speech_lengths"], batch["speech"].size(1))',
    ),
)
