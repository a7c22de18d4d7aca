"""Raspberry Pi 3 to 5 and other Linux boards: LiteRT with XNNPACK on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from conversion.errors import ConversionError
from conversion.export import export_onnx, export_part, to_tflite
from conversion.head import split_head
from conversion.pretrained import export_encoder, write_encoder
from conversion.quantize import float_tensors, learned_ranges, quantize
from conversion.targets import BundleTarget
from conversion.whole.float import whole_part
from conversion.whole.int8 import write_whole
from edge_runtime.manifest import HEAD, PRETRAINED, WHOLE
from training.data.whisper_encoder import WhisperEncoder
from training.network.model import MscnnSpu


class RaspberryPi(BundleTarget):
    """Every tensor an integer, so that the delegate takes the whole graph as int8.

    Its form "float" is float32 ONNX, unrounded: for other runtimes, and to compare with.
    """

    name = "raspberry-pi"
    forms = ("int8", "float")
    interpreters: ClassVar = {"ai-edge-litert": "2.1.2", "tflite-runtime": "2.14.0"}

    def check(self, graph: Path) -> None:
        """Raise ConversionError for a float tensor."""
        floats = float_tensors(graph)
        if floats:
            raise ConversionError(f"{graph.name} has float tensors: {', '.join(floats)}")

    def graphs(self, model: MscnnSpu, work: Path, form: str) -> dict[str, Path]:
        """See BundleTarget."""
        if form == "float":
            return {role: exported.path for role, exported in export_onnx(model, work).items()}
        paths = {}
        for role, exported in export_onnx(model, work / "onnx").items():
            float_path = to_tflite(exported, work / "float")
            paths[role] = work / f"{role}.tflite"
            quantize(float_path, learned_ranges(model, exported.path, role), paths[role])
            if role == HEAD:
                branches = list(model.config.branches.values())
                paths[role].write_bytes(split_head(paths[role].read_bytes(), branches))
            self.check(paths[role])
        return paths

    def whole(self, model: MscnnSpu, work: Path, form: str) -> Path:
        """See BundleTarget."""
        if form == "float":
            return export_part(WHOLE, whole_part(model), work).path
        path = work / f"{WHOLE}.tflite"
        path.write_bytes(write_whole(model))
        self.check(path)
        return path

    def encoder(self, encoder: WhisperEncoder, work: Path, form: str) -> Path:
        """See BundleTarget."""
        if form == "float":
            return export_encoder(encoder, work).path
        path = work / f"{PRETRAINED}.tflite"
        write_encoder(encoder, path, work)
        return path
