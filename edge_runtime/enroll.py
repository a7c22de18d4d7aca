"""Ten seconds of ordinary speech become a profile: what is the plain voice of who speaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from math import log10

import numpy as np

from edge_runtime.audio import AudioSource
from edge_runtime.bundle import Bundle
from edge_runtime.console import note
from edge_runtime.errors import ProfileError
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.model.pretrained import Pretrained
from edge_runtime.model.reference import FULL_SECONDS, Reference, least_alike
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16, amplified
from edge_runtime.profile import Profile
from edge_runtime.segment import Boundary, Segmenter, Speech, SpeechEnd
from edge_runtime.settings import Limits

SECONDS = 10.0  # of speech
SECONDS_LIMITS = Limits(minimum=5, maximum=120)
_PIECE_SECONDS = 4.0  # an utterance that goes on is judged in pieces of the length of a sentence
_PATIENCE = 6  # so many times the speech that is wanted is listened to
_QUIET_DB = -55.0  # speech below it is lost in the noise of its own microphone
CLIPPED = 32_700  # int16 steps
CLIPPED_SHARE = 0.005  # of the samples of speech: above it a voice is distorted
_SILENT_DB = -90.0


class Enrolment:
    """Listens to one speaker until enough is known of his voice.

    Parameters
    ----------
    bundle : one with a reference part; BundleError without.
    seconds : speech that is wanted, as the end-pointer hears it.
    """

    def __init__(self, bundle: Bundle, seconds: float = SECONDS) -> None:
        self._bundle = bundle = bundle.as_computed()
        self._wanted = seconds
        self._reference = Reference(bundle, running=True)
        self._branch = AudioBranch(bundle, StageTimes())
        # Where a pre-trained encoder hears along, a voice is known by what that makes of it, too.
        self._encoder = Pretrained(bundle) if bundle.manifest.pretrained_reference else None
        segment = replace(bundle.manifest.segment, max_seconds=_PIECE_SECONDS)
        self._segmenter = Segmenter(segment)
        self._utterances: list[Float32] = []
        self._running = self._speech = self._clipped = 0
        self._energy = 0.0
        self.level_db = _SILENT_DB
        """Level of the last samples, dB relative to full scale."""

    @property
    def heard(self) -> float:
        """Seconds of audio so far."""
        return self._segmenter.position / SAMPLE_RATE

    @property
    def speech(self) -> float:
        """Seconds of speech in it."""
        return self._speech / SAMPLE_RATE

    @property
    def utterances(self) -> int:
        """Utterances that are known by now."""
        return len(self._utterances)

    @property
    def complete(self) -> bool:
        """Whether there is enough speech."""
        return self.speech >= self._wanted

    @property
    def hopeless(self) -> bool:
        """Whether so much was listened to that the rest will hardly be speech either."""
        return self.heard >= _PATIENCE * self._wanted

    @property
    def speech_db(self) -> float:
        """Level of the speech, dB relative to full scale."""
        return _decibels(self._energy / max(1, self._speech))

    def feed(self, samples: Int16, lost: int = 0) -> None:
        """Take the next samples, int16, 16 kHz, (n,), before which so many were lost."""
        values = samples.astype(np.float64)
        self.level_db = _decibels(float(np.mean(values * values))) if len(values) else _SILENT_DB
        boundaries = self._segmenter.skip(lost) if lost else []
        boundaries += self._segmenter.feed(samples)
        self._take(boundaries)

    def finish(self) -> None:
        """Close the running utterance."""
        self._take(self._segmenter.finish())

    def _take(self, boundaries: list[Boundary]) -> None:
        for item in boundaries:
            if isinstance(item, Speech):
                values = item.samples.astype(np.float64)
                self._energy += float(values @ values)
                self._clipped += int((np.abs(values) >= CLIPPED).sum())
                self._speech += len(values)
                self._running += len(values)
                self._branch.feed(item.samples)
                if self._encoder:
                    self._encoder.feed(item.samples)
            elif isinstance(item, SpeechEnd):
                pooled, seconds = self._branch.finish(), self._running / SAMPLE_RATE
                states = self._encoder.finish() if self._encoder else None
                self._running = 0
                if pooled is not None:
                    standard = self._reference.standardize(pooled)
                    encoded = self._reference.standardize_encoded(states)
                    self._reference.learn(standard, None, seconds, encoded)
                    if seconds >= FULL_SECONDS:
                        self._utterances.append(standard)

    def profile(self, anyway: bool = False) -> Profile:
        """What is known of the voice.

        Raises ProfileError, in one line, where that is no speech, or too little of it, too quiet,
        distorted, or unless `anyway`, where it seems to be of two people.
        """
        if not self._utterances:
            raise ProfileError(
                f"{self.heard:.1f} s hold no speech that could be enrolled: speak in whole "
                "sentences, near the microphone"
            )
        if not self.complete:
            raise ProfileError(
                f"{self.heard:.1f} s hold only {self.speech:.1f} s of speech; "
                f"{self._wanted:g} s are needed"
            )
        if self.speech_db < _QUIET_DB:
            raise ProfileError(
                f"the speech is too quiet: {self.speech_db:.0f} dB, at least {_QUIET_DB:.0f} are "
                "needed; go nearer, or turn the microphone up"
            )
        if self._clipped > CLIPPED_SHARE * self._speech:
            raise ProfileError(
                f"the speech is clipped ({100 * self._clipped / self._speech:.1f} % of its "
                "samples): turn the microphone down"
            )
        part = self._bundle.manifest.reference
        assert part is not None  # or there would be no Reference
        if not anyway and least_alike(self._bundle, self._utterances) < part.one_voice:
            raise ProfileError(
                "this sounds like two people; let one speak alone, or take it with --anyway (of "
                "one voice about 5 % sound so)"
            )
        made = datetime.now(UTC).isoformat(timespec="minutes")
        return self._reference.profile(self.speech, made, self._bundle.identity)


def listen(source: AudioSource, enrolment: Enrolment, gain_db: float = 0.0) -> None:
    """Feed `enrolment` from a source until it is complete, hopeless, or the source ends.

    What comes is made so much louder first, dB: `run` hears it like that.
    On a terminal a meter shows level and progress.
    """
    show = _meter(enrolment) if sys.stderr is not None and sys.stderr.isatty() else None
    try:
        with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator
            for block in blocks:
                enrolment.feed(amplified(block.samples, gain_db), block.lost)
                for status in block.status:
                    note(f"{status.source}: {status.message}")
                if show:
                    show()
                if enrolment.complete or enrolment.hopeless:
                    break
    finally:
        if show:
            print(file=sys.stderr)
    enrolment.finish()


_METER_COLUMNS = 30
_METER_LOWEST = -60.0  # dB at its left end


def _meter(enrolment: Enrolment) -> Callable[[], None]:
    def show() -> None:
        share = 1 - enrolment.level_db / _METER_LOWEST
        bar = "#" * round(_METER_COLUMNS * min(1.0, max(0.0, share)))
        print(
            f"\r[{bar:<{_METER_COLUMNS}}] {max(enrolment.level_db, -99):4.0f} dB   "
            f"{enrolment.speech:4.1f} s of speech ",
            end="",
            file=sys.stderr,
            flush=True,
        )

    return show


def _decibels(mean_square: float) -> float:
    power = mean_square / FULL_SCALE**2
    return max(_SILENT_DB, 10 * log10(power)) if power > 0 else _SILENT_DB
