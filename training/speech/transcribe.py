"""What an engine of the device hears in the clips of a corpus: transcripts with its errors.

A model that is to read the words of a recognizer should be trained on such words. The result is a
manifest whose column `text` is what was heard, so it trains like any other; `with_transcripts` puts
the same words into utterances of a corpus loader.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_runtime.audio.file import read_file
from edge_runtime.collect.labels import COLUMNS as MANIFEST_COLUMNS
from edge_runtime.console import counted
from edge_runtime.errors import AudioError, TextError
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import speech_of
from edge_runtime.text import TextSource
from edge_runtime.text.engines import source_named
from training.corpora import Clip, Utterance
from training.corpora.tables import parse_table, read_text
from training.errors import TrainingError
from training.output import at_once
from training.speech.settings import TranscribeSettings
from training.workers import beginning

log = logging.getLogger(__name__)

COLUMNS = (*MANIFEST_COLUMNS, "reference", "confidence", "engine")
"""The manifest's, then: the corpus's own text, the mean posterior of the words, who heard them."""
_BLOCK = SAMPLE_RATE // 10  # samples fed at a time, as on the device


@dataclass
class Transcription:
    """What came of transcribing a corpus."""

    heard: int
    """Clips transcribed in this run."""
    kept: int
    """Rows that an earlier run had made."""
    failed: list[tuple[Utterance, str]]
    """Clips that could not be read or heard, and why; they have no row, and are tried again."""


def transcribe(
    utterances: Sequence[Utterance], out: Path, settings: TranscribeSettings
) -> Transcription:
    """Write what the engine hears in every clip to the manifest `out`, row by row.

    Each clip is trimmed as in training and heard by itself, as the first thing a device hears, so
    the result depends neither on the order nor on the number of processes. Rows that are in `out`
    already are kept. Ctrl-C loses at most the clips being heard.

    Raises TrainingError when no utterance has audio, `out` was made by another engine, or the
    engine's process dies; TextError or MissingPackageError when the engine cannot be loaded.
    """
    clips = [u for u in utterances if u.path is not None]
    if not clips:
        raise TrainingError("nothing to transcribe: no utterance has audio")
    known = _rows(out, settings.engine) if out.exists() else {}
    missing = [u for u in clips if u.clip not in known]
    result = Transcription(0, len(clips) - len(missing), [])
    if missing:
        source_named(settings.engine).close()  # what is wrong with it is said before any work
        _mend(out)
        # Interrupted in here, it would keep its processes at work until somebody collects it.
        with (
            out.open("a", newline="", encoding="utf-8") as file,
            closing(_hear_all(missing, settings)) as heard,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            for utterance, outcome in heard:
                if isinstance(outcome, str):
                    log.warning("%s: %s", utterance.path, outcome)
                    result.failed.append((utterance, outcome))
                    continue
                writer.writerow(_row(utterance, outcome, settings.engine))
                file.flush()
                result.heard += 1
    _sort(out, clips, settings.engine)
    return result


def with_transcripts(utterances: Sequence[Utterance], transcripts: Path) -> list[Utterance]:
    """The utterances with what `transcribe` wrote to `transcripts` for their text.

    Those of text only stay as they are: nothing can be heard of them. Raises TrainingError for a
    file that is no such table, or in which a clip is missing.
    """
    heard = _rows(transcripts)
    absent = [u for u in utterances if u.path is not None and u.clip not in heard]
    if absent:
        raise TrainingError(
            f"{transcripts} lacks {len(absent)} of {counted(len(utterances), 'clip')}, such as "
            f"{absent[0].path}: run python -m training transcribe --out {transcripts} on them"
        )
    return [
        u if u.path is None else dataclasses.replace(u, text=heard[u.clip]["text"])
        for u in utterances
    ]


@dataclass(frozen=True)
class _Heard:
    text: str
    confidence: float | None


_engine: TextSource | None = None  # of a worker process


def _load(engine: str) -> None:
    """In a worker process: Ctrl-C is the parent's business."""
    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engine = source_named(engine)


def _hear(utterance: Utterance) -> _Heard | str:
    """In a worker process: the words of one clip, or why there are none."""
    assert _engine is not None
    try:
        samples = speech_of(read_file(utterance.audio, utterance.start, utterance.end))
        _engine.restart()
        _engine.begin(0.0)
        for start in range(0, len(samples), _BLOCK):
            _engine.feed(samples[start : start + _BLOCK])
        found = _engine.end()
    except (AudioError, TextError) as error:
        return str(error)
    known = [w.confidence for w in found.words if w.confidence is not None]
    return _Heard(found.text, sum(known) / len(known) if known else None)


def _hear_all(
    clips: Sequence[Utterance], settings: TranscribeSettings
) -> Generator[tuple[Utterance, _Heard | str], None, None]:
    """Clips with their outcome, in the order they get ready, under a progress bar.

    Closed, it gives up the clips that nobody hears yet.
    """
    context = multiprocessing.get_context("spawn")
    jobs = min(settings.jobs or os.cpu_count() or 1, len(clips))
    pool = ProcessPoolExecutor(jobs, context, _load, (settings.engine,))
    progress = Progress(
        TextColumn("hearing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    try:
        with progress:
            bar = progress.add_task("", total=len(clips))
            futures: dict[Future[_Heard | str], Utterance]
            with beginning():
                futures = {pool.submit(_hear, clip): clip for clip in clips}
            for future in as_completed(futures):
                yield futures[future], future.result()
                progress.advance(bar)
    except BrokenProcessPool:
        raise TrainingError(
            f"a process of engine {settings.engine} died; what it heard is kept, run again to go on"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _row(utterance: Utterance, heard: _Heard, engine: str) -> dict[str, object]:
    path, start, end = utterance.clip
    return {
        **{column: getattr(utterance, column) for column in MANIFEST_COLUMNS},
        "path": path,
        "start": start,
        "end": "" if end is None else end,
        "text": heard.text,
        "reference": " ".join(utterance.text.split()),
        "confidence": "" if heard.confidence is None else f"{heard.confidence:.4f}",
        "engine": engine,
    }


def _rows(path: Path, engine: str | None = None) -> dict[Clip, dict[str, str]]:
    """Rows of a transcript by their clip; a last line that was cut off is left out."""
    try:
        # To one that is to be written, rows are added: it must be as they are.
        content = path.read_text(encoding="utf-8") if engine else read_text(path, "cp1252")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"transcripts {path} cannot be read: {error}") from None
    whole = content[: content.rfind("\n") + 1]
    if engine and content and whole.partition("\n")[0] != ",".join(COLUMNS):
        raise TrainingError(
            f"{path} is not what python -m training transcribe writes; its header would be "
            f"{','.join(COLUMNS)}"
        )
    result = {}
    table = parse_table(whole, f"transcripts {path}", COLUMNS) if content else None
    for line, row in ((row.line, row.values) for row in table.rows) if table else ():
        if engine not in (None, row["engine"]):
            raise TrainingError(
                f"{path} holds what engine {row['engine']} heard; choose another --out"
            )
        try:
            end = float(row["end"]) if row["end"] else None
            result[row["path"], float(row["start"]), end] = row
        except ValueError:
            raise TrainingError(
                f"transcripts {path}, line {line}: start {row['start']!r} or end {row['end']!r} is "
                "not a time in seconds"
            ) from None
    return result


def _mend(path: Path) -> None:
    """A file that rows can be appended to: with a header, and no line that was cut off."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1] or (",".join(COLUMNS) + "\n").encode()
    if whole != content:
        with at_once(path) as new:
            new.write_bytes(whole)


def _sort(path: Path, clips: Sequence[Utterance], engine: str) -> None:
    """Bring the rows into the order of the corpus; those of other clips follow."""
    rows = _rows(path, engine)
    order = dict.fromkeys(u.clip for u in clips if u.clip in rows)
    lines = [rows.pop(key) for key in order] + list(rows.values())
    with at_once(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
