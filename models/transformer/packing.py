"""Where tokens lie when sequences of any lengths go through the transformer together, end to end and unpadded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby

import torch


@dataclass(frozen=True)
class TokenSequence:
    """The tokens of one row for one branch of guidance."""

    text: int  # text tokens
    image: int  # image tokens: of what is made, then of the row's condition pictures
    text_rotary: int = 0  # where its text's positions begin in the table of rotary embeddings
    image_rotary: int = 0  # the same of its image tokens
    conditions: int = 0  # tokens of its condition pictures
    conditions_start: int = 0  # where a condition cache has them: see `models.transformer.condition_cache`
    recalled: bool = False  # whether their keys and values come from there, and they aren't among the image tokens

    @property
    def lengths(self) -> tuple[int, int, int]:
        """How many tokens it has of each stream, and of those that are attended to alone."""
        return self.text, self.image, self.conditions if self.recalled else 0

    def recalling(self) -> TokenSequence:
        """Return the sequence without its condition pictures' tokens, whose keys and values are recalled."""
        if not self.conditions:
            return self
        return replace(self, image=self.image - self.conditions, recalled=True)


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences of one length, which attention takes in one call."""

    count: int  # sequences
    text_tokens: int  # of each
    image_tokens: int  # of each
    recalled_tokens: int  # of each, that are attended to alone
    start: int  # its first row in the joint buffer
    image_start: int  # its first image token

    @property
    def attending(self) -> int:
        """Tokens of each sequence that attend to others, and come first."""
        return self.text_tokens + self.image_tokens

    @property
    def length(self) -> int:
        """Joint tokens of each sequence."""
        return self.attending + self.recalled_tokens


@dataclass(frozen=True)
class Packing:
    """Three buffers: the text tokens of all sequences, their image tokens, and both together for attention.

    In the joint buffer every sequence is whole: its text, then its image, with its condition pictures at the end also
    where these are recalled and no image tokens.
    """

    sequences: tuple[TokenSequence, ...]  # attention's calls are fewest where those of equal lengths are neighbours
    made: int  # image tokens of what is made, with which the image tokens of every sequence begin
    device: torch.device
    modulates_conditions: bool = False  # whether the tokens of condition pictures have a modulation of their own

    @property
    def joint_tokens(self) -> int:
        """How many rows the joint buffer has."""
        return sum(sum(sequence.lengths) for sequence in self.sequences)

    @cached_property
    def text_lengths(self) -> list[int]:
        """The text tokens of each sequence."""
        return [sequence.text for sequence in self.sequences]

    @cached_property
    def image_lengths(self) -> list[int]:
        """The image tokens of each sequence."""
        return [sequence.image for sequence in self.sequences]

    @cached_property
    def groups(self) -> list[Group]:
        """All sequences, as attention takes them."""
        groups = []
        for lengths, same in groupby(range(len(self.sequences)), lambda place: self.sequences[place].lengths):
            text, image, recalled = lengths
            first, *others = same
            starts = self._joint_starts[first], self._image_starts[first]
            groups.append(Group(1 + len(others), text, image, recalled, *starts))
        return groups

    @cached_property
    def text_positions(self) -> torch.Tensor:
        """The row of each text token in the table of rotary embeddings, int32 [text tokens]."""
        return self._counted([sequence.text_rotary for sequence in self.sequences], self.text_lengths)

    @cached_property
    def text_places(self) -> torch.Tensor:
        """The joint row of each text token, int32 [text tokens]."""
        return self._counted(self._joint_starts, self.text_lengths)

    @cached_property
    def image_positions(self) -> torch.Tensor:
        """The row of each image token in the table of rotary embeddings, int32 [image tokens]."""
        return self._counted([sequence.image_rotary for sequence in self.sequences], self.image_lengths)

    @cached_property
    def image_places(self) -> torch.Tensor:
        """The joint row of each image token, int32 [image tokens]."""
        starts = [start + text for start, text in zip(self._joint_starts, self.text_lengths, strict=False)]
        return self._counted(starts, self.image_lengths)

    @cached_property
    def image_kinds(self) -> torch.Tensor | None:
        """Which modulation each image token has, int32 [image tokens]: 0 of what is made, 1 of condition pictures.

        None where all tokens have one.
        """
        if not self.modulates_conditions:
            return None
        numbers = self._counted([0] * len(self.sequences), self.image_lengths)
        return (numbers >= self.made).int()

    @cached_property
    def made_tokens(self) -> torch.Tensor:
        """The image tokens of what each sequence makes, one sequence after another [sequences · made]."""
        return ranges([self.made_range(place) for place in range(len(self.sequences))], self.device)

    def conditions_range(self, place: int) -> tuple[int, int]:
        """Return the first joint row of a sequence's condition pictures, and the one after its last."""
        end = self._joint_starts[place + 1]
        return end - self.sequences[place].conditions, end

    def text_range(self, place: int) -> tuple[int, int]:
        """Return the first text token of a sequence, and the one after its last."""
        start = self._text_starts[place]
        return start, start + self.sequences[place].text

    def image_range(self, place: int) -> tuple[int, int]:
        """Return the first image token of a sequence, and the one after its last."""
        start = self._image_starts[place]
        return start, start + self.sequences[place].image

    def made_range(self, place: int) -> tuple[int, int]:
        """Return the first image token of what a sequence makes, and the one after its last."""
        start = self._image_starts[place]
        return start, start + self.made

    def only(self, places: Sequence[int]) -> Packing:
        """Return the packing of some of the sequences, in the order given."""
        some = tuple(self.sequences[place] for place in places)
        return Packing(some, self.made, self.device, self.modulates_conditions)

    @cached_property
    def _text_starts(self) -> list[int]:
        return [0, *accumulate(self.text_lengths)]

    @cached_property
    def _image_starts(self) -> list[int]:
        return [0, *accumulate(self.image_lengths)]

    @cached_property
    def _joint_starts(self) -> list[int]:
        return [0, *accumulate(sum(sequence.lengths) for sequence in self.sequences)]

    def _counted(self, starts: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """Of each sequence the numbers from its start on, as many as its length, int32 on the device."""
        spans = [(start, start + length) for start, length in zip(starts, lengths, strict=False)]
        return ranges(spans, self.device).int()


def ranges(spans: Sequence[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Return the numbers of each span, from its first to the one before its end, one span after another [their
    lengths].
    """
    return torch.cat([torch.arange(*span) for span in spans]).to(device)
