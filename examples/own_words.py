"""Words from a recognizer of one's own beside the sound.

python examples/own_words.py FILE WORDS...
"""

from __future__ import annotations

import sys

from edge_runtime import EdgeError, EmotionStream, load_bundle
from edge_runtime.audio.file import read_file


def main() -> None:
    """Judge the recording by sound alone, by words alone, and by both."""
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} FILE WORDS...")
    samples, words = read_file(sys.argv[1]), " ".join(sys.argv[2:])
    bundle = load_bundle("default")
    for given in ("", words):
        with EmotionStream(bundle, segment=bundle.manifest.segment.whole()) as stream:
            events = stream.feed(samples)
            stream.read(given)  # counts for the running utterance, up to its final event
            for event in events + stream.finish():
                if event.type == "emotion" and event.final:
                    print(f"{event.modality:10} {event.label:8} {event.confidence:.0%}")
    with EmotionStream(bundle) as stream:
        verdict = stream.judge_text(words)
        if verdict is not None:
            print(f"{verdict.modality:10} {verdict.label:8} {verdict.confidence:.0%}")


if __name__ == "__main__":
    try:
        main()
    except EdgeError as error:
        sys.exit(f"own_words: {error}")
