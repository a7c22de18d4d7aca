"""Raspberry Pi 3 to 5 and other 64-bit Linux boards: LiteRT with XNNPACK on the CPU."""

from __future__ import annotations

from pathlib import Path

from conversion.errors import ConversionError
from conversion.quantize import float_tensors


class RaspberryPi:
    """Every tensor an integer, so that the delegate takes the whole graph as int8."""

    name = "raspberry-pi"

    def check(self, graph: Path) -> None:
        """Raise ConversionError for a float tensor."""
        floats = float_tensors(graph)
        if floats:
            raise ConversionError(f"{graph.name} has float tensors: {', '.join(floats)}")
