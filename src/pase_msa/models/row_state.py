"""State that a model keeps per training row, such as the pseudo labels of Self-MM."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pase_msa.errors import PaSEError


class RowState(nn.Module):
    """Buffers with one entry per training row. A resumed run has them again; a saved model does not hold them.

    Add buffers of shape [R, ...] by `register_buffer`. `positions` says which entries belong to a batch:

        state = RowState(rows)
        state.register_buffer("labels", labels.clone())
        state.labels[state.positions(batch.rows)] = new

    Args:
        rows: of the training utterances in their table, [R], in any order and without repetition.
    """

    rows: Tensor

    def __init__(self, rows: Int[Tensor, " r"]) -> None:
        super().__init__()
        self.register_buffer("rows", rows.sort().values)

    def __len__(self) -> int:
        return len(self.rows)

    def positions(self, rows: Int[Tensor, " n"] | None) -> Int[Tensor, " n"]:
        """The entry of each row of a batch, [N].

        Errors:
            PaSEError: the batch has no row numbers, or one that is not among the training rows.
        """
        if rows is None:
            raise PaSEError("A model with a state per training row needs batches with row numbers (`Batch.rows`).")
        found = torch.searchsorted(self.rows, rows).clamp(max=len(self.rows) - 1)
        if not torch.equal(self.rows[found], rows):
            raise PaSEError("The batch has rows that are not among the training rows that the model was told of.")
        return found
