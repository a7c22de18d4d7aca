"""Who speaks Wyoming to us, on a thread of its own: one client is heard at a time.

The stream's thread takes audio from a `Turn` and never waits here. A turn holds some seconds; where
that is full, nothing more is read from its client, so that a client that sends faster than people
speak loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from edge_runtime import __version__
from edge_runtime.audio import BLOCK_SECONDS, QUEUE_SECONDS
from edge_runtime.audio.channels import LiveMono
from edge_runtime.audio.command import Frames
from edge_runtime.audio.mono import HIGHEST_RATE, LOWEST_RATE
from edge_runtime.audio.raw import RawFormat
from edge_runtime.console import note
from edge_runtime.errors import EdgeError
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.wyoming.discovery import Announcement
from edge_runtime.wyoming.protocol import (
    PROGRAM,
    READ_BYTES,
    EventReader,
    ProtocolError,
    event_bytes,
    whole_number,
)

if TYPE_CHECKING:
    from wyoming.event import Event

STALL_SECONDS = 10.0
"""In which an event is complete once it has begun, and the next one comes within a turn."""
IDLE_SECONDS = 300.0
"""For which a client may be silent otherwise."""
TURN_SECONDS = 30.0
"""For which a client waits while another one speaks."""
ANSWER_SECONDS = 15.0
"""For which a client that sends no more may wait for what is still to be told."""
MOST_CLIENTS = 16
"""At once; a house has fewer rooms."""
_WAITING = 500  # events for a client that does not read; two minutes of speech
_CLOSE_SECONDS = 1.0  # in which a client gets what waits for it
_WITHDRAW_SECONDS = 2.0  # in which whoever looks for services is told that ours is gone
_RENEW_SECONDS = 30.0  # between looks whether it is announced with the addresses that there are
_ENCODINGS = {1: "u8", 2: "s16le", 3: "s24le", 4: "s32le"}  # by the bytes of a sample
_MOST_CHANNELS = 64
_LANGUAGES = ["en"]  # of the words that the text sources in the box hear, and that models read
_ABOUT = "https://arxiv.org/abs/2106.04133"


class Turn:
    """What one client says from audio-start to audio-stop."""

    def __init__(self, client: Client, transcribes: bool) -> None:
        self.client = client
        self.transcribes = transcribes
        """Whether the client wants a transcript."""
        self.begun = time.monotonic()
        self.over = False
        """Whether all of it has come."""
        self.pieces: deque[tuple[Int16, float]] = deque()
        """Samples at 16 kHz and when they came; guarded by the server's condition."""
        self.held = 0
        """Samples in them."""
        self.room = asyncio.Event()
        """Set when the stream has taken some."""
        self.taken = asyncio.Event()
        """Set when the stream has taken all of it."""
        self.answered = asyncio.Event()
        """Set when all is told that will be."""


class Client:
    """The way back to one client: what finds it too slow is dropped, the oldest first."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.dropped = 0
        """Events that it was too slow for."""
        self._writer = writer
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._closing = False
        writer.transport.set_write_buffer_limits(high=0)  # so that what waits, waits here
        self.task = asyncio.create_task(self._write())
        """Sends what waits, until closed."""

    def offer(self, event: bytes) -> None:
        """Let it have one event; on the server's thread."""
        self._waiting.append(event)
        if len(self._waiting) > _WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._more.set()

    async def close(self) -> None:
        """Give it what waits, for a second at most, and leave it."""
        self._closing = True
        self._more.set()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.task
            self._writer.close()
        except TimeoutError:
            self._writer.transport.abort()

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, which its reader sees
            while True:
                while self._waiting:
                    self._writer.write(self._waiting.popleft())
                    await self._writer.drain()
                if self._closing:
                    return
                self._more.clear()
                await self._more.wait()


class Server:
    """Listens until closed.

    Parameters
    ----------
    listening : bound sockets; closed with the server.
    name : what people call this device.
    channel : of what clients send the one to take, from 1; None mixes those that are not dead.
    announcement : what tells the network of it; None for nothing.
    """

    def __init__(
        self,
        listening: socket.socket,
        name: str,
        channel: int | None = None,
        announcement: Announcement | None = None,
    ) -> None:
        self.changed = threading.Condition()
        """Guards `turns` and what is in them; notified when there is more."""
        self.turns: deque[Turn] = deque()
        """Those that the stream has not taken all of, in order."""
        self.words = False
        """Whether words are heard; the stream's thread says so."""
        self.dropped = 0
        """Connections that ended otherwise than by their client's leave."""
        self.channel = channel
        self.name = name
        self.speaking = asyncio.Lock()
        self._listening, self._announcement = listening, announcement
        self._clients: set[Client] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="wyoming", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether clients are served."""
        return self._thread.is_alive()

    def call(self, what: Any, *arguments: Any) -> None:
        """Have `what` called on the server's thread; from any thread."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(what, *arguments)

    def close(self) -> None:
        """End every connection; returns within seconds."""
        self.call(self._end.set)
        self._thread.join(2 * (_CLOSE_SECONDS + _WITHDRAW_SECONDS))
        self._listening.close()

    def drop(self, client: str, why: str) -> None:
        """Count a connection that ended in a way that nobody means; the first of them is told."""
        self.dropped += 1
        if self.dropped == 1:
            note(f"{PROGRAM}: wyoming: {client} is dropped: {why}; others will be counted")

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have something done beside; on the server's thread."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next_turn(self, turn: Turn) -> None:
        """Wait until nobody else speaks, then begin. TimeoutError where somebody goes on."""
        async with asyncio.timeout(TURN_SECONDS):
            await self.speaking.acquire()
        with self.changed:
            turn.begun = time.monotonic()
            self.turns.append(turn)
        self.spawn(self._release(turn))

    async def _release(self, turn: Turn) -> None:
        await turn.taken.wait()
        self.speaking.release()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_until_closed())
        finally:
            self._loop.close()
            with self.changed:
                self.changed.notify_all()

    async def _serve_until_closed(self) -> None:
        server = await asyncio.start_server(self._serve, sock=self._listening)
        if self._announcement is not None:
            self.spawn(self._announce(self._announcement))
        await self._end.wait()
        server.close()
        spared = {asyncio.current_task(), *(client.task for client in self._clients)}
        tasks = [task for task in asyncio.all_tasks() if task not in spared]
        for task in tasks:
            task.cancel()
        tasks.append(asyncio.create_task(self._withdraw()))
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS + _WITHDRAW_SECONDS)

    async def _announce(self, announcement: Announcement) -> None:
        told = False
        while True:
            try:
                await announcement.renew()
                told = False
            except Exception as error:  # of the network, or of zeroconf: it may pass
                if not told:
                    note(f"{PROGRAM}: wyoming: not announced, and tried again: {error}")
                told = True
            await asyncio.sleep(_RENEW_SECONDS)

    async def _withdraw(self) -> None:
        if self._announcement is not None:
            with contextlib.suppress(Exception):  # whoever believes in it will not find us
                async with asyncio.timeout(_WITHDRAW_SECONDS):
                    await self._announcement.withdraw()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer)
        who = str((writer.get_extra_info("peername") or ["a client"])[0])
        conversation = _Conversation(self, client, reader)
        self._clients.add(client)
        try:
            if len(self._clients) > MOST_CLIENTS:
                raise _Refused(f"there are {MOST_CLIENTS} clients already", "busy")
            await conversation.run()
        except _Refused as refused:
            client.offer(_error(str(refused), refused.code))
        except EdgeError as error:
            client.offer(_error(str(error), "invalid"))
            self.drop(who, str(error))
        except OSError as error:
            self.drop(who, error.strerror or "the connection broke")
        except asyncio.CancelledError:
            pass  # we close; the streams of asyncio would call it an error
        finally:
            conversation.end()
            self._clients.discard(client)
            with contextlib.suppress(OSError):
                await client.close()


class _Refused(Exception):  # noqa: N818  # no fault of ours or theirs
    """A client that we cannot serve now."""

    def __init__(self, why: str, code: str) -> None:
        super().__init__(why)
        self.code = code


class _Conversation:
    """What one client sends, event by event."""

    def __init__(self, server: Server, client: Client, reader: asyncio.StreamReader) -> None:
        self._server, self._client, self._reader = server, client, reader
        self._transcribes = False
        self._turn: Turn | None = None
        self._last: Turn | None = None  # whose answers the client may still wait for
        self._form: tuple[int, int, int] | None = None  # rate, width, channels
        self._audio: tuple[Frames, LiveMono] | None = None

    async def run(self) -> None:
        """Until the client leaves. EdgeError for what is no Wyoming, OSError for a broken line."""
        events = EventReader()
        since = time.monotonic()
        while data := await self._read(events.amid, since):
            was_amid = events.amid
            taken = events.take(data)
            for event in taken:
                await self._take(event)
            # A client that sends a byte now and then is as good as one that sends nothing.
            if taken or not was_amid:
                since = time.monotonic()
        if events.amid:
            raise ProtocolError("it left in the middle of an event")
        self.end()
        if self._last is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._last.answered.wait()

    def end(self) -> None:
        """Nothing more comes of the turn, if there is one."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        self._last = turn
        rest = self._audio[1].flush() if self._audio is not None else None
        self._audio = None
        with self._server.changed:
            if rest is not None and rest.size:
                turn.pieces.append((rest, time.monotonic()))
                turn.held += rest.size
            turn.over = True
            self._server.changed.notify_all()

    async def _read(self, amid: bool, since: float) -> bytes:
        busy = amid or self._turn is not None
        limit = STALL_SECONDS if busy else IDLE_SECONDS
        try:
            async with asyncio.timeout(since + limit - time.monotonic()):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            if busy:
                raise ProtocolError(f"nothing came for {STALL_SECONDS:g} s") from None
            return b""
        except OSError:
            if busy:
                raise
            return b""  # it left without reading all that it was sent

    async def _take(self, event: Event) -> None:
        if event.type == "audio-chunk":
            await self._hear(event)
        elif event.type == "audio-start":
            self._form = _form(event.data)
            await self._begin()
        elif event.type == "audio-stop":
            if self._turn is None and self._transcribes:
                await self._begin()  # of which nothing came: it is answered all the same
            self.end()
            self._transcribes = False
        elif event.type == "transcribe":
            self._transcribes = True
        elif event.type == "describe":
            self._client.offer(event_bytes(info(self._server.name, self._server.words)))
        elif event.type == "ping":
            self._client.offer(event_bytes(_event("pong", event.data)))

    async def _begin(self) -> None:
        self.end()
        turn = Turn(self._client, self._transcribes)
        try:
            await self._server.next_turn(turn)
        except TimeoutError:
            raise _Refused("somebody else is speaking; try again", "busy") from None
        self._turn = turn

    async def _hear(self, event: Event) -> None:
        form = _form(event.data) if "rate" in event.data or self._form is None else self._form
        if self._turn is None:
            await self._begin()
        turn = self._turn
        assert turn is not None  # it has begun
        if form != self._form or self._audio is None:
            if self._audio is not None:
                await self._add(turn, self._audio[1].flush())
            self._form, self._audio = form, self._opened(*form)
        frames, mono = self._audio
        taken = frames.take(event.payload or b"").frames
        # As much at a time as every source has: channels are judged by it.
        size = max(1, round(BLOCK_SECONDS * form[0]))
        for at in range(0, len(taken), size):
            await self._add(turn, mono.convert(mono.mix(taken[at : at + size])))

    def _opened(self, rate: int, width: int, channels: int) -> tuple[Frames, LiveMono]:
        channel = self._server.channel
        if channel is not None and channel > channels:
            raise ProtocolError(f"{channels} channels, and --channel asks for number {channel}")
        raw = RawFormat(_ENCODINGS[width], rate, channels)
        return Frames(raw), LiveMono(rate, channels, channel)

    async def _add(self, turn: Turn, samples: Int16) -> None:
        while turn.held > QUEUE_SECONDS * SAMPLE_RATE:
            turn.room.clear()
            await turn.room.wait()
        if samples.size:
            with self._server.changed:
                turn.pieces.append((samples, time.monotonic()))
                turn.held += samples.size
                self._server.changed.notify_all()


def info(name: str, words: bool) -> Event:
    """What we are, as Home Assistant reads it: a service that hears speech.

    Of the kinds of service that there are, it is the one that Home Assistant sends audio to. It is
    told as installed while words are heard: else an assistant would be given a service that never
    hears one.
    """
    from wyoming.info import AsrModel, AsrProgram, Attribution, Info

    told: dict[str, Any] = {
        "attribution": Attribution(PROGRAM, _ABOUT),
        "installed": words,
        "description": f"What is said, and how it is felt; on {name}",
        "version": __version__,
    }
    model = AsrModel(name=PROGRAM, languages=_LANGUAGES, **told)
    return Info(asr=[AsrProgram(name=PROGRAM, models=[model], **told)]).event()


def _form(data: dict[str, Any]) -> tuple[int, int, int]:
    """Rate, bytes of a sample, and channels. ProtocolError for what is no audio."""
    return (
        whole_number(data, "rate", LOWEST_RATE, HIGHEST_RATE),
        whole_number(data, "width", 1, max(_ENCODINGS)),
        whole_number(data, "channels", 1, _MOST_CHANNELS),
    )


def _event(kind: str, data: dict[str, Any]) -> Event:
    from wyoming.event import Event

    return Event(kind, data)


def _error(text: str, code: str) -> bytes:
    return event_bytes(_event("error", {"text": text, "code": code}))
