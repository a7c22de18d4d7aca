"""Networks of other papers: as large as published, trained on our folds, blind to the test side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dct

from benchmarks import peers
from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.peers import light_sernet, network, reslstm_sa, tim_net
from benchmarks.peers.fold_pool import Tick, side_by_side
from benchmarks.peers.network import Clips, FoldTask, NetworkPeer, Standardized, fit, predict
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from training.corpora import Utterance
from training.corpora.manifest import write as write_manifest
from training.data.folds import speaker_folds

librosa = pytest.importorskip("librosa", reason="librosa is not installed: extra speaker")

PEERS = [*light_sernet.peers(), *tim_net.peers(), *reslstm_sa.peers()]
LIGHT, TIM, LSTM = PEERS
MIB = 2**20


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def utterances(clips: list[Path]) -> list[Utterance]:
    """Two actors, each angry and sad."""
    label = {"04": "sad", "05": "angry"}
    return [
        Utterance(clip, label[clip.stem[6:8]], clip.parent.name, "ravdess")
        for clip in clips
        if clip.stem[6:8] in label
    ]


def weights(peer: NetworkPeer, classes: int) -> int:
    return sum(p.numel() for p in peer.network(classes).parameters())


def test_they_are_as_large_as_published() -> None:
    # Counted by the authors for the eight classes of RAVDESS.
    assert weights(LSTM, 8) == 46_772
    # Seven classes of EMO-DB, float32.
    assert round(4 * weights(TIM, 7) / MIB, 2) == 0.40
    # 0.88 MB, which four classes of IEMOCAP and seven of EMO-DB have in 16 bits a weight.
    assert {round(2 * weights(LIGHT, classes) / MIB, 2) for classes in (4, 7)} == {0.88}


def test_they_hear_as_much_as_published(clips: list[Path]) -> None:
    clip = read_file(clips[0])  # RAVDESS, more than 3 s
    shapes = {"light-sernet": (184, 40), "tim-net": (215, 39)}
    for peer in (LIGHT, TIM):
        for samples in (clip, clip[:160], np.tile(clip, 3)):
            assert peer.features(samples).shape == shapes[peer.key]
        # What is too long is cut on both sides: its middle is heard.
        middle = len(clip) // 2
        half = round(peer.seconds * 16_000) // 2  # type: ignore[operator]
        noise = np.random.default_rng(0).integers(-9000, 9000, 80_000).astype(np.int16)
        within = np.concatenate([noise, clip[middle - half : middle + half], noise])
        if peer is LIGHT:
            alone = peer.features(clip[middle - half : middle + half])
            np.testing.assert_array_equal(peer.features(within), alone)
    # As many milliseconds as 4096 samples every 2048 at 48 kHz.
    assert LSTM.features(clip).shape == (1 + len(clip) // 682, 46)
    assert LSTM.features(clip[:160]).shape == (1, 46)
    for peer in PEERS:
        assert np.isfinite(peer.features(np.zeros(8000, np.int16))).all()


def test_cepstra_of_light_sernet_are_those_of_another_hand(clips: list[Path]) -> None:
    clip = read_file(clips[0])
    found = LIGHT.features(clip)
    signal = light_sernet._levelled(light_sernet._middle(clip))
    magnitudes = np.abs(librosa.stft(signal, n_fft=1024, hop_length=256, center=False))
    # librosa's triangles are straight in Hz, TensorFlow's in mel: they agree where bands are wide.
    bands = librosa.filters.mel(
        sr=16_000, n_fft=1024, n_mels=128, fmin=80, fmax=7600, htk=True, norm=None
    )
    assert np.corrcoef(bands[64:].ravel(), light_sernet._mel_bands().T[64:].ravel())[0, 1] > 0.99
    mels = np.log(light_sernet._mel_bands().T @ magnitudes + 1e-6)
    expected = np.sqrt(2 / 128) * dct(mels, axis=0)[:40] / 2
    np.testing.assert_allclose(found, np.clip(expected, -10, 10).T, atol=1e-3)
    assert found.max() == 10  # what is louder is clipped
    # Every clip is brought to one level.
    assert np.abs(clip).max() < 16_384
    np.testing.assert_allclose(LIGHT.features(2 * clip), found, atol=1e-3)


def test_a_verdict_does_not_depend_on_what_pads_it(clips: list[Path]) -> None:
    model = LSTM.built(4, 46).eval()
    short, long = LSTM.features(read_file(clips[0])[:20_000]), LSTM.features(read_file(clips[1]))
    frames, lengths = network.batch([short, long])
    with torch.inference_mode():
        together = model(frames, lengths)
        alone = [model(torch.from_numpy(clip)[None]) for clip in (short, long)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.fixture
def fold(clips: list[Path], utterances: list[Utterance], tmp_path: Path) -> FoldTask:
    """Both actors are on the training side, and the German clips are what is judged."""
    return fold_of(LSTM, utterances, [c for c in clips if c.parent.name == "wav"], tmp_path)


def fold_of(peer: NetworkPeer, train: list[Utterance], test: list[Path], work: Path) -> FoldTask:
    heard = [peer.features(read_file(p)) for p in (*(u.audio for u in train), *test)]
    truth = np.array([*(int(u.label == "sad") for u in train), *(0 for _ in test)])
    rows = np.arange(len(heard))
    return FoldTask(
        *(peer, Clips.write(heard, work / f"{peer.key}.npy"), truth),
        *(rows[: len(train)], rows[len(train) :]),
        *(2, 1, work / "verdicts.npy"),
    )


@pytest.mark.parametrize(
    ("peer", "epochs"), [(LIGHT, 30), (TIM, 80), (LSTM, 100)], ids=lambda p: getattr(p, "key", "")
)
def test_each_learns_a_few_clips(
    utterances: list[Utterance], tmp_path: Path, peer: NetworkPeer, epochs: int
) -> None:
    task = replace(fold_of(peer, utterances, [], tmp_path), epochs=epochs)
    clips = task.clips.read()
    steps: list[int] = []
    model, share = fit(task, clips, lambda: steps.append(1))
    assert len(steps) == task.updates == epochs
    assert share == 1.0
    np.testing.assert_array_equal(predict(model, clips), task.truth)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_nothing_is_learned_from_the_test_side(
    clips: list[Path], utterances: list[Utterance], tmp_path: Path, peer: NetworkPeer
) -> None:
    task = fold_of(peer, utterances, [c for c in clips if c.parent.name == "wav"], tmp_path)
    assert set(task.train) & set(task.test) == set()
    heard = task.clips.read()
    model, share = fit(task, heard, lambda: None)
    blind = [
        clip if i in task.train else np.full_like(clip, np.nan) for i, clip in enumerate(heard)
    ]
    others = np.where(np.isin(np.arange(len(heard)), task.train), task.truth, 1 - task.truth)
    again, same = fit(replace(task, truth=others), blind, lambda: None)
    assert share == same
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        assert torch.isfinite(value).all()


def test_features_are_standardized_by_the_training_side(fold: FoldTask) -> None:
    heard = fold.clips.read()
    model, _ = fit(fold, heard, lambda: None)
    assert isinstance(model, Standardized)
    train = np.concatenate([heard[i] for i in fold.train])
    np.testing.assert_allclose(model.mean, train.mean(axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(model.deviation, train.std(axis=0), rtol=1e-3)


class Odds(torch.nn.Module):
    """Learns how frequent classes are, and nothing of the clips."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.odds = torch.nn.Parameter(torch.zeros(classes))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.odds.expand(len(frames), -1)


def test_a_rare_class_counts_as_much_as_a_frequent_one(tmp_path: Path) -> None:
    recipe = replace(LSTM.recipe, optimizer=lambda net: torch.optim.Adam(net.parameters(), 0.01))
    peer = replace(LSTM, network=Odds, recipe=recipe, standardized=False)
    truth = np.array([0] * 30 + [1] * 3)
    clips = Clips.write([np.ones((2, 46), np.float32)] * 33, tmp_path / "frames.npy")
    rows, nothing = np.arange(33), np.zeros(0, np.int64)
    task = FoldTask(peer, clips, truth, rows, nothing, 3, 300, tmp_path / "verdicts.npy")
    model, _ = fit(task, clips.read(), lambda: None)
    odds = torch.softmax(model.odds.detach(), dim=0)
    # A class that no clip of the fold has counts for nothing.
    assert odds.tolist() == pytest.approx([0.49, 0.49, 0.02], abs=0.03)


def test_small_data_train_for_more_epochs_and_none_for_more_than_its_paper() -> None:
    assert [LIGHT.recipe.epochs(clips) for clips in (5200, 448, 40)] == [5, 58, 300]
    assert [TIM.recipe.epochs(clips) for clips in (5200, 448)] == [13, 143]
    assert [LSTM.recipe.epochs(clips) for clips in (5200, 448)] == [19, 100]


def test_the_learning_rate_follows_the_paper_over_the_epochs_there_are() -> None:
    # Light-SERNet: 1e-4 to epoch 50 of 300; e^-0.15 at 60 and then every 20.
    rate = LIGHT.recipe.rate
    published = [np.exp(-0.15 * max(0, epoch // 20 - 2)) for epoch in range(300)]
    assert [rate(epoch, 300) for epoch in range(300)] == pytest.approx(published)
    assert rate(0, 7) == 1 > rate(6, 7) > 0.1
    assert {TIM.recipe.rate(epoch, 13) for epoch in range(13)} == {1.0}
    # ResLSTM-SA: cosines that begin anew; the last epoch ends one.
    rate = LSTM.recipe.rate
    tens = [rate(epoch, 100) for epoch in range(100)]
    assert tens[::10] == [1.0] * 10
    assert tens[9] == min(tens) < 0.04
    assert [rate(epoch, 19) for epoch in range(19)] == [1.0] * 19  # a prime: periods of one
    assert rate(14, 15) == min(rate(epoch, 15) for epoch in range(15))


def test_folds_side_by_side_give_the_same_and_are_trained_once(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = speaker_folds(utterances, 2)

    def judge(where: str, jobs: int) -> network.Judged:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / where))
        return LSTM.judge(utterances, plan, jobs, 3)

    alone = judge("a", 1)
    assert alone == judge("b", 2)
    assert alone.metrics["ravdess"].n == 4
    assert "ResLSTM-SA: 3 epochs (its paper: 100), 3 updates a fold; " in alone.note

    def refuse(*_: object) -> None:
        raise AssertionError("it is known")

    monkeypatch.setattr(network, "fit", refuse)
    assert judge("a", 1) == alone
    # Other folds are others.
    with pytest.raises(AssertionError, match="it is known"):
        LSTM.judge(utterances, plan, 1, 4)


def test_what_is_interrupted_goes_on_where_it_was(
    utterances: list[Utterance], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = speaker_folds(utterances, 2)
    trained: list[FoldTask] = []
    really = network.fit

    def fit_then_stop(task: FoldTask, clips: list[np.ndarray], tick: Tick) -> object:
        trained.append(task)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return really(task, clips, tick)

    monkeypatch.setattr(network, "fit", fit_then_stop)
    with pytest.raises(KeyboardInterrupt):
        LSTM.judge(utterances, plan, 1, 1)
    judged = LSTM.judge(utterances, plan, 1, 1)
    assert len(judged.fold_ua["ravdess"]) == 2
    assert [list(task.test) for task in trained] == [
        list(fold.test) for fold in (plan[0], plan[1], plan[1])
    ]


def forever(task: str, tick: Tick) -> None:
    """Steps without end, but for one task, which fails at once."""
    if task == "fails":
        raise BenchmarkError("it fails")
    while True:
        tick()


def test_a_fold_that_fails_ends_the_others() -> None:
    with pytest.raises(BenchmarkError, match="it fails"):
        side_by_side(forever, ["goes on", "fails", "never begins"], 10**9, 2, "folds")


def test_they_stand_in_the_same_table(
    bundle: Bundle,
    utterances: list[Utterance],
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(peers, "compare", lambda *_: [])  # the times of graphs: another matter
    write_manifest(tmp_path / "clips.csv", utterances)
    out = tmp_path / "peers.json"
    corpora = ["--corpora", f"manifest@acted={tmp_path / 'clips.csv'}"]
    options = ["--folds", "2", "--jobs", "1", "--epochs", "2", "--together"]
    named = "light-sernet,tim-net,reslstm-sa"
    assert main(["peers", *corpora, *options, "--only", named, "--json", str(out)]) == 0
    accuracy = json.loads(out.read_text())["accuracy"]
    ours, *others = accuracy["standings"]
    assert [other["who"] for other in others] == ["Light-SERNet", "TIM-Net", "ResLSTM-SA"]
    for other, parameters, heard in zip(
        others, (460_098, 104_296, 46_382), (3.0, 4.989, None), strict=True
    ):
        figures = other["corpora"]["manifest@acted"]
        low, high = figures["ua_interval"]
        assert (figures["n"], figures["speakers"]) == (4, 2)
        assert 0 <= low <= figures["ua"] <= high <= 1
        assert other["parameters"] == parameters
        assert 4 * parameters < other["file_bytes"] < 6 * parameters
        assert other["ms_per_second"] == pytest.approx(other["ms"] / (heard or 7.5), rel=0.01)
    assert ours["parameters"] is None
    protocols = accuracy["protocols"]
    assert "the last epoch" in protocols["peers"]
    assert "2 epochs (its paper: 300), 2 updates a fold" in protocols["light-sernet"]
    page = capsys.readouterr().out
    for words in ("TIM-Net", "104296", "ms per s heard", "manifest@acted, 2 speakers, 4 clips"):
        assert words in page


def test_networks_train_only_where_they_are_named() -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    assert not {peer.key for peer in peers._chosen("")} & {peer.key for peer in PEERS}
    assert [peer.key for peer in peers._chosen("tim-net")] == ["tim-net"]


def test_a_network_that_cannot_hear_says_so(
    utterances: list[Utterance],
    own_cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = replace(utterances[0], path=tmp_path / "gone.wav")
    assert network.extract(LIGHT, [gone], jobs=1) == [None]
    assert "gone.wav for Light-SERNet" in caplog.text
    with pytest.raises(BenchmarkError, match="no clip of ravdess has features"):
        LIGHT.judge([gone, replace(gone, label="angry")], [], 1, 1)
