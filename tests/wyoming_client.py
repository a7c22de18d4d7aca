"""A client as Home Assistant's is, by the protocol's own package; and a server that hears words."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import soxr
from ports import free_port
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.server import AsyncEventHandler, AsyncTcpServer

from edge_runtime.pcm import SAMPLE_RATE, Int16

PATIENCE = 60.0
"""Seconds after which something hangs."""
HOST = "127.0.0.1"


def client(port: int) -> AsyncTcpClient:
    return AsyncTcpClient(HOST, port, PATIENCE, PATIENCE)


def converted(samples: Int16, rate: int, channels: int) -> Int16:
    """The same at another rate and channel count, (n, channels)."""
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, SAMPLE_RATE, rate)
    return np.repeat(samples[:, None], channels, axis=1)


async def send(
    to: AsyncTcpClient, samples: Int16, rate: int = SAMPLE_RATE, channels: int = 1
) -> None:
    """One turn, in chunks as satellites have them."""
    form = {"rate": rate, "width": 2, "channels": channels}
    await to.write_event(AudioStart(**form).event())
    frames = converted(samples, rate, channels)
    for at in range(0, len(frames), 1024):
        chunk = AudioChunk(audio=frames[at : at + 1024].tobytes(), **form)
        await to.write_event(chunk.event())
    await to.write_event(AudioStop().event())


async def until(to: AsyncTcpClient, kind: str) -> list[Event]:
    """What it is sent, up to the event of that type."""
    events: list[Event] = []
    while not events or events[-1].type != kind:
        event = await to.read_event()
        assert event is not None, f"closed, without {kind}, after {[e.type for e in events]}"
        events.append(event)
    return events


async def transcribed(
    port: int, samples: Int16, rate: int = SAMPLE_RATE, channels: int = 1
) -> list[Event]:
    """What Home Assistant's speech-to-text gets, up to its transcript."""
    async with client(port) as to:
        await to.write_event(Transcribe(language="en").event())
        sending = asyncio.create_task(send(to, samples, rate, channels))
        events = await until(to, "transcript")
        await sending
    return events


def finals(events: list[Event]) -> list[dict[str, Any]]:
    return [e.data for e in events if e.type == "edge-emotion" and e.data["final"]]


Answer = Callable[[AsyncEventHandler, Event, bytes], Awaitable[bool]]
"""What a server does with an event, given the audio so far; False closes the connection."""


@contextmanager
def served(answer: Answer, port: int = 0) -> Iterator[int]:
    """A server of the package, on a thread; its port."""

    class Handler(AsyncEventHandler):
        audio = b""

        async def handle_event(self, event: Event) -> bool:
            self.audio += event.payload or b""
            return await answer(self, event, self.audio)

    port = port or free_port()
    loop = asyncio.new_event_loop()
    server = AsyncTcpServer(HOST, port)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.start(Handler))
        started.set()
        loop.run_forever()
        loop.run_until_complete(server.stop())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    started = threading.Event()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
