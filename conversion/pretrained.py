"""A pre-trained encoder as a graph for the device (`training.data.whisper_encoder`).

Convolutions and products take int8 weights and quantize what they read as they go. Normalization,
softmax and GELU have no int8 form that LiteRT runs; they, and what goes from layer to layer, stay
float32.
"""

from __future__ import annotations

from pathlib import Path

import torch

from conversion.converter_log import converter
from conversion.export import SEED, Exported, Part, export_part, to_tflite
from edge_runtime.manifest import PRETRAINED
from edge_runtime.pretrained_arrays import MELS
from training.data.whisper_encoder import WhisperEncoder


def export_encoder(encoder: WhisperEncoder, folder: Path) -> Exported:
    """The encoder as float ONNX in `folder`, held against torch.

    Raises ConversionError where a step fails.
    """
    drawn, frames = torch.Generator().manual_seed(SEED), 2 * len(encoder.positions)
    mel = {"mel": torch.randn(1, MELS, frames, generator=drawn)}
    return export_part(PRETRAINED, Part(encoder, mel, ["states"]), folder)


def write_encoder(encoder: WhisperEncoder, out: Path, work: Path) -> None:
    """The encoder as a TFLite graph of int8 weights, `out`; `work` is for what is in between.

    Raises ConversionError where a step fails.
    """
    from ai_edge_quantizer import quantizer, recipe

    float_path = to_tflite(export_encoder(encoder, work), work / "float")
    with converter("ai-edge-quantizer", float_path.name):
        found = quantizer.Quantizer(str(float_path), recipe.dynamic_wi8_afp32()).quantize()
    out.write_bytes(bytes(found.quantized_model))
