"""Keys and values of condition pictures that several steps attend to, row by row.

Where the tokens of condition pictures are modulated as at timestep 0 (`zero_cond_t`), nothing of their own changes from
step to step: neither what they begin as nor their modulation. What does reach them, by attention, is the text and the
picture that is made. So their stream changes slowly, and is computed at every n-th step alone. In between, the tokens
of the text and of what is made attend to the keys and values that each block had of them then, and go through the
blocks by themselves: half of the work, where there is one picture as large as what is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch

from models.transformer.packing import Packing


class ConditionCache:
    """What one batch keeps of its condition pictures between its steps."""

    def __init__(self, every: int, rows: Collection[int]) -> None:
        """Nothing is kept yet.

        Args:
            every: so many steps after a row's condition pictures were computed they are computed again.
            rows: those that have any.
        """
        self.every = every
        self._due_at = dict.fromkeys(rows, 0)  # the step from which on a row's condition pictures are computed anew
        self._blocks: list[torch.Tensor] = []  # of each block [condition tokens, 2, heads, width]

    def due(self, step: int) -> frozenset[int]:
        """Return the rows whose condition pictures are to be computed at a step."""
        return frozenset(row for row, due_at in self._due_at.items() if step >= due_at)

    def computed(self, step: int, rows: Iterable[int]) -> None:
        """Count from here: these rows' condition pictures went through all blocks at a step."""
        self._due_at |= dict.fromkeys(rows, step + self.every)

    def exchange(self, block: int, joint: torch.Tensor, packing: Packing) -> None:
        """Keep the keys and values that a block has just computed, and put back those that it hasn't.

        Args:
            block: its number; the first time, blocks come in their order, with the tokens of all rows.
            joint: queries, keys and values [joint tokens, 3, heads, width], rotated.
        """
        if block == len(self._blocks):
            tokens = sum(sequence.conditions for sequence in packing.sequences)
            self._blocks.append(joint.new_empty(tokens, 2, *joint.shape[2:]))
        kept = self._blocks[block]
        for place, sequence in enumerate(packing.sequences):
            if sequence.conditions:
                mine = kept[sequence.conditions_start : sequence.conditions_start + sequence.conditions]
                start, stop = packing.conditions_range(place)
                here = joint[start:stop, 1:]
                if sequence.recalled:
                    here.copy_(mine)
                else:
                    mine.copy_(here)


def kept_bytes(tokens: int, width: int, itemsize: int, branches: int) -> int:
    """Return the bytes that one block keeps of a row: its keys and values, for each branch of guidance.

    Args:
        tokens: of its condition pictures.
        width: of the transformer.
        itemsize: bytes of a number.
    """
    return 2 * tokens * width * itemsize * branches
