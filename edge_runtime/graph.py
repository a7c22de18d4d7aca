"""Runs a TFLite or ONNX graph with the best interpreter that is installed.

Order for .tflite: LiteRT (ai-edge-litert), then tflite-runtime; on int8 graphs LiteRT 2.x is
several times faster. For .onnx: ONNX Runtime with TensorRT, with CUDA, on the CPU; a provider that
is in the package but does not start, for it finds no GPU or library, is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EngineError
from edge_runtime.int8 import dequantize, quantize
from edge_runtime.made_for import release
from edge_runtime.settings import Limits, check_number
from edge_runtime.system import data_folder, native_stderr_silenced

Array = npt.NDArray[Any]

THREADS = Limits(minimum=1, maximum=64)
"""Threads of an interpreter. It starts all that it is asked for; a graph this small gains nothing
from more than a few. The bounds stand here alone: `Graph` refuses what is beyond them, and so does
the command line, whose options take them from here, before it opens a bundle."""

TFLITE_RUNTIME = "tflite-runtime"
TFLITE_ENGINES = {
    "litert": "ai_edge_litert.interpreter",
    TFLITE_RUNTIME: "tflite_runtime.interpreter",
}
ONNX_ENGINES = {
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime": "CPUExecutionProvider",
}
"""ONNX Runtime by the provider that runs the graph: fastest first, the last on any machine."""
ENGINE_PACKAGES = {
    "litert": "ai-edge-litert",
    TFLITE_RUNTIME: "tflite-runtime",
    **dict.fromkeys(ONNX_ENGINES, "onnxruntime"),
}
ENGINE_TEXTS = {
    "litert": "LiteRT (ai-edge-litert)",
    TFLITE_RUNTIME: "tflite-runtime",
    "onnxruntime-tensorrt": "ONNX Runtime with TensorRT",
    "onnxruntime-cuda": "ONNX Runtime with CUDA",
    "onnxruntime": "ONNX Runtime on the CPU",
}
FORM_KEY = "edge-emotion form"
"""Entry of an ONNX graph's metadata that says what it computes in: float, float16 or int8."""
# Distributions that hold the same module.
_BUILDS = {"onnxruntime": ("onnxruntime-gpu",)}
*_ON_GPU, _ON_CPU = ONNX_ENGINES


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
    least : least versions of interpreters that run it, by distribution; by default any.

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
        least: Mapping[str, str] | None = None,
    ) -> None:
        check_number("threads", threads, int, THREADS)
        if kind is None:
            is_onnx = not isinstance(model, bytes) and Path(model).suffix == ".onnx"
            kind = "onnx" if is_onnx else "tflite"
        self._lock = Lock()
        engines = _fitting_engines(kind, engine, least or {})
        for self.engine in engines:
            try:
                if kind == "onnx":
                    self._open_onnx(model, threads)
                else:
                    self._open_tflite(model, threads)
                return
            except EngineError as error:
                failure = error
            except ImportError as error:
                failure = EngineError(f"{self.engine} is installed but does not load: {error}")
                failure.__cause__ = error
            except Exception as error:  # of ONNX Runtime each has a type of its own
                failure = EngineError(f"{self.engine} refuses the graph: {_line(error)}")
                failure.__cause__ = error
        raise failure

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
                found = self._run(inputs)
            except Exception as error:
                raise EngineError(f"{self.engine} cannot run the graph: {_line(error)}") from error
        for spec, value in zip(self.outputs, found, strict=True):
            if value.shape != spec.shape:
                # What a graph says of a shape, and what its operations make, may be two things.
                raise EngineError(
                    f"{self.engine} cannot run the graph: output {spec.name!r} came as "
                    f"{value.shape}, not {spec.shape}"
                )
        return found

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
        session = ort.InferenceSession(source, options, providers=[ONNX_ENGINES[_ON_CPU]])
        if self.engine != _ON_CPU:
            session = _accelerated(ort, self.engine, source, options, session)
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
    return [*_tflite_engines(), *_onnx_engines()]


def _tflite_engines() -> list[str]:
    return [name for name, module in TFLITE_ENGINES.items() if _is_installed(module)]


def _onnx_engines() -> list[str]:
    """What the ONNX Runtime that is installed was built with: on the CPU at least."""
    if not _is_installed("onnxruntime"):
        return []
    try:
        providers = importlib.import_module("onnxruntime").get_available_providers()
    except ImportError:  # it says so where it is to be used
        providers = []
    return [name for name, p in ONNX_ENGINES.items() if name == _ON_CPU or p in providers]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module.split(".")[0]) is not None


def engine_version(name: str) -> str | None:
    """Version of an interpreter; None where it is not installed, or does not say."""
    if name in TFLITE_ENGINES:
        with suppress(ImportError):
            module = importlib.import_module(TFLITE_ENGINES[name].partition(".")[0])
            if isinstance(said := getattr(module, "__version__", None), str):
                return said
    from importlib import metadata  # with all that reads mails: 2 MB that most runs never need

    package = ENGINE_PACKAGES[name]
    for distribution in (package, *_BUILDS.get(package, ())):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _accelerated(ort: Any, engine: str, source: bytes | str, options: Any, plain: Any) -> Any:
    """A session whose first provider is that of `engine`; EngineError where it does not start.

    `plain` is a session of the same graph on the CPU.
    """
    provider = ONNX_ENGINES[engine]
    settings: dict[str, Any] = {}
    if provider == ONNX_ENGINES["onnxruntime-tensorrt"]:
        form = plain.get_modelmeta().custom_metadata_map.get(FORM_KEY, "float")
        settings = {
            "trt_fp16_enable": form != "float",
            "trt_int8_enable": form == "int8",  # by the graph's own scales
        }
        with suppress(OSError):  # without a place of its own it builds at every start
            folder = data_folder("engines")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # An engine for this board takes minutes to build: once.
            settings |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    providers = [(provider, settings), ONNX_ENGINES[_ON_CPU]]
    try:
        with native_stderr_silenced():
            # Its own way to a lesser provider prints to standard output, where events go.
            session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:  # each has a type of its own
        raise EngineError(f"{engine} does not start: {_line(error)}") from error
    if provider not in session.get_providers():
        raise EngineError(f"{engine} does not start: no GPU, or a library of NVIDIA's is missing")
    return session


def _fitting_engines(kind: str, wanted: str | None, least: Mapping[str, str]) -> list[str]:
    """The engines that can run a graph, best first; EngineError, with the next step, for none."""
    fitting = list(ONNX_ENGINES if kind == "onnx" else TFLITE_ENGINES)
    if wanted is not None and wanted not in fitting:
        raise EngineError(f"{wanted!r} cannot run a {kind} graph; one of {', '.join(fitting)} can")
    candidates = [wanted] if wanted else fitting
    installed = _onnx_engines() if kind == "onnx" else _tflite_engines()
    found = [name for name in candidates if name in installed]
    new = [name for name in found if not _is_older(name, least)]
    if new:
        # Who refuses a graph on the CPU says what is wrong with it; a GPU may only be missing.
        return new if kind == "onnx" else new[:1]
    package = ENGINE_PACKAGES[candidates[0]]
    if found:
        raise EngineError(
            f"{package} {engine_version(found[0])} is older than the {least[package]} that the "
            f"graph is made for: pip install --upgrade {package}"
        )
    raise EngineError(
        f"no interpreter for {kind} graphs is installed ({' or '.join(candidates)}): pip install "
        f"{'onnxruntime-gpu' if wanted in _ON_GPU else package}"
    )


def _is_older(name: str, least: Mapping[str, str]) -> bool:
    needed = least.get(ENGINE_PACKAGES[name])
    version = engine_version(name) if needed else None
    return needed is not None and version is not None and release(version) < release(needed)


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
