"""The first blocks of the encoder of Whisper-tiny as a graph for the device.

Weights are those of smart-turn v3.2 (BSD-2-Clause, in the wheel of pipecat-ai), which was trained
from Whisper-tiny (Radford et al. 2022, arXiv 2212.04356; MIT) to hear whether somebody has finished
speaking. It keeps them in int8, and so does the graph: convolutions and products take int8 weights
and quantize what they read as they go. Normalization, softmax and GELU have no int8 form that
LiteRT runs; they, and what goes from layer to layer, stay float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from conversion.converter_log import converter
from conversion.errors import ConversionError
from conversion.export import SEED, Exported, Part, export_part, to_tflite
from conversion.quantize import natural_order
from edge_runtime.manifest import PRETRAINED
from edge_runtime.pretrained_arrays import MELS
from training.data.teachers.whisper import BLOCKS, FRAMES, WIDTH, weights

_HEADS = 6
_MOST_FRAMES = 800  # for which it has positions


class Block(nn.Module):
    """A block of the encoder: self-attention, then two dense layers, each normalized before."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """States (1, T, 384) to states of the same shape."""
        y = self.self_attn_layer_norm(x)
        q, k, v = (
            layer(y).view(1, x.shape[1], _HEADS, WIDTH // _HEADS).permute(0, 2, 1, 3)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scale = (WIDTH // _HEADS) ** -0.5
        attention = torch.softmax(torch.matmul(q * scale, k.transpose(2, 3)), dim=3)
        found = torch.matmul(attention, v).permute(0, 2, 1, 3).reshape(x.shape)
        x = x + self.out_proj(found)
        return cast(Tensor, x + self.fc2(_gelu(self.fc1(self.final_layer_norm(x)))))


class WhisperEncoder(nn.Module):
    """The encoder's first blocks."""

    def __init__(self, blocks: int, frames: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(frames // 2, WIDTH))
        self.layers = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel frames (1, 80, frames) to states (1, frames / 2, 384)."""
        x = _gelu(self.conv2(_gelu(self.conv1(mel)))).transpose(1, 2) + self.positions
        for block in self.layers:
            x = block(x)
        return x


def _gelu(x: Tensor) -> Tensor:
    """By the hyperbolic tangent: off by less than 0.001, and LiteRT has it in one kernel."""
    return nn.functional.gelu(x, approximate="tanh")


def whisper_encoder(blocks: int = BLOCKS, frames: int = FRAMES) -> WhisperEncoder:
    """The encoder with its weights.

    Raises ConversionError for more blocks or frames than it has, TrainingError where the package
    with the weights is not installed.
    """
    if not 1 <= blocks <= 4 or not 2 <= frames <= _MOST_FRAMES or frames % 2:
        raise ConversionError(
            f"the encoder has 4 blocks and hears up to {_MOST_FRAMES} frames, an even number, not "
            f"{blocks} blocks and {frames} frames"
        )
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(weights())).graph
    kept = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    state = {}
    for name in ("conv1", "conv2"):
        prefix = f"inner.encoder.{name}"
        state[f"{name}.weight"] = _real(kept, f"{prefix}.weight", axis=0)
        scale = kept[f"{prefix}.bias_quantized_scale"]
        state[f"{name}.bias"] = kept[f"{prefix}.bias_quantized"] * scale
    state["positions"] = kept["inner.encoder.embed_positions.weight"][: frames // 2]
    products = _products(graph, kept)
    for block in range(blocks):
        for layer, name in products[block].items():
            state[f"layers.{block}.{layer}.weight"] = _real(kept, name, axis=1).T
        for layer in ("q_proj", "v_proj", "out_proj", "fc1", "fc2"):
            place = "" if layer.startswith("fc") else "self_attn."
            bias = f"inner.encoder.layers.{block}.{place}{layer}.bias"
            state[f"layers.{block}.{layer}.bias"] = kept[bias]
        for layer in ("self_attn_layer_norm", "final_layer_norm"):
            for kind in ("weight", "bias"):
                name = f"inner.encoder.layers.{block}.{layer}.{kind}"
                state[f"layers.{block}.{layer}.{kind}"] = kept[name]
    model = WhisperEncoder(blocks, frames)
    tensors = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
    model.load_state_dict(tensors)
    return model.eval()


_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def _products(graph: Any, kept: dict[str, npt.NDArray[Any]]) -> list[dict[str, str]]:
    """Of each block, the name of each layer's weights, which the exporter numbered in order."""
    names = natural_order(
        name.removesuffix("_quantized")
        for name, value in kept.items()
        if name.startswith("val_") and name.endswith("_quantized") and value.ndim == 2
    )
    of_blocks = [name for name in names if _shape(kept, name)[0] in (WIDTH, 4 * WIDTH)]
    per = len(_LAYERS)
    blocks = [
        dict(zip(_LAYERS, of_blocks[start : start + per], strict=True))
        for start in range(0, len(of_blocks) - per + 1, per)
    ]
    expected = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    for block in blocks[:4]:
        if [_shape(kept, name) for name in block.values()] != expected:
            raise ConversionError("the encoder's weights are not in the order of smart-turn v3.2")
    if len(blocks) < 4:
        raise ConversionError(f"the encoder has {len(blocks)} blocks, not those of smart-turn v3.2")
    return blocks


def _shape(kept: dict[str, npt.NDArray[Any]], name: str) -> tuple[int, ...]:
    return kept[f"{name}_quantized"].shape


def _real(kept: dict[str, npt.NDArray[Any]], name: str, axis: int) -> npt.NDArray[np.float32]:
    """Weights as reals; each channel, along `axis`, has a scale and zero point of its own."""
    steps = kept[f"{name}_quantized"].astype(np.float32)
    form = [-1 if place == axis else 1 for place in range(steps.ndim)]
    zero = kept[f"{name}_zero_point"].astype(np.float32).reshape(form)
    return np.asarray((steps - zero) * kept[f"{name}_scale"].reshape(form), np.float32)


def export_encoder(folder: Path, blocks: int = BLOCKS, frames: int = FRAMES) -> Exported:
    """The encoder as float ONNX in `folder`, held against torch. Raises as `whisper_encoder`."""
    drawn = torch.Generator().manual_seed(SEED)
    mel = {"mel": torch.randn(1, MELS, frames, generator=drawn)}
    return export_part(PRETRAINED, Part(whisper_encoder(blocks, frames), mel, ["states"]), folder)


def write_encoder(out: Path, work: Path, blocks: int = BLOCKS, frames: int = FRAMES) -> None:
    """The encoder as a TFLite graph of int8 weights, `out`; `work` is for what is in between.

    Raises as `whisper_encoder`, and ConversionError where a step fails.
    """
    from ai_edge_quantizer import quantizer, recipe

    float_path = to_tflite(export_encoder(work, blocks, frames), work / "float")
    with converter("ai-edge-quantizer", float_path.name):
        found = quantizer.Quantizer(str(float_path), recipe.dynamic_wi8_afp32()).quantize()
    out.write_bytes(bytes(found.quantized_model))
