"""Compressed containers as they come: OGG and FLAC in a pipe that may never end.

libsndfile pulls bytes, and waits for them where no signal is heard. So it works on a thread, at the
end of a pipe of ours; whoever feeds that pipe can be interrupted.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from edge_runtime.audio.decoders import SndfileDecoder
from edge_runtime.errors import EdgeError
from edge_runtime.pcm import Float32

KINDS = ("OGG", "FLAC")
"""Containers that can be decoded forward alone."""
_READ_BYTES = 4096
_PROBED = 1 << 16  # bytes of the beginning to which a decoder may go back
_ENDLESS = 1 << 40  # bytes; the size of what has none


class LiveDecoder:
    """One compressed recording, decoded as it is read.

    Parameters
    ----------
    name : what to call it in messages.
    kind : one of `KINDS`.
    read : brings its bytes, at most so many, as they come; none at the end.

    Raises AudioError where it cannot be decoded, MissingPackageError without soundfile.
    """

    def __init__(self, name: str, kind: str, read: Callable[[int], bytes]) -> None:
        self._read = read
        receiving, sending = os.pipe()
        self._sending: int | None = sending
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        # A daemon: nothing is lost with it where the program ends before the pipe does.
        threading.Thread(
            target=_decode, args=(name, kind, receiving, self._done.put), daemon=True
        ).start()
        try:
            opened = self._next()
        except BaseException:
            self.close()
            raise
        assert isinstance(opened, SndfileDecoder)  # or it would have raised
        self._decoder = opened
        self.rate = opened.rate
        """Frames a second, Hz."""
        self.promised = opened.promised
        """Frames that it says it has; None where it does not."""

    @property
    def damage(self) -> str:
        """What ended it before its end; empty where nothing did."""
        return self._decoder.damage

    def pieces(self) -> Iterator[Float32]:
        """Frames as they come, (n, channels) each."""
        try:
            while (piece := self._next()) is not None:
                yield cast(Float32, piece)
        finally:
            self.close()

    def close(self) -> None:
        """Let the decoder end."""
        if self._sending is not None:
            os.close(self._sending)
            self._sending = None

    def _next(self) -> SndfileDecoder | Float32 | None:
        """What the decoder brings next, fed as long as it brings nothing; None at its end."""
        while self._done.empty() and self._sending is not None:
            self._feed()
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        return done

    def _feed(self) -> None:
        data = memoryview(self._read(_READ_BYTES))
        if not data:
            self.close()
        try:
            while data and self._sending is not None:
                data = data[os.write(self._sending, data) :]
        except BrokenPipeError:  # the decoder has ended, and says why
            self.close()


_Done = SndfileDecoder | Float32 | BaseException | None


def _decode(name: str, kind: str, receiving: int, put: Callable[[_Done], None]) -> None:
    """On a thread: a decoder, then pieces, then None; in place of any, the exception."""
    try:
        source = receiving if kind == "OGG" else cast(BinaryIO, _Forward(receiving))
        decoder = SndfileDecoder(name, source)
        put(decoder)
        for piece in decoder.pieces(0):
            put(piece)
        put(None)
    except EdgeError as error:
        put(error)
    except BaseException as error:
        put(error)
        raise
    finally:
        os.close(receiving)


class _Forward:
    """A descriptor as a file, as far as libsndfile's decoder of FLAC asks: it reads forward.

    It asks for the size, and looks at the first bytes twice. (As a descriptor of a pipe libsndfile
    takes all but FLAC.)
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = b""  # the beginning
        self._at = 0  # where the next byte is read
        self._end = 0  # how far the descriptor was read

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as bytes have come; 0 at the end."""
        data = self._kept[self._at : self._at + len(buffer)] if self._at < self._end else b""
        if not data:
            data = os.read(self._descriptor, len(buffer))
            self._end += len(data)
            if self._end <= _PROBED:
                self._kept += data
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go back to the beginning, or say the size."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: _ENDLESS}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at
