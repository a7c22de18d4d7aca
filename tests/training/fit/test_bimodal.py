"""Words, attention and missing modalities against the equations, one example at a time in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.network.config import ModelConfig, Variant, variants
from training.network.cost import cost
from training.network.fakequant import ActivationQuantizer, Phase, SoftmaxQuantizer, set_phase
from training.network.model import MSCNN, SPU, Attention, MscnnSpu

Float64 = NDArray[np.float64]
FULL = "audio+text+att+swem+speaker"
SMALL = ModelConfig(
    variant=FULL,
    features=6,
    audio_kernels=(3, 5),
    text_kernels=(2, 3, 4),
    filters=4,
    hidden=(5,),
    vocabulary=20,
    embedding=7,
    speaker=3,
)


def build(config: ModelConfig, seed: int = 0) -> MscnnSpu:
    """A model in evaluation mode with nothing left at a value that could hide a mistake."""
    torch.manual_seed(seed)
    model = MscnnSpu(config)
    with torch.no_grad():
        if config.parts.audio:
            model.feature_mean.normal_()
            model.feature_std.uniform_(0.5, 2)
        mean, variance = model.standardize.running()
        mean.normal_()
        variance.uniform_(0.5, 2)
    return model.eval()


def inputs(config: ModelConfig, frames: list[int], words: list[int], seed: int = 1) -> dict:
    """A padded batch; what lies beyond an example's end is there to be ignored."""
    rng = torch.Generator().manual_seed(seed)
    rows = len(frames)
    batch = {
        "features": torch.randn(rows, max(frames) + 3, config.features, generator=rng),
        "lengths": torch.tensor(frames),
        "tokens": torch.randint(1, config.vocabulary, (rows, max(words) + 2), generator=rng),
        "words": torch.tensor(words),
        "speaker": torch.randn(rows, config.speaker, generator=rng),
    }
    for row, (n, m) in enumerate(zip(frames, words, strict=True)):
        batch["features"][row, n:] = 1e3
        batch["tokens"][row, m:] = config.vocabulary - 1
    wanted = config.parts
    keys = ["features", "lengths"] * wanted.audio + ["tokens", "words"] * wanted.text
    return {key: batch[key] for key in [*keys, *(["speaker"] * wanted.speaker)]}


def numpy_maps(mscnn: MSCNN, x: Float64) -> list[Float64]:
    """Kernel k at step t sees x[t - (k - 1) // 2] to x[t + k // 2], zeros beyond the ends."""
    result = []
    for conv in mscnn.convs:
        weight, bias = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
        kernel = weight.shape[2]
        maps = np.zeros((len(x), len(weight)))
        for t in range(len(x)):
            for f in range(len(weight)):
                total = bias[f]
                for j in range(kernel):
                    at = t - (kernel - 1) // 2 + j
                    if 0 <= at < len(x):
                        total += float(x[at] @ weight[f, :, j])
                maps[t, f] = max(0.0, total)
        result.append(maps)
    return result


def numpy_spu(maps: Float64) -> list[Float64]:
    mean = maps.mean(axis=0)
    return [maps.max(axis=0), mean, np.sqrt(((maps - mean) ** 2).mean(axis=0) + 1e-5)]


def numpy_attention(query: Float64, maps: Float64, scale: float) -> Float64:
    scores = np.array([scale * float(query @ h) for h in maps])
    exponentials = np.exp(scores - scores.max())
    shares = exponentials / exponentials.sum()
    return sum((share * h for share, h in zip(shares, maps, strict=True)), np.zeros(maps.shape[1]))


def numpy_logits(model: MscnnSpu, batch: dict, row: int) -> Float64:
    """The whole model for one example, as the paper's equations have it."""
    config, parts = model.config, []
    frames, words = int(batch["lengths"][row]), int(batch["words"][row])
    raw = batch["features"][row, :frames].double().numpy()
    audio = numpy_maps(model.audio, (raw - model.feature_mean.numpy()) / model.feature_std.numpy())
    table = model.embedding.weight.detach().double().numpy()
    rows = table[batch["tokens"][row, :words].numpy()]
    text = numpy_maps(model.text, rows)
    queries = [numpy_spu(maps) for maps in audio]
    for maps in (*audio, *text):
        parts += numpy_spu(maps)
    scale = config.attention_scale or 1 / np.sqrt(config.filters)
    for index, maps in enumerate(text):
        chosen = queries if config.attention_pairs == "all" else [queries[index]]
        parts += [numpy_attention(e, maps, scale) for scale_of in chosen for e in scale_of]
    parts += [rows.max(axis=0), rows.mean(axis=0), batch["speaker"][row].double().numpy()]
    mean, std = (x.double().numpy() for x in model.pooled_statistics())
    x = (np.concatenate(parts) - mean) / std
    for index, layer in enumerate(model.head.layers):
        x = layer.weight.detach().double().numpy() @ x + layer.bias.detach().double().numpy()
        x = np.maximum(x, 0) if index < len(model.head.layers) - 1 else x
    return x


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, attention_scale=1.0, text_kernels=(2, 3, 4, 5)),
        replace(SMALL, attention_pairs="matched", text_kernels=(2, 5)),
    ],
    ids=["all pairs", "the paper's scale", "matched pairs"],
)
def test_the_model_computes_the_equations(config: ModelConfig) -> None:
    model = build(config)
    batch = inputs(config, [17, 5, 30], [1, 9, 4])
    found = model(**batch).detach().numpy()
    expected = np.stack([numpy_logits(model, batch, row) for row in range(3)])
    # float32 sums of a few hundred terms of size 1 to 10
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_swem_is_the_highest_and_the_mean_embedding() -> None:
    config = replace(SMALL, variant="text+swem")
    model = build(config)
    batch = inputs(config, [1, 1], [3, 8])
    pooled, _ = model.pooled(**batch)
    for row, words in enumerate((3, 8)):
        rows = model.embedding.weight[batch["tokens"][row, :words]]
        expected = torch.cat([rows.amax(dim=0), rows.mean(dim=0)])
        torch.testing.assert_close(pooled[row, -14:], expected)


@pytest.mark.parametrize("variant", variants())
def test_a_padded_batch_is_its_utterances_one_by_one(variant: str) -> None:
    config = replace(SMALL, variant=variant)
    model = build(config)
    batch = inputs(config, [9, 30, 17, 4], [7, 1, 3, 12])
    together = model(**batch)
    for row in range(4):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        for key, length in (("features", "lengths"), ("tokens", "words")):
            if key in alone:
                alone[key] = alone[key][:, : int(alone[length])]
        torch.testing.assert_close(together[row : row + 1], model(**alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", variants())
def test_every_variant_trains_and_has_the_parameters_that_are_counted(variant: str) -> None:
    config = replace(SMALL, variant=variant, labels=("a", "b"))
    model = MscnnSpu(config).train()
    batch = inputs(config, [9, 30, 17, 4], [7, 1, 3, 12])
    before = {name: value.clone() for name, value in model.named_parameters()}
    weights = [
        name
        for name, value in model.named_parameters()
        if not name.endswith((".low", ".high")) and value.requires_grad
    ]
    expected = cost(config)
    assert sum(before[name].numel() for name in weights) == expected.total_parameters
    assert model.width == expected.width
    for phase in Phase:
        set_phase(model, phase)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = torch.nn.functional.cross_entropy(model(**batch), torch.tensor([0, 1, 0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    after = dict(model.named_parameters())
    assert [name for name in weights if torch.equal(before[name], after[name])] == []


def test_a_missing_modality_is_zero_for_the_head_whichever_way_it_is_missing() -> None:
    model = build(SMALL)
    batch = inputs(SMALL, [9, 30], [7, 3])
    widths = SMALL.branches
    cases = {
        ("text", "attention", "swem"): [
            {**batch, "words": torch.zeros(2, dtype=torch.long)},
            {**batch, "modalities": torch.tensor([[True, False, True]] * 2)},
            {k: v for k, v in batch.items() if k not in ("tokens", "words")},
        ],
        ("audio", "attention"): [
            {**batch, "lengths": torch.zeros(2, dtype=torch.long)},
            {**batch, "modalities": torch.tensor([[False, True, True]] * 2)},
            {k: v for k, v in batch.items() if k not in ("features", "lengths")},
        ],
        ("speaker",): [
            {**batch, "modalities": torch.tensor([[True, True, False]] * 2)},
            {k: v for k, v in batch.items() if k != "speaker"},
        ],
    }
    complete = model(**batch)
    for missing, ways in cases.items():
        logits = []
        for way in ways:
            pooled, present = model.pooled(**way)
            standard = model.standardize.standardize(pooled, present)
            for name, part in zip(
                widths, standard.split(list(widths.values()), dim=1), strict=True
            ):
                assert bool((part == 0).all()) == (name in missing), name
            logits.append(model(**way))
        assert all(torch.equal(x, logits[0]) for x in logits)
        assert torch.isfinite(logits[0]).all()
        assert not torch.allclose(logits[0], complete)


def test_one_row_without_words_leaves_the_other_rows_alone() -> None:
    model = build(SMALL)
    batch = inputs(SMALL, [9, 30, 12], [7, 3, 5])
    complete = model(**batch)
    partly = model(**{**batch, "words": torch.tensor([7, 0, 5])})
    torch.testing.assert_close(partly[[0, 2]], complete[[0, 2]], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(partly[1], complete[1])


def test_what_is_missing_counts_in_no_statistic() -> None:
    norm = MscnnSpu(replace(SMALL, variant="text")).standardize
    width = norm.num_features
    x = torch.randn(8, width) * 3 + 5
    present = torch.ones(8, width, dtype=torch.bool)
    present[2:4] = False
    x[2:4] = 1e6
    rows = [0, 1, 4, 5, 6, 7]
    reference = torch.nn.BatchNorm1d(width, affine=False)
    expected = reference(x[rows])
    found = norm.standardize(x, present)
    torch.testing.assert_close(found[rows], expected, atol=1e-4, rtol=1e-4)
    assert not found[2:4].any()
    for ours, theirs in zip(
        norm.running(), (reference.running_mean, reference.running_var), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_plain_mean_counts_batches_where_all_is_present_as_often_as_others() -> None:
    norm = MscnnSpu(replace(SMALL, variant="text")).standardize
    norm.reset_running_stats()
    norm.momentum = None
    batches = [torch.randn(8, norm.num_features) + mean for mean in (3, 3, 3, 13, 3)]
    for number, batch in enumerate(batches):
        present = torch.ones(8, norm.num_features, dtype=torch.bool)
        present[0] = number > 2  # one that lacks it, in the first three
        norm.standardize(batch, present)
    means = [b[1:].mean(dim=0) for b in batches[:3]] + [b.mean(dim=0) for b in batches[3:]]
    torch.testing.assert_close(norm.running()[0], torch.stack(means).mean(dim=0))


def test_a_plain_mean_over_batches_skips_batches_without_the_modality() -> None:
    norm = MscnnSpu(replace(SMALL, variant="text")).standardize
    norm.reset_running_stats()
    norm.momentum = None
    first, last = torch.randn(8, norm.num_features), torch.randn(8, norm.num_features) + 2
    everywhere = torch.ones(8, norm.num_features, dtype=torch.bool)
    half = everywhere.clone()
    half[4:] = False
    for x, present in ((first, half), (first * 1e6, ~everywhere), (last, half)):
        norm.standardize(x, present)
    expected = (first[:4].mean(dim=0) + last[:4].mean(dim=0)) / 2
    torch.testing.assert_close(norm.running()[0], expected)


def test_a_missing_row_has_a_finite_gradient() -> None:
    model = MscnnSpu(SMALL).train()
    batch = inputs(SMALL, [9, 30, 12, 8], [7, 3, 5, 2])
    batch["words"][1] = 0
    batch["lengths"][2] = 0
    model(**batch).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_attention_without_a_word_is_zero_and_weights_sum_to_one() -> None:
    attention = Attention(1, matched=False, scale=1.0)
    maps = torch.ones(2, 6, 4)
    mask = torch.tensor([[True] * 3 + [False] * 3, [False] * 6])
    out = attention(torch.rand(2, 2, 3, 4), [maps], mask)
    assert out.shape == (2, 1, 6, 4)
    torch.testing.assert_close(out[0], torch.ones(1, 6, 4))
    assert not out[1].any()


def test_statistics_of_no_step_are_finite() -> None:
    out = SPU()(torch.rand(1, 5, 3), torch.zeros(1, 5))
    assert not out[0, :2].any()
    assert torch.isfinite(out).all()


def test_int8_stays_close_to_float_and_every_tensor_has_a_range() -> None:
    model = build(replace(SMALL, filters=16, hidden=(16,)))
    batch = inputs(SMALL, [60, 50, 40, 30], [12, 9, 5, 7])
    batch["features"] = batch["features"].clamp(-4, 4)
    before = model(**batch)
    set_phase(model, Phase.OBSERVE)
    torch.testing.assert_close(model(**batch), before)
    for name, module in model.named_modules():
        if isinstance(module, ActivationQuantizer):
            low, high = module.range()
            assert low <= 0 < high, name
            assert high > 1e-3, name
    set_phase(model, Phase.INT8)
    rounded = model(**batch)
    assert not torch.equal(rounded, before)
    # 8 bits through five tensors in a row: a few per cent of the logits' spread
    assert float((rounded - before).abs().max()) < 0.1 * float(before.max() - before.min())


def test_a_softmax_has_the_fixed_steps_of_int8_runtimes() -> None:
    quantizer = SoftmaxQuantizer()
    for phase in (Phase.OBSERVE, Phase.INT8):
        quantizer.phase = phase
        out = quantizer(torch.tensor([0.0, 0.3, 0.9999]))
    torch.testing.assert_close(out, torch.tensor([0, 77 / 256, 255 / 256]))


def test_even_kernels_lean_to_the_right() -> None:
    mscnn = MSCNN(1, (2, 3, 4, 5), 1)
    with torch.no_grad():
        for conv in mscnn.convs:
            conv.weight.fill_(1.0)
            conv.bias.zero_()
    impulse = torch.zeros(1, 9, 1)
    impulse[0, 4] = 1
    # Position i sees what comes k // 2 later: the impulse at 4 is first seen at 4 - k // 2.
    for kernel, maps in zip((2, 3, 4, 5), mscnn(impulse), strict=True):
        seen = maps[0, :, 0].nonzero().flatten().tolist()
        assert seen == list(range(4 - kernel // 2, 4 + (kernel - 1) // 2 + 1))


def test_the_paper_s_model_has_the_paper_s_shape() -> None:
    config = ModelConfig(variant="audio+text+att+swem+speaker", embedding=300, vocabulary=10)
    model = MscnnSpu(config).eval()
    assert [c.kernel_size[0] for c in model.text.convs] == [2, 3, 4, 5]
    assert config.branches == {
        "audio": 4 * 3 * 128,
        "text": 4 * 3 * 128,
        "attention": 4 * 4 * 3 * 128,
        "swem": 2 * 300,
        "speaker": 512,
    }
    macs = cost(config).macs
    assert macs["audio"] == 32 * 96 * 128 * 750
    assert macs["text"] == 14 * 300 * 128 * 128
    assert macs["attention"] == 4 * 2 * 12 * 128 * 128


def test_variant_names() -> None:
    assert len(variants()) == len(set(variants())) == 14
    assert all(Variant.parse(name) for name in variants())
    assert Variant.parse("audio+text+att+speaker+swem") == Variant.parse(FULL)
    assert not Variant.parse("text").audio
    for wrong in ("", "att", "audio+att", "text+att", "audio+swem", "text+audio", "text+swem+swem"):
        with pytest.raises(ValueError, match="variant"):
            Variant.parse(wrong)
        with pytest.raises(ValueError, match="variant"):
            ModelConfig(variant=wrong)
