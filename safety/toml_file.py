"""TOML files as people write them, and what is wrong with their fields, in sentences."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

SHOWN = 60  # characters of a value
WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number that isn't infinite",
    "bool": "true or false",
    "string": "a text, in quotes",
    "tuple": "a list, in brackets",
    "list": "a list, in brackets",
    "dict": "a table",
    "model": "a table of fields",
    "byte_size": 'a number of bytes, or a size such as "24GiB"',
}
"""What is wanted where a value is of another type, by how the name of pydantic's error (2.14) begins."""
LIMITS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "one of {expected}",
    "string_too_short": "a text of {min_length} characters or more",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "too_short": "a list of {min_length} or more",
}
"""What is wanted where a value is out of bounds, by the name of pydantic's error, with what it says of them."""


class TomlError(ValueError):
    """A file that isn't TOML or can't be read: the end of a sentence that begins with the file."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file in UTF-8, with or without a byte order mark, which Windows' editors put before it.

    Raises:
        FileNotFoundError: if there is none.
        TomlError: if it can't be read, or isn't TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TomlError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TomlError("isn't UTF-8 text: save it as UTF-8") from None
    except RecursionError:
        raise TomlError("nests too deeply") from None
    except ValueError as error:  # also of numbers with thousands of digits
        raise TomlError(f"isn't TOML: {' '.join(str(error).split())}") from None


def problems_of(error: ValidationError, model: type[BaseModel], also: Collection[str] = ()) -> Iterator[str]:
    """Say what is wrong with each field that is: which, what it holds, and what is wanted.

    Args:
        error: of `model`, and no other one's.
        model: whose fields were given.
        also: names of fields that its file may have beside the model's.
    """
    for one in error.errors(include_url=False):
        yield _problem(one, model, also)


def _problem(one: ErrorDetails, model: type[BaseModel], also: Collection[str]) -> str:
    kind, value, limits = one["type"], one["input"], one.get("ctx", {})
    place = ".".join(str(part) for part in one["loc"])
    if kind == "missing":
        return f"{place} isn't given"
    if kind == "extra_forbidden":
        known = [*_fields(model, one["loc"][:-1]), *(also if len(one["loc"]) == 1 else ())]
        return _unknown(place, str(one["loc"][-1]), value, known, model)
    if kind == "value_error":
        return f"{place}: {limits['error']}" if place else str(limits["error"])
    if kind in LIMITS:
        return f"{place} is {_shown(value)}, and must be {LIMITS[kind].format(**limits)}"
    wanted = next((words for begins, words in WANTED.items() if kind.startswith(begins)), None)
    if wanted is not None:
        return f"{place} is {_shown(value)}, and must be {wanted}"
    return f"{place} is {_shown(value)}: {one['msg'].removeprefix('Input ')}"


def _unknown(place: str, name: str, value: object, known: Collection[str], model: type[BaseModel]) -> str:
    is_section = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
    near = get_close_matches(name.lower().replace("-", "_"), known, 1, 0.6)
    meant = f". Did you mean {near[0]}?" if near else ""
    if is_section:
        return f"there is no section [{place}]{meant or f': {_where_fields_stand(model)}'}"
    return f"there is no field {place}{meant}"


def _where_fields_stand(model: type[BaseModel]) -> str:
    sections = [name for name, field in model.model_fields.items() if _is_section(field.annotation)]
    if not sections:
        return "fields stand at the top of the file, outside of sections"
    return f"there are {', '.join(f'[{name}]' for name in sections[:-1])} and [{sections[-1]}]"


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Give the names of the fields at a place inside of a model; what it excludes is no file's to give."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    said = f'"{value}"' if isinstance(value, str) else str(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
