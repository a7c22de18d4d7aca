"""A program: however samples are cut, the frames are the same to the bit. Run where it matters."""

import numpy as np

from edge_runtime.mfcc import MfccStream, mfcc

signal = np.asarray(np.random.default_rng(9).normal(0, 1000, 40_000), np.int16)
for block in (160, 1234, 1600, 4001, 37_777):
    stream = MfccStream()
    frames = [stream.feed(signal[i : i + block]) for i in range(0, signal.size, block)]
    assert np.array_equal(np.concatenate([*frames, stream.flush()]), mfcc(signal)), block
