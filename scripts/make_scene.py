"""Speaks the demo scene with eSpeak NG and writes edge_runtime/demo/scene.flac.

Beside it goes scene.jsonl, what is said and when, as a recognizer would tell it.

The scene is made, not recorded, so that it can be committed and given away: five sentences over a
quiet room, each with the rate, pitch and loudness that go with its mood. Within those, voice and
prosody were chosen so that the shipped model hears most of the moods: the scene shows the path at
work and is no evidence of accuracy. Needs espeakng-loader (extra `dev`), which carries the
synthesizer and its data in a wheel.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from edge_runtime.pcm import SAMPLE_RATE
from training.speech.synthesis import Synthesizer, Voice

OUT = Path(__file__).parent.parent / "edge_runtime" / "demo" / "scene.flac"
PAUSE = 0.9  # seconds between utterances
ROOM_DB = -62.0  # level of the room's noise, dB relative to full scale
SCENE = (
    (
        "The meeting starts at ten; the report is on the table.",
        Voice("en-us+f3", 130, 45, 40, -24),
    ),
    ("We won! I can't believe it, this is wonderful!", Voice("en-us+m3", 185, 85, 80, -7)),
    ("She is gone. I miss her, every single day.", Voice("en-us+f2", 95, 65, 10, -30)),
    ("I told you a hundred times! Stop it, right now!", Voice("en-us+f3", 205, 65, 100, -2)),
    ("All right. Let us go home.", Voice("en-us+f3", 150, 45, 40, -24)),
)


def main() -> None:
    """Write the scene."""
    synthesizer = Synthesizer()
    pause = np.zeros(round(PAUSE * SAMPLE_RATE))
    parts, lines = [pause], []
    for text, voice in SCENE:
        start = sum(part.size for part in parts) / SAMPLE_RATE
        parts += [synthesizer.speak(text, voice), pause]
        end = sum(part.size for part in parts) / SAMPLE_RATE - PAUSE
        line = {"text": text, "start": round(start, 2), "end": round(end, 2), "final": True}
        lines.append(json.dumps(line) + "\n")
    scene = np.concatenate(parts)
    noise = np.random.default_rng(0).standard_normal(scene.size) * 10 ** (ROOM_DB / 20)
    soundfile.write(OUT, scene + noise, SAMPLE_RATE, subtype="PCM_16")
    OUT.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{OUT}: {scene.size / SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()
