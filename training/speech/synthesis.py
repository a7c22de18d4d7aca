"""Synthesized speech and pronunciations.

eSpeak NG through its C interface (speak_lib.h), from the wheel of espeakng-loader, which carries
its data: any prosody, but the sound of a machine. flite (Black & Lenzo 2001), the Debian package:
voices made of recorded speech, which recognizers understand.
"""

# ruff: noqa: RUF001 - phonetic letters are meant

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16
from training.errors import TrainingError

_RETRIEVAL, _RATE, _VOLUME, _PITCH, _RANGE, _UTF8, _IPA = 1, 1, 2, 3, 4, 1, 2
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

FLITE_VOICES = ("slt", "rms", "awb", "kal16")
"""A woman and three men, one of them Scottish and one made of diphones."""
FLITE_F0 = {"slt": (172.0, 27.0), "awb": (131.0, 25.0), "kal16": (95.0, 11.0)}
"""Mean and deviation of fundamental frequency at which a voice sounds as recorded, Hz (measured);
rms keeps its own, whatever is asked for."""
# eSpeak's IPA of US English, longest first, as ARPAbet phones of the CMU dictionary.
_ARPABET = {
    "aɪə": "AY AH", "aɪɚ": "AY ER", "oːɹ": "AO R", "ɔːɹ": "AO R", "ɑːɹ": "AA R", "ɪɹ": "IH R",
    "iə": "IY AH", "ʊɹ": "UH R", "ɛɹ": "EH R", "aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW",
    "ɔɪ": "OY", "tʃ": "CH", "dʒ": "JH", "iː": "IY", "uː": "UW", "ɑː": "AA", "ɔː": "AO", "ɜː": "ER",
    "oː": "AO", "əl": "AH L", "ɐ": "AH", "ə": "AH", "ʌ": "AH", "ɚ": "ER", "ɝ": "ER", "æ": "AE",
    "a": "AA", "ɑ": "AA", "ɔ": "AO", "ɛ": "EH", "e": "EY", "ɪ": "IH", "ᵻ": "IH", "i": "IY",
    "ʊ": "UH", "u": "UW", "o": "OW", "b": "B", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "h": "HH",
    "j": "Y", "k": "K", "l": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "r": "R",
    "s": "S", "ʃ": "SH", "t": "T", "ɾ": "T", "θ": "TH", "v": "V", "w": "W", "x": "K", "z": "Z",
    "ʒ": "ZH",
}  # fmt: skip
_LONGEST = max(map(len, _ARPABET))
PHONES = frozenset(phone for phones in _ARPABET.values() for phone in phones.split())
"""Phones of US English, as the CMU dictionary and flite name them."""


@dataclass(frozen=True)
class Voice:
    """How something is spoken, in eSpeak's units."""

    name: str = "en-us"
    """A voice of eSpeak, with a variant: en-us+f3."""
    rate: int = 160
    """Words a minute."""
    pitch: int = 50
    """0 to 100."""
    range: int = 50
    """Pitch range, 0 (flat) to 100."""
    level_db: float = -12.0
    """Peak level, dB relative to full scale."""


class Synthesizer:
    """eSpeak NG, started once a process. TrainingError where espeakng-loader is not installed."""

    def __init__(self) -> None:
        self._library, self.rate = _library()
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: Voice) -> npt.NDArray[np.float64]:
        """Float samples at 16 kHz, shape (n,), peak at the voice's level."""
        self._pieces = []
        self._choose(voice.name)
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        content = text.encode()
        self._library.espeak_Synth(content, len(content) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._pieces:
            raise TrainingError(f"eSpeak NG says nothing for {text!r}")
        samples = soxr.resample(np.concatenate(self._pieces) / FULL_SCALE, self.rate, SAMPLE_RATE)
        peak = max(float(np.abs(samples).max()), 1e-6)
        return np.asarray(samples / peak * 10 ** (voice.level_db / 20), np.float64)

    def pronounce(self, word: str) -> str:
        """ARPAbet phones of a word as US English reads it, without stress, spaces between."""
        self._choose("en-us")
        content = ctypes.c_char_p(word.encode())
        pointer = ctypes.cast(content, ctypes.c_void_p)
        ipa = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA)
        return arpabet((ipa or b"").decode())

    def _choose(self, name: str) -> None:
        if self._library.espeak_SetVoiceByName(name.encode()):
            raise TrainingError(f"eSpeak NG has no voice {name!r}")

    def _receive(self, samples: Any, count: int, _: object) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def speak_with_flite(
    text: str,
    voice: str = "slt",
    stretch: float = 1.0,
    pitch: float = 1.0,
    spread: float = 1.0,
    phones: str = "",
) -> Int16:
    """int16 samples at 16 kHz, shape (n,), by the program flite.

    Parameters
    ----------
    text : what to say.
    phones : ARPAbet to say in its place, spaces between.
    voice : one of `FLITE_VOICES`.
    stretch : duration of the phones, 1 as recorded.
    pitch : mean fundamental frequency, 1 as recorded.
    spread : its standard deviation, 1 as recorded.

    TrainingError where flite is not installed or fails, or for the pitch of a voice that has one.
    """
    program = shutil.which("flite")
    if program is None:
        raise TrainingError("speaking needs flite: apt-get install flite")
    features = {"duration_stretch": stretch}
    if (pitch, spread) != (1.0, 1.0):
        if voice not in FLITE_F0:
            raise TrainingError(f"the pitch of voice {voice} is fixed; use {', '.join(FLITE_F0)}")
        mean, deviation = FLITE_F0[voice]
        features["int_f0_target_mean"] = pitch * mean
        features["int_f0_target_stddev"] = spread * deviation
    settings = [x for k, v in features.items() for x in ("--setf", f"{k}={v:.3f}")]
    said_as = ["-p", f"pau {phones.lower()} pau"] if phones else ["-t", text]
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        said = subprocess.run(
            [program, "-voice", voice, *settings, *said_as, "-o", file.name],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        if said.returncode:
            raise TrainingError(f"flite cannot say {text!r}: {said.stderr.strip()}")
        return read_file(file.name)


def arpabet(ipa: str) -> str:
    """Phones of the CMU dictionary for eSpeak's IPA; marks of stress and syllables are dropped."""
    phones, place = [], 0
    while place < len(ipa):
        for length in range(min(_LONGEST, len(ipa) - place), 0, -1):
            piece = ipa[place : place + length]
            if piece in _ARPABET:
                phones.append(_ARPABET[piece])
                break
        place += length
    return " ".join(phones)


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The library, initialized, and its sample rate, Hz."""
    try:
        import espeakng_loader
    except ImportError:
        raise TrainingError(
            "speaking needs espeakng-loader, which is not installed: pip install espeakng-loader"
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    rate = library.espeak_Initialize(_RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise TrainingError("eSpeak NG does not start")
    return library, rate
