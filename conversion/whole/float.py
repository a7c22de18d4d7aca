"""The whole model in float over a fixed window: the ONNX form, and what int8 is held against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conversion.export import SEED, AttentionGraph, AudioEncoder, HeadGraph, Part, TextEncoder
from edge_runtime.branches import text_context
from edge_runtime.manifest_check import whole_inputs
from edge_runtime.model.fusion import MASKED_SCORE
from edge_runtime.model.spu import STD_EPSILON
from training.network.config import ModelConfig
from training.network.model import MscnnSpu


class WholeGraph(nn.Module):
    """The model in float over a window, with the inputs of the int8 graph: the ONNX form."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        config = model.config
        self.config, self.scale = config, model.attention.scale if config.parts.att else 0.0
        if config.parts.audio:
            self.audio = AudioEncoder(model)
        if config.parts.text:
            self.text = TextEncoder(model)
        if config.parts.att:
            self.attention = AttentionGraph(config.attention_pairs == "matched")
        self.head = HeadGraph(model)
        mean, std = model.pooled_statistics()
        self.mean, self.std = mean.detach().clone(), std.detach().clone()

    def forward(self, *values: Tensor) -> Tensor:
        """Inputs in the order of `inputs` -> logits (1, classes)."""
        given = dict(zip(inputs(self.config), values, strict=True))
        parts, branches = self.config.parts, {}
        heard = read = torch.ones(1)
        if parts.audio:
            context = self.config.audio_context
            frames = nn.functional.pad(given["frames"], (0, 0, context, context))
            counted, gain = given["frames_counted"], given["frames_gain"]
            heard = counted.amax()
            audio = [_statistics(maps, counted, gain) for maps in self.audio(frames)]
            branches["audio"] = torch.cat(audio, dim=1)
        if parts.text:
            counted, gain = given["words_counted"], given["words_gain"]
            read = counted.amax()
            maps = self.text(given["rows"])
            text = [_statistics(scale, counted, gain) for scale in maps]
            branches["text"] = torch.cat(text, dim=1)
        if parts.att:
            queries = torch.cat(audio, dim=1) * self.scale
            keys = [scale[0] for scale in maps]
            attended = self.attention(*keys, given["words_mask"], queries)
            branches["attention"] = torch.cat(attended, dim=1)
        if parts.swem:
            before, _ = text_context(self.config.text_kernels)
            rows = given["rows"][:, :, before : before + self.config.tokens]
            highest = (rows + (counted - 1) * 1e6).amax(dim=2)
            mean = (rows * counted).mean(dim=2, keepdim=True) * gain
            branches["swem"] = torch.cat([highest, mean[:, :, 0]], dim=1)
        present = {"audio": heard, "text": read, "attention": heard * read, "swem": read}
        standard, begin = [], 0
        for name, width in self.config.branches.items():
            end = begin + width
            if name == "speaker":
                standard.append(given["speaker"])
            else:
                raw = branches[name].reshape(1, width)
                scaled = (raw - self.mean[begin:end]) / self.std[begin:end]
                standard.append(scaled * present[name])
            begin = end
        logits: Tensor = self.head(torch.cat(standard, dim=1))
        return logits


def inputs(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names, in their order, and shapes of what the whole graph of a model reads."""
    parts = config.parts
    return whole_inputs(
        features=config.features if parts.audio else 0,
        stride=config.audio_stride,
        tokens=config.tokens if parts.text else 0,
        context=sum(text_context(config.text_kernels)),
        width=config.embedding,
        speaker=config.speaker if parts.speaker else 0,
        attention=parts.att,
    )


def whole_part(model: MscnnSpu) -> Part:
    """The float graph, with inputs of an utterance that fills two thirds of the window."""
    drawn = torch.Generator().manual_seed(SEED)
    shapes = inputs(model.config)
    values = {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}
    for what in ("frames", "words"):
        if f"{what}_counted" in values:
            counted = values[f"{what}_counted"]
            full = counted.shape[2] * 2 // 3
            counted[:] = 0
            counted[:, :, :full] = 1
            values[f"{what}_gain"][:] = counted.shape[2] / full
    if "words_mask" in values:
        values["words_mask"][:] = MASKED_SCORE
        values["words_mask"][..., : values["words_mask"].shape[2] * 2 // 3] = 0
    return Part(WholeGraph(model), values, ["logits"])


def _statistics(maps: Tensor, counted: Tensor, gain: Tensor) -> Tensor:
    """Maps (1, 1, T, C), 1 where they count (1, 1, T, 1), T / count -> (1, 3, C)."""
    valid = maps * counted
    mean = valid.mean(dim=2, keepdim=True) * gain
    variance = (((maps - mean) * counted) ** 2).mean(dim=2, keepdim=True) * gain
    spread = torch.sqrt(variance + STD_EPSILON)
    return torch.cat([valid.amax(dim=2, keepdim=True), mean, spread], dim=2)[0]
