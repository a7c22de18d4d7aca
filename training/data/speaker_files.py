"""Speaker embeddings from files: Kaldi archives, NumPy matrices, folders."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge_runtime.console import counted
from edge_runtime.pcm import Float32
from training.corpora import Utterance
from training.data.speaker import SpeakerVectors, _title, some, speaker_key
from training.errors import TrainingError

RESEMBLYZER = "resemblyzer"


def read_speakers(
    path: Path, utterances: Sequence[Utterance], utt2spk: Path | None = None
) -> SpeakerVectors:
    """Embeddings of `utterances` from a file or folder.

    An utterance is looked up by its id, which is the name of its audio file without suffix, or
    that with the speaker before it as Kaldi recommends (`SPEAKER-NAME`); where the utterance is a
    part of its file, `-START-END` follows, in hundredths of a second with seven digits. Names that
    several utterances share are not used. An utterance without a vector of its own takes its
    speaker's, named as in `utt2spk`, or without that file as in the corpus.

    Raises TrainingError, in one line, for what cannot be read, is not finite, has vectors of
    different widths, or lacks an utterance.

    Parameters
    ----------
    path : Kaldi vectors (`.ark`, or `.scp` that points into some), a folder of `ID.npy`, or a
        matrix `.npy` with a row for each line of the `.txt` file of the same name.
    utterances : those that need a vector.
    utt2spk : Kaldi's file of lines `UTTERANCE SPEAKER`.
    """
    speaker_of = _read_utt2spk(utt2spk) if utt2spk else {}
    names = [
        _names(ids, u, speaker_of) for ids, u in zip(_ids(utterances), utterances, strict=True)
    ]
    found = dict(_entries(path, {name for some in names for name in some}))
    chosen = [next((name for name in some if name in found), None) for some in names]
    missing = [u for u, name in zip(utterances, chosen, strict=True) if name is None]
    if missing:
        examples = some([_title(u) for u in missing])
        raise TrainingError(
            f"{path} has no vector for {len(missing)} of {counted(len(utterances), 'utterance')}: "
            f"{examples}; keys are names of audio files without suffix, or speakers (--utt2spk)"
        )
    width = _check(path, {name: found[name] for name in chosen if name is not None})
    vectors = {
        speaker_key(u): found[name] for u, name in zip(utterances, chosen, strict=True) if name
    }
    return SpeakerVectors(width, vectors, path.name)


def _ids(utterances: Sequence[Utterance]) -> list[list[str]]:
    """The ids under which each utterance may be found, the most particular first."""
    result: list[list[str]] = []
    for utterance in utterances:
        if utterance.path is None:
            result.append([])
            continue
        name = utterance.path.stem
        if utterance.end is not None:
            name += f"-{round(100 * utterance.start):07d}-{round(100 * utterance.end):07d}"
        named = [f"{utterance.speaker}-{name}"] if utterance.speaker else []
        result.append([*named, name])
    owners = Counter(name for names in result for name in names)
    return [[name for name in names if owners[name] == 1] for names in result]


def _names(ids: list[str], utterance: Utterance, speaker_of: Mapping[str, str]) -> list[str]:
    """Keys to look an utterance up by, in order: its ids, then its speaker."""
    named = [speaker_of[name] for name in ids if name in speaker_of]
    own = [utterance.speaker] if utterance.speaker else []
    return [*ids, *(named if speaker_of else own)]


def _read_utt2spk(path: Path) -> dict[str, str]:
    found = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        fields = line.split()
        if len(fields) != 2:
            raise TrainingError(f"{path}, line {number}: expected an utterance and its speaker")
        found[fields[0]] = fields[1]
    return found


def _entries(path: Path, wanted: set[str]) -> Iterator[tuple[str, Float32]]:
    """Keys and vectors of `path`; those that are not `wanted` may be left out."""
    if path.is_dir():
        return _folder_entries(path, wanted)
    readers = {".ark": _ark_entries, ".scp": _scp_entries, ".npy": _matrix_entries}
    if not path.exists():
        raise TrainingError(f"no such speaker embeddings: {path} (nor is it {RESEMBLYZER})")
    if path.suffix not in readers:
        raise TrainingError(
            f"{path} is none of the speaker embeddings that can be read: {RESEMBLYZER}, FILE.scp, "
            "FILE.ark, FILE.npy, or a folder of ID.npy"
        )
    return readers[path.suffix](path, wanted)


def _ark_entries(path: Path, _: set[str]) -> Iterator[tuple[str, Float32]]:
    kaldi = _kaldiio()
    with path.open("rb") as file:
        while True:
            try:
                key = kaldi.read_token(file)
            except UnicodeDecodeError:
                raise TrainingError(f"{path} is not a Kaldi archive") from None
            if key is None:
                return
            # The text form has a line break after each vector.
            key = key.strip()
            yield key, _kaldi_vector(file, path, key)


def _scp_entries(path: Path, wanted: set[str]) -> Iterator[tuple[str, Float32]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        key, _, place = line.strip().partition(" ")
        place = place.strip()
        name, _, offset = place.rpartition(":")
        if not offset.isdecimal() or not name:
            raise TrainingError(
                f"{path}, line {number}: expected KEY FILE.ark:OFFSET, got {line.strip()[:60]!r}"
            )
        if key not in wanted:
            continue
        # As Kaldi has it, from where the command runs; else beside the scp, where the two travel.
        ark = Path(name) if Path(name).exists() else path.parent / name
        try:
            with ark.open("rb") as file:
                file.seek(int(offset))
                yield key, _kaldi_vector(file, ark, key)
        except OSError as error:
            reason = error.strerror
            raise TrainingError(f"{path}, line {number}: cannot read {name}: {reason}") from None


def _kaldi_vector(file: BinaryIO, path: Path, key: str) -> Float32:
    """The vector at the position of `file`."""
    kaldi = _kaldiio()
    start, flag = file.tell(), file.read(2)
    file.seek(start)
    try:
        if flag == b"\0B":
            values, size = kaldi.read_matrix_or_vector(file, return_size=True)
            # NumPy takes what is left of a vector that breaks off between two of its values.
            if values.ndim == 1 and file.tell() - start < size:
                raise EOFError
        elif flag.strip()[:1] in (b"[", b""):
            values = kaldi.read_ascii_mat(file)
        else:
            # Kaldi's wave files, and kaldiio's pickles, which would run code.
            raise TrainingError(f"{path}: {key} is not a vector of Kaldi's")
    except (EOFError, ValueError, AssertionError, struct.error):
        if file.read(1) == b"":
            raise TrainingError(f"{path} is truncated: {key} is not whole") from None
        raise TrainingError(f"{path}: {key} is not a vector of Kaldi's") from None
    return np.asarray(values)


def _folder_entries(path: Path, wanted: set[str]) -> Iterator[tuple[str, Float32]]:
    files = {file.stem: file for file in path.glob("*.npy")}
    if not files:
        raise TrainingError(f"the folder {path} holds no .npy files")
    for key in sorted(wanted & files.keys()):
        yield key, _load_array(files[key])


def _matrix_entries(path: Path, _: set[str]) -> Iterator[tuple[str, Float32]]:
    rows = _load_array(path)
    names = path.with_suffix(".txt")
    if not names.exists():
        raise TrainingError(f"{path} needs its ids, one a line, in {names}")
    ids = _text(names).split()
    if rows.ndim != 2 or len(ids) != len(rows):
        raise TrainingError(f"{names} has {len(ids)} ids, {path.name} is of shape {rows.shape}")
    return iter(zip(ids, rows, strict=True))


def _load_array(path: Path) -> Float32:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path} is not a NumPy array that can be read: {error}") from None
    return np.asarray(array)


def _check(path: Path, found: dict[str, Float32]) -> int:
    """Make every vector float32 (width,) in place; the width."""
    for key, values in found.items():
        flat = values[0] if values.ndim == 2 and len(values) == 1 else values
        if flat.ndim != 1 or flat.size == 0 or flat.dtype.kind not in "fiu":
            raise TrainingError(f"{path}: {key} is of shape {values.shape}, not one vector")
        found[key] = np.asarray(flat, np.float32)
    widths = Counter(len(values) for values in found.values())
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        other = [key for key, values in found.items() if len(values) != usual]
        raise TrainingError(
            f"{path}: {len(other)} of {len(found)} vectors are not {usual} wide as the others: "
            f"{some([f'{key} ({len(found[key])})' for key in other])}"
        )
    bad = [key for key, values in found.items() if not np.isfinite(values).all()]
    if bad:
        raise TrainingError(f"{path}: NaN or infinite values in {len(bad)} vectors: {some(bad)}")
    return next(iter(widths))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not a text file") from None


def _kaldiio() -> Any:
    import kaldiio.matio

    return kaldiio.matio
