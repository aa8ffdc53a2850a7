"""Speech by espeak-ng, in a process of its own: `python espeak.py request.json answer.json`.

The library keeps state from sentence to sentence and ends the process when its data are damaged;
a fresh process that speaks the sentences in their order gives the same samples every time.
Standard library only, and nothing of the harness: this file is run by its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 1 << 15
_UTF8 = 1
_POSITION_CHARACTER = 1
_OK = 0


def speak(request: Mapping[str, Any]) -> dict[str, Any]:
    """Speak each of `texts` into `folder/<number>.raw`, 16-bit mono samples in the machine's byte order.

    Returns:
        `sampling_rate` in Hz and the library's `version`, or `error`.
    """
    data = Path(request["data"])
    # The library cuts paths off after 160 to 230 characters, so it gets a relative one.
    os.chdir(data.parent)
    library = ctypes.CDLL(request["library"])
    library.espeak_Info.restype = ctypes.c_char_p
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data.name), _DO_NOT_EXIT)
    if rate <= 0:
        return {"error": f"espeak-ng does not start with the data in {data}"}
    if library.espeak_SetVoiceByName(request["voice"].encode()) != _OK:
        return {"error": f"espeak-ng has no voice {request['voice']!r}"}
    samples = bytearray()

    def take(wave: int | None, count: int, _events: int | None) -> int:
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        return 0

    # The library keeps the pointer alone, so the callback must live until the last sentence is spoken.
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(take)
    library.espeak_SetSynthCallback(callback)
    for number, text in enumerate(request["texts"]):
        samples.clear()
        spoken = text.encode()
        result = library.espeak_Synth(spoken, len(spoken) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        if result != _OK or not samples:
            return {"error": f"espeak-ng does not speak {text!r} (status {result})"}
        Path(request["folder"], f"{number}.raw").write_bytes(samples)
    return {"sampling_rate": rate, "version": library.espeak_Info(None).decode()}


if __name__ == "__main__":
    answer = speak(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
