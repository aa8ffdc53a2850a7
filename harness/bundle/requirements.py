"""Which libraries a bundle brings along, each because something in it does not run without.

Measured, not read from metadata: what FunASR's releases declare comes to several hundred megabytes, and most of it
is imported by modules that a Paraformer's training never uses. Those modules are passed over by `import funasr`, as
they are for a user who has not installed everything. torch's own requirements (jinja2 among them) are on its host.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.cells import Check

OUTSIDE = ("packaging", "pyyaml", "rich", "tabulate", "nvidia-ml-py", "numpy", "soundfile", "cffi", "pycparser")
"""What the harness itself imports up to the outcomes; judging and reporting need more, and are done at home."""

INSIDE = {
    "omegaconf": "FunASR reads its configs with it",
    "antlr4-python3-runtime": "omegaconf's grammar",
    "hydra-core": "the trainers' command line",
    "tqdm": "the trainers and AutoModel",
    "librosa": "funasr.utils.load_utils or index_ds import it in every release, and call nothing of it for wav files",
    "lazy-loader": "librosa itself; by it librosa's own libraries are imported only when they are used",
    "tensorboardx": "the trainers write their losses with it",
    "protobuf": "tensorboardx",
    "requests": "funasr.download and the contextual models import it",
    "urllib3": "requests",
    "idna": "requests",
    "certifi": "requests",
    "charset-normalizer": "requests",
    "jaconv": "the text cleaner, which the datasets' preprocessors import",
    "jamo": "the phoneme tokenizer, imported beside the one that is used",
    "pytorch-wpe": "the default frontend",
    "kaldiio": "funasr.utils.load_utils reads Kaldi's archives with it",
    "torch-complex": "the default frontend imports it, and says so on standard output where it is missing",
    "sentencepiece": "one of the tokenizers, registered beside the one that is used",
    "six": "funasr.metrics.common, which the models' accuracy is computed with, up to 1.3",
    "editdistance": "the same, in releases that compute error rates with it",
    "rapidfuzz": "the same, in the releases that took it up in place of editdistance",
}
"""What is needed within a release, and by what."""

OF_CHECKS = {Check.PROPERTIES: ("hypothesis", "sortedcontainers")}
"""What further checks need besides."""

LEFT_OUT = {
    Check.IMPORT: "it asks for every library that a release declares, several hundred megabytes of them",
}
"""Checks that no bundle holds, and why."""


def libraries_for(checks: Iterable[Check]) -> tuple[str, ...]:
    """The distributions that cells of these checks need, in the order of their names."""
    more = {name for check in checks for name in OF_CHECKS.get(check, ())}
    return tuple(sorted({*OUTSIDE, *INSIDE, *more}))
