"""What the frontend makes of speech, and the `am.mvn` file that normalises it.

The features are those of FunASR's `funasr/frontends/wav_frontend.py`: log mel energies after Kaldi,
`lfr_m` frames stacked at every `lfr_n`-th. Two implementations of Kaldi's features are at work:
kaldi-native-fbank here, and torchaudio's or FunASR's own in a release; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import CorpusError
from harness.corpus.corpus import Corpus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Samples of 16 bits; FunASR's frontends scale theirs from ±1 likewise.
_FULL_SCALE = 32768.0

MOST_MEASURED = 200
"""Recordings over which the statistics are taken; of more so many, evenly spaced."""

# Log mel energies of speech vary by 1 to 4. What varies less is no speech, and to blow it up would be worse than
# to leave it.
_LEAST_DEVIATION = 0.01


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """The settings of `frontend_conf` that shape the features; the defaults are those of `WavFrontend`."""

    fs: int = 16000
    """Samples a second."""
    window: str = "hamming"
    n_mels: int = 80
    frame_length: float = 25
    """In milliseconds."""
    frame_shift: float = 10
    """In milliseconds."""
    lfr_m: int = 1
    """Frames that are stacked into one."""
    lfr_n: int = 1
    """Frames from one stack to the next."""

    @classmethod
    def of(cls, frontend_conf: Mapping[str, Any]) -> Frontend:
        """The settings that matter here, out of a config's `frontend_conf`."""
        return cls(**{name: frontend_conf[name] for name in cls.__dataclass_fields__ if name in frontend_conf})

    @property
    def size(self) -> int:
        """Width of a stacked frame: the model's `input_size`."""
        return self.n_mels * self.lfr_m


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of each of the features' dimensions, over all stacked frames of a corpus."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    frames: int
    """How many stacked frames there were."""

    def am_mvn(self) -> str:
        """The text of an `am.mvn` file: a Kaldi network that adds −mean and multiplies with 1 ÷ deviation."""
        size = len(self.means)
        shifts = " ".join(f"{-mean:.9g}" for mean in self.means)
        scales = " ".join(f"{1 / deviation:.9g}" for deviation in self.deviations)
        return "\n".join(
            (
                "<Nnet>",
                f"<Splice> {size} {size}",
                "[ 0 ]",
                f"<AddShift> {size} {size}",
                f"<LearnRateCoef> 0 [ {shifts} ]",
                f"<Rescale> {size} {size}",
                f"<LearnRateCoef> 0 [ {scales} ]",
                "</Nnet>",
                "",
            )
        )


@lru_cache(maxsize=8)
def measure(corpus: Corpus, frontend: Frontend) -> Statistics:
    """Mean and standard deviation of the features over the corpus, or over `MOST_MEASURED` of it, without dither.

    Raises:
        CorpusError: an audio file that was readable a moment ago is so no more.
    """
    import numpy as np

    total, squares, frames = np.zeros(frontend.size), np.zeros(frontend.size), 0
    step = max(1, -(-len(corpus.utterances) // MOST_MEASURED))
    for stacked in (features(utterance.path, frontend) for utterance in corpus.utterances[::step]):
        frames += len(stacked)
        total += stacked.sum(axis=0)
        squares += np.square(stacked).sum(axis=0)
    means = total / frames
    variances = np.maximum(squares / frames - np.square(means), _LEAST_DEVIATION**2)
    return Statistics(means=tuple(means.tolist()), deviations=tuple(np.sqrt(variances).tolist()), frames=frames)


def features(path: Path, frontend: Frontend) -> NDArray[np.float64]:
    """The stacked features of one audio file before normalisation, [stacked frames, `frontend.size`]."""
    import numpy as np

    return _stack(np.array(list(_frames(path, frontend)), dtype=np.float64), frontend)


def _frames(path: Path, frontend: Frontend) -> Iterable[NDArray[np.float32]]:
    import kaldi_native_fbank
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise CorpusError(f"{path} cannot be read as audio: {error}") from None
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = frontend.fs
    options.frame_opts.window_type = frontend.window
    options.frame_opts.frame_length_ms = frontend.frame_length
    options.frame_opts.frame_shift_ms = frontend.frame_shift
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = frontend.n_mels
    options.energy_floor = 0.0
    bank = kaldi_native_fbank.OnlineFbank(options)
    # Releases make one channel of several by their mean, and resample what has another rate.
    mono = samples.mean(axis=1)
    if rate != frontend.fs:
        import soxr

        mono = soxr.resample(mono, rate, frontend.fs)
    bank.accept_waveform(frontend.fs, (mono * _FULL_SCALE).tolist())
    bank.input_finished()
    return [bank.get_frame(number) for number in range(bank.num_frames_ready)]


def _stack(frames: NDArray[np.float64], frontend: Frontend) -> NDArray[np.float64]:
    """Stack frames as `apply_lfr` does: the first one repeated before the beginning, the last one after the end."""
    import numpy as np

    count = -(-len(frames) // frontend.lfr_n)
    before = (frontend.lfr_m - 1) // 2
    places = np.arange(count)[:, None] * frontend.lfr_n + np.arange(frontend.lfr_m)[None, :] - before
    stacked: NDArray[np.float64] = frames[places.clip(0, len(frames) - 1)].reshape(count, -1)
    return stacked
