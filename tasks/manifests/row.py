"""A row: one manifest row after defaults and checks, or the sentence that says what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import RequestError
from tasks.manifests.known_columns import PROBLEM
from tasks.manifests.manifest import ID
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.outcome import FailureReason

MAX_PROMPT_CHARACTERS = 20_000
MAX_STEPS = 500
CONTROL_TOKEN = re.compile(r"<\|[a-z_]{1,40}\|>")  # such as <|image_pad|>, in the place of which a picture is seen

RowShape = tuple[int, int, int, float, int]  # width, height, steps, guidance, layers


@dataclass(frozen=True)
class PlannedPicture:
    """A picture that a row is made from."""

    image: str  # its address
    source: str  # SHA-256 of its bytes, hex
    column: str = field(default="", compare=False)  # that names it; empty where a plan of before says none


@dataclass(frozen=True)
class Row:
    """What one picture is made from, or what a source picture is taken apart into."""

    id: str
    prompt: str  # of a source picture its caption, empty where there is none
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    profile: str
    image: str | None = None  # the address of a source picture, or of a control picture
    source: str | None = None  # SHA-256 of that picture's bytes, hex
    references: tuple[PlannedPicture, ...] = ()  # further pictures, in the order of their columns
    mask: PlannedPicture | None = None  # where the product of its first picture is, where that decides anything
    layers: int = 0
    instruction_name: str | None = None  # of the ready-made instruction whose checks its picture has to pass
    instruction_values: Mapping[str, str] = field(default_factory=dict, hash=False)  # what was put into that one's text
    checks_digest: str = ""  # names those checks, before it is planned
    keep_digest: str = ""  # names how its source's own product is laid over its picture; empty where it isn't
    key: str = ""  # of what is made of it: this and what follows is known when it is planned
    policy_fingerprint: str = ""  # names the policy, the classifiers and the profile
    attempt: int = 0  # its number
    shard: int | None = None  # that it is made in; None where nothing is to be made

    @property
    def pictures(self) -> tuple[PlannedPicture, ...]:
        """All pictures that it is made from, the first one first."""
        if self.image is None or self.source is None:
            return ()
        return PlannedPicture(self.image, self.source), *self.references

    @property
    def originals(self) -> tuple[PlannedPicture, ...]:
        """All pictures that something of it is decided by: those that it is made from, and a mask."""
        return self.pictures if self.mask is None else (*self.pictures, self.mask)

    @property
    def keeps_product(self) -> bool:
        """Whether its source's own product is laid over its picture."""
        return bool(self.keep_digest)

    @property
    def shape(self) -> RowShape:
        """What rows of one shard share."""
        return self.width, self.height, self.steps, self.guidance, self.layers


@dataclass(frozen=True)
class BadRow:
    """A row that fails on its own when it is read."""

    id: str
    prompt: str
    problem: str  # a sentence
    reason: str = FailureReason.BAD_VALUE
    retryable: bool = False
    column: str = ""  # the one whose value is wrong, where a value is
    fault: str = ""  # what is wrong with it: with the column, what rows are counted together by

    @classmethod
    def of(cls, row_id: str, prompt: str, error: RowError) -> BadRow:
        """Return the row that fails of this error."""
        problem = error.problem
        return cls(row_id, prompt, problem.sentence, column=problem.column, fault=problem.fault)

    @property
    def is_unread(self) -> bool:
        """Whether nothing is known of its source picture but that it can't be read now: it may be as it always was."""
        return self.retryable or self.reason == FailureReason.SOURCE_UNREACHABLE


def check_read(values: Mapping[str, Any]) -> None:
    """Refuse a row of which a value couldn't be read.

    Raises:
        RowError: as the manifest's reader noted it.
    """
    if (problem := values.get(PROBLEM)) is not None:
        raise RowError(Problem(problem["column"], RowFault(problem["fault"]), problem["sentence"]))


def check_id(row_id: str) -> None:
    """Refuse an id that couldn't stand in an address.

    Raises:
        RowError: with a sentence.
    """
    if not ID.fullmatch(row_id):
        odd = re.search(r"[^A-Za-z0-9._-]", row_id)
        seen = f"has {odd[0]!r}" if odd else f"has {len(row_id)} characters"
        sentence = (
            "The id should be 1 to 128 letters of A to Z and a to z, digits, dots, dashes or underscores; this one "
            f"{seen}."
        )
        raise RowError(Problem("id", RowFault.CHARACTERS, sentence))


def check_steps(steps: int | None, fewest_steps: int) -> None:
    """Refuse a job's steps that the checkpoint's schedule can't take.

    Raises:
        RequestError: with a sentence.
    """
    if steps is not None and steps < fewest_steps:
        raise RequestError(f"The job is wrong: steps: this checkpoint's schedule takes at least {fewest_steps}.")


def check_length(column: str, text: str) -> None:
    """Refuse a text that no model would read to its end.

    Raises:
        RowError: with a sentence.
    """
    if len(text) > MAX_PROMPT_CHARACTERS:
        sentence = f"The {column} has {len(text)} characters; at most {MAX_PROMPT_CHARACTERS} are read."
        raise RowError(Problem(column, RowFault.TOO_LONG, sentence))


def check_plain(column: str, text: str) -> None:
    """Refuse a text with one of the tokens in it that tell a model where pictures and turns begin and end.

    Raises:
        RowError: with a sentence.
    """
    if token := CONTROL_TOKEN.search(text):
        sentence = f"The {column} holds {token[0]}, which is no word but a sign for the model; leave it out."
        raise RowError(Problem(column, RowFault.CHARACTERS, sentence))


def is_blank(text: str) -> bool:
    """Say whether a text shows nothing: spaces, byte order marks, joiners without a width, control characters."""
    return not any(sign.isprintable() and sign != " " for sign in text)


def given_or(value: Any, default: Any) -> Any:
    """Return a value, or the default where there is none."""
    return default if value is None else value


def whole(values: Mapping[str, Any], name: str, default: int, allowed: range) -> int:
    """Return a whole number of a row, or the default.

    Raises:
        RowError: with a sentence, if it isn't allowed.
    """
    value = given_or(values.get(name), default)
    if value not in allowed:
        sentence = f"{name.capitalize()} is {value}; it should lie between {allowed[0]} and {allowed[-1]}."
        raise RowError(Problem(name, RowFault.OUT_OF_RANGE, sentence))
    return int(value)


def guidance_of(values: Mapping[str, Any], default: float) -> float:
    """Return the guidance of a row, or the default.

    Raises:
        RowError: with a sentence, if it isn't allowed.
    """
    value = float(given_or(values.get("guidance"), default))
    if not math.isfinite(value) or not 0 <= value <= 50:
        sentence = f"The guidance is {value}; it should lie between 0 and 50."
        raise RowError(Problem("guidance", RowFault.OUT_OF_RANGE, sentence))
    return value


def profile_of(values: Mapping[str, Any], default: str) -> str:
    """Return the profile of a row; where it says nothing, or nothing but spaces, the default."""
    return (values.get("profile") or "").strip() or default
