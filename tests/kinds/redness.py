"""A classifier that the project doesn't have, and the registering of it. All that a new one takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from safety.policy.policy import Policy
from safety.verdict import Reason, Verdict, allow, ask, refuse
from tasks.judging import classifier_registry
from tasks.judging.classifier import Classifier, TextReading


@dataclass(frozen=True)
class Redness:
    """How red pictures are, and whether prompts are about scarlet."""

    most: float
    fails: str = ""  # at what
    name: str = "redness"
    asks: bool = False  # whether a person says what becomes of a picture that is too red

    @property
    def digest(self) -> str:
        return f"most {self.most}, asks {self.asks}"

    def open(self, policy: Policy, *, device: str) -> Redness:
        assert policy.blocklist
        assert device in ("auto", "cpu")
        if self.fails == "opening":
            raise OSError("no such model")
        return self

    def screen(self, texts: Sequence[str]) -> list[TextReading]:
        return [TextReading(self._of_text(text), kept=text) for text in texts]

    def classify(self, pictures: Sequence[np.ndarray], kept: Sequence[Any], *, conditions: bool) -> list[Verdict]:
        if conditions:  # are as red as they like
            return [allow() for _ in pictures]
        return [self._of_picture(picture, text) for picture, text in zip(pictures, kept, strict=True)]

    def _of_text(self, text: str) -> Verdict:
        if self.fails == "texts and pictures" and "teal" in text:
            raise RuntimeError(text)
        if "scarlet" in text:
            return refuse(Reason.CONCEPT, "The prompt wants scarlet.", {"word": 1.0})
        return allow({"word": 0.0})

    def _of_picture(self, picture: np.ndarray, text: str | None) -> Verdict:
        if self.fails == "texts and pictures" and text and "red" in text:
            raise RuntimeError(text)
        red = float((picture[..., 0].astype(float) - picture[..., 2]).mean())
        scores = {"mean": red if self.fails != "numbers" else float("nan"), "length": float(len(text or ""))}
        if red >= self.most and self.asks:
            return ask({"red": red - self.most}, "Is this too red?", scores)
        if red >= self.most:
            return refuse(Reason.CONCEPT, f"The picture is too red ({red:.1f}, limit {self.most:g}).", scores)
        return allow(scores)


@contextmanager
def registering() -> Iterator[Callable[[Classifier | None], None]]:
    """Give what registers a classifier beside the shipped ones, in place of the one before."""
    shipped = classifier_registry.REGISTERED
    with pytest.MonkeyPatch.context() as patch:
        yield lambda one: patch.setattr(classifier_registry, "REGISTERED", (*shipped, lambda _: one))
