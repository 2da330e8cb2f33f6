"""A function whose answers are kept, because the same words come again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
MOST = 1 << 16  # answers: the words of a catalogue, and some
LONGEST = 48  # characters: what is longer doesn't come again


class Memo(dict[str, Answer]):
    """`memo[text]` is `answer(text)`; it is emptied when it is full, so that no text makes it grow for ever."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, text: str) -> Answer:
        answer = self._answer(text)
        if len(text) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[text] = answer
        return answer
