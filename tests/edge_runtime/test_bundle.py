"""Bundles: a sound one loads from a folder or a zip, a damaged one is refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import EdgeError, EmotionStream, load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import PRETRAINED, Calibration, manifest_to_json
from edge_runtime.manifest_check import _check_shapes

Command = Callable[..., subprocess.CompletedProcess[str]]
Int16 = npt.NDArray[np.int16]
Damage = Callable[[Path], object]


def edit(**changes: Any) -> Damage:
    """Overwrite fields of the manifest; `a__b` is field b of field a, None removes it."""

    def damage(path: Path) -> None:
        raw = json.loads((path / "manifest.json").read_text())
        for name, value in changes.items():
            *parents, last = name.split("__")
            inner = raw
            for key in parents:
                inner = inner[int(key) if isinstance(inner, list) else key]
            if value is None:
                del inner[last]
            else:
                inner[last] = value
        (path / "manifest.json").write_text(json.dumps(raw))

    return damage


def flip_a_byte(path: Path) -> None:
    content = bytearray((path / "head.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "head.tflite").write_bytes(content)


def write_manifest(text: bytes) -> Damage:
    return lambda path: (path / "manifest.json").write_bytes(text)


def swap_graphs(path: Path) -> None:
    """Both graphs intact, each with its right hash, but in the other's place."""
    raw = json.loads((path / "manifest.json").read_text())
    encoder, head = raw["graphs"]["audio_encoder"], raw["graphs"]["head"]
    for key in ("file", "sha256"):
        encoder[key], head[key] = head[key], encoder[key]
    (path / "manifest.json").write_text(json.dumps(raw))


def not_a_model(path: Path) -> None:
    (path / "head.tflite").write_bytes(b"no model at all" * 100)
    digest = hashlib.sha256((path / "head.tflite").read_bytes()).hexdigest()
    edit(graphs__head__sha256=digest)(path)


GRAPH = {"file": "head.tflite", "sha256": "0" * 64, "inputs": [], "outputs": []}

# What happened to it, and words that the one line must hold: which file or field, and why.
DAMAGES: list[tuple[str, Damage, tuple[str, ...]]] = [
    ("flipped byte", flip_a_byte, ("head.tflite is damaged", "sha256")),
    (
        "missing graph",
        lambda p: (p / "audio_encoder.tflite").unlink(),
        ("cannot read audio_encoder.tflite", "No such file"),
    ),
    (
        "missing manifest",
        lambda p: (p / "manifest.json").unlink(),
        ("cannot read manifest.json", "No such file"),
    ),
    ("future schema", edit(schema=3), ("schema 3", "upgrade")),
    ("no schema", edit(schema=None), ("schema None",)),
    ("not JSON", write_manifest(b"{"), ("manifest.json is not JSON",)),
    ("not text", write_manifest(b"\xff\xfe\x00\x81"), ("manifest.json is not JSON",)),
    ("empty manifest", write_manifest(b""), ("manifest.json is not JSON",)),
    ("a list", write_manifest(b"[1]"), ("schema None",)),
    ("missing key", edit(labels=None), ("manifest.json lacks 'labels'",)),
    ("missing inner key", edit(mfcc__hop=None), ("mfcc lacks 'hop'",)),
    ("unknown key", edit(mfcc__vtln=1.1), ("mfcc has an unknown 'vtln'",)),
    ("wrong type", edit(mfcc__window="400"), ("window", '"400" is not of type int')),
    ("a class too many", edit(labels=list("abcde")), ("head.tflite output", "(1, 5)")),
    ("fewer kernels", edit(audio__kernels=[5, 7]), ("pooled_mean", "expected (4132,)")),
    ("stride beside the chunk", edit(audio__stride=5), ("chunk_frames 24", "stride 5")),
    ("short statistics", edit(audio__feature_mean=[0.0] * 95), ("feature_mean", "(95,)", "(96,)")),
    ("zero deviation", edit(audio__feature_std=[0.0] * 96), ("feature_std must be positive",)),
    ("NaN statistics", edit(audio__feature_mean=[float("nan")] * 96), ("feature_mean", "NaN")),
    (
        "no temperature",
        edit(calibration__audio__temperature=0),
        ("temperature of 'audio' is 0.0", "positive"),
    ),
    (
        "negative temperature",
        edit(calibration__audio__temperature=-1.5),
        ("temperature of 'audio' is -1.5", "positive"),
    ),
    (
        "endless temperature",
        edit(calibration__audio__temperature=float("inf")),
        ("temperature", "Infinity"),
    ),
    (
        "threshold above 1",
        edit(calibration__audio__threshold=1.5),
        ("threshold of 'audio' is 1.5", "from 0 to 1"),
    ),
    (
        "threshold below 0",
        edit(calibration__audio__threshold=-0.1),
        ("threshold of 'audio' is -0.1", "from 0 to 1"),
    ),
    ("another rate", edit(mfcc__sample_rate=44_100), ("sample_rate 44100", "16000")),
    ("impossible MFCC", edit(mfcc__hop=0), ("mfcc", "do not fit together")),
    ("impossible VAD", edit(segment__aggressiveness=9), ("segment", "cannot be meant")),
    ("no head", edit(graphs__head=None), ("lacks the head graph",)),
    (
        "wrong shape",
        edit(graphs__head__inputs__0__shape=[1, 7]),
        ("head.tflite input", "(1, 7)"),
    ),
    (
        "wrong scale",
        edit(graphs__head__inputs__0__scale=0.5),
        ("head.tflite does not have the inputs",),
    ),
    (
        "wrong zero point",
        edit(graphs__audio_encoder__outputs__0__zero_point=17),
        ("audio_encoder.tflite does not have the outputs",),
    ),
    ("swapped graphs", swap_graphs, ("does not have the inputs",)),
    ("no model", not_a_model, ("head.tflite", "refuses the graph")),
    (
        "path traversal",
        edit(graphs__head__file="../../etc/passwd"),
        ("'../../etc/passwd' points outside the bundle",),
    ),
    (
        "absolute path",
        edit(graphs__head__file="/etc/passwd"),
        ("'/etc/passwd' points outside the bundle",),
    ),
    ("file name with NUL", edit(graphs__head__file="a\0b"), ("file: 'a\\x00b' is no",)),
    ("a folder for a file", edit(graphs__head__file="."), ("cannot read .",)),
    ("endless lead", edit(segment__lead_ms=2**31 - 1), ("segment", "cannot be meant")),
    ("a label twice", edit(labels=["angry", "sad", "sad", "happy"]), ("different words",)),
    ("no label", edit(labels=["angry", "sad", " ", "happy"]), ("different words",)),
    ("a label that steers the terminal", edit(labels=["\x1b[2J"] * 4), ("'\\x1b[2J' is no",)),
    ("a label of half a letter", edit(labels=["\ud800"] * 4), ("'\\ud800' is no plain text",)),
    ("a line break in a name", edit(calibration={"a\nb": {}}), ("'a\\nb' is no plain text",)),
    ("a role of no graph", edit(graphs__keywords={**GRAPH}), ("role 'keywords'",)),
    ("other pairs", edit(attention__pairs="some"), ("pairs 'some'",)),
    ("beyond float32", edit(audio__feature_mean=[1e39] * 96), ("beyond float32",)),
    ("a tiny deviation", edit(audio__feature_std=[1e-40] * 96), ("must be positive",)),
    ("a tiny temperature", edit(calibration__audio__temperature=1e-300), ("1e-300", "0.001")),
    ("an endless step", edit(graphs__head__outputs__0__scale=1e30), ("scale 1e+30",)),
    ("numbers of another type", edit(graphs__head__outputs__0__dtype="object"), ("'object'",)),
    ("a large integer", write_manifest(b'{"schema": ' + b"9" * 5000 + b"}"), ("is not JSON",)),
    ("a name twice", write_manifest(b'{"schema": 2, "schema": 2}'), ("'schema' is there twice",)),
    ("a large manifest", write_manifest(b" " * 4_000_001), ("larger than the 4,000,000 bytes",)),
    ("a long unknown key", edit(**{"x" * 100_000: 1}), ("has an unknown 'xxx",)),
    ("deep nesting", write_manifest(b"[" * 100_000), ("manifest.json is not JSON",)),
]
NAMES = [name for name, _, _ in DAMAGES]


def zipped(folder: Path, file: Path, top: str = "") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(folder.iterdir()):
            archive.write(item, top + item.name)
    return file


def use(source: Path) -> None:
    """Everything that must have been checked before audio is opened."""
    EmotionStream(load_bundle(source))


@pytest.mark.parametrize(("name", "damage", "words"), DAMAGES, ids=NAMES)
def test_a_damaged_bundle_is_refused_in_one_line_that_says_what_is_wrong(
    bundle_copy: Path, name: str, damage: Damage, words: tuple[str, ...]
) -> None:
    damage(bundle_copy)
    with pytest.raises(EdgeError) as caught:
        use(bundle_copy)
    assert isinstance(caught.value, BundleError) or name == "no model"
    message = str(caught.value)
    assert str(bundle_copy) in message
    assert message.isprintable()
    assert len(message) < 2000
    for word in words:
        assert word in message


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_ends_of_a_confidence_are_thresholds(bundle_copy: Path, threshold: float) -> None:
    edit(calibration__audio__threshold=threshold)(bundle_copy)
    assert load_bundle(bundle_copy).manifest.calibration["audio"].threshold == threshold


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), 0.0])
def test_a_temperature_that_makes_no_probabilities_is_refused_whoever_made_the_manifest(
    bundle: Bundle, temperature: float
) -> None:
    calibration = {**bundle.manifest.calibration, "audio": Calibration(temperature, 0.0)}
    manifest = replace(bundle.manifest, calibration=calibration)
    with pytest.raises(BundleError, match="temperature of 'audio'"):
        _check_shapes(manifest, Path("mine"))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [item for item in DAMAGES if item[0] in ("flipped byte", "future schema", "wrong scale")],
    ids=["flipped byte", "future schema", "wrong scale"],
)
def test_the_command_refuses_it_before_any_audio_is_opened(
    bundle_copy: Path,
    edge_emotion: Command,
    name: str,
    damage: Damage,
    words: tuple[str, ...],
) -> None:
    damage(bundle_copy)
    done = edge_emotion("run", "--bundle", bundle_copy, "no-such-file.wav")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("edge-emotion: bundle")
    assert done.stderr.count("\n") == 1
    assert "no-such-file" not in done.stderr
    for word in words:
        assert word in done.stderr


def leaves(raw: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to the values of a manifest; of a long list only the first."""
    items: list[tuple[Any, Any]] = []
    if isinstance(raw, dict):
        items = list(raw.items())
    elif isinstance(raw, list):
        items = list(enumerate(raw))[:1]
    return [path, *(leaf for key, value in items for leaf in leaves(value, (*path, key)))]


def test_whatever_a_field_holds_the_bundle_works_or_is_refused_cleanly(bundle_copy: Path) -> None:
    file = bundle_copy / "manifest.json"
    text = file.read_text()
    free = {"metrics", "training"}
    paths = [p for p in leaves(json.loads(text)) if p and p[0] not in free]
    assert len(paths) > 50
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    faults = []
    values = (None, "x", -1, 0, 10**400, 1e308, True, [], {}, [None], {"x": 1})
    for number, path in enumerate(paths):
        # A third of the values each: neighbours are fields of one kind.
        for value in values[number % 3 :: 3]:
            raw = json.loads(text)
            inner = raw
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            file.write_text(json.dumps(raw))
            try:
                loaded = load_bundle(bundle_copy)
                with np.errstate(all="ignore"):
                    stream = EmotionStream(loaded)
                    stream.feed(noise)
                    stream.finish()
            except EdgeError as error:
                if "\n" in str(error):
                    faults.append(f"{path} = {value!r:.20}: more than one line: {error}")
            except Exception as error:
                faults.append(f"{path} = {value!r:.20}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


def scores(source: Path, samples: Int16) -> list[dict[str, float]]:
    stream = EmotionStream(load_bundle(source), partial_seconds=0)
    events = stream.feed(samples) + stream.finish()
    return [event.scores for event in events if event.type == "emotion"]  # type: ignore[union-attr]


def test_a_bundle_in_the_users_folder(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(bundle_copy.parent))
    assert load_bundle(f"~/{bundle_copy.name}").manifest.name == "default"
    with pytest.raises(EdgeError, match="~nobody-at-all/x"):
        load_bundle("~nobody-at-all/x")


@pytest.mark.parametrize("top", ["", "my-bundle/", "a/b/"])
def test_a_zip_of_the_folder_is_the_same_bundle(
    bundle_path: Path, tmp_path: Path, sentence: Int16, top: str
) -> None:
    archive = zipped(bundle_path, tmp_path / "bundle.zip", top)
    expected = scores(bundle_path, sentence)
    assert expected
    assert scores(archive, sentence) == expected


def test_a_truncated_zip_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    archive = zipped(bundle_path, tmp_path / "bundle.zip")
    archive.write_bytes(archive.read_bytes()[:-1000])
    with pytest.raises(BundleError, match=r"neither a bundle directory nor a \.zip"):
        load_bundle(archive)


def test_a_zip_with_damaged_data_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    archive = zipped(bundle_path, tmp_path / "bundle.zip")
    sound = archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        graphs = [item for item in opened.infolist() if item.filename.endswith(".tflite")]
    # Twenty places all over each graph's compressed data, 30 bytes and a name behind its header.
    for place in (
        int(place)
        for item in graphs
        for place in np.linspace(64, item.compress_size - 8, 20) + item.header_offset
    ):
        content = bytearray(sound)
        content[place : place + 4] = bytes(255 - byte for byte in content[place : place + 4])
        archive.write_bytes(content)
        with pytest.raises(BundleError, match=r"bundle\.zip") as caught:
            load_bundle(archive)
        assert "\n" not in str(caught.value)


def test_a_zip_without_a_manifest_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "manifest.json").unlink()
    archive = zipped(bundle_copy, tmp_path / "bundle.zip")
    with pytest.raises(BundleError, match=r"cannot read manifest.json: not in the archive"):
        load_bundle(archive)


def test_a_zip_that_lacks_a_graph_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "head.tflite").unlink()
    archive = zipped(bundle_copy, tmp_path / "bundle.zip")
    with pytest.raises(BundleError, match=r"cannot read head.tflite: not in the archive"):
        load_bundle(archive)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"cannot read manifest\.json"):
        load_bundle(tmp_path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"neither a bundle directory nor a \.zip"):
        load_bundle(tmp_path / "notes.txt")


def test_a_bundle_that_does_not_exist_is_refused(edge_emotion: Command, tmp_path: Path) -> None:
    done = edge_emotion("run", "--bundle", tmp_path / "nowhere", "a.wav")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"edge-emotion: no bundle at {tmp_path / 'nowhere'}: expected a directory or a .zip\n"
    )


def test_a_manifest_survives_being_written_and_read(bundle: Bundle, bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").write_text(manifest_to_json(bundle.manifest))
    again = load_bundle(bundle_copy).manifest
    assert manifest_to_json(again) == manifest_to_json(bundle.manifest)
    for name in ("pooled_mean", "pooled_std"):
        assert np.array_equal(getattr(again, name), getattr(bundle.manifest, name))
    assert again.audio is not None
    assert bundle.manifest.audio is not None
    for name in ("feature_mean", "feature_std"):
        assert np.array_equal(getattr(again.audio, name), getattr(bundle.manifest.audio, name))


def test_the_bundle_in_the_box_is_small_and_says_where_it_comes_from(
    bundle: Bundle, bundle_path: Path
) -> None:
    sizes = {file.name: file.stat().st_size for file in bundle_path.iterdir()}
    assert sum(sizes.values()) <= 7_600_000
    assert sum(size for name, size in sizes.items() if name.endswith(".tflite")) <= 6_000_000
    card = (bundle_path / "MODEL_CARD.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    graphs = [spec for role, spec in bundle.manifest.graphs.items() if role != PRETRAINED]
    for tensor in (t for g in graphs for t in (*g.inputs, *g.outputs)):
        assert tensor.dtype == "int8"
        assert tensor.scale > 0


def test_a_copied_bundle_can_be_loaded_without_its_card(bundle_copy: Path) -> None:
    (bundle_copy / "MODEL_CARD.md").unlink()
    use(bundle_copy)
    shutil.rmtree(bundle_copy)
