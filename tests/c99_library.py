"""The C99 library of a bundle, compiled for this machine and called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from conversion.c99.golden import write_golden
from conversion.c99.library import Library, read_library, write_library
from conversion.c99.program import Program
from edge_runtime.bundle import Bundle

GCC = shutil.which("gcc")
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_ROOM = 1 << 20  # bytes that are enough for a state
_TIMEOUT = 300  # seconds
Int8 = npt.NDArray[np.int8]


class Compiled:
    """The library of `bundle`, its sources in `folder`."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        # As the library is calibrated: it does not tell how familiar a sound is.
        self.bundle = bundle.plain()
        self.library: Library = read_library(bundle)
        write_library(self.library, folder)
        (folder / "test").mkdir()
        write_golden(self.library, folder / "test")
        self.folder = folder
        shared = compiled(folder, folder / "library.so", "-O3", "-shared", "-fPIC")
        self._code = ctypes.CDLL(str(shared))
        self._code.es_features_take.restype = ctypes.c_size_t
        self._code.es_label.restype = ctypes.c_int
        self._state = np.zeros(_ROOM, np.uint8)
        self._code.es_init(_at(self._state))

    def scores(self, samples: npt.NDArray[np.int16], piece: int = 1 << 30) -> npt.NDArray | None:
        """Probabilities of an utterance fed in pieces; None if there is no verdict."""
        found = np.zeros(len(self.bundle.manifest.labels), np.float32)
        for begin in range(0, len(samples), piece):
            part = np.ascontiguousarray(samples[begin : begin + piece])
            self._code.es_feed(_at(self._state), _at(part), ctypes.c_size_t(len(part)))
        there = self._code.es_end_utterance(_at(self._state), _at(found))
        return found if there else None

    def label(self, scores: npt.NDArray[np.float32]) -> str:
        """The name of the most likely class, or "unsure"."""
        index = self._code.es_label(_at(scores))
        return self.bundle.manifest.labels[index] if index >= 0 else "unsure"

    def features(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
        """MFCC with deltas of an utterance, (frames, features)."""
        state = np.zeros(_ROOM, np.uint8)
        row = np.zeros(self.bundle.manifest.mfcc.features, np.int32)
        complete, rows, begin = ctypes.c_int(), [], 0
        self._code.es_init(_at(state))
        while begin < len(samples):
            rest = np.ascontiguousarray(samples[begin:])
            begin += self._code.es_features_take(
                _at(state), _at(rest), ctypes.c_size_t(len(rest)), _at(row), ctypes.byref(complete)
            )
            if complete:
                rows.append(row.copy())
        while self._code.es_features_rest(_at(state), _at(row)):
            rows.append(row.copy())
        unit = 2.0**self.library.features.feature_bits
        return np.array(rows, np.float64).reshape(-1, len(row)) / unit

    def run(self, which: str, values: Int8) -> list[Int8]:
        """Outputs of the layers of "encoder" or "head", by name, each (rows, width)."""
        program: Program = getattr(self.library, which)
        layers = ctypes.addressof(ctypes.c_char.in_dll(self._code, f"es_{which}"))
        given = np.ascontiguousarray(values).reshape(-1)
        arena = np.zeros(self.library.arena, np.int8)
        if program.input.buffer in program.offsets:
            begin = program.address(program.input)
            arena[begin : begin + len(given)] = given
        self._code.es_run(
            ctypes.c_void_p(layers),
            ctypes.c_size_t(len(program.products)),
            _at(given),
            _at(arena),
            ctypes.c_int(0),
        )
        role = {"encoder": "audio_encoder"}.get(which, which)
        found = []
        for spec in self.bundle.manifest.graphs[role].outputs:
            view, width = program.outputs[spec.name], spec.shape[-1]
            begin = program.address(view)
            rows = int(np.prod(spec.shape)) // width
            places = [begin + row * view.stride for row in range(rows)]
            found.append(np.stack([arena[place : place + width] for place in places]))
        return found


def compiled(folder: Path, out: Path, *options: str, test: bool = False) -> Path:
    """Compile the library in `folder`, with its test if asked for, as strictly as gcc does."""
    assert GCC is not None
    sources = sorted(folder.glob("*.c")) + (sorted((folder / "test").glob("*.c")) if test else [])
    command = [GCC, *STRICT, *options, f"-I{folder}", "-o", str(out), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out


def _at(array: npt.NDArray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
