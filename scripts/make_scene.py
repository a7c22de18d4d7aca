"""Speaks the demo scene with eSpeak NG and writes edge_runtime/demo/scene.flac.

The scene is made, not recorded, so that it can be committed and given away: five sentences over a
quiet room, each with the rate, pitch and loudness that go with its mood. Within those, voice and
prosody were chosen so that the shipped model hears most of the moods: the scene shows the path at
work and is no evidence of accuracy. Needs espeakng-loader (extra `dev`), which carries the
synthesizer and its data in a wheel.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np
import soundfile
import soxr

from edge_runtime.mfcc import SAMPLE_RATE

OUT = Path(__file__).parent.parent / "edge_runtime" / "demo" / "scene.flac"
PAUSE = 0.9  # seconds between utterances
ROOM_DB = -62.0  # level of the room's noise, dB relative to full scale


@dataclass(frozen=True)
class Line:
    """One utterance and how it is spoken, in eSpeak's units."""

    text: str
    voice: str
    rate: int
    """Words a minute."""
    pitch: int
    """0 to 100."""
    range: int
    """Pitch range, 0 (flat) to 100."""
    level_db: float
    """Peak level, dB relative to full scale."""


SCENE = (
    Line("The meeting starts at ten; the report is on the table.", "en-us+f3", 130, 45, 40, -24),
    Line("We won! I can't believe it, this is wonderful!", "en-us+m3", 185, 85, 80, -7),
    Line("She is gone. I miss her, every single day.", "en-us+f2", 95, 65, 10, -30),
    Line("I told you a hundred times! Stop it, right now!", "en-us+f3", 205, 65, 100, -2),
    Line("All right. Let us go home.", "en-us+f3", 150, 45, 40, -24),
)

_RETRIEVAL, _RATE, _VOLUME, _PITCH, _RANGE, _UTF8 = 1, 1, 2, 3, 4, 1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Synthesizer:
    """eSpeak NG through its C interface (speak_lib.h)."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(_RETRIEVAL, 0, data, 0)
        if self.rate <= 0:
            raise RuntimeError("eSpeak NG does not start")
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, line: Line) -> np.ndarray:
        """Float samples at 16 kHz, shape (n,), peak at the line's level."""
        self._pieces = []
        self._library.espeak_SetVoiceByName(line.voice.encode())
        for parameter, value in ((_RATE, line.rate), (_PITCH, line.pitch), (_RANGE, line.range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = line.text.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = soxr.resample(np.concatenate(self._pieces) / 32768.0, self.rate, SAMPLE_RATE)
        return samples / np.abs(samples).max() * 10 ** (line.level_db / 20)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: object) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def main() -> None:
    """Write the scene."""
    synthesizer = Synthesizer()
    pause = np.zeros(round(PAUSE * SAMPLE_RATE))
    parts = [pause]
    for line in SCENE:
        parts += [synthesizer.speak(line), pause]
    scene = np.concatenate(parts)
    noise = np.random.default_rng(0).standard_normal(scene.size) * 10 ** (ROOM_DB / 20)
    soundfile.write(OUT, scene + noise, SAMPLE_RATE, subtype="PCM_16")
    print(f"{OUT}: {scene.size / SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()
