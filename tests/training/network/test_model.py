"""The network against its equations, written out plainly in NumPy, one example at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.int8 import dequantize, grid, quantize
from edge_runtime.model.spu import RunningStatistics
from training.network.config import ModelConfig
from training.network.cost import cost
from training.network.fakequant import ActivationQuantizer, Phase, fake_quantize_weight, set_phase
from training.network.model import MSCNN, SPU, AudioMSCNN, MscnnSpu

CONFIG = ModelConfig(features=6, audio_kernels=(3, 5), filters=4, hidden=(5,))


@pytest.fixture
def model() -> MscnnSpu:
    torch.manual_seed(0)
    model = MscnnSpu(CONFIG)
    with torch.no_grad():
        model.feature_mean.normal_()
        model.feature_std.uniform_(0.5, 2)
        model.standardize.running_mean.normal_()
        model.standardize.running_var.uniform_(0.5, 2)
    return model.eval()


def numpy_statistics(model: MscnnSpu, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolution, ReLU, max, mean and standard deviation, filter by filter, step by step."""
    x = (frames - model.feature_mean.numpy()) / model.feature_std.numpy()
    parts = []
    for conv in model.audio.convs:
        weight, bias = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
        half = weight.shape[2] // 2
        padded = np.pad(x, ((half, half), (0, 0)))
        maps = np.zeros((len(x), len(weight)))
        for t in range(len(x)):
            for f in range(len(weight)):
                window = padded[t : t + 2 * half + 1]
                maps[t, f] = max(0.0, float((window * weight[f].T).sum() + bias[f]))
        mean = maps.mean(axis=0)
        std = np.sqrt(((maps - mean) ** 2).mean(axis=0) + 1e-5)
        parts += [maps.max(axis=0), mean, std]
    return np.concatenate(parts)


def test_pooled_statistics_are_those_of_the_equations(model: MscnnSpu) -> None:
    frames = np.random.default_rng(0).normal(0, 2, (17, 6))
    found = model.audio_statistics(
        torch.tensor(frames, dtype=torch.float32)[None], torch.tensor([17])
    )
    # float32 sums of a few hundred terms of size 1 to 10
    np.testing.assert_allclose(
        found[0].detach().numpy(), numpy_statistics(model, frames), rtol=1e-4, atol=1e-5
    )


def test_padding_is_masked_out_of_everything(model: MscnnSpu) -> None:
    rng = np.random.default_rng(1)
    clips = [rng.normal(0, 2, (n, 6)).astype(np.float32) for n in (9, 30, 17)]
    batch = torch.full((3, 40, 6), 1e3)  # what lies beyond a clip must not matter
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    together = model(batch, torch.tensor([9, 30, 17]))
    for logits, clip in zip(together, clips, strict=True):
        alone = model(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))[0]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)


def test_the_device_pools_what_training_pools(model: MscnnSpu) -> None:
    frames = torch.randn(1, 53, 6)
    expected = model.audio_statistics(frames, torch.tensor([53]))[0].detach().numpy()
    maps = model.audio((frames - model.feature_mean) / model.feature_std)
    pooled = []
    for scale in maps:
        statistics = RunningStatistics(4)
        for start in range(0, 53, 10):
            statistics.update(scale[0, start : start + 10].detach().numpy())
        pooled.append(statistics.result().reshape(-1))
    np.testing.assert_allclose(np.concatenate(pooled), expected, rtol=1e-4, atol=1e-5)


def test_std_of_constant_maps_has_a_finite_gradient() -> None:
    maps = torch.zeros(2, 7, 3, requires_grad=True)
    SPU()(maps, torch.ones(2, 7)).sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_the_default_model_has_the_paper_s_shape() -> None:
    model = MscnnSpu(ModelConfig())
    assert [c.kernel_size[0] for c in model.audio.convs] == [5, 7, 9, 11]
    assert all(c.out_channels == 128 and c.in_channels == 96 for c in model.audio.convs)
    assert model.width == 4 * 3 * 128
    assert model(torch.randn(2, 750, 96), torch.tensor([750, 400])).shape == (2, 4)


def test_a_speaker_embedding_joins_the_head_as_a_vector() -> None:
    model = MscnnSpu(ModelConfig(variant="audio+speaker", speaker=16)).eval()
    features, lengths = torch.randn(2, 50, 96), torch.tensor([50, 30])
    one = model(features, lengths, speaker=torch.zeros(2, 16))
    other = model(features, lengths, speaker=torch.ones(2, 16))
    assert model.width == 4 * 3 * 128 + 16
    assert not torch.allclose(one, other)


def test_weights_are_rounded_to_127_steps_of_each_channel() -> None:
    weight = torch.randn(8, 6, 5)
    rounded = fake_quantize_weight(weight)
    scale = weight.abs().amax(dim=(1, 2), keepdim=True) / 127
    steps = rounded / scale
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert float((rounded - weight).abs().max() / scale.max()) <= 0.5 + 1e-4


def test_an_activation_range_is_learned_and_keeps_zero_exact() -> None:
    quantizer = ActivationQuantizer()
    data = torch.randn(4000) * 2 + 0.3
    quantizer.phase = Phase.OBSERVE
    assert torch.equal(quantizer(data), data)
    low, high = quantizer.range()
    assert low < -5 < 5 < high
    quantizer.phase = Phase.INT8
    out = quantizer(data)
    assert len(out.unique()) <= 256
    assert float(quantizer(torch.zeros(1))) == 0.0
    # half a step, and at the ends as much again for the shift that makes zero exact
    assert float((out - data.clamp(low, high)).abs().max()) <= 1.01 * (high - low) / 255
    (out**2).sum().backward()
    assert float(quantizer.low.grad) != 0.0
    assert float(quantizer.high.grad) != 0.0


@pytest.mark.parametrize(("low", "high"), [(-3.0, 2.0), (-0.1, 5.0), (0.0, 4.0)])
def test_training_rounds_activations_to_the_steps_of_the_device(low: float, high: float) -> None:
    scale, zero_point = grid(low, high)
    steps = np.arange(-400, 400)  # some beyond both ends
    # Away from the middle of two steps, where the last bit of a float decides.
    off = np.random.default_rng(0).uniform(-0.4, 0.4, steps.size)
    data = np.asarray((steps + off) * scale, np.float32)
    quantizer = ActivationQuantizer()
    quantizer.phase = Phase.INT8
    with torch.no_grad():
        quantizer.low.fill_(low)
        quantizer.high.fill_(high)
        found = quantizer(torch.from_numpy(data)).numpy()
    expected = dequantize(quantize(data, scale, zero_point), scale, zero_point)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # a step is over 0.015


def test_the_float_phase_changes_nothing_and_int8_stays_close(model: MscnnSpu) -> None:
    features, lengths = torch.randn(4, 60, 6), torch.tensor([60, 50, 40, 30])
    before = model(features, lengths)
    set_phase(model, Phase.OBSERVE)
    model(features, lengths)
    set_phase(model, Phase.INT8)
    rounded = model(features, lengths)
    assert not torch.equal(rounded, before)
    # 8 bits through three layers: a few per cent of the logits' spread
    assert float((rounded - before).abs().max()) < 0.1 * float(before.max() - before.min())
    set_phase(model, Phase.FLOAT)
    assert torch.equal(model(features, lengths), before)


def test_maps_keep_the_length_of_the_signal() -> None:
    maps = MSCNN(96, (5, 7, 9, 11), 8)(torch.randn(2, 33, 96))
    assert [m.shape for m in maps] == [torch.Size([2, 33, 8])] * 4
    assert all(float(m.min()) >= 0 for m in maps)


DEEP = replace(CONFIG, audio_stride=3, audio_dilations=(1, 2))


def test_strided_maps_are_those_of_every_third_frame() -> None:
    torch.manual_seed(0)
    strided = AudioMSCNN(replace(CONFIG, audio_stride=3))
    dense = AudioMSCNN(CONFIG)
    dense.load_state_dict(strided.state_dict())
    for frames in (1, 2, 3, 4, 32, 33):
        x = torch.randn(2, frames, CONFIG.features)
        for few, every in zip(strided(x), dense(x), strict=True):
            torch.testing.assert_close(few, every[:, ::3])


def test_deep_maps_are_nonnegative_and_depend_on_their_context_alone() -> None:
    torch.manual_seed(0)
    mscnn, context, stride = AudioMSCNN(DEEP), DEEP.audio_context, DEEP.audio_stride
    x = torch.randn(1, 90, DEEP.features)
    before = mscnn(x)
    assert [m.shape for m in before] == [torch.Size([1, 30, 4])] * 2
    assert all(float(m.min()) >= 0 for m in before)
    x[:, 45] += 5.0
    changed = torch.stack([(a != b).any(dim=2)[0] for a, b in zip(mscnn(x), before, strict=True)])
    reached = changed.any(dim=0).nonzero().flatten() * stride
    assert int(reached.min()) >= 45 - context
    assert int(reached.max()) <= 45 + context
    assert len(reached) > 1


def test_a_deep_model_does_not_hear_the_padding_of_its_batch() -> None:
    torch.manual_seed(0)
    model = MscnnSpu(DEEP).eval()
    clip = torch.randn(1, 40, DEEP.features)
    longer = torch.cat([clip, torch.randn(1, 30, DEEP.features)], dim=1)
    torch.testing.assert_close(
        model(longer, torch.tensor([40])), model(clip, torch.tensor([40])), atol=1e-5, rtol=1e-5
    )


def test_the_cost_of_a_deep_model_is_that_of_its_weights() -> None:
    model = MscnnSpu(DEEP)
    weights = [p for n, p in model.audio.named_parameters() if not n.endswith((".low", ".high"))]
    found = cost(DEEP, frames=90)
    assert found.parameters["audio"] == sum(p.numel() for p in weights)
    assert found.macs["audio"] == 30 * sum(p.numel() for p in weights if p.dim() > 1)
