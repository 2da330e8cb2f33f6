"""Instructions with names: what a model is told, how it samples, and what makes its result a faithful one.

instruction = Instruction.load("scene")                                # or Instruction.load("mine.toml")
instruction.text({"scene": "an oak table by a window"}, "en")
verdict = instruction.judge(scores)                                    # of `safety.fidelity.measuring`
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_json

from safety.deciding import deciding
from safety.fidelity.measure_names import MEASURES, PREFIX
from safety.fidelity.measuring import METHOD
from safety.toml_file import TomlError, problems_of, read_toml
from safety.verdict import Reason, ScoreLimit, Verdict, allow, ask, refuse

SHIPPED = Path(__file__).parents[1] / "instructions"
LONGEST_VALUE = 500  # characters of what is put into an instruction
COLOUR = "colour"  # the field that says which colour is wanted
TEXTS = frozenset({"text_kept", "text_left"})  # measures that take what reads texts
REASONS: Mapping[str, str] = {
    "product_changed": "The product isn't the same as in its source",
    "moved": "The product isn't where it was",
    "not_changed": "What was asked for isn't there",
}
"""What each reason says, the most serious first: of several, a verdict has the first one."""

Language = Literal["en", "zh"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class InstructionError(ValueError):
    """An instruction that can't be used; the message names the file and the field."""


class InstructionValueError(InstructionError):
    """A value that can't be put into an instruction's text."""

    def __init__(self, sentence: str, field: str, *, is_missing: bool) -> None:
        """`field` is the place in the text that it is for."""
        super().__init__(sentence)
        self.field, self.is_missing = field, is_missing


class MeasureLimit(BaseModel):
    """A limit of one measure: what is beyond it is rejected, and what is beyond `review` waits for a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Literal["product_changed", "not_changed", "moved"]
    most: Number | None = None  # above this
    least: Number | None = None  # or below this
    review: Number | None = None  # nearer than the limit; left out where nobody is asked
    optional: bool = False  # where it couldn't be measured, nobody is asked for that

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.most is None) == (self.least is None):
            raise ValueError("a check has either most or least")
        if self.review is not None and (
            self.review > self.most if self.most is not None else self.review < (self.least or 0)
        ):
            where = "above most" if self.most is not None else "below least"
            raise ValueError(f"review is {where}, so that nobody would ever be asked")
        return self

    @property
    def limit(self) -> float:
        """What is beyond this is rejected."""
        return self.most if self.most is not None else self.least or 0.0

    def is_beyond(self, value: float, limit: float) -> bool:
        """Say whether a measured value is on the wrong side of a limit."""
        return value > limit if self.most is not None else value < limit


class InstructionSampling(BaseModel):
    """How the model samples, where neither the row nor the job says it; what isn't given is left to the checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[int, Field(gt=0, le=500)] | None = None
    guidance: Annotated[float, Field(ge=1, le=20)] | None = None
    negative_prompt: str | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What is given, by name."""
        return {name: value for name, value in self if value is not None}


class Instruction(BaseModel):
    """What is asked of a model, and by which measures its result is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FIRST_FIELDS: ClassVar = ("checks",)

    name: str
    source: str = ""  # where the wording and the limits come from
    en: Annotated[str, Field(min_length=1, max_length=4000)]
    zh: Annotated[str, Field(min_length=1, max_length=4000)]
    keep_product: bool = False  # whether `keep = "product"` may lay the source's pixels over the result
    sampling: InstructionSampling = InstructionSampling()
    checks: Annotated[dict[str, MeasureLimit], Field(min_length=1)]

    @field_validator("en", "zh")
    @classmethod
    def _fields_are_names(cls, text: str) -> str:
        placeholders(text)
        return text

    @field_validator("checks")
    @classmethod
    def _measures_are_known(cls, checks: dict[str, MeasureLimit]) -> dict[str, MeasureLimit]:
        for name in checks:
            if name not in MEASURES:
                raise ValueError(f"there is no measure {name}; there are {', '.join(MEASURES)}")
        return checks

    @model_validator(mode="after")
    def _languages_agree(self) -> Self:
        english, chinese = placeholders(self.en), placeholders(self.zh)
        if english != chinese:
            odd = sorted(english ^ chinese)[0]
            raise ValueError(f"{{{odd}}} stands in {'en' if odd in english else 'zh'} alone")
        if "wanted_colour" in self.checks and COLOUR not in english:
            raise ValueError(f"checks.wanted_colour needs {{{COLOUR}}} in the texts, which says what colour is wanted")
        return self

    @classmethod
    def load(cls, name_or_path: str) -> Instruction:
        """Read a shipped instruction by its name ("white-background"), or any other by its path.

        Raises:
            InstructionError: if the file is missing or malformed.
        """
        is_path = name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path
        path = file_of(name_or_path) if not is_path else Path(name_or_path)
        try:
            return cls(**{"name": path.stem} | read_toml(path))
        except FileNotFoundError:
            raise InstructionError(
                f"There is no instruction {name_or_path}; shipped are {', '.join(shipped())}."
            ) from None
        except TomlError as error:
            raise InstructionError(f"The instruction {path} {error}.") from None
        except ValidationError as error:
            raise InstructionError(f"The instruction {path}: {next(problems_of(error, cls))}.") from None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides a verdict: the method of measuring, and the checks.

        The texts decide what is made, and not how it is judged.
        """
        fields = deciding(self, exclude=("name", "source", "en", "zh", "keep_product", "sampling"))
        return hashlib.sha256(f"fidelity {METHOD} ".encode() + to_json(fields)).hexdigest()

    @property
    def fields(self) -> frozenset[str]:
        """The names of what has to be put into the text: `{"scene"}`."""
        return placeholders(self.en)

    @property
    def compares_texts(self) -> bool:
        """Whether the texts in source and result are compared, where something reads them."""
        return not TEXTS.isdisjoint(self.checks)

    def text(self, values: Mapping[str, str], language: Language = "en") -> str:
        """Return what the model is told.

        Args:
            values: of all `fields`; others are of no use here.
            language: of the wording; values are put in as they are.

        Raises:
            InstructionValueError: if a value is missing, empty or longer than `LONGEST_VALUE`.
        """
        for name in sorted(self.fields):
            value = values.get(name, "")
            if not value.strip():
                sentence = f"The instruction {self.name} needs a value for {{{name}}}, and none is given."
                raise InstructionValueError(sentence, name, is_missing=True)
            if len(value) > LONGEST_VALUE:
                sentence = (
                    f"The {name} of the instruction {self.name} has {len(value):,} characters; it may have "
                    f"{LONGEST_VALUE}."
                )
                raise InstructionValueError(sentence, name, is_missing=False)
        template = self.en if language == "en" else self.zh
        return template.format(**{name: values[name].strip() for name in self.fields})

    def judge(self, scores: Mapping[str, float]) -> Verdict:
        """Judge what was measured of a result: allowed, rejected for a reason, or left to a person.

        What couldn't be measured is left to a person: nobody knows whether it keeps to its limit.

        The verdict has the limit of every check.

        Args:
            scores: by their names with the prefix; others, and those that no check asks for, decide nothing.
        """
        limits = {
            PREFIX + name: ScoreLimit(check.most, check.least, check.review) for name, check in self.checks.items()
        }
        return replace(self._judged(scores), limits=limits)

    def _judged(self, scores: Mapping[str, float]) -> Verdict:
        mine = {name: value for name, value in scores.items() if name.startswith(PREFIX)}
        beyond = {name: check for name, check in self.checks.items() if self._is_beyond(mine, name, check.limit)}
        for reason, what in REASONS.items():
            checks = ((name, check) for name, check in beyond.items() if check.reason == reason)
            broken = [self._sentence(mine, name, check.limit) for name, check in checks]
            if broken:
                return refuse(Reason(reason), f"{what}: {'; '.join(broken)}.", mine)
        over, messages = self._doubts(mine)
        return ask(over, messages, mine) if over else allow(mine)

    def _is_beyond(self, scores: Mapping[str, float], name: str, limit: float) -> bool:
        value = scores.get(PREFIX + name)
        return value is not None and (not math.isfinite(value) or self.checks[name].is_beyond(value, limit))

    def _doubts(self, scores: Mapping[str, float]) -> tuple[dict[str, float], str]:
        """Return what a person has to look at, each with how far it is beyond as a share, and the sentence."""
        over: dict[str, float] = {}
        said = []
        for name, check in self.checks.items():
            if PREFIX + name not in scores and check.optional:
                continue
            if PREFIX + name not in scores:
                over[PREFIX + name] = 1.0
                said.append(f"{MEASURES[name].words} couldn't be measured")
            elif check.review is not None and self._is_beyond(scores, name, check.review):
                over[PREFIX + name] = abs(scores[PREFIX + name] - check.review) / max(abs(check.review), 1e-6)
                said.append(self._sentence(scores, name, check.review))
        return over, f"A person has to compare the result with its source: {'; '.join(said)}."

    def _sentence(self, scores: Mapping[str, float], name: str, limit: float) -> str:
        side, measure = "above" if self.checks[name].most is not None else "below", MEASURES[name]
        return f"{measure.words} is {measure.said(scores[PREFIX + name])}, {side} {measure.said(limit)}"


def file_of(name_or_path: str) -> Path:
    """Return the file of an instruction."""
    return Path(name_or_path) if name_or_path.endswith(".toml") else SHIPPED / f"{name_or_path}.toml"


def shipped() -> list[str]:
    """Return the names of the shipped instructions."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def placeholders(text: str) -> frozenset[str]:
    """Return the names in braces of a text.

    Raises:
        ValueError: if a brace is open, or what it holds is no plain name.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"its braces can't be read: {error}; a brace itself is written twice") from None
    names = {name for _, name, form, conversion in parts if name is not None and not form and not conversion}
    odd = [name for _, name, form, conversion in parts if name is not None and (form or conversion)]
    odd += [name for name in names if not name.isidentifier()]
    if odd:
        raise ValueError(f"{{{odd[0]}}} is no plain name, such as {{scene}}")
    return frozenset(names)
