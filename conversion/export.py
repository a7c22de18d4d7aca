"""Checkpoint to ONNX to float TFLite, each step held against the one before.

The audio encoder becomes a step graph: a chunk of frames with its context in, the convolutions'
maps out. Time is the width of an image of height one, the form that the XNNPACK delegate runs as
int8 matrix products; pooling over time happens on the device's host, exactly. Constant
normalization stays outside the graphs, where it is folded into quantization.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from conversion.converter_log import converter
from conversion.errors import ConversionError
from edge_runtime.branches import text_context
from edge_runtime.graph import Graph
from edge_runtime.manifest import ATTENTION, AUDIO_ENCODER, HEAD, TEXT_ENCODER
from edge_runtime.model.fusion import MASKED_SCORE
from training.network.config import STATISTICS
from training.network.model import MscnnSpu

Float32 = npt.NDArray[np.float32]

CHUNK_FRAMES = 25  # frames an encoder run advances, about: 250 ms, one partial verdict
TOLERANCE = 1e-4  # largest difference that float graphs may have from torch
SEED = 0  # of the examples that graphs are compared on
_OPSET = 17


class AudioEncoder(nn.Module):
    """The audio MSCNN over a chunk with context, one 2-d convolution per scale and layer."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        self.kernels = model.config.audio_kernels
        self.convs = nn.ModuleList(_as_image(layer) for layer in model.audio.convs)
        self.deep = nn.ModuleList(
            nn.ModuleList(_as_image(layer) for layer in cast(nn.ModuleList, layers))
            for layers in model.audio.deep
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Normalized frames (1, 1, chunk + 2 context, F) -> per scale (1, 1, chunk / stride, C)."""
        edges = [(max(self.kernels) - kernel) // 2 for kernel in self.kernels]
        maps = [
            torch.relu(conv(_image(frames, edge, edge)))
            for edge, conv in zip(edges, self.convs, strict=True)
        ]
        for layer in self.deep:
            joined = torch.cat(maps, dim=1)
            maps = [torch.relu(conv(joined)) for conv in cast(nn.ModuleList, layer)]
        return tuple(scale.permute(0, 2, 3, 1) for scale in maps)


class TextEncoder(nn.Module):
    """The text MSCNN over a window of embedding rows, one 2-d convolution per scale."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        self.kernels = model.config.text_kernels
        self.convs = nn.ModuleList(_as_image(layer) for layer in model.text.convs)

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        """Rows (1, 1, before + n + after, F) -> per scale (1, 1, n, C)."""
        before, after = text_context(self.kernels)
        outputs = []
        for kernel, conv in zip(self.kernels, self.convs, strict=True):
            image = _image(window, before - (kernel - 1) // 2, after - kernel // 2)
            outputs.append(torch.relu(conv(image)).permute(0, 2, 3, 1))
        return tuple(outputs)


def _image(window: Tensor, left: int, right: int) -> Tensor:
    """Steps (1, 1, n, F) without `left` and `right` of them, as torch lays images out.

    The converter lays them out as TFLite does, which undoes the permutation, unless it is made
    once before several cuts.
    """
    cut = window[:, :, left : window.shape[2] - right] if left or right else window
    return cut.permute(0, 3, 1, 2)


def _as_image(layer: nn.Module) -> nn.Conv2d:
    """The convolution over time as one over an image of height one, without padding."""
    source = cast(nn.Conv1d, layer)
    conv = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        (1, source.kernel_size[0]),
        stride=(1, source.stride[0]),
        dilation=(1, source.dilation[0]),
    )
    conv.weight.data = source.weight.data.unsqueeze(2)
    assert conv.bias is not None
    assert source.bias is not None
    conv.bias.data = source.bias.data
    return conv


def chunk_frames(stride: int) -> int:
    """Frames that an encoder run advances: a whole number of maps, close to `CHUNK_FRAMES`."""
    return stride * max(1, round(CHUNK_FRAMES / stride))


class AttentionGraph(nn.Module):
    """Queries and text maps -> what each query finds in the maps of each scale."""

    def __init__(self, matched: bool) -> None:
        super().__init__()
        self.matched = matched

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps per scale (1, N, C), mask (1, 1, N), queries (1, Q, C) -> per scale (1, q, C)."""
        *scales, mask, queries = inputs
        outputs = []
        for index, keys in enumerate(scales):
            first = index * len(STATISTICS)
            chosen = queries[:, first : first + len(STATISTICS)] if self.matched else queries
            scores = torch.matmul(chosen, keys.transpose(1, 2)) + mask
            outputs.append(torch.matmul(torch.softmax(scores, dim=2), keys))
        return tuple(outputs)


class HeadGraph(nn.Module):
    """Standardized statistics -> logits."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for item in model.head.layers:
            source = cast(nn.Linear, item)
            layer = nn.Linear(source.in_features, source.out_features)
            layer.weight.data = source.weight.data
            layer.bias.data = source.bias.data
            layers += [layer, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, statistics: Tensor) -> Tensor:
        """(1, width) -> (1, classes)."""
        logits: Tensor = self.layers(statistics)
        return logits


@dataclass(frozen=True, eq=False)
class Exported:
    """A graph as ONNX, and what torch computes for an example: what every later form must give."""

    path: Path
    examples: list[Float32]
    """One for each input, in the order of their names."""
    expected: list[Float32]


@dataclass(frozen=True, eq=False)
class Part:
    """A graph to be exported. Names sort in the order of the model's scales."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]


def export_onnx(model: MscnnSpu, folder: Path) -> dict[str, Exported]:
    """Write each streaming graph as ONNX into `folder`; return them by role.

    Raises ConversionError when ONNX Runtime differs from torch by more than `TOLERANCE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {role: export_part(role, part, folder) for role, part in _parts(model).items()}


def export_part(role: str, part: Part, folder: Path) -> Exported:
    """Write one graph as ONNX into `folder`. Raises ConversionError as `export_onnx`."""
    path = folder / f"{role}.onnx"
    examples = tuple(part.inputs.values())
    part.module.eval()
    with torch.no_grad(), converter("torch.onnx.export", path.name):
        torch.onnx.export(
            part.module,
            examples,
            str(path),
            input_names=list(part.inputs),
            output_names=part.outputs,
            opset_version=_OPSET,
            dynamo=False,
        )
        expected = part.module(*examples)
    tensors = expected if isinstance(expected, tuple) else (expected,)
    reference = Exported(
        path, [e.numpy() for e in examples], [tensor.numpy() for tensor in tensors]
    )
    _compare(f"{role}: ONNX Runtime against torch", reference, Graph(path))
    return reference


def _parts(model: MscnnSpu) -> dict[str, Part]:
    """The graphs of a model by role, with examples of their inputs, the same each time."""
    config, parts = model.config, {}
    drawn = torch.Generator().manual_seed(SEED)
    if config.parts.audio:
        width = chunk_frames(config.audio_stride) + 2 * config.audio_context
        frames = {"frames": torch.randn(1, 1, width, config.features, generator=drawn)}
        names = [f"maps_{kernel:02d}" for kernel in config.audio_kernels]
        parts[AUDIO_ENCODER] = Part(AudioEncoder(model), frames, names)
    if config.parts.text:
        width = config.tokens + sum(text_context(config.text_kernels))
        rows = {"rows": torch.randn(1, 1, width, config.embedding, generator=drawn)}
        names = [f"maps_{kernel:02d}" for kernel in config.text_kernels]
        parts[TEXT_ENCODER] = Part(TextEncoder(model), rows, names)
    if config.parts.att:
        maps = (1, config.tokens, config.filters)
        inputs = {
            f"keys_{kernel:02d}": torch.rand(maps, generator=drawn)
            for kernel in config.text_kernels
        }
        inputs["mask"] = torch.full((1, 1, config.tokens), MASKED_SCORE)
        inputs["mask"][..., : config.tokens // 2] = 0
        queries = len(config.audio_kernels) * len(STATISTICS)
        statistics = torch.rand(1, queries, config.filters, generator=drawn)
        inputs["queries"] = statistics * config.filters**-0.5
        names = [f"found_{kernel:02d}" for kernel in config.text_kernels]
        graph = AttentionGraph(config.attention_pairs == "matched")
        parts[ATTENTION] = Part(graph, inputs, names)
    pooled = {"pooled": torch.randn(1, model.width, generator=drawn)}
    parts[HEAD] = Part(HeadGraph(model), pooled, ["logits"])
    return parts


def to_tflite(exported: Exported, folder: Path) -> Path:
    """Convert one ONNX graph to float32 TFLite with onnx2tf; return its path.

    Raises ConversionError when onnx2tf fails, or LiteRT differs from torch by more than
    `TOLERANCE`.
    """
    import onnx2tf

    folder.mkdir(parents=True, exist_ok=True)
    onnx_path = exported.path
    path = folder / f"{onnx_path.stem}_float32.tflite"
    with converter("onnx2tf", onnx_path.name):
        onnx2tf.convert(
            input_onnx_file_path=str(onnx_path),
            output_folder_path=str(folder),
            copy_onnx_input_output_names_to_tflite=True,
            keep_shape_absolutely_input_names=[i.name for i in Graph(onnx_path).inputs],
        )
        if not path.exists():
            raise ConversionError(f"it wrote no {path.name}")
        graph = Graph(path)
    _compare(f"{onnx_path.stem}: float TFLite against torch", exported, graph)
    return path


def _compare(what: str, reference: Exported, graph: Graph) -> None:
    expected, computed = reference.expected, graph(*reference.examples)
    shapes = [e.shape for e in expected], [f.shape for f in computed]
    if shapes[0] != shapes[1]:
        raise ConversionError(f"{what}: outputs of shape {shapes[1]}, expected {shapes[0]}")
    worst = max(float(np.abs(e - f).max()) for e, f in zip(expected, computed, strict=True))
    if not worst <= TOLERANCE:
        raise ConversionError(f"{what}: largest difference {worst:.2e} exceeds {TOLERANCE:.0e}")
    logging.getLogger(__name__).info("%s: largest difference %.1e", what, worst)
