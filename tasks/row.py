"""A row: one manifest row after defaults and checks, or the sentence that says what is wrong with it."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.sampling import SamplingDefaults
from tasks.job import Job
from tasks.key import seed_of
from tasks.manifest import ID
from tasks.request import RequestError

SMALLEST, LARGEST = 64, 4096  # pixels a side
MAX_PROMPT_CHARACTERS = 20_000
MAX_VARIANTS = 64
MAX_STEPS = 500


@dataclass(frozen=True)
class Row:
    """What one picture is made from."""

    id: str
    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    profile: str


@dataclass(frozen=True)
class BadRow:
    """A row with a bad value: it fails on its own."""

    id: str
    prompt: str
    problem: str  # a sentence


class PromptTemplate:
    """A prompt built from columns: `"{color} {title}, studio photo on white"`."""

    def __init__(self, template: str) -> None:
        """Parse the template.

        Raises:
            RequestError: if it has a field that is more than a column's name.
        """
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise RequestError(f"The prompt template is wrong: {error}.") from error
        for _, name, spec, conversion in parts:
            if name is not None and (not name or spec or conversion or any(c in name for c in ".[]")):
                raise RequestError(f"The prompt template has a field {{{name}}}; fields are names of columns.")
        self.parts = parts
        self.columns = tuple(dict.fromkeys(name for _, name, _, _ in parts if name))

    def fill(self, values: Mapping[str, Any]) -> str:
        """The prompt of one row.

        Raises:
            ValueError: with a sentence, if a column is empty in this row.
        """
        for name in self.columns:
            if values[name] is None or not str(values[name]).strip():
                raise ValueError(f"The prompt template reads the column {name!r}, which is empty in this row.")
        return "".join(text + (str(values[name]).strip() if name else "") for text, name, _, _ in self.parts)


@dataclass(frozen=True)
class Defaults:
    """What a row gets where it says nothing: the job's values, resolved against the checkpoint's own."""

    width: int
    height: int
    steps: int
    guidance: float
    negative_prompt: str
    profile: str
    seed: int
    variants: int
    template: PromptTemplate | None
    fewest_steps: int  # that the checkpoint's schedule can take
    size_multiple: int  # of width and height, pixels


def rows_of(values: Mapping[str, Any], carried: Mapping[str, Any], defaults: Defaults) -> Iterator[Row | BadRow]:
    """The rows that one manifest row asks for: one, or as many as it wants variants."""
    row_id = values["id"]
    prompt = values.get("prompt") or ""
    try:
        if not ID.fullmatch(row_id):
            raise ValueError("The id should be 1 to 128 letters, digits, dots, dashes or underscores.")
        if not prompt.strip():
            if defaults.template is None:
                raise ValueError("The prompt is empty.")
            prompt = defaults.template.fill({**carried, **values})
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise ValueError(f"The prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are read.")
        seed = _whole(values, "seed", seed_of(defaults.seed, row_id), range(2**63))
        variants = _whole(values, "variants", defaults.variants, range(1, MAX_VARIANTS + 1))
        row = Row(
            id=row_id,
            prompt=prompt,
            negative_prompt=_or(values.get("negative_prompt"), defaults.negative_prompt),
            seed=seed,
            width=_side(values, "width", defaults.width, defaults.size_multiple),
            height=_side(values, "height", defaults.height, defaults.size_multiple),
            steps=_whole(values, "steps", defaults.steps, range(defaults.fewest_steps, MAX_STEPS + 1)),
            guidance=_guidance(values, defaults.guidance),
            profile=_or(values.get("profile"), defaults.profile),
        )
    except ValueError as error:
        yield BadRow(row_id, prompt, str(error))
        return
    if variants == 1:
        yield row
        return
    for variant in range(variants):
        yield Row(**{**row.__dict__, "id": f"{row_id}.v{variant + 1}", "seed": (seed + variant) % 2**63})


def job_defaults(job: Job, sampling: SamplingDefaults, *, fewest_steps: int, size_multiple: int) -> Defaults:
    """The job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be drawn with them, or the prompt template is wrong.
    """
    if job.steps is not None and job.steps < fewest_steps:
        raise RequestError(f"The job is wrong: steps: this checkpoint's schedule takes at least {fewest_steps}.")
    if (job.width or 0) % size_multiple or (job.height or 0) % size_multiple:
        raise RequestError(f"The job is wrong: width and height: this checkpoint takes multiples of {size_multiple}.")
    return Defaults(
        width=_or(job.width, sampling.width),
        height=_or(job.height, sampling.height),
        steps=_or(job.steps, sampling.steps),
        guidance=_or(job.guidance, sampling.guidance),
        negative_prompt=job.negative_prompt,
        profile=job.profile,
        seed=job.seed,
        variants=job.variants,
        template=PromptTemplate(job.prompt_template) if job.prompt_template else None,
        fewest_steps=fewest_steps,
        size_multiple=size_multiple,
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _whole(values: Mapping[str, Any], name: str, default: int, allowed: range) -> int:
    value = _or(values.get(name), default)
    if value not in allowed:
        raise ValueError(f"{name.capitalize()} is {value}; it should lie between {allowed[0]} and {allowed[-1]}.")
    return int(value)


def _side(values: Mapping[str, Any], name: str, default: int, multiple: int) -> int:
    value = _or(values.get(name), default)
    if value % multiple or not SMALLEST <= value <= LARGEST:
        raise ValueError(
            f"The {name} is {value}; it should be a multiple of {multiple} between {SMALLEST} and {LARGEST}."
        )
    return int(value)


def _guidance(values: Mapping[str, Any], default: float) -> float:
    value = float(_or(values.get("guidance"), default))
    if not math.isfinite(value) or not 0 <= value <= 50:
        raise ValueError(f"The guidance is {value}; it should lie between 0 and 50.")
    return value
