"""Samples to utterances: voice activity and end-pointing.

WebRTC's voice activity detector judges 20 ms frames; a frame must also stand out from a slowly
rising estimate of the noise floor, because that detector alone takes steady broadband noise for
speech. The same code trims the training clips, so that the model meets on the device exactly the
stretches of audio it was trained on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from math import log10

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import MissingPackageError
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16

FRAME = SAMPLE_RATE // 50  # samples judged at a time, 20 ms
NORMAL = "normal"
SENSITIVITIES = ("low", NORMAL, "high")
"""How soft what counts as speech may be; a model is trained with the one in the middle."""
_SENSITIVITY_DB = 3.0  # of the margin over the noise floor, a step
_LONGEST_WAIT = 600_000  # ms, of what is held back; it is kept in memory
_LONGEST_OFFSET = 3600.0  # seconds: beyond, it is no estimate of what is heard now
_SILENT_PEAK = 8  # int16 steps
_SILENCE_DB = -90.0  # energy given to digital silence, dB relative to full scale
_FULL_ENERGY = FULL_SCALE**2 * FRAME  # sum of squares of a frame at full scale
_SILENT = _FULL_ENERGY * 10 ** (_SILENCE_DB / 10)


@dataclass(frozen=True)
class SegmentParams:
    """When an utterance begins and ends. Part of what a trained model expects."""

    aggressiveness: int = 2
    """WebRTC VAD mode, 0 (keeps doubtful frames) to 3 (drops them)."""
    margin_db: float = 6.0
    """Decibels by which speech must exceed the noise floor."""
    floor_db: float = -65.0
    """Noise floor assumed when a stream begins, dB relative to full scale."""
    floor_rise_db: float = 3.0
    """Decibels a second by which the noise floor estimate may rise."""
    start_ms: int = 240
    """Stretch in which an utterance must assert itself, ms."""
    start_share: float = 0.5
    """Share of voiced frames in that stretch that begins an utterance."""
    lead_ms: int = 100
    """Audio kept from before the stretch in which speech was found, ms."""
    tail_ms: int = 100
    """Audio kept after the last voiced frame, ms."""
    end_ms: int = 500
    """Silence that ends an utterance, ms; 0 keeps the whole stream one utterance."""
    max_pause_ms: int = 1000
    """Inside an utterance longer silences are shortened to this, ms."""
    max_seconds: float = 15.0
    """An utterance longer than this is closed; speech that goes on begins the next one, s."""
    offset_seconds: float = 1.0
    """Stretch over which a constant offset (DC) is followed, and taken away, s; 0 leaves it in."""

    def __post_init__(self) -> None:
        """ValueError for numbers that cannot be meant."""
        lengths = (
            self.lead_ms,
            self.tail_ms,
            self.end_ms,
            self.max_pause_ms,
            self.floor_rise_db,
            self.offset_seconds,
        )
        if not (
            self.aggressiveness in range(4)
            and _frames(self.start_ms) > 0
            and 0 < self.start_share <= 1
            and min(lengths) >= 0
            and max(self.start_ms, *lengths[:4]) <= _LONGEST_WAIT
            and self.offset_seconds <= _LONGEST_OFFSET
            and self.max_seconds > 0
        ):
            raise ValueError(f"these cannot be meant: {self}")

    def sensitive(self, sensitivity: str) -> SegmentParams:
        """The same, finding softer speech ("high") or leaving it ("low"), see `SENSITIVITIES`."""
        more = SENSITIVITIES.index(sensitivity) - SENSITIVITIES.index(NORMAL)
        return replace(
            self,
            aggressiveness=min(3, max(0, self.aggressiveness - more)),
            margin_db=self.margin_db - _SENSITIVITY_DB * more,
        )

    def whole(self) -> SegmentParams:
        """The same, but with the stream taken for one utterance, of which longer pauses are cut.

        That is, its edges are trimmed, and a pause is `max_pause_ms` at most.
        """
        return replace(self, end_ms=0, max_seconds=float("inf"))


def is_silent(samples: Int16) -> bool:
    """Whether a recording has nothing in it but digital silence and its dither: peak below 8."""
    return samples.size == 0 or int(np.abs(samples.astype(np.int32)).max()) < _SILENT_PEAK


class OffsetBlocker:
    """Takes the constant offset (DC) out of a stream, as cheap microphones have it.

    An offset of half a per cent of full scale is more energy than quiet speech: the noise floor
    would be lost in it, and every frame's energy. The offset is the mean of the frames so far, and
    from `seconds` on a running one with that time constant: a high-pass filter far below any voice.
    Within a frame what is taken away goes in a straight line from the last estimate to the new one,
    so that there is no step to be heard. Frames are those of the stream, whatever the pieces it
    comes in, and sums of integers are exact: the result is the same to the bit for every cut.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` of 0 leave a stream as it is."""
        self._most = round(seconds * SAMPLE_RATE / FRAME)
        self._ramp = np.arange(1, FRAME + 1) / FRAME
        self.reset()

    def reset(self) -> None:
        """Forget the offset: what comes next is another recording."""
        self._frames, self._offset = 0, 0.0

    def feed(self, frames: Int16) -> Int16:
        """Frames of int16 (k, FRAME) without their offset, the same shape; clipped, not wrapped."""
        if len(frames) == 0 or self._most < 1:
            return frames
        sums = frames.sum(axis=1, dtype=np.int64).tolist()
        if self._frames == 0:
            self._offset = sums[0] / FRAME  # nothing is known before: no ramp from zero
        estimates = [self._offset]
        for total in sums:
            self._frames = min(self._frames + 1, self._most)
            self._offset += (total / FRAME - self._offset) / self._frames
            estimates.append(self._offset)
        ends = np.array(estimates)
        return _without(frames, ends[:-1, None] + np.diff(ends)[:, None] * self._ramp)

    def rest(self, samples: Int16) -> Int16:
        """The samples of a last, incomplete frame, (n,), less the offset as it was."""
        return _without(samples, np.float64(self._offset)) if self._most else samples


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """An utterance begins."""

    t: float
    """Second of the stream at which it begins."""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A stretch of the running utterance."""

    samples: Int16
    """int16, shape (n,)."""
    start: int = 0
    """Sample of the stream at which it begins."""


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """The utterance is over."""

    t: float
    """Second of the stream at which it ended (not at which that was decided)."""


Boundary = SpeechStart | Speech | SpeechEnd


class Segmenter:
    """Cuts a stream of int16 samples at 16 kHz into utterances.

    Silence after speech is held back until it is known to be a pause inside the utterance or its
    end, so no sample of the silence that ends an utterance reaches the model.
    Raises MissingPackageError when the voice activity detector is not installed.
    """

    def __init__(self, params: SegmentParams | None = None) -> None:
        try:
            # Not `webrtcvad`, a class around these functions: to know its own version it imports
            # importlib.metadata, a tenth of all that a start takes.
            import _webrtcvad
        except ImportError:
            raise MissingPackageError(
                "voice activity detection", "webrtcvad-wheels", "all"
            ) from None
        self.params = params or SegmentParams()
        self._detector = _webrtcvad
        self._blocker = OffsetBlocker(self.params.offset_seconds)
        self._position = 0  # samples judged since the stream began
        self._rest: Int16 = np.empty(0, np.int16)
        self._begin_recording()

    @property
    def position(self) -> int:
        """Samples received since the stream began."""
        return self._position + self._rest.size

    def feed(self, samples: Int16) -> list[Boundary]:
        """Take int16 samples, shape (n,); return what is now known, in order."""
        # A copy: what is held back must not change when the caller uses its array again.
        signal = np.concatenate([self._rest, samples]) if self._rest.size else samples.copy()
        count = signal.size // FRAME
        frames = self._blocker.feed(signal[: count * FRAME].reshape(count, FRAME))
        self._rest = signal[count * FRAME :]
        boundaries: list[Boundary] = []
        for frame, level in zip(frames, _levels(frames), strict=True):
            self._position += FRAME
            self._judge(frame, self._is_voiced(frame, level), boundaries)
        return _joined(boundaries)

    def finish(self) -> list[Boundary]:
        """Close the running utterance, if there is one.

        What is fed afterwards counts its time on, but is judged as another recording: neither the
        noise floor nor the detector remembers this one.
        """
        boundaries: list[Boundary] = []
        rest, self._rest = self._rest, np.empty(0, np.int16)
        self._position += rest.size
        rest = self._blocker.rest(rest)
        if self._speaking:
            self._pending.append(Speech(rest, self._position - rest.size))
            self._close(boundaries)
        elif not self.params.end_ms and (self._before or rest.size):
            # Asked to take the stream for one utterance in which no voice was found: all of it, but
            # of silence nothing can be said.
            heard = np.concatenate([*self._before, rest])
            if not is_silent(heard):
                boundaries.append(SpeechStart((self._position - heard.size) / SAMPLE_RATE))
                boundaries.append(Speech(heard, self._position - heard.size))
                boundaries.append(SpeechEnd(self._position / SAMPLE_RATE))
        self._begin_recording()
        return _joined(boundaries)

    def skip(self, samples: int) -> list[Boundary]:
        """Account for `samples` that were lost before they reached the stream.

        The running utterance is closed: no utterance joins what was said on both sides of a gap.
        """
        boundaries: list[Boundary] = []
        if self.params.end_ms:
            if self._speaking:
                self._close(boundaries)
            self._begin_listening()
        self._position += samples
        return _joined(boundaries)

    def _begin_recording(self) -> None:
        self._blocker.reset()
        self._vad = self._detector.create()
        self._detector.init(self._vad)
        self._detector.set_mode(self._vad, self.params.aggressiveness)
        self._floor = self.params.floor_db
        self._speaking = False
        self._begin_listening()

    def _begin_listening(self) -> None:
        params = self.params
        stretch = _frames(params.start_ms)
        keep = stretch + _frames(params.lead_ms)
        self._votes: deque[bool] = deque(maxlen=stretch)
        # Taking the whole stream for one utterance, nothing may be forgotten before a voice is
        # found; 15 s bound the memory of a file that has none.
        self._before: deque[Int16] = deque(maxlen=keep if params.end_ms else _frames(15_000))
        self._pending: list[Speech] = []
        self._length = 0

    def _judge(self, frame: Int16, voiced: bool, boundaries: list[Boundary]) -> None:
        if not self._speaking:
            self._listen(frame, voiced, boundaries)
        elif voiced:
            boundaries += self._pending
            boundaries.append(Speech(frame, self._position - FRAME))
            self._length += (len(self._pending) + 1) * FRAME
            self._pending = []
            self._voiced = self._position
            if self._length >= self.params.max_seconds * SAMPLE_RATE:
                # What goes on being said is heard again within `start_ms`, nothing of it lost.
                self._close(boundaries)
        else:
            self._pending.append(Speech(frame, self._position - FRAME))
            silent = (self._position - self._voiced) // FRAME  # of which not all is kept
            if self.params.end_ms and silent >= _frames(self.params.end_ms):
                self._close(boundaries)
            elif len(self._pending) > _frames(self.params.max_pause_ms):
                # Drop from the middle: what follows the last word and precedes the next stays.
                del self._pending[_frames(self.params.max_pause_ms) // 2]

    def _listen(self, frame: Int16, voiced: bool, boundaries: list[Boundary]) -> None:
        self._before.append(frame)
        self._votes.append(voiced)
        needed = self.params.start_share * (self._votes.maxlen or 1)
        if sum(self._votes) < needed:
            return
        keep = len(self._votes) + _frames(self.params.lead_ms)
        self._start(boundaries, list(self._before)[-keep:])

    def _start(self, boundaries: list[Boundary], frames: list[Int16]) -> None:
        self._begin_listening()
        self._speaking = True
        self._voiced = self._position  # end of the last voiced frame
        self._length = len(frames) * FRAME
        boundaries.append(SpeechStart((self._position - self._length) / SAMPLE_RATE))
        first = self._position - self._length
        boundaries += [Speech(frame, first + n * FRAME) for n, frame in enumerate(frames)]

    def _close(self, boundaries: list[Boundary]) -> None:
        tail = self._pending[: _frames(self.params.tail_ms)]
        boundaries += tail
        kept = sum(held.samples.size for held in tail)
        boundaries.append(SpeechEnd((self._voiced + kept) / SAMPLE_RATE))
        self._speaking = False
        self._begin_listening()

    def _is_voiced(self, frame: Int16, level: float) -> bool:
        rise = self.params.floor_rise_db * FRAME / SAMPLE_RATE
        self._floor = min(level, self._floor + rise) if level > _SILENCE_DB else self._floor
        if level < self._floor + self.params.margin_db:
            return False
        return bool(self._detector.process(self._vad, SAMPLE_RATE, frame.tobytes(), FRAME))


def speech_of(samples: Int16, params: SegmentParams | None = None) -> Int16:
    """The utterance in a clip of one utterance: its edges trimmed, long pauses shortened.

    int16 (n,) in, int16 (m,) out; a clip without any voice comes back whole (its last 15 s).
    """
    pieces = [piece.samples for piece in pieces_of(samples, params)]
    return np.concatenate(pieces) if pieces else samples


def pieces_of(samples: Int16, params: SegmentParams | None = None) -> list[Speech]:
    """What `speech_of` joins, each with its place in `samples`; none of a clip of no samples."""
    segmenter = Segmenter((params or SegmentParams()).whole())
    boundaries = segmenter.feed(samples) + segmenter.finish()
    return [item for item in boundaries if isinstance(item, Speech)]


def _without(samples: Int16, offset: npt.NDArray[np.float64] | np.float64) -> Int16:
    if np.abs(offset).max() < 0.5:
        return samples  # which rounding would give back
    return np.clip(np.rint(samples - offset), -32768, 32767).astype(np.int16)


def _frames(milliseconds: int) -> int:
    return milliseconds * SAMPLE_RATE // 1000 // FRAME


def _levels(frames: Int16) -> list[float]:
    """Energy of each frame in dB relative to full scale."""
    # Sums of squared integers are exact in float64, whatever the order of the terms: where an
    # utterance begins depends neither on how the samples were cut nor on the machine.
    values = frames.astype(np.float64)
    sums = np.einsum("fs,fs->f", values, values).tolist()
    return [
        10 * log10(energy / _FULL_ENERGY) if energy > _SILENT else _SILENCE_DB for energy in sums
    ]


def _joined(boundaries: list[Boundary]) -> list[Boundary]:
    """Stretches of speech that follow each other without a gap as one."""
    result: list[Boundary] = []
    run: list[Speech] = []
    for item in boundaries:
        if isinstance(item, Speech):
            if run and item.start != run[-1].start + run[-1].samples.size:
                result.append(_run(run))
                run = []
            run.append(item)
            continue
        if run:
            result.append(_run(run))
            run = []
        result.append(item)
    if run:
        result.append(_run(run))
    return result


def _run(pieces: list[Speech]) -> Speech:
    return Speech(np.concatenate([piece.samples for piece in pieces]), pieces[0].start)
