"""Reference features of speech, computed from the definitions without the release's code.

Log mel energies after Kaldi (`compute-fbank-feats`: 25 ms windows every 10 ms, snipped at the end, mean removed,
pre-emphasis 0.97, Hamming window, power spectrum, triangles that are even on the mel scale from 20 Hz up), `lfr_m`
frames stacked at every `lfr_n`-th (Sak et al. 2015, "low frame rate"), then the shift and scale of `am.mvn`. No dither:
the data check's model folder disables it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE = 16000
"""Samples per second of the frontend's input."""
_PREEMPHASIS = 0.97
_LOWEST_HERTZ = 20.0
_EPSILON = 1.1920928955078125e-07
"""Machine epsilon of fp32: the smallest energy whose logarithm Kaldi takes."""
_FRONTENDS = ("WavFrontend", "WavFrontendOnline")


def is_supported(config: Mapping[str, Any]) -> bool:
    """Whether the config's features are those that are computed here."""
    conf = config.get("frontend_conf", {})
    usual = conf.get("fs", RATE) == RATE and conf.get("window", "hamming") == "hamming"
    return usual and config.get("frontend") in _FRONTENDS


@dataclass(frozen=True, kw_only=True)
class ReferenceFrontend:
    """The features of a config."""

    n_mels: int
    window: int
    """Samples at 16 kHz."""
    shift: int
    """Samples at 16 kHz."""
    lfr_m: int
    lfr_n: int
    shifts: Any
    """`[lfr_m * n_mels]`, added first."""
    scales: Any
    """`[lfr_m * n_mels]`, multiplied after that."""

    @classmethod
    def of(cls, frontend_conf: Mapping[str, Any], am_mvn: Path) -> ReferenceFrontend:
        """From a config's `frontend_conf` and its statistics."""
        shifts, scales = read_am_mvn(am_mvn)
        return cls(
            n_mels=int(frontend_conf.get("n_mels", 80)),
            window=RATE * int(frontend_conf.get("frame_length", 25)) // 1000,
            shift=RATE * int(frontend_conf.get("frame_shift", 10)) // 1000,
            lfr_m=int(frontend_conf.get("lfr_m", 1)),
            lfr_n=int(frontend_conf.get("lfr_n", 1)),
            shifts=shifts,
            scales=scales,
        )

    def frames(self, samples: int) -> int:
        """Stacked frames of a number of samples: windows that fit, every `lfr_n`-th of which begins a stack."""
        if samples < self.window:
            return 0
        return -(-(1 + (samples - self.window) // self.shift) // self.lfr_n)

    def features(self, samples: Any) -> Any:
        """Before normalisation: float64 `[stacked frames, lfr_m * n_mels]` of int16 `[samples]`.

        FunASR's frontends scale samples from ±1 to 16 bits, so the file's values are used directly.
        """
        import numpy

        energies = self._log_mel(samples.astype(numpy.float64))
        places = numpy.arange(-(-len(energies) // self.lfr_n))[:, None] * self.lfr_n
        places = places + numpy.arange(self.lfr_m)[None, :] - (self.lfr_m - 1) // 2
        return energies[places.clip(0, len(energies) - 1)].reshape(len(places), -1)

    def normalised(self, features: Any) -> Any:
        """Shifted and scaled according to `am.mvn`."""
        return (features + self.shifts) * self.scales

    def _log_mel(self, samples: Any) -> Any:
        import numpy

        count = 1 + (len(samples) - self.window) // self.shift
        frames = samples[numpy.arange(count)[:, None] * self.shift + numpy.arange(self.window)[None, :]]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = numpy.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
        frames = (frames - _PREEMPHASIS * before) * numpy.hamming(self.window)
        points = 1 << (self.window - 1).bit_length()
        power = numpy.square(numpy.abs(numpy.fft.rfft(frames, points, axis=1)))
        return numpy.log(numpy.maximum(power @ self._triangles(points).T, _EPSILON))

    def _triangles(self, points: int) -> Any:
        """`[n_mels, points // 2 + 1]`: the weight of each spectral bin in each mel band."""
        import numpy

        def mel(hertz: Any) -> Any:
            return 1127.0 * numpy.log(1.0 + hertz / 700.0)

        low, high = mel(_LOWEST_HERTZ), mel(RATE / 2)
        step = (high - low) / (self.n_mels + 1)
        left = low + numpy.arange(self.n_mels)[:, None] * step
        bins = mel(numpy.arange(points // 2 + 1) * RATE / points)[None, :]
        rising, falling = (bins - left) / step, (left + 2 * step - bins) / step
        return numpy.maximum(0.0, numpy.minimum(rising, falling))


def read_am_mvn(path: Path) -> tuple[Any, Any]:
    """The numbers after `<AddShift>` and after `<Rescale>` of a Kaldi network in text form."""
    import numpy

    words = path.read_text(encoding="utf-8").split()
    arrays = []
    for name in ("<AddShift>", "<Rescale>"):
        begin = words.index("[", words.index(name))
        arrays.append(numpy.array(words[begin + 1 : words.index("]", begin)], dtype=numpy.float64))
    return arrays[0], arrays[1]
