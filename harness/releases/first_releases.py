"""The first published release that has what a cell may need: a registered component, an entry point, a precision.

Measured over all releases from 1.0.0 to 1.4.16: what a release's code registers, which entry points it ships, and which
precisions its trainers accept. None of these was ever taken away again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIRST: Mapping[str, str] = MappingProxyType(
    {
        "model_classes/BiCifParaformer": "1.0.0",
        "model_classes/Branchformer": "1.0.0",
        "model_classes/Conformer": "1.0.0",
        "model_classes/ContextualParaformer": "1.0.0",
        "model_classes/EParaformer": "1.2.2",
        "model_classes/Paraformer": "1.0.0",
        "model_classes/ParaformerStreaming": "1.0.0",
        "model_classes/Paraformer_v2_community": "1.3.1",
        "model_classes/SANM": "1.0.0",
        "model_classes/SCAMA": "1.0.0",
        "model_classes/SeacoParaformer": "1.0.0",
        "model_classes/SenseVoiceSmall": "1.0.30",
        "model_classes/Transformer": "1.0.0",
        "model_classes/UniASR": "1.0.0",
        "encoder_classes/BranchformerEncoder": "1.0.0",
        "encoder_classes/ConformerEncoder": "1.0.0",
        "encoder_classes/EBranchformerEncoder": "1.0.0",
        "encoder_classes/SANMEncoder": "1.0.0",
        "encoder_classes/SANMEncoderChunkOpt": "1.0.0",
        "encoder_classes/SenseVoiceEncoderSmall": "1.0.30",
        "encoder_classes/TransformerEncoder": "1.0.0",
        "decoder_classes/ContextualParaformerDecoder": "1.0.0",
        "decoder_classes/FsmnDecoder": "1.0.0",
        "decoder_classes/FsmnDecoderSCAMAOpt": "1.0.0",
        "decoder_classes/ParaformerSANDecoder": "1.0.0",
        "decoder_classes/ParaformerSANMDecoder": "1.0.0",
        "decoder_classes/ParaformerSANMDecoder_v2_community": "1.3.1",
        "decoder_classes/TransformerDecoder": "1.0.0",
        "predictor_classes/CifPredictorV2": "1.0.0",
        "predictor_classes/CifPredictorV3": "1.0.0",
        "predictor_classes/PifPredictor": "1.2.2",
        "frontend_classes/WavFrontend": "1.0.0",
        "frontend_classes/WavFrontendOnline": "1.0.0",
        "specaug_classes/SpecAug": "1.0.0",
        "specaug_classes/SpecAugLFR": "1.0.0",
        "tokenizer_classes/CharTokenizer": "1.0.0",
        "entry/train": "1.0.0",
        "entry/train_ds": "1.0.28",
        "precision/train-bf16": "1.3.4",
        "precision/train-fp16": "1.0.11",
        "precision/train_ds-bf16": "1.0.28",
        "precision/train_ds-fp16": "1.0.28",
    }
)
"""By `TABLE/NAME` of FunASR's registry, `entry/NAME` or `precision/ENTRY-PRECISION`."""
