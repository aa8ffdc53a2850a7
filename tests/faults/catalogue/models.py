"""Faults in the model: what its parts are made of, what they are handed, and what they may see."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cells import Check, Severity

from ..records import Edit, Expected, Family, Fault
from .losses import DECODERS, MODEL, SCORED, STREAMING

CHUNKS = ("models/scama/chunk_utilis.py",)
CHUNK_ENCODER = ("models/scama/encoder.py",)
PREDICTOR = ("models/paraformer/cif_predictor.py",)

_PROPERTY = Expected(check=Check.PROPERTIES)
_CONTRACT = Expected(check=Check.LOSS_CONTRACT)
_OUTPUT = "self.output_layer = torch.nn.Linear(attention_dim, vocab_size)"
_DECODER = "class ParaformerSANMDecoder(BaseTransformerDecoder):"
_CALLED = "encoder_out, encoder_out_lens, sematic_embeds, ys_pad_lens, scama_mask"
_PREDICTS = "class CifPredictorV2(torch.nn.Module):"


def _decoder(old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(files=DECODERS, old=old, new=new, below=_DECODER),)


FAULTS = (
    Fault(
        name="chunk-mask-taken-for-flag",
        family=Family.DECODER_ARGUMENTS,
        title="The decoder's fifth argument is `return_hidden` again, and the model hands it the chunk mask.",
        edits=_decoder(
            "chunk_mask: torch.Tensor = None,\n        return_hidden: bool = False,",
            "return_hidden: bool = False,\n        chunk_mask: torch.Tensor = None,",
        ),
        expected=Expected(
            check=Check.LOSS_CONTRACT, signature="AssertionError@funasr/losses/label_smoothing_loss.py:forward"
        ),
    ),
    Fault(
        name="memory-and-target-swapped",
        family=Family.DECODER_ARGUMENTS,
        title="The decoder is handed the token embeddings as its memory and the encoder's frames as its input.",
        edits=(
            Edit(
                files=MODEL,
                old="decoder_outs = self.decoder(encoder_out, encoder_out_lens, sematic_embeds, ys_pad_lens)",
                new="decoder_outs = self.decoder(sematic_embeds, ys_pad_lens, encoder_out, encoder_out_lens)",
                below="# 1. Forward decoder",
            ),
        ),
        expected=_CONTRACT,
        variant="paraformer",
    ),
    Fault(
        name="lengths-swapped",
        family=Family.DECODER_ARGUMENTS,
        title="The decoder is handed the lengths of the tokens for those of the frames, and the other way round.",
        edits=(
            Edit(
                files=STREAMING,
                old=_CALLED,
                new="encoder_out, ys_pad_lens, sematic_embeds, encoder_out_lens, scama_mask",
            ),
        ),
        expected=_CONTRACT,
    ),
    Fault(
        name="output-layer-missing",
        family=Family.OUTPUT_LAYER,
        title="The decoder has no projection to the vocabulary.",
        edits=_decoder(_OUTPUT, "self.output_layer = None"),
        expected=Expected(check=Check.CONSTRUCT, signature="NoProjection@model"),
    ),
    Fault(
        name="output-layer-transposed",
        family=Family.OUTPUT_LAYER,
        title="The projection is built from the vocabulary to the hidden size.",
        edits=_decoder(_OUTPUT, "self.output_layer = torch.nn.Linear(vocab_size, attention_dim)"),
        expected=Expected(check=Check.CONSTRUCT, signature="ProjectionOfOtherWidth@decoder.output_layer"),
    ),
    Fault(
        name="output-layer-untied",
        family=Family.OUTPUT_LAYER,
        title="The scores come from a copy of the projection's weights that was made once.",
        edits=(
            *_decoder(_OUTPUT, f"{_OUTPUT}\n            self.weights = self.output_layer.weight.detach().clone()"),
            Edit(
                files=DECODERS,
                old="x = self.output_layer(hidden)",
                new="x = torch.nn.functional.linear(hidden, self.weights)",
                below=SCORED,
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="ProjectionNotCalled@decoder.output_layer"),
    ),
    Fault(
        name="output-layer-is-embedding",
        family=Family.OUTPUT_LAYER,
        title="The projection shares its weights with the embedding, which the config does not ask for.",
        edits=_decoder(_OUTPUT, f"{_OUTPUT}\n            self.output_layer.weight = self.embed[0].weight"),
        expected=replace(Expected(check=Check.CONSTRUCT, signature="SharedWeights@decoder.*"), severity=Severity.WRONG),
    ),
    Fault(
        name="encoder-detached",
        family=Family.DETACHED,
        title="What the encoder gives is cut off from it.",
        edits=(
            Edit(
                files=STREAMING,
                old="encoder_out, encoder_out_lens = self.encode(speech, speech_lengths, ind=ind)",
                new="encoder_out, encoder_out_lens = self.encode(speech, speech_lengths, ind=ind)\n"
                "            encoder_out = encoder_out.detach()",
            ),
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="NoGradient@encoder"),
    ),
    Fault(
        name="encoder-frozen",
        family=Family.FROZEN,
        title="The encoder is frozen, which the config does not ask for.",
        edits=(
            Edit(files=MODEL, old="self.encoder = encoder\n", new="self.encoder = encoder.requires_grad_(False)\n"),
        ),
        expected=Expected(check=Check.CONSTRUCT, signature="Frozen@encoder"),
    ),
    Fault(
        name="output-layer-frozen",
        family=Family.FROZEN,
        title="The projection to the vocabulary alone is frozen.",
        edits=_decoder(_OUTPUT, f"{_OUTPUT}.requires_grad_(False)"),
        expected=Expected(check=Check.CONSTRUCT, signature="Frozen@decoder.output_layer"),
    ),
    Fault(
        name="decoder-block-in-a-list",
        family=Family.FROZEN,
        title="The decoder's last block is kept in a plain list, so that no optimizer and no checkpoint knows of it.",
        edits=(
            *_decoder(
                "self.decoders3 = repeat(\n            1,",
                "self.last = [None]\n        self.last[0] = repeat(\n            1,",
            ),
            *_decoder(
                "self.decoders3(x, tgt_mask, memory, memory_mask)", "self.last[0](x, tgt_mask, memory, memory_mask)"
            ),
        ),
        expected=Expected(check=Check.CONSTRUCT, signature="Unregistered@decoder.last*"),
    ),
    Fault(
        name="predictor-unregistered",
        family=Family.FROZEN,
        title="The predictor is put beside the model's modules, so that no optimizer and no checkpoint knows of it.",
        edits=(Edit(files=MODEL, old="self.predictor = predictor\n", new='self.__dict__["predictor"] = predictor\n'),),
        expected=Expected(check=Check.CONSTRUCT, signature="Unregistered@predictor"),
    ),
    Fault(
        name="target-count-one-less",
        family=Family.CIF_COUNT,
        title="The predictor fires once less than there are tokens.",
        edits=(
            Edit(
                files=PREDICTOR,
                old="target_length = target_label_length.squeeze(-1)",
                new="target_length = target_label_length.squeeze(-1) - 1",
                below=_PREDICTS,
            ),
        ),
        expected=_CONTRACT,
    ),
    Fault(
        name="predicted-count-one-more",
        family=Family.CIF_COUNT,
        title="The predictor counts one token more than its weights add up to.",
        edits=(
            Edit(
                files=PREDICTOR, old="token_num = alphas.sum(-1)", new="token_num = alphas.sum(-1) + 1", below=_PREDICTS
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="end-not-counted",
        family=Family.CIF_COUNT,
        title="The end of sentence is among the labels and not in their count.",
        edits=(
            Edit(
                files=STREAMING,
                old="ys_pad_lens = ys_pad_lens + self.predictor_bias",
                new="ys_pad_lens = ys_pad_lens",
            ),
        ),
        expected=_CONTRACT,
    ),
    Fault(
        name="encoder-mask-inverted",
        family=Family.MASK,
        title="The encoder attends to what is padded and to nothing else.",
        edits=(
            Edit(
                files=("models/sanm/encoder.py",),
                old="masks = (~make_pad_mask(ilens)[:, None, :]).to(xs_pad.device)",
                new="masks = make_pad_mask(ilens)[:, None, :].to(xs_pad.device)",
            ),
        ),
        expected=replace(_PROPERTY, severity=Severity.BROKEN),
        variant="paraformer",
    ),
    Fault(
        name="memory-mask-inverted",
        family=Family.MASK,
        title="The decoder attends to padded frames and to nothing else.",
        edits=_decoder(
            "memory_mask = myutils.sequence_mask(hlens, device=memory.device)[:, None, :]",
            "memory_mask = 1 - myutils.sequence_mask(hlens, device=memory.device)[:, None, :]",
        ),
        expected=Expected(check=Check.LOSS_CONTRACT, signature="FramesUnheard@decoder"),
        variant="paraformer",
    ),
    Fault(
        name="predictor-mask-inverted",
        family=Family.MASK,
        title="The predictor finds tokens in padded frames only.",
        edits=(
            Edit(
                files=PREDICTOR, old="alphas = alphas * mask\n", new="alphas = alphas * (1 - mask)\n", below=_PREDICTS
            ),
        ),
        expected=_CONTRACT,
    ),
    Fault(
        name="padded-frames-heard",
        family=Family.PADDING_COUNTED,
        title="The encoder's mask holds every frame for spoken, padded ones too.",
        edits=(
            Edit(
                files=("models/sanm/encoder.py",),
                old="masks = (~make_pad_mask(ilens)[:, None, :]).to(xs_pad.device)",
                new="masks = torch.ones_like(~make_pad_mask(ilens)[:, None, :]).to(xs_pad.device)",
            ),
        ),
        expected=_PROPERTY,
        variant="paraformer",
    ),
    Fault(
        name="encoder-sees-later-chunks",
        family=Family.CHUNK_MASK,
        title="The encoder's chunk mask lets each chunk attend to those after it.",
        edits=(Edit(files=CHUNKS, old="zeros_remain = np.zeros(", new="zeros_remain = np.ones("),),
        expected=_PROPERTY,
    ),
    Fault(
        name="decoder-sees-later-chunks",
        family=Family.CHUNK_MASK,
        title="The decoder does not apply the chunk mask, and attends to the whole utterance.",
        edits=_decoder("if chunk_mask is not None:", "if False:"),
        expected=_PROPERTY,
    ),
    Fault(
        name="sampler-shows-all-targets",
        family=Family.SAMPLER,
        title="The sampler hands the decoder the embeddings of the targets at every position.",
        edits=(
            Edit(
                files=STREAMING,
                old="input_mask = input_mask.masked_fill(~nonpad_positions, False)",
                new="input_mask = torch.zeros_like(nonpad_positions)",
            ),
        ),
        expected=Expected(check=Check.PROPERTIES),
    ),
    Fault(
        name="sampler-shows-targets-by-share",
        family=Family.SAMPLER,
        title="The sampler shows the targets where it should show what was heard, and the other way round.",
        edits=(
            Edit(
                files=STREAMING,
                old="input_mask_expand_dim = input_mask.unsqueeze(2)",
                new="input_mask_expand_dim = (~input_mask).unsqueeze(2)",
            ),
        ),
        expected=Expected(check=Check.PROPERTIES),
    ),
    Fault(
        name="dropout-in-evaluation",
        family=Family.MODES,
        title="The encoder's dropout goes on in evaluation mode.",
        edits=(
            Edit(
                files=CHUNK_ENCODER,
                old="self.dropout = nn.Dropout(dropout_rate)",
                new="self.dropout = lambda x: nn.functional.dropout(x, dropout_rate, True)",
                below="class EncoderLayerSANM(nn.Module):",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="built-at-random",
        family=Family.MODES,
        title="The model is built from a seed of its own, drawn anew each time.",
        edits=(
            Edit(
                files=MODEL,
                old="encoder_class = tables.encoder_classes.get(encoder)",
                new="torch.seed()\n        encoder_class = tables.encoder_classes.get(encoder)",
            ),
        ),
        expected=_PROPERTY,
    ),
    Fault(
        name="batch-leaks",
        family=Family.BATCH,
        title="Each utterance hears a tenth of its neighbour in the batch.",
        edits=(
            Edit(
                files=STREAMING,
                old="encoder_out, encoder_out_lens = self.encode(speech, speech_lengths, ind=ind)",
                new="encoder_out, encoder_out_lens = self.encode(speech, speech_lengths, ind=ind)\n"
                "            encoder_out = encoder_out + 0.1 * encoder_out.roll(1, 0)",
            ),
        ),
        expected=_PROPERTY,
    ),
)
