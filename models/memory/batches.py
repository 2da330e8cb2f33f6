"""Which rows go through the GPU together."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise


def cut_into_batches(lengths: Sequence[tuple[int, ...]], rows: int) -> list[list[int]]:
    """Cut rows into as few batches of at most `rows` as there can be, of lengths as near as that allows.

    Whole batches of one length come first: attention takes all of them in one call, and diffusers' own forward needs no
    mask, which would cost it the fast attention kernels. What is left over of every length shares batches with its
    nearest neighbours, because a half-empty batch costs more (at 512², 4 rows take half the time each that one takes).
    Those batches are of one size, as far as that goes: where weights are streamed, a row alone waits for them.

    Args:
        lengths: of each row the token counts of its pictures and of its prompts.

    Returns:
        batches of positions in `lengths`; every position once.
    """
    by_length: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, length in enumerate(lengths):
        by_length[length].append(position)
    whole: list[list[int]] = []
    left: list[int] = []
    for length in sorted(by_length):
        same = by_length[length]
        cut = len(same) - len(same) % rows
        whole += [same[start : start + rows] for start in range(0, cut, rows)]
        left += same[cut:]
    batches = -(-len(left) // rows)
    ends = [len(left) * number // batches for number in range(batches + 1)] if batches else []
    return whole + [left[start:end] for start, end in pairwise(ends)]
