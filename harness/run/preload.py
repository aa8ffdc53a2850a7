"""Third-party modules that the process tree imports once, for all releases."""

from __future__ import annotations

PRELOADED = (
    "numpy", "torch", "torch._dynamo", "torch.utils.data", "torch.distributed.fsdp", "torchaudio",
    "torchaudio.compliance.kaldi", "scipy.signal", "librosa", "soundfile", "yaml", "omegaconf", "hydra", "tqdm",
    "requests", "sentencepiece", "kaldiio", "jieba", "jamo", "jaconv", "torch_complex", "tensorboardX", "oss2",
    "modelscope", "huggingface_hub", "tiktoken", "umap", "hdbscan", "editdistance", "rapidfuzz", "regex",
    "safetensors", "websockets", "pydub", "hypothesis",
)  # fmt: skip
"""Third-party modules that the stack process imports for all releases; none of them may start a thread."""

PRELOADED_FOR_TRAINERS = ("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")
"""The same where releases are imported whole, for their trainers: for a few models only it would not pay."""
