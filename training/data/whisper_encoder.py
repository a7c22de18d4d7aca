"""The first blocks of the encoder of Whisper-tiny: as they are published, and trained further.

Published weights are those of smart-turn v3.2 (BSD-2-Clause, in the wheel of pipecat-ai), which was
trained from Whisper-tiny (Radford et al. 2022, arXiv 2212.04356; MIT) to hear whether somebody has
finished speaking. It keeps them in int8.
"""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_runtime.pretrained_arrays import MELS
from edge_runtime.untrusted import ZIP_ERRORS
from training.data.teachers.whisper import FRAMES, WIDTH, weights
from training.errors import TrainingError
from training.tiers import Extent

_HEADS = 6
_MOST_FRAMES = 800  # for which it has positions
_MOST_UNITS = 4 * WIDTH
_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


class Block(nn.Module):
    """A block of the encoder: self-attention, then two dense layers, each normalized before."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, units)
        self.fc2 = nn.Linear(units, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """States (n, T, 384) to states of the same shape."""
        y = self.self_attn_layer_norm(x)
        q, k, v = (
            layer(y).view(*x.shape[:2], _HEADS, WIDTH // _HEADS).permute(0, 2, 1, 3)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.training:  # the same in one operation, which no converter takes
            found = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            scale = (WIDTH // _HEADS) ** -0.5
            attention = torch.softmax(torch.matmul(q * scale, k.transpose(2, 3)), dim=3)
            found = torch.matmul(attention, v)
        found = found.permute(0, 2, 1, 3).reshape(x.shape)
        x = x + self.out_proj(found)
        return cast(Tensor, x + self.fc2(_gelu(self.fc1(self.final_layer_norm(x)))))


class WhisperEncoder(nn.Module):
    """The encoder's first blocks."""

    def __init__(self, extent: Extent, frames: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(frames // 2, WIDTH))
        self.layers = nn.ModuleList(Block(extent.units) for _ in range(extent.blocks))

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel frames (n, 80, frames) to states (n, frames / 2, 384)."""
        x = _gelu(self.conv2(_gelu(self.conv1(mel)))).transpose(1, 2) + self.positions
        for block in self.layers:
            x = block(x)
        return x


def _gelu(x: Tensor) -> Tensor:
    """By the hyperbolic tangent: off by less than 0.001, and LiteRT has it in one kernel."""
    return nn.functional.gelu(x, approximate="tanh")


def published_encoder(extent: Extent, frames: int = FRAMES) -> WhisperEncoder:
    """The encoder with its published weights.

    Of the units of its dense layers those are left out that weigh least: by the norm of what they
    read times that of what they give.

    Raises TrainingError for more of blocks, units or frames than it has, and where the package with
    the weights is not installed.
    """
    blocks, units = extent.blocks, extent.units
    if not 1 <= blocks <= 4 or not 2 <= frames <= _MOST_FRAMES or frames % 2:
        raise TrainingError(
            f"the encoder has 4 blocks and hears up to {_MOST_FRAMES} frames, an even number, not "
            f"{blocks} blocks and {frames} frames"
        )
    if not 1 <= units <= _MOST_UNITS:
        raise TrainingError(f"a block of the encoder has {_MOST_UNITS} units, not {units}")
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
        if units < _MOST_UNITS:
            _keep_units(state, f"layers.{block}", units)
    model = WhisperEncoder(extent, frames)
    tensors = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
    model.load_state_dict(tensors)
    return model.eval()


def _keep_units(state: dict[str, npt.NDArray[Any]], block: str, units: int) -> None:
    """Leave so many units to the dense layers of a block."""
    reads, gives = (f"{block}.{layer}.weight" for layer in ("fc1", "fc2"))
    weight = np.linalg.norm(state[reads], axis=1) * np.linalg.norm(state[gives], axis=0)
    kept = np.sort(np.argsort(-weight, kind="stable")[:units])
    for name in (reads, f"{block}.fc1.bias"):
        state[name] = state[name][kept]
    state[gives] = state[gives][:, kept]


def _products(graph: Any, kept: dict[str, npt.NDArray[Any]]) -> list[dict[str, str]]:
    """Of each block, the name of each layer's weights, which the exporter numbered in order."""
    names = [
        name.removesuffix("_quantized")
        for name, value in kept.items()
        if name.startswith("val_") and name.endswith("_quantized") and value.ndim == 2
    ]
    names.sort(key=lambda name: int(name.removeprefix("val_")))
    of_blocks = [name for name in names if _shape(kept, name)[0] in (WIDTH, 4 * WIDTH)]
    per = len(_LAYERS)
    blocks = [
        dict(zip(_LAYERS, of_blocks[start : start + per], strict=True))
        for start in range(0, len(of_blocks) - per + 1, per)
    ]
    expected = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    for block in blocks[:4]:
        if [_shape(kept, name) for name in block.values()] != expected:
            raise TrainingError("the encoder's weights are not in the order of smart-turn v3.2")
    if len(blocks) < 4:
        raise TrainingError(f"the encoder has {len(blocks)} blocks, not those of smart-turn v3.2")
    return blocks


def _shape(kept: dict[str, npt.NDArray[Any]], name: str) -> tuple[int, ...]:
    return kept[f"{name}_quantized"].shape


def _real(kept: dict[str, npt.NDArray[Any]], name: str, axis: int) -> npt.NDArray[np.float32]:
    """Weights as reals; each channel, along `axis`, has a scale and zero point of its own."""
    steps = kept[f"{name}_quantized"].astype(np.float32)
    form = [-1 if place == axis else 1 for place in range(steps.ndim)]
    zero = kept[f"{name}_zero_point"].astype(np.float32).reshape(form)
    return np.asarray((steps - zero) * kept[f"{name}_scale"].reshape(form), np.float32)


def packed_encoder(encoder: WhisperEncoder) -> bytes:
    """Its weights as a file, .npz: matrices in int8 steps, a scale for each channel of the output.

    The steps are those that the converter's int8 graph has, so that what is built of the file is
    the same graph.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in encoder.state_dict().items():
        values = tensor.detach().float().numpy()
        if not name.endswith(".weight") or values.ndim == 1:
            arrays[name] = values
            continue
        rows = np.abs(values.reshape(len(values), -1))
        scale = np.maximum(rows.max(axis=1), 1e-12) / _LEVELS
        form = (-1, *[1] * (values.ndim - 1))
        arrays[name] = np.rint(values / scale.reshape(form)).astype(np.int8)
        arrays[f"{name}.scale"] = scale.astype(np.float32)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
    return file.getvalue()


_LEVELS = 127  # steps of an int8 weight either way


def unpacked_encoder(content: bytes) -> WhisperEncoder:
    """The encoder of a file of `packed_encoder`, as many blocks and frames as that has.

    Raises ValueError for anything else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
    except (*ZIP_ERRORS, ValueError) as error:
        raise ValueError(f"the file is no encoder: {error}") from None
    state = {}
    for name, values in arrays.items():
        if name.endswith(".scale"):
            continue
        scale = arrays.get(f"{name}.scale")
        if scale is not None:
            values = values * scale.reshape(-1, *[1] * (values.ndim - 1))
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    blocks = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    if "positions" not in state or not blocks:
        raise ValueError("the file is no encoder: it has no positions, or no blocks")
    units = len(state.get("layers.0.fc1.weight", ()))
    encoder = WhisperEncoder(Extent(blocks, units), 2 * len(state["positions"]))
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the file is no encoder: {error}") from None
    return encoder.eval()


def encoder_of(content: bytes | None, extent: Extent, name: str) -> WhisperEncoder:
    """The encoder of a file of that name, or, without one, so much of the published.

    Raises TrainingError as `published_encoder`, and for a file that is none.
    """
    if content is None:
        return published_encoder(extent)
    try:
        return unpacked_encoder(content)
    except ValueError as error:
        raise TrainingError(f"{name}: {error}") from None
