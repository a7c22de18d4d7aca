"""Speaker embeddings of utterances: Kaldi x-vectors, NumPy files, or an encoder on the spot.

The paper's x-vectors are 512-d, of a Kaldi TDNN trained on VoxCeleb (Snyder et al. 2018); any width
will do. The encoder is Resemblyzer's (Apache-2.0), 256-d: the LSTM of "Generalized End-to-End Loss
for Speaker Verification" (Wan et al. 2018), whose weights ship in its wheel.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import multiprocessing
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remember
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.audio.file import read_file
from edge_runtime.errors import AudioError
from edge_runtime.mfcc import Float32, Int16
from training.corpora import Utterance
from training.data import Batch, cache_folder, parallel, read_cache, write_cache
from training.errors import TrainingError
from training.model import MODALITIES, SPEAKER

log = logging.getLogger(__name__)

RESEMBLYZER = "resemblyzer"
_CACHE_VERSION = 1  # raise when the code below changes what `embed_clip` computes
_FULL_SCALE = 32768  # of int16
_NAMED = 3  # examples that an error message names


@dataclass(frozen=True)
class SpeakerVectors:
    """The speaker embedding of each utterance that has one."""

    width: int
    """Values of an embedding."""
    vectors: Mapping[Utterance, Float32]
    """Utterance to its embedding, float32 (width,)."""
    source: str
    """Where they are from."""

    def of(self, utterances: Sequence[Utterance]) -> Float32:
        """Embeddings, float32 (n, width); a row of NaN where an utterance has none."""
        rows = np.full((len(utterances), self.width), np.nan, np.float32)
        for index, utterance in enumerate(utterances):
            if utterance in self.vectors:
                rows[index] = self.vectors[utterance]
        return rows

    def digest(self, utterances: Sequence[Utterance]) -> str:
        """What tells these embeddings of `utterances` from others, in hexadecimal."""
        return hashlib.sha256(self.of(utterances).tobytes()).hexdigest()


def load_speakers(
    source: str,
    utterances: Sequence[Utterance],
    utt2spk: Path | None = None,
    workers: int | None = None,
) -> SpeakerVectors:
    """Embeddings of `utterances` from `source`: `resemblyzer`, or what `read_speakers` reads.

    Raises TrainingError like `embed` and `read_speakers`.
    """
    if source == RESEMBLYZER:
        if utt2spk is not None:
            raise TrainingError(f"--utt2spk needs a file of vectors, not --speaker {RESEMBLYZER}")
        return embed(utterances, workers=workers)
    return read_speakers(Path(source), utterances, utt2spk)


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
        examples = _some([u.path.stem if u.path else u.speaker for u in missing])
        raise TrainingError(
            f"{path} has no vector for {len(missing)} of {len(utterances)} utterances: {examples}; "
            "keys are names of audio files without suffix, or speakers (--utt2spk)"
        )
    width = _check(path, {name: found[name] for name in chosen if name is not None})
    vectors = {u: found[name] for u, name in zip(utterances, chosen, strict=True) if name}
    return SpeakerVectors(width, vectors, path.name)


def embed(
    utterances: Sequence[Utterance],
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> SpeakerVectors:
    """Resemblyzer's 256-d embedding of each clip, on all cores, from the cache where it is known.

    Clips that cannot be read or hold no voice, and utterances that are text only, get none; they
    are counted in the log. Raises TrainingError where no clip has one, or without the package.

    Parameters
    ----------
    utterances : whose clips to read, as they are: not augmented.
    cache : folder of cached embeddings; by default `cache_folder("speaker")`.
    workers : processes; by default one per core; 1 stays in this process.
    progress : show a progress bar.
    """
    version = _resemblyzer_version()
    folder = cache or cache_folder("speaker")
    folder.mkdir(parents=True, exist_ok=True)
    heard = [u for u in utterances if u.path is not None]
    tasks = [(u, version, folder) for u in heard]
    outcomes = parallel(_embed_one, tasks, workers, "speaker embeddings", progress)
    vectors: dict[Utterance, Float32] = {}
    for utterance, outcome in zip(heard, outcomes, strict=True):
        if isinstance(outcome, str):
            log.warning("no speaker embedding of %s: %s", utterance.path, outcome)
        else:
            vectors[utterance] = outcome
    if len(heard) < len(utterances):
        without = len(utterances) - len(heard)
        log.warning("no speaker embedding of %d utterances that are text only", without)
    if not vectors:
        raise TrainingError("no clip has a speaker embedding")
    width = len(next(iter(vectors.values())))
    return SpeakerVectors(width, vectors, f"{RESEMBLYZER} {version}")


def embed_clip(samples: Int16) -> Float32 | None:
    """Resemblyzer's embedding of a clip: float32 (256,), length 1, no value below 0.

    `samples` are int16, mono, 16 kHz, (n,). Levelling and the removal of pauses are Resemblyzer's
    own. None where its voice activity detection finds no voice.
    """
    resemblyzer = _resemblyzer()
    voice = resemblyzer.preprocess_wav(samples.astype(np.float32) / _FULL_SCALE)
    if len(voice) == 0:
        return None
    return np.asarray(_encoder().embed_utterance(voice), np.float32)


class SpeakerDataset(Dataset[tuple[Any, Tensor]]):
    """Each example of `examples` with its speaker embedding, (width,); NaN where it has none."""

    def __init__(self, examples: Dataset[Any], rows: Float32) -> None:
        self._examples = examples
        self._rows = torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._examples[index], self._rows[index]


def with_speakers(
    examples: Dataset[Any], collate: Callable[[Any], Batch], rows: Float32
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """`examples` and their `collate` with embeddings `rows` (n, width), NaN where there is none."""
    return SpeakerDataset(examples, rows), partial(_collate_speaker, collate=collate)


def attach(batch: Batch, rows: Tensor) -> Batch:
    """Give `batch` its embeddings `rows` (B, width), NaN where there is none; returns it."""
    known = torch.isfinite(rows).all(dim=1)
    batch.speaker = torch.where(known.unsqueeze(1), rows, 0.0)
    if not bool(known.all()):
        batch.modalities = torch.ones(len(known), len(MODALITIES), dtype=torch.bool)
        batch.modalities[:, MODALITIES.index(SPEAKER)] = known
    return batch


def _collate_speaker(items: Sequence[tuple[Any, Tensor]], collate: Callable[[Any], Batch]) -> Batch:
    return attach(collate([item for item, _ in items]), torch.stack([row for _, row in items]))


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
        result.append([f"{utterance.speaker}-{name}", name])
    owners = Counter(name for names in result for name in names)
    return [[name for name in names if owners[name] == 1] for names in result]


def _names(ids: list[str], utterance: Utterance, speaker_of: Mapping[str, str]) -> list[str]:
    """Keys to look an utterance up by, in order: its ids, then its speaker."""
    named = [speaker_of[name] for name in ids if name in speaker_of]
    return [*ids, *(named if speaker_of else [utterance.speaker])]


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
            f"{_some([f'{key} ({len(found[key])})' for key in other])}"
        )
    bad = [key for key, values in found.items() if not np.isfinite(values).all()]
    if bad:
        raise TrainingError(f"{path}: NaN or infinite values in {len(bad)} vectors: {_some(bad)}")
    return next(iter(widths))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not a text file") from None


def _embed_one(task: tuple[Utterance, str, Path]) -> Float32 | str:
    """The embedding of one clip, or why it has none."""
    utterance, version, folder = task
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # there is a process a core
    try:
        content = hashlib.sha256(utterance.audio.read_bytes()).hexdigest()
        part = [utterance.start, utterance.end]
        identity = json.dumps([_CACHE_VERSION, RESEMBLYZER, version, content, part])
        path = folder / (hashlib.sha256(identity.encode()).hexdigest() + ".npy")
        known = read_cache(path)
        if known is None:
            samples = read_file(utterance.audio, utterance.start, utterance.end)
            # Levelling divides by the level: nothing must not be levelled.
            known = embed_clip(samples) if samples.any() else None
            if known is None:
                return "no voice in it"
            write_cache(path, known)
    except AudioError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
    return known


@remember
def _encoder() -> Any:
    """The pre-trained encoder, on the CPU; one a process."""
    return _resemblyzer().VoiceEncoder("cpu", verbose=False)


def _resemblyzer() -> Any:
    with warnings.catch_warnings():
        # It imports a part of SciPy by the name that goes with SciPy 2, and says so each time.
        warnings.simplefilter("ignore", DeprecationWarning)
        import resemblyzer
    return resemblyzer


def _resemblyzer_version() -> str:
    try:
        return importlib.metadata.version(RESEMBLYZER)
    except importlib.metadata.PackageNotFoundError:
        raise TrainingError(
            "speaker embeddings need Resemblyzer: pip install 'edge-emotion[speaker]' && "
            "pip install --no-deps resemblyzer (with its dependencies it would need a compiler)"
        ) from None


def _kaldiio() -> Any:
    import kaldiio.matio

    return kaldiio.matio
