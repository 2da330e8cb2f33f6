"""Where tokens lie when sequences of any lengths go through the transformer together, end to end and unpadded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences of one length, which attention takes in one call."""

    first: int  # its first sequence
    count: int  # sequences
    text_tokens: int  # of each
    length: int  # joint tokens of each
    start: int  # its first row in the joint buffer


@dataclass(frozen=True)
class Packing:
    """Three buffers: the text tokens of all sequences, their image tokens, and both together for attention.

    In the joint buffer every sequence is whole: its text, then its image.
    """

    text_lengths: tuple[int, ...]  # of each sequence; attention's calls are fewest where equal ones are neighbours
    image_tokens: int  # of every sequence
    device: torch.device

    @property
    def sequences(self) -> int:
        """How many there are."""
        return len(self.text_lengths)

    @property
    def joint_tokens(self) -> int:
        """Rows of the joint buffer."""
        return sum(self.text_lengths) + self.sequences * self.image_tokens

    @cached_property
    def starts(self) -> list[int]:
        """The first joint row of each sequence."""
        starts = [0]
        for length in self.text_lengths:
            starts.append(starts[-1] + length + self.image_tokens)
        return starts[:-1]

    @cached_property
    def groups(self) -> list[Group]:
        """All sequences, as attention takes them."""
        groups = []
        for length, same in groupby(range(self.sequences), lambda sequence: self.text_lengths[sequence]):
            first, *others = same
            groups.append(Group(first, 1 + len(others), length, length + self.image_tokens, self.starts[first]))
        return groups

    @cached_property
    def text_positions(self) -> torch.Tensor:
        """The position of each text token in its own text, int32 [text tokens]."""
        return self._on_device([torch.arange(length) for length in self.text_lengths])

    @cached_property
    def text_places(self) -> torch.Tensor:
        """The joint row of each text token, int32 [text tokens]."""
        return self._on_device(
            [start + torch.arange(length) for start, length in zip(self.starts, self.text_lengths, strict=True)]
        )

    @cached_property
    def image_positions(self) -> torch.Tensor:
        """The position of each image token in its own picture, int32 [image tokens]."""
        return self._on_device([torch.arange(self.image_tokens)] * self.sequences)

    @cached_property
    def image_places(self) -> torch.Tensor:
        """The joint row of each image token, int32 [image tokens]."""
        return self._on_device(
            [
                start + length + torch.arange(self.image_tokens)
                for start, length in zip(self.starts, self.text_lengths, strict=True)
            ]
        )

    def text_range(self, sequence: int) -> tuple[int, int]:
        """The first text token of a sequence, and the one after its last."""
        start = sum(self.text_lengths[:sequence])
        return start, start + self.text_lengths[sequence]

    def only(self, sequences: Sequence[int]) -> Packing:
        """The same for some of the sequences, in the order given."""
        return Packing(tuple(self.text_lengths[sequence] for sequence in sequences), self.image_tokens, self.device)

    def _on_device(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts).to(self.device, torch.int32)
