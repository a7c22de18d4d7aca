"""A program that judges the scene in the box over and over, and tells the service manager.

SIGHUP opens the bundle again, SIGUSR1 makes the loop hang, SIGTERM ends it. It stands for any
program around `EmotionStream`; the argument is the length of a pause after a block, s.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import edge_runtime
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import FileSource
from edge_runtime.console import note
from edge_runtime.notify import Notifier

SCENE = Path(edge_runtime.__file__).parent / "demo" / "scene.flac"
asked: set[signal.Signals] = set()
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda got, _: asked.add(signal.Signals(got)))

notifier = Notifier()
# Another thread that goes on does not make up for a loop that hangs.
threading.Thread(target=lambda: [time.sleep(0.05) for _ in iter(int, 1)], daemon=True).start()
note("it begins")
stream = EmotionStream(load_bundle())
notifier.ready(f"judging {SCENE.name}\nin blocks")
while signal.SIGTERM not in asked:
    for block in FileSource(SCENE).blocks():
        stream.feed(block.samples)
        notifier.alive()
        if signal.SIGHUP in asked:
            asked.remove(signal.SIGHUP)
            notifier.reloading()
            stream.close()
            stream = EmotionStream(load_bundle())
            notifier.ready("reloaded")
        while signal.SIGUSR1 in asked and signal.SIGTERM not in asked:
            time.sleep(0.05)
        if signal.SIGTERM in asked:
            break
        time.sleep(float(sys.argv[1]))
notifier.stopping()
stream.close()
