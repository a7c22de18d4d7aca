"""Adapting to a speaker: exact, off unless asked for, forgotten when asked; and profiles."""

from __future__ import annotations

import dataclasses
import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from voices import adapting_run, build_adapting

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.enroll import Enrolment
from edge_runtime.errors import BundleError, EdgeError, ProfileError
from edge_runtime.events import EmotionEvent
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.reference import Reference, least_alike
from edge_runtime.pcm import SAMPLE_RATE, amplified
from edge_runtime.profile import Profile, load_profile
from edge_runtime.reference_arrays import read_reference
from training.run import Run

Int16 = npt.NDArray[np.int16]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Path]:
    """A run that adapts, its bundle without a reference, and the folder of both."""
    folder = tmp_path_factory.mktemp("voices")
    made, plain = adapting_run(folder)
    return made, plain, folder


@pytest.fixture(scope="module")
def path(run: tuple[Run, Path, Path]) -> Path:
    return build_adapting(run[2], run[0])


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return load_bundle(path)


def said(stream: EmotionStream, samples: Int16, cut: int = 1600) -> list[EmotionEvent]:
    events = []
    for start in range(0, len(samples), cut):
        events += stream.feed(samples[start : start + cut])
    return [e for e in [*events, *stream.finish()] if isinstance(e, EmotionEvent)]


def told(events: list[EmotionEvent]) -> list[Any]:
    """All of the events that does not depend on the clock, to the bit."""
    return [(e.final, e.start, e.end, e.label, e.scores, e.modality) for e in events]


def finals(events: list[EmotionEvent]) -> list[dict[str, float]]:
    return [e.scores for e in events if e.final]


def test_off_is_as_without_a_reference(
    run: tuple[Run, Path, Path], bundle: Bundle, scene: Int16
) -> None:
    assert told(said(EmotionStream(bundle), scene)) == told(
        said(EmotionStream(load_bundle(run[1])), scene)
    )


def test_the_first_utterance_is_cold_and_later_ones_are_adapted(
    bundle: Bundle, scene: Int16
) -> None:
    cold, warm = said(EmotionStream(bundle), scene), said(EmotionStream(bundle, adapt=True), scene)
    first = next(i for i, e in enumerate(cold) if e.final)
    assert told(cold[: first + 1]) == told(warm[: first + 1])
    assert all(
        a.scores != b.scores for a, b in zip(cold[first + 1 :], warm[first + 1 :], strict=True)
    )
    assert all(sum(e.scores.values()) == pytest.approx(1, abs=1e-5) for e in warm)


@pytest.mark.parametrize("cut", [1, 7, 160, 1601, 16_000, 10**6])
def test_any_cut_of_the_samples_gives_the_same_verdicts(
    bundle: Bundle, scene: Int16, cut: int
) -> None:
    scene = scene[: 12 * SAMPLE_RATE] if cut == 1 else scene
    expected = said(EmotionStream(bundle, adapt=True), scene, 320)
    found = said(EmotionStream(bundle, adapt=True), scene, cut)
    # `t` is when it was said; all else is the same to the bit.
    assert told(found) == told(expected)


def test_restart_and_reset_forget(bundle: Bundle, scene: Int16) -> None:
    stream = EmotionStream(bundle, adapt=True)
    fresh = told(said(stream, scene))
    again = told(said(stream, scene))
    assert finals_differ(fresh, again)
    stream.restart()
    assert told(said(stream, scene)) == fresh
    stream.reset_speaker()
    assert stream.recognizer.reference is not None
    assert stream.recognizer.reference.weight == 0


def finals_differ(one: list[Any], other: list[Any]) -> bool:
    return [row[4] for row in one] != [row[4] for row in other]


def test_a_profile_counts_from_the_first_utterance_and_stays(bundle: Bundle, scene: Int16) -> None:
    profile = enrolled(bundle, scene)
    stream = EmotionStream(bundle, profile=profile)
    cold, known = said(EmotionStream(bundle), scene), said(stream, scene)
    assert finals(cold)[0] != finals(known)[0]
    stream.restart()
    assert told(said(stream, scene)) == told(known)


def enrolled(bundle: Bundle, samples: Int16, **options: Any) -> Profile:
    enrolment = Enrolment(bundle, **options)
    enrolment.feed(samples)
    enrolment.finish()
    return enrolment.profile()


def test_a_late_word_is_judged_by_what_was_known_then(bundle: Bundle, scene: Int16) -> None:
    recognizer = Recognizer(bundle)
    recognizer.reference = Reference(bundle, running=True)
    for _ in range(2):
        recognizer.feed(scene[:48_000])
        verdict = recognizer.finish()
    heard = recognizer.last
    recognizer.feed(scene[48_000:96_000])
    recognizer.finish()
    again = recognizer.judge(heard, "")
    assert verdict is not None
    assert again is not None
    assert again.scores.tolist() == verdict.scores.tolist()


def test_a_change_of_speaker_is_doubted_and_forgotten(bundle: Bundle) -> None:
    """Two voices that lie apart in the space of voices: the ratio against scipy's Gaussians."""
    from scipy.stats import norm

    arrays = bundle.reference()
    assert arrays is not None
    reference = Reference(bundle, running=True)
    rng = np.random.default_rng(0)
    width = arrays.voice_mean.size
    own = [rng.normal(0, 0.3, width).astype(np.float32) for _ in range(3)]
    for standard in own:
        reference.learn(standard, None, 2.0)
    tested = rng.normal(0, 1.5, width).astype(np.float32)
    opinion = reference.opinion(tested)
    assert opinion is not None
    voices = (np.clip([*own, tested], -4, 4) - arrays.voice_mean) @ arrays.voice
    spread, n = arrays.voice_spread.astype(float), len(own)
    mean = spread * n / (spread * n + 1) * voices[:n].mean(axis=0)
    within = np.sqrt(spread / (spread * n + 1) + 1)
    expected = norm.logpdf(voices[n], mean, within) - norm.logpdf(voices[n], 0, np.sqrt(spread + 1))
    assert opinion.ratio == pytest.approx(expected.sum(), abs=1e-2)
    assert opinion.share < 0.75 * (1 - opinion.changed) + 1e-6
    reference.learn(tested, opinion, 2.0)
    assert reference.weight == pytest.approx(3 * 0.98 * (1 - opinion.changed) + 1)


def test_words_join_what_the_reference_says(tmp_path: Path, scene: Int16) -> None:
    made, _ = adapting_run(tmp_path, "audio+text+att")
    both = load_bundle(build_adapting(tmp_path, made))
    verdicts = {}
    for adapt in (False, True):
        stream = EmotionStream(both, adapt=adapt)
        said(stream, scene)
        stream.read("kids are talking")
        verdicts[adapt] = said(stream, scene[: 5 * SAMPLE_RATE])[-1]
        alone = stream.judge_text("kids are talking")
        assert alone is not None
        verdicts[adapt, "text"] = alone
    assert verdicts[True].modality == verdicts[False].modality == "audio+text"
    assert verdicts[True].scores != verdicts[False].scores
    assert verdicts[True, "text"].scores == verdicts[False, "text"].scores


def test_short_utterances_teach_less(bundle: Bundle) -> None:
    reference = Reference(bundle, running=True)
    reference.learn(np.ones(reference._own.width, np.float32), None, 0.25)
    assert reference.weight == 0.25


def test_a_bundle_without_the_part_says_so(run: tuple[Run, Path, Path]) -> None:
    with pytest.raises(BundleError, match="cannot be adapted to a speaker"):
        EmotionStream(load_bundle(run[1]), adapt=True)


def test_old_manifests_are_written_as_before(run: tuple[Run, Path, Path], path: Path) -> None:
    assert "reference" not in json.loads((run[1] / "manifest.json").read_text())
    assert "reference" in json.loads((path / "manifest.json").read_text())


def npz(**changes: Any) -> Callable[[Bundle], bytes]:
    def make(bundle: Bundle) -> bytes:
        arrays = bundle.reference()
        assert arrays is not None
        values = {f.name: getattr(arrays, f.name) for f in dataclasses.fields(arrays)} | changes
        file = io.BytesIO()
        np.savez(file, **{k: v for k, v in values.items() if v is not None})
        return file.getvalue()

    return make


DAMAGES = [
    (lambda _: b"no zip", "no .npz"),
    (npz(bias=None), "not the arrays"),
    (npz(bias=np.zeros(3, np.float32)), "bias is float32"),
    (npz(bias=np.zeros(4)), "no .npy file of int8, float16 or float32"),
    (npz(bias=np.full(4, np.nan, np.float32)), "not finite"),
    (npz(bias=np.array([{}], object)), "no .npy file of int8"),
    (npz(voice_spread=-np.ones(6, np.float32)), "below 0"),
    (npz(bias=np.zeros(2_000_000, np.float32)), "more than"),
]


@pytest.mark.parametrize(("make", "why"), DAMAGES)
def test_arrays_that_do_not_fit_are_refused(
    bundle: Bundle, make: Callable[[Bundle], bytes], why: str
) -> None:
    width = bundle.manifest.branches["audio"]
    with pytest.raises(ValueError, match=why):
        read_reference(make(bundle), width, 4)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"version": 2}, "version 2"),
    ({"kind": "x"}, "is no edge-emotion"),
    ({"mean": "%"}, "damaged"),
    ({"weight": float("nan")}, "cannot be meant"),
    ({"weight": 0}, "made of silence"),
    ({"weight": "x"}, "damaged"),
]


@pytest.mark.parametrize(("changes", "why"), BROKEN)
def test_a_broken_profile_is_one_line(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    file = tmp_path / "p.json"
    Profile("b" * 64, "2030-01-01", 10.0, 3.0, np.ones(8, np.float32)).save(file)
    assert load_profile(file).mean.tolist() == [1.0] * 8
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ProfileError, match=why) as caught:
        load_profile(file)
    assert "\n" not in str(caught.value)


def test_what_is_no_profile_is_one_line(tmp_path: Path, bundle: Bundle) -> None:
    for content, why in ((b"\xff\x00", "not JSON"), (b" " * 30_000, "larger"), (b"[]", "is no")):
        (tmp_path / "p.json").write_bytes(content)
        with pytest.raises(ProfileError, match=why):
            load_profile(tmp_path / "p.json")
    with pytest.raises(ProfileError, match="another bundle"):
        EmotionStream(bundle, profile=Profile("0" * 64, "", 1.0, 1.0, np.ones(8, np.float32)))


REFUSED: list[tuple[Callable[[Int16], Int16], str]] = [
    (lambda s: np.zeros(160_000, np.int16), "hold no speech"),
    (lambda s: np.random.default_rng(0).normal(0, 500, 320_000).astype(np.int16), "hold no speech"),
    (lambda s: s[: 6 * SAMPLE_RATE], "s are needed"),
    (lambda s: (s / 150).astype(np.int16), "too quiet|hold"),
    (lambda s: np.clip(s.astype(int) * 40, -32768, 32767).astype(np.int16), "clipped"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED)
def test_what_cannot_be_enrolled_is_one_line(
    bundle: Bundle, scene: Int16, change: Callable[[Int16], Int16], why: str
) -> None:
    with pytest.raises(ProfileError, match=why) as caught:
        enrolled(bundle, change(scene))
    assert "\n" not in str(caught.value)


def test_two_people_are_told_by_the_least_alike(
    run: tuple[Run, Path, Path], bundle: Bundle, scene: Int16
) -> None:
    strict = load_bundle(build_adapting(run[2], run[0], one_voice=1e6))
    enrolment = Enrolment(strict)
    enrolment.feed(scene)
    enrolment.finish()
    with pytest.raises(ProfileError, match="two people"):
        enrolment.profile()
    assert enrolment.profile(anyway=True).weight > 2
    assert least_alike(bundle, []) == float("inf")


def test_enrolling_is_the_same_for_every_cut(bundle: Bundle, scene: Int16) -> None:
    found = []
    for cut in (160, 1600, 4001):
        enrolment = Enrolment(bundle)
        for start in range(0, len(scene), cut):
            enrolment.feed(scene[start : start + cut])
        enrolment.finish()
        found.append(enrolment.profile().mean.tolist())
    assert found[0] == found[1] == found[2]


@pytest.fixture
def enroll(environment: dict[str, str], tmp_path: Path) -> Command:
    """`edge-emotion ARGUMENTS` with a data folder of its own."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_runtime.cli", *map(str, arguments)],
            env={**environment, "XDG_DATA_HOME": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call


def test_from_enrolling_to_forgetting(
    enroll: Command, path: Path, scene: Int16, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "anna.wav", scene, SAMPLE_RATE)
    done = enroll("enroll", "anna", tmp_path / "anna.wav", "--bundle", path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "data" / "edge-emotion" / "speakers" / "anna.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size < 20_000
    assert enroll("enroll", "--list").stdout.startswith("anna: ")
    command = ("run", "--bundle", path, "--out", "jsonl", tmp_path / "anna.wav")
    cold, warm = enroll(*command), enroll(*command, "--speaker", "anna")
    assert warm.returncode == 0, warm.stderr
    assert scores_of(cold.stdout) != scores_of(warm.stdout)
    assert enroll("enroll", "anna", "--delete").returncode == 0
    assert not file.exists()
    gone = enroll(*command, "--speaker", "anna")
    assert gone.returncode == 2
    (line,) = gone.stderr.splitlines()
    assert "nobody is enrolled as 'anna'" in line


def test_a_profile_is_of_the_signal_that_run_hears(
    enroll: Command, path: Path, scene: Int16, tmp_path: Path
) -> None:
    """The second of two channels, softer by 6 dB, of a program that the settings file names."""
    left, samples, config = (tmp_path / name for name in ("left.wav", "samples", "config.toml"))
    other = np.roll(scene[::-1], 1000)
    np.stack([other, scene], axis=1).astype("<i2").tofile(samples)
    config.write_text(f'mic_command = "cat {samples}"\nchannels = 2\nchannel = 2\ngain_db = -6.0\n')
    soundfile.write(left, amplified(scene, -6.0), SAMPLE_RATE)
    bundle = ("--bundle", path, "--config", config)
    for arguments in (("live",), ("file", left), ("louder", "--gain-db", "0")):
        done = enroll("enroll", *arguments, *bundle)
        assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "edge-emotion" / "speakers"
    live, file, louder = (
        load_profile(folder / f"{name}.json").mean for name in ("live", "file", "louder")
    )
    # Blocks are cut otherwise, and with them the last utterance.
    assert np.abs(live - file).mean() < 0.5 * np.abs(live - louder).mean()


def scores_of(output: str) -> list[Any]:
    return [
        event["scores"] for line in output.splitlines() if "scores" in (event := json.loads(line))
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("enroll",), "name who speaks"),
        (("enroll", "../x", "f.wav"), "no name for a speaker"),
        (("enroll", "bob", "--delete"), "nobody is enrolled"),
        (("enroll", "bob", "f.wav", "--mic"), "name a FILE"),
        (("run", "f.wav", "--adapt", "--bundle", "PLAIN"), "cannot be adapted"),
        (("enroll", "bob", "f.wav", "--bundle", "PLAIN"), "cannot be adapted"),
    ],
)
def test_mistakes_are_one_line(
    enroll: Command, run: tuple[Run, Path, Path], arguments: tuple[str, ...], why: str
) -> None:
    done = enroll(*(run[1] if a == "PLAIN" else a for a in arguments))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert why in line


def test_names_and_errors_are_of_one_family() -> None:
    assert issubclass(ProfileError, EdgeError)
