"""Model folders in the form in which FunASR publishes them, where that is not the harness's own form."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import sentencepiece
import yaml
from forked import Forked
from sentencepiece import sentencepiece_model_pb2
from user_folders import model_folder

from harness.core.cells import Dimensions
from harness.corpus.corpus import build_corpus
from harness.releases import default_cache

PIECES = 25_055
"""Of SenseVoiceSmall's published model."""
LABELS = {
    24884: "<|zh|>",
    24885: "<|en|>",
    24888: "<|yue|>",
    24892: "<|ja|>",
    24896: "<|ko|>",
    24992: "<|nospeech|>",
    24993: "<|Speech|>",
    25001: "<|HAPPY|>",
    25002: "<|SAD|>",
    25003: "<|ANGRY|>",
    25004: "<|NEUTRAL|>",
    25009: "<|EMO_UNKNOWN|>",
    25016: "<|withitn|>",
    25017: "<|woitn|>",
}
"""Ids that `funasr/models/sense_voice/model.py` has written in its code."""
BPE_MODEL = "chn_jpn_yue_eng_ko_spectok.bpe.model"


def sentencepiece_model(texts: Sequence[str]) -> bytes:
    """A model trained on these texts, with SenseVoice's labels at their ids and pieces of no text between them."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        vocab_size=400,
        hard_vocab_limit=False,
        model_type="bpe",
        character_coverage=1.0,
        # A label must be one piece, without `▁` before it.
        add_dummy_prefix=False,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    for number in range(len(model.pieces), PIECES):
        piece = LABELS.get(number, f"<|unused{number}|>")
        model.pieces.add(piece=piece, score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED)
    model.trainer_spec.vocab_size = PIECES
    written: bytes = model.SerializeToString()
    return written


def sense_voice_small(forked: Forked, install_dir: Path, to: Path) -> Path:
    """A folder as `iic/SenseVoiceSmall`: its files and config, at width 64 and reduced depth."""
    model_folder(
        forked, install_dir, to, variant="sense_voice", dimensions=Dimensions(vocab_size=PIECES, hidden_size=64)
    )
    config = yaml.safe_load((to / "config.yaml").read_text(encoding="utf-8"))
    config["tokenizer"] = "SentencepiecesTokenizer"
    config["tokenizer_conf"] = {"bpemodel": None, "unk_symbol": "<unk>", "split_with_space": True}
    (to / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    configuration = json.loads((to / "configuration.json").read_text(encoding="utf-8"))
    configuration["file_path_metas"]["tokenizer_conf"] = {"bpemodel": BPE_MODEL}
    (to / "configuration.json").write_text(json.dumps(configuration, indent=2), encoding="utf-8")
    for name in ("tokens.json", "seg_dict"):
        (to / name).unlink()
    (to / BPE_MODEL).write_bytes(sentencepiece_model(build_corpus(default_cache()).texts))
    return to
