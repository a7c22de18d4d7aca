"""Listen to the microphone and print every utterance.

python examples/listen.py [DEVICE]
"""

from __future__ import annotations

import sys

from edge_runtime import EdgeError, EmotionStream, load_bundle
from edge_runtime.audio.microphone import MicrophoneSource


def main() -> None:
    """Until Ctrl-C; DEVICE is an index or part of a name, as `edge-emotion devices` lists them."""
    microphone = MicrophoneSource(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"listening to {microphone.name}; Ctrl-C ends it", flush=True)
    with EmotionStream(load_bundle("default")) as stream:
        for block in microphone.blocks():
            # What was lost before a block keeps its place in time.
            events = stream.skip(block.lost) if block.lost else []
            for event in events + stream.feed(block.samples):
                if event.type == "emotion" and event.final:
                    print(
                        f"{event.start:7.1f} s  {event.label:8} {event.confidence:.0%}", flush=True
                    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except EdgeError as error:
        sys.exit(f"listen: {error}")
