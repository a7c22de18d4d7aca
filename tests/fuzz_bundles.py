"""Mutated bundles: what `load_bundle` and a short stream make of them, in children that may crash.

    python tests/fuzz_bundles.py --cases 10000

Case N is the same wherever it runs. A child takes case after case and says what came of each; one
that a signal ends, or that takes too long, is a finding, and another goes on behind it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from edge_runtime.audio.file import read_file  # noqa: E402
from edge_runtime.bundle import DEFAULT, MODELS, load_bundle  # noqa: E402
from edge_runtime.errors import EdgeError  # noqa: E402
from edge_runtime.stream import EmotionStream  # noqa: E402

CRASH, HANG, WORKS = "CRASH", "HANG", "works"
_SECONDS = 60  # that a case may take; most take a tenth of one
_MEMORY = 6 << 30  # bytes of address space of a child
_GRAPHS = ("audio_encoder.tflite", "text_encoder.tflite", "attention.tflite", "head.tflite")
_ARRAYS = ("embeddings.npy", "reference.npz", "familiarity.npz")
_TEXTS = ("vocabulary.txt", "keywords.txt")
_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_FOREIGN: tuple[Any, ...] = (
    *(None, True, False, "", "x", [], {}, [None], {"x": 1}, 10**400, 1e308, -1e308, 1e-308, 1e-45),
    *(float("nan"), float("inf"), "\x1b]0;owned\x07", "a\nb", "\ud800", "../../etc/passwd"),
    *("/dev/zero", ".", "head.tflite/..", "manifest.json", "A" * 5000, "\u202e"),
)
_FREE = ("metrics", "training", "versions")  # parts of a manifest that no device reads
Random = np.random.Generator


@dataclass
class Report:
    """What came of some cases."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind of damage: how often each outcome."""
    findings: list[str] = field(default_factory=list)
    """Cases with another outcome than the project's own errors, and which."""
    seconds: float = 0.0

    def add(self, kind: str, number: int, outcome: str) -> None:
        """Count a case."""
        name = outcome.split(":")[0]
        self.outcomes.setdefault(kind, Counter())[name] += 1
        if outcome != WORKS and not name.endswith("Error of ours"):
            self.findings.append(f"case {number} ({kind}): {outcome}")


def changed_bytes(random: Random, content: bytes) -> bytes:
    """`content` with some bits, bytes, numbers or stretches of it changed."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        if not data:
            return b"\0"
        at = int(random.integers(len(data)))
        # Heads, and the lists at the end of archives and graphs, are where structure is.
        near = int(random.choice([len(data), 64, 1024, 8192]))
        at = min(len(data) - 1, at % near if random.random() < 0.5 else len(data) - 1 - at % near)
        how = int(random.integers(6))
        if how == 0:
            data[at] ^= 1 << int(random.integers(8))
        elif how == 1:
            data[at] = int(random.integers(256))
        elif how == 2:
            number = _NUMBERS[int(random.integers(len(_NUMBERS)))] & 0xFFFFFFFF
            place = at - at % 4
            data[place : place + 4] = struct.pack("<I", number)
        elif how == 3:
            del data[at:]
        elif how == 4:
            stretch = data[at : at + int(random.integers(1, 64))]
            data[at:at] = stretch * int(random.integers(1, 4))
        else:
            del data[at : at + int(random.integers(1, 64))]
    return bytes(data)


def changed_json(random: Random, raw: Any) -> Any:
    """`raw` with some of its values changed, swapped, doubled, renamed or left out."""
    raw = json.loads(json.dumps(raw))
    for _ in range(int(random.choice([1, 1, 1, 2, 4]))):
        # Part by part: what graphs say of their tensors would be most of it.
        parts = [name for name in raw if name not in _FREE]
        chosen = parts[int(random.integers(len(parts)))] if parts else None
        places = [place for place in _places(raw) if chosen in (place[1], None)]
        if chosen and isinstance(raw[chosen], (dict, list)):
            places += list(_places(raw[chosen]))
        if not places:
            break
        inner, key = places[int(random.integers(len(places)))]
        how = int(random.integers(8))
        if how < 3:
            inner[key] = _like(random, inner[key])
        elif how < 5:
            inner[key] = _FOREIGN[int(random.integers(len(_FOREIGN)))]
        elif how == 5:
            other, name = places[int(random.integers(len(places)))]
            # By their texts: one may lie within the other.
            inner[key] = json.loads(json.dumps(other[name]))
        elif how == 6:
            del inner[key]
        elif isinstance(inner, dict):
            inner[str(_FOREIGN[int(random.integers(len(_FOREIGN)))])] = inner.pop(key)
        else:
            inner.insert(key, inner[key])
    return raw


def _places(raw: Any) -> Iterator[tuple[Any, Any]]:
    """Every value by what holds it and its key there; of long lists the first few."""
    items = list(raw.items()) if isinstance(raw, dict) else list(enumerate(raw))[:6]
    for key, value in items:
        if key in _FREE:
            continue
        yield raw, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _like(random: Random, value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        choices = [value + 1, value - 1, value * 2, value // 2, -value, 1 << 20, 1 << 30, 10**9]
        return choices[int(random.integers(len(choices)))]
    if isinstance(value, float):
        factors = [-1, 0, 1e-6, 0.5, 2, 1e6, 1e30, 1e-30]
        return value * factors[int(random.integers(len(factors)))]
    if isinstance(value, str):
        return value[::-1] if random.random() < 0.5 else value + value
    if isinstance(value, list):
        return value[:-1] if random.random() < 0.5 else value + value
    return {}


def _written(folder: Path, name: str, content: bytes) -> None:
    """In place of a hard link: what it leads to belongs to all cases."""
    (folder / name).unlink()
    (folder / name).write_bytes(content)


def _with_hash(folder: Path, name: str, content: bytes) -> None:
    """Write a file, and its right hash into the manifest."""
    old = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    _written(folder, name, content)
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    new = hashlib.sha256(content).hexdigest()
    _written(folder, "manifest.json", text.replace(old, new).encode())


def _choice(random: Random, names: tuple[str, ...]) -> str:
    return names[int(random.integers(len(names)))]


def _damage_file(random: Random, folder: Path) -> None:
    name = _choice(random, (*_GRAPHS, *_ARRAYS, *_TEXTS, "manifest.json"))
    _written(folder, name, changed_bytes(random, (folder / name).read_bytes()))


def _damage_manifest(random: Random, folder: Path) -> None:
    raw = changed_json(random, json.loads((folder / "manifest.json").read_bytes()))
    _written(folder, "manifest.json", json.dumps(raw).encode())


def _damage_text_of_manifest(random: Random, folder: Path) -> None:
    # Its numbers' long lists would take most of the changes.
    raw = json.loads((folder / "manifest.json").read_bytes())
    head = {key: raw.pop(key) for key in ("pooled_mean", "pooled_std", "metrics", "training")}
    text = changed_bytes(random, json.dumps(raw)[:-1].encode())
    _written(folder, "manifest.json", text + b", " + json.dumps(head)[1:].encode())


def _damage_array(random: Random, folder: Path) -> None:
    name = _choice(random, _ARRAYS)
    content = (folder / name).read_bytes()
    how = random.random()
    if name.endswith(".npz") and how < 0.7:
        with np.load(io.BytesIO(content)) as arrays:
            values = {key: _other_array(random, arrays[key]) for key in arrays}
        file = io.BytesIO()
        np.savez(file, **values)  # type: ignore[arg-type]
        content = file.getvalue()
    elif name.endswith(".npy") and how < 0.5:
        content = changed_bytes(random, content[:128]) + content[128:]
    elif name.endswith(".npy") and how < 0.85:
        file = io.BytesIO()
        np.save(file, _other_array(random, np.load(io.BytesIO(content)), 1.0))
        content = file.getvalue()
    else:
        content = changed_bytes(random, content)
    _with_hash(folder, name, content)


def _other_array(random: Random, array: Any, share: float = 0.3) -> Any:
    """`array`, or in a `share` of the cases one of other values, shape or type."""
    if random.random() > share:
        return array
    how = int(random.integers(6))
    if how == 0:
        return array.reshape(-1)
    if how == 1:
        return array[..., :-1]
    if how == 2:
        types = [np.float32, np.float64, np.int8, object, np.complex64, "S4"]
        return array.astype(types[int(random.integers(6))])
    if how == 3:
        return np.asfortranarray(array)
    values = np.array(array)
    number = [np.nan, np.inf, -np.inf, 65504.0, -1.0, 0.0, 1e-8][int(random.integers(7))]
    with np.errstate(all="ignore"):
        values.reshape(-1)[:: int(random.integers(1, 50))] = np.float64(number).astype(array.dtype)
    return values


def _damage_words(random: Random, folder: Path) -> None:
    name = _choice(random, _TEXTS)
    _with_hash(folder, name, changed_bytes(random, (folder / name).read_bytes()))


def _damage_graph(random: Random, folder: Path) -> None:
    name = _choice(random, _GRAPHS)
    content = (folder / name).read_bytes()
    changed = bytearray(content)
    how = random.random()
    if how < 0.5:
        changed = bytearray(_other_graph(random, content))
    elif how < 0.9:
        for _ in range(int(random.integers(1, 4))):
            # Tables lie behind the weights, and a few before them.
            near = int(random.choice([1024, 8192, len(content)]))
            at = int(random.integers(min(near, len(content))))
            at = at if random.random() < 0.3 else len(content) - 1 - at
            changed[at] ^= 1 << int(random.integers(8))
    else:
        changed = bytearray(changed_bytes(random, content))
    _with_hash(folder, name, bytes(changed))


def _other_graph(random: Random, content: bytes) -> bytes:
    """A graph that is well formed, with some of what its tables say changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    for _ in range(int(random.choice([1, 1, 2, 3]))):
        operator = graph.operators[int(random.integers(len(graph.operators)))]
        tensor = graph.tensors[int(random.integers(len(graph.tensors)))]
        options, steps = operator.builtinOptions, tensor.quantization
        how = int(random.integers(7))
        if how == 0 and tensor.shape is not None and len(tensor.shape):
            shape = [int(axis) for axis in tensor.shape]
            shape[int(random.integers(len(shape)))] = int(random.choice([0, 1, 2, 7, 97, 1 << 16]))
            tensor.shape = shape
        elif how == 1:
            tensor.type = int(random.integers(18))
        elif how == 2:
            tensor.buffer = int(random.integers(len(model.buffers)))
        elif how == 3:
            indices = [int(index) for index in operator.inputs]
            indices[int(random.integers(len(indices)))] = int(
                random.integers(-1, len(graph.tensors))
            )
            operator.inputs = indices
        elif how == 4:
            operator.opcodeIndex = int(random.integers(len(model.operatorCodes)))
        elif how == 5 and options is not None:
            numbers = {k: v for k, v in vars(options).items() if isinstance(v, int)}
            if numbers:
                name = list(numbers)[int(random.integers(len(numbers)))]
                kind = type(getattr(options, name))
                setattr(options, name, kind(int(random.choice([0, 1, 2, 3, 5, 100]))))
        elif how == 6 and steps is not None and steps.scale is not None and len(steps.scale):
            scale = [0.0, -1.0, 1e-30, 1e30, float("nan")][int(random.integers(5))]
            steps.scale = [scale] * len(steps.scale)
    builder = flatbuffers.Builder(len(content) + 65536)
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except (TypeError, ValueError, struct.error):  # no field has room for that
        return changed_bytes(random, content)
    return bytes(builder.Output())


DAMAGES: dict[str, tuple[Callable[[Random, Path], None], int]] = {
    "file": (_damage_file, 2),
    "manifest": (_damage_manifest, 6),
    "text of the manifest": (_damage_text_of_manifest, 2),
    "array, hash right": (_damage_array, 2),
    "words, hash right": (_damage_words, 1),
    "graph, hash right": (_damage_graph, 5),
    "archive": (lambda random, folder: None, 2),
}
"""What is done to a bundle, and in how many of 20 cases."""
GRAPH = "graph, hash right"


def kind_of(number: int) -> str:
    """What is done to the bundle of a case."""
    kinds = [kind for kind, (_, share) in DAMAGES.items() for _ in range(share)]
    return kinds[number * 7 % len(kinds)]


def make_case(number: int, sound: Path, folder: Path) -> Path:
    """The bundle of a case, made of a `sound` one in an empty `folder`."""
    kind = kind_of(number)
    random = np.random.default_rng(number)
    folder.mkdir()
    for file in sound.iterdir():
        os.link(file, folder / file.name)
    DAMAGES[kind][0](random, folder)
    if kind != "archive" and random.random() < 0.6:
        return folder
    archive = folder / "bundle.zip"
    method = zipfile.ZIP_DEFLATED if random.random() < 0.2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive, "w", method, compresslevel=1) as opened:
        for file in sorted(folder.iterdir()):
            if file != archive:
                opened.write(file, file.name)
    if kind == "archive":
        archive.write_bytes(changed_bytes(random, archive.read_bytes()))
    return archive


def outcome_of(bundle: Path, samples: Any) -> str:
    """What comes of loading the bundle and hearing an utterance with words."""
    try:
        with np.errstate(all="ignore"):
            loaded = load_bundle(bundle)
            stream = EmotionStream(loaded)
            events = [*stream.feed(samples), *stream.finish()]
            verdict = stream.recognizer.judge_text("I can't believe it!! Sooo happy today")
            stream.close()
    except EdgeError as error:
        if "\n" in str(error) or not str(error).isprintable() or len(str(error)) > 6000:
            return f"not one plain line: {type(error).__name__}: {ascii(str(error))[:300]}"
        return f"{type(error).__name__} of ours"
    except Exception as error:
        return f"{type(error).__name__}: {ascii(str(error))[:300]}"
    scores = [list(event.scores.values()) for event in events if event.type == "emotion"]  # type: ignore[union-attr]
    scores += [verdict.scores.tolist()] if verdict else []
    if any(not 0 <= value <= 1.0001 for some in scores for value in some):
        return f"no probabilities: {scores}"
    return WORKS


def child(first: int, last: int, sound: Path, folder: Path, only: str) -> None:
    """Try cases, a line before and after each; of one kind alone, if it is named."""
    # What native libraries say of damaged graphs would fill the pipe.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    samples = read_file(ROOT / "edge_runtime" / "demo" / "scene.flac")[12_000:64_000]
    for number in range(first, last):
        if only not in ("", kind_of(number)):
            continue
        print(f"begin {number}", flush=True)
        signal.alarm(_SECONDS)  # ends the process, whatever it is in
        place = folder / str(number)
        outcome = outcome_of(make_case(number, sound, place), samples)
        signal.alarm(0)
        shutil.rmtree(place)
        print(f"{number} {outcome}", flush=True)


def fuzz(first: int, last: int, folder: Path, only: str = "") -> Report:
    """Try the cases from `first` to before `last` in children; `folder` is empty."""
    report, begun = Report(), time.monotonic()
    sound = Path(shutil.copytree(MODELS / DEFAULT, folder / "sound"))
    while first < last:
        command = [sys.executable, __file__, "--child", str(first), str(last), str(folder), only]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        open_case = first
        for line in process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "begin":
                open_case = int(rest)
            elif word == str(open_case):
                report.add(kind_of(open_case), open_case, rest)
                first = open_case + 1
        code = process.wait()
        if code == 0:
            break
        if first < last:
            outcome = HANG if code == -signal.SIGALRM else f"{CRASH}: {code}"
            report.add(kind_of(open_case), open_case, outcome)
            first = open_case + 1
            shutil.rmtree(folder / str(open_case), ignore_errors=True)
    assert sound.is_dir()
    report.seconds = time.monotonic() - begun
    return report


def main() -> int:
    """The figures of a run; 1 where there is a finding."""
    parser = argparse.ArgumentParser(description="Mutated bundles through load_bundle and a stream")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=("", *DAMAGES), default="", help="of damage; all")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        first, last, folder, only = arguments.child
        child(int(first), int(last), Path(folder) / "sound", Path(folder), only)
        return 0
    with tempfile.TemporaryDirectory() as name:
        last = arguments.first + arguments.cases
        report = fuzz(arguments.first, last, Path(name), arguments.kind)
    for kind, outcomes in sorted(report.outcomes.items()):
        print(f"{kind}: {dict(outcomes.most_common())}")
    print("\n".join(report.findings))
    print(f"{arguments.cases} cases, {len(report.findings)} findings, {report.seconds:.0f} s")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
