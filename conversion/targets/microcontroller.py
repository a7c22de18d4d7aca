"""Microcontrollers with a megabyte or two of flash: a C99 library of the audio branch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from conversion.c99.golden import write_golden
from conversion.c99.graphs import FOLDER, write_graphs
from conversion.c99.library import read_library, write_library
from conversion.c99.program import read_program
from conversion.head import whole_head
from conversion.targets import DerivedTarget
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO_ENCODER, HEAD


class Microcontroller(DerivedTarget):
    """Sources that any C99 compiler takes, with golden vectors and a test (`conversion.c99`).

    Words are not for it: a recognizer that hears them, and the table of their embeddings, are
    larger than what a microcontroller has.
    """

    name = "microcontroller"

    def check(self, graph: Path) -> None:
        """Raise ConversionError, with operation and layer, for one that the library lacks.

        Of the graphs that are run there; words are not read.
        """
        if graph.stem == AUDIO_ENCODER:
            read_program(graph.read_bytes(), AUDIO_ENCODER)
        elif graph.stem == HEAD:
            read_program(whole_head(graph.read_bytes()), HEAD)

    def ready(self) -> Mapping[str, str]:
        """Nothing is needed to write the sources; who compiles them brings the compiler."""
        return {}

    def derive(self, bundle: Bundle, out: Path) -> None:
        """Write sources and tables; golden vectors and their test into the sub-folder test.

        The graphs themselves, for another interpreter, into the sub-folder tflite-micro.
        """
        library = read_library(bundle)
        write_library(library, out)
        for name in ("test", FOLDER):
            (out / name).mkdir()
        write_golden(library, out / "test")
        write_graphs(bundle, out / FOLDER)
