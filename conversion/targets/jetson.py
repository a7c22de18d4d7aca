"""NVIDIA Jetson: ONNX graphs for TensorRT, in half precision, int8 by QDQ, or float32."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from conversion.errors import ConversionError
from conversion.export import export_onnx
from conversion.onnx_forms import (
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    write_float,
    write_float16,
    write_qdq,
)
from conversion.pretrained import export_encoder
from conversion.quantize import learned_ranges
from conversion.targets import BundleTarget
from training.data.whisper_encoder import WhisperEncoder
from training.network.model import MscnnSpu

OPSETS = range(13, 24)  # that TensorRT reads, with scales per channel
_FILES = Path(__file__).parent / "files"
# Operations of these graphs that TensorRT has in every form here (onnx-tensorrt's list of
# operators); those of the pre-trained encoder, which stays in float, are the second line.
_OPERATIONS = {
    *("Add", "Cast", "Concat", "Constant", "Conv", "Gemm", "MatMul", "Relu", "Slice", "Softmax"),
    *("Div", "Mul", "Pow", "ReduceMean", "Reshape", "Sqrt", "Sub", "Tanh", "Unsqueeze"),
    *("LayerNormalization", "Transpose", QUANTIZE, DEQUANTIZE),
}


class Jetson(BundleTarget):
    """Static shapes, operations that TensorRT has, and in int8 what it asks of QDQ graphs."""

    name = "jetson"
    forms = ("float16", "int8", "float")
    # 1.18.0 gives other values when it runs a float16 graph on the CPU a second time.
    interpreters: ClassVar = {"onnxruntime": "1.19.2"}

    def check(self, graph: Path) -> None:
        """Raise ConversionError, naming operation and layer, for what TensorRT does not take."""
        model = onnx.load(str(graph))
        opset = next(item.version for item in model.opset_import if not item.domain)
        if opset not in OPSETS:
            raise ConversionError(
                f"{graph.name}: opset {opset} is not one of the {OPSETS[0]} to {OPSETS[-1]} that "
                "TensorRT reads"
            )
        for value in (*model.graph.input, *model.graph.output):
            if not all(axis.dim_value > 0 for axis in value.type.tensor_type.shape.dim):
                raise ConversionError(f"{graph.name}: {value.name} has no fixed shape")
        constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        for node in model.graph.node:
            fault = _fault(node, constants)
            if fault:
                raise ConversionError(
                    f"{graph.name}: TensorRT does not take {node.op_type} of layer "
                    f"{node.name or node.output[0]}: {fault}"
                )

    def graphs(self, model: MscnnSpu, work: Path, form: str) -> dict[str, Path]:
        """See BundleTarget."""
        paths = {}
        for role, exported in export_onnx(model, work / "onnx").items():
            paths[role] = work / f"{role}.onnx"
            if form == "int8":
                write_qdq(exported.path, learned_ranges(model, exported.path, role), paths[role])
            else:
                write = write_float16 if form == "float16" else write_float
                write(exported.path, paths[role])
            self.check(paths[role])
        return paths

    def whole(self, model: MscnnSpu, work: Path, form: str) -> None:
        """None: on this board graphs stream."""

    def encoder(self, encoder: WhisperEncoder, work: Path, form: str) -> Path:
        """See BundleTarget. It has no learned ranges: in float16 or float32."""
        (work / "onnx").mkdir(parents=True, exist_ok=True)
        exported = export_encoder(encoder, work / "onnx").path
        path = work / exported.name
        (write_float16 if form == "float16" else write_float)(exported, path)
        self.check(path)
        return path

    def further(self, graphs: Mapping[str, Path], work: Path, form: str) -> list[Path]:
        """What builds engines with trtexec, and what proves the bundle on the board."""
        names = {"jetson_engines.sh": "build-engines.sh", "jetson_prove.py": "prove.py"}
        return [Path(shutil.copy(_FILES / here, work / there)) for here, there in names.items()]


def _fault(node: Any, constants: Mapping[str, Any]) -> str:
    """Why TensorRT would refuse a node; "" where it takes it."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATIONS:
        return "it has no such operation"
    if node.op_type not in (QUANTIZE, DEQUANTIZE):
        if node.op_type in WEIGHTED and len(node.input) > 2:
            bias = constants.get(node.input[2])
            if bias is None or bias.dtype.kind != "f":
                return "its bias is no float constant"
        return ""
    source, scale = node.input[0], constants.get(node.input[1])
    if scale is None or scale.dtype != np.float32:
        return "its scale is no float32 constant"
    if not (np.isfinite(scale) & (scale > 0)).all():
        return "a scale is not positive"
    if len(node.input) < 3 or constants.get(node.input[2]) is None:
        return "its zero point, which says the type, is no constant"
    zero = constants[node.input[2]]
    if zero.dtype != np.int8 or zero.any():
        return f"its zero points are {zero.dtype} {zero.min()} to {zero.max()}, not int8 0"
    if source not in constants:
        return "an activation has one scale, not one for each channel" if scale.ndim else ""
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if (
        constants[source].dtype != np.int8
        or axis != 0
        or scale.shape != constants[source].shape[:1]
    ):
        return "weights are int8 with a scale for each output channel, along axis 0"
    return ""
