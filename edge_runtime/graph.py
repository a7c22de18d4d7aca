"""Runs a TFLite or ONNX graph with the best interpreter that is installed.

Order for .tflite: LiteRT (ai-edge-litert), then tflite-runtime; on int8 graphs LiteRT 2.x is
several times faster. For .onnx: ONNX Runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EngineError
from edge_runtime.int8 import dequantize, quantize
from edge_runtime.settings import Limits, check_number
from edge_runtime.system import native_stderr_silenced

Array = npt.NDArray[Any]

THREADS = Limits(minimum=1, maximum=64)
"""Threads of an interpreter. It starts all that it is asked for; a graph this small gains nothing
from more than a few. The bounds stand here alone: `Graph` refuses what is beyond them, and so does
the command line, whose options take them from here, before it opens a bundle."""

TFLITE_ENGINES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
ONNX_ENGINE = "onnxruntime"
ENGINE_PACKAGES = {
    "litert": "ai-edge-litert",
    "tflite-runtime": "tflite-runtime",
    ONNX_ENGINE: "onnxruntime",
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    """Name inside the graph."""
    shape: tuple[int, ...]
    """Dimensions, batch included."""
    dtype: str
    """numpy name of the element type."""
    scale: float = 0.0
    """Real value of one integer step; 0 for a float tensor."""
    zero_point: int = 0
    """Integer that stands for 0.0."""

    def quantize(self, values: npt.NDArray[np.floating[Any]]) -> Array:
        """Real values to this tensor's type: round half to even, saturate."""
        if not self.scale:
            return values.astype(self.dtype)
        return quantize(values, self.scale, self.zero_point, self.dtype)

    def dequantize(self, values: Array) -> npt.NDArray[np.float32]:
        """Integer values as reals, float32."""
        if not self.scale:
            return values.astype(np.float32)
        return dequantize(values, self.scale, self.zero_point)


class Graph:
    """A loaded graph: inputs in, outputs out, element types as the graph has them.

    Parameters
    ----------
    model : the graph's bytes, or its path.
    kind : "tflite" or "onnx"; by default from the path's suffix, else tflite.
    threads : threads the interpreter may use, within `THREADS`.
    engine : force one of `available_engines`; by default the first that fits.

    Threads may share a graph: one runs it at a time.

    Raises
    ------
    EngineError : no interpreter for this kind is installed (the message names the pip command),
        it does not load, or it refuses the graph.
    SettingError : `threads` is out of bounds.
    """

    engine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        model: bytes | str | Path,
        kind: str | None = None,
        threads: int = 1,
        engine: str | None = None,
    ) -> None:
        check_number("threads", threads, int, THREADS)
        if kind is None:
            is_onnx = not isinstance(model, bytes) and Path(model).suffix == ".onnx"
            kind = "onnx" if is_onnx else "tflite"
        self._lock = Lock()
        self.engine = _choose_engine(kind, engine)
        try:
            if kind == "onnx":
                self._open_onnx(model, threads)
            else:
                self._open_tflite(model, threads)
        except EngineError:
            raise
        except ImportError as error:
            raise EngineError(f"{self.engine} is installed but does not load: {error}") from error
        except Exception as error:  # of ONNX Runtime each has a type of its own
            raise EngineError(f"{self.engine} refuses the graph: {_line(error)}") from error

    def __call__(self, *inputs: Array) -> list[Array]:
        """Run once. Inputs and outputs go in the order of `inputs` and `outputs`, by name.

        Outputs are copies.

        Raises ValueError when an input's count, shape or type is not that of `inputs`, EngineError
        where the interpreter fails.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(f"the graph takes {len(self.inputs)} inputs, not {len(inputs)}")
        for spec, value in zip(self.inputs, inputs, strict=True):
            if value.shape != spec.shape or value.dtype != spec.dtype:
                raise ValueError(
                    f"input {spec.name!r} takes {spec.dtype} {spec.shape}, "
                    f"not {value.dtype} {value.shape}"
                )
        with self._lock:
            try:
                return self._run(inputs)
            except Exception as error:
                raise EngineError(f"{self.engine} cannot run the graph: {_line(error)}") from error

    def _open_tflite(self, model: bytes | str | Path, threads: int) -> None:
        module = importlib.import_module(TFLITE_ENGINES[self.engine])
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        if not content:
            raise EngineError(f"{self.engine} refuses the graph: it is empty")
        with native_stderr_silenced():
            interpreter = module.Interpreter(model_content=content, num_threads=threads)
            if not isinstance(model, bytes):
                # By its path the file is mapped, not copied; but bytes alone are verified, and a
                # damaged file that is mapped would crash the process.
                interpreter = module.Interpreter(model_path=str(model), num_threads=threads)
            interpreter.allocate_tensors()
        entries = sorted(interpreter.get_input_details(), key=lambda d: d["name"])
        self.inputs = tuple(_tflite_spec(d) for d in entries)
        details = sorted(interpreter.get_output_details(), key=lambda d: d["name"])
        self.outputs = tuple(_tflite_spec(d) for d in details)
        input_indices = [d["index"] for d in entries]
        output_indices = [d["index"] for d in details]

        def run(inputs: tuple[Array, ...]) -> list[Array]:
            for index, value in zip(input_indices, inputs, strict=True):
                interpreter.set_tensor(index, value)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in output_indices]

        self._run = run

    def _open_onnx(self, model: bytes | str | Path, threads: int) -> None:
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what is wrong is raised as well
        source = model if isinstance(model, bytes) else str(model)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        inputs = sorted(session.get_inputs(), key=lambda d: str(d.name))
        self.inputs = tuple(_onnx_spec(d) for d in inputs)
        outputs = sorted(session.get_outputs(), key=lambda d: str(d.name))
        self.outputs = tuple(_onnx_spec(d) for d in outputs)
        names_in = [spec.name for spec in self.inputs]
        names_out = [spec.name for spec in self.outputs]

        def run(inputs: tuple[Array, ...]) -> list[Array]:
            return list(session.run(names_out, dict(zip(names_in, inputs, strict=True))))

        self._run = run


def available_engines() -> list[str]:
    """Names of the interpreters that are installed, best first."""
    candidates = {**TFLITE_ENGINES, ONNX_ENGINE: ONNX_ENGINE}
    return [
        name
        for name, module in candidates.items()
        if importlib.util.find_spec(module.split(".")[0]) is not None
    ]


def _choose_engine(kind: str, wanted: str | None) -> str:
    fitting = [ONNX_ENGINE] if kind == "onnx" else list(TFLITE_ENGINES)
    if wanted is not None and wanted not in fitting:
        raise EngineError(f"{wanted!r} cannot run a {kind} graph; one of {', '.join(fitting)} can")
    candidates = [wanted] if wanted else fitting
    for name in candidates:
        if name in available_engines():
            return name
    raise EngineError(
        f"no interpreter for {kind} graphs is installed ({' or '.join(candidates)}): "
        f"pip install {ENGINE_PACKAGES[candidates[0]]}"
    )


def _tflite_spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=str(detail["name"]),
        shape=_fixed(detail["name"], detail.get("shape_signature", detail["shape"])),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _onnx_spec(detail: Any) -> TensorSpec:
    names = {"float": "float32", "double": "float64"}
    kind = str(detail.type).removeprefix("tensor(").removesuffix(")")
    return TensorSpec(
        name=str(detail.name),
        shape=_fixed(detail.name, detail.shape),
        dtype=names.get(kind, kind),
    )


def _fixed(name: object, shape: Iterable[object]) -> tuple[int, ...]:
    """A shape as numbers. Raises EngineError for an axis that has none."""
    axes = [int(n) if isinstance(n, int | np.integer) else n for n in shape]
    fixed = tuple(n for n in axes if isinstance(n, int) and n >= 0)
    if len(fixed) < len(axes):
        lengths = ", ".join("?" if n in (None, -1) else str(n) for n in axes)
        raise EngineError(
            f"{name!r} has an axis without a length: ({lengths}); export the graph with fixed "
            "shapes"
        )
    return fixed


def _line(error: Exception) -> str:
    """What an interpreter says, on one line; it can be one for each tensor."""
    return textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
