"""Do something when somebody sounds angry.

edge-emotion run --mic --out jsonl | python examples/react.py

Reads events as JSON lines, so it works with any source, and from another machine.
"""

from __future__ import annotations

import json
import sys

CONFIDENT = 0.7  # calibrated: of a hundred such verdicts, some seventy are right
CALM_SECONDS = 5.0  # of audio, between two reactions


def main() -> None:
    """React at most once in `CALM_SECONDS`; anything that is no event is passed over."""
    last = float("-inf")
    for line in sys.stdin:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event.get("type") == "source":
            last = float("-inf")  # a new stream: its clock begins at 0 again
        if event.get("type") != "emotion" or not event["final"] or event["label"] != "angry":
            continue
        if event["confidence"] >= CONFIDENT and event["t"] - last >= CALM_SECONDS:
            last = event["t"]
            print(f"{event['t']:.1f} s: shall I fetch a human?", flush=True)


if __name__ == "__main__":
    main()
