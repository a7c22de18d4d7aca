"""Judge one recording as a whole.

python examples/judge_clip.py FILE
"""

from __future__ import annotations

import sys

from edge_runtime import EdgeError, EmotionStream, load_bundle
from edge_runtime.audio.file import read_file


def main() -> None:
    """Print the scores of each class, the likeliest first."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE")
    bundle = load_bundle("default")
    # `whole()` takes everything up to `finish` for one utterance; pauses at its edges are trimmed.
    with EmotionStream(bundle, segment=bundle.manifest.segment.whole()) as stream:
        events = stream.feed(read_file(sys.argv[1])) + stream.finish()
    final = [event for event in events if event.type == "emotion" and event.final]
    if not final:
        sys.exit(f"{sys.argv[1]}: no speech found")
    print(final[0].label)
    for label, score in sorted(final[0].scores.items(), key=lambda item: -item[1]):
        print(f"{label:8} {score:.2f}")


if __name__ == "__main__":
    try:
        main()
    except EdgeError as error:
        sys.exit(f"judge_clip: {error}")
