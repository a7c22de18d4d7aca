"""Long clips cut to their utterances, where a device would end them: rows of a manifest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from edge_runtime.audio.file import FileSource
from edge_runtime.collect.recording import SHORTEST
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import Boundary, Segmenter, SegmentParams, SpeechEnd, SpeechStart
from training.adapt.clips import LONGEST
from training.corpora import Utterance
from training.data.cache import parallel
from training.errors import TrainingError

log = logging.getLogger(__name__)

Stretch = tuple[float, float]
"""Seconds of a file in which an utterance begins and ends."""


@dataclass
class Cut:
    """What became of clips."""

    utterances: list[Utterance] = field(default_factory=list)
    """In the order of the clips; those of one that was cut have its label and speaker, no words."""
    as_they_were: int = 0
    """Clips that are short enough."""
    long: int = 0
    """Clips that were cut."""
    short: int = 0
    """Utterances below `SHORTEST`, which are left out."""
    empty: list[Utterance] = field(default_factory=list)
    """Long clips in which nobody speaks."""
    failed: list[Utterance] = field(default_factory=list)
    """Clips that cannot be read."""

    @property
    def parts(self) -> int:
        """Utterances that long clips were cut to."""
        return len(self.utterances) - self.as_they_were


def cut_long(
    utterances: Sequence[Utterance],
    params: SegmentParams,
    jobs: int | None = None,
    progress: bool = True,
) -> Cut:
    """Clips longer than `LONGEST` seconds, cut to the utterances in them; others as they are.

    Parameters
    ----------
    utterances : of any label; those of text only are left out.
    params : when an utterance ends, as the device has it that will judge.
    jobs : processes; by default one a core.

    Clips that cannot be read are told and counted. Raises TrainingError where nothing is left.
    """
    clips = [u for u in utterances if u.path is not None]
    result = Cut()
    tasks = [(clip, params) for clip in clips]
    with closing(parallel(_stretches, tasks, jobs, "cutting clips", progress, 1)) as found:
        for clip, stretches in zip(clips, found, strict=True):
            if isinstance(stretches, str):
                log.warning("%s: %s", clip.path, stretches)
                result.failed.append(clip)
            elif stretches is None:
                result.utterances.append(clip)
                result.as_they_were += 1
            else:
                _take(result, clip, stretches)
    if not result.utterances:
        raise TrainingError(
            "no utterance is left: clips cannot be read, or nobody speaks in them (see above)"
        )
    return result


def _take(result: Cut, clip: Utterance, stretches: list[Stretch]) -> None:
    long_enough = [(start, end) for start, end in stretches if end - start >= SHORTEST]
    result.long += 1
    result.short += len(stretches) - len(long_enough)
    if not long_enough:
        log.warning("%s: no speech in it", clip.path)
        result.empty.append(clip)
    # Which of the clip's words belong where is not known.
    result.utterances += [
        replace(clip, start=start, end=end, text="") for start, end in long_enough
    ]


def _stretches(task: tuple[Utterance, SegmentParams]) -> list[Stretch] | str | None:
    """Where the utterances of a long clip lie in its file; None for a short one, or what fails."""
    clip, params = task
    try:
        source = FileSource(clip.audio, clip.start, clip.end)
        if source.seconds <= LONGEST:
            source.close()
            return None
        segmenter = Segmenter(params)
        boundaries: list[Boundary] = []
        for block in source.blocks():
            boundaries += _ends(segmenter.feed(block.samples))
        boundaries += _ends(segmenter.finish())
    except (AudioError, OSError) as error:
        return f"cannot be read: {error}"
    last = clip.start + segmenter.position / SAMPLE_RATE
    stretches, start = [], 0.0
    for item in boundaries:
        if isinstance(item, SpeechStart):
            start = clip.start + item.t
        elif isinstance(item, SpeechEnd):
            stretches.append((round(start, 3), round(min(clip.start + item.t, last), 3)))
    return stretches


def _ends(boundaries: list[Boundary]) -> list[Boundary]:
    """Without the samples, of which an hour would be held."""
    return [item for item in boundaries if isinstance(item, SpeechStart | SpeechEnd)]
