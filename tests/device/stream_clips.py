"""Every clip of a folder through a stream of its own; prints a line of JSON a clip.

Run by this machine's Python and by an emulated one: `python stream_clips.py FOLDER [alone]`, which
holds raw samples, int16 at 16 kHz. With `alone` a model that has an encoder beside it judges alone.
"""

import json
import sys
from pathlib import Path

import numpy as np

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.events import to_dict

AT_A_TIME = 480
"""Samples: as a microphone hands them over."""

bundle = load_bundle()
if "alone" in sys.argv[2:] and bundle.manifest.pretrained:
    bundle = bundle.plain()
for path in sorted(Path(sys.argv[1]).iterdir()):
    samples = np.frombuffer(path.read_bytes(), "<i2").astype(np.int16)
    with EmotionStream(bundle) as stream:
        events = []
        for start in range(0, len(samples), AT_A_TIME):
            events += stream.feed(samples[start : start + AT_A_TIME])
        events += stream.finish()
    print(json.dumps({"name": path.name, "events": [to_dict(event) for event in events]}))
