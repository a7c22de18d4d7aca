"""Word embeddings on the device: int8 rows, looked up outside the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.int8 import dequantize


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Rows in int8, or float32 with scale 1; row 0 is padding and zero."""

    values: npt.NDArray[np.int8] | npt.NDArray[np.float32]
    """(rows, width)."""
    scale: npt.NDArray[np.float32]
    """Value of one step, shape ()."""
    zero_point: int = 0
    """The step that stands for zero."""

    def rows(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """float32 (n, width) of the rows `ids` (n,)."""
        return dequantize(self.values[ids], float(self.scale), self.zero_point)
