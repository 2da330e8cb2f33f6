"""The TOML file of a job, and flags over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from models.checkpoints.lora import split_scale
from safety.toml_file import TomlError, problems_of, read_toml
from tasks.errors import RequestError
from tasks.job import Job, in_sections, job_fields

PATH_FIELDS = (
    "manifest",
    "store",
    "model",
    "loras",
    "controlnet",
    "mask_model",
    "clip",
    "policy",
    "profile",
    "instructions",
    "instruction_name",
    "c2pa_certificate",
    "c2pa_key",
)

AnyJob = TypeVar("AnyJob", bound=Job)


def load_job(kind: type[AnyJob], file: Path | None, **flags: Any) -> AnyJob:
    """Return the job of a TOML file, with flags over it. Paths in the file are relative to the file.

    Raises:
        RequestError: if the file can't be read or a value is wrong; the sentence names the field.
    """
    return job_of(kind, read_job(file) if file else {}, flags, file)


def job_of(kind: type[AnyJob], values: Mapping[str, Any], flags: Mapping[str, Any], file: Path | None) -> AnyJob:
    """Return the job of these values by section, which came from a file, if one is given, with flags over them.

    A flag that is None isn't given.

    Raises:
        RequestError: if a value is wrong; the sentence names the field.
    """
    where = f" ({file})" if file else ""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        job = kind(**in_sections(kind, values, given))
    except ValidationError as error:
        problems = problems_of(error, kind, also=job_fields(kind))
        raise RequestError(f"The job{where} is wrong: {'; '.join(problems)}.") from error
    for name, value in job.values().items():
        is_path = name in PATH_FIELDS and isinstance(value, str) and value.startswith("~")
        if is_path and os.path.expanduser(value) == value:  # noqa: PTH111
            raise RequestError(f"The job{where} is wrong: {name} is {value}, and there is no such user's home folder.")
    return job


def read_job(file: Path) -> dict[str, Any]:
    """Read the values of a job's file by section; paths that lie beside the file are as they are to be read from here.

    Raises:
        RequestError: if it can't be read, or isn't TOML.
    """
    try:
        values = read_toml(file)
    except FileNotFoundError as error:
        raise RequestError(f"There is no job file {file}.") from error
    except TomlError as error:
        raise RequestError(f"The job file {file} {error}.") from error
    return {
        name: _paths_beside(file, value) if isinstance(value, dict) else value
        for name, value in _paths_beside(file, values).items()
    }


def _paths_beside(file: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {**values}
    for name in PATH_FIELDS:
        match values.get(name):
            case str(path):
                found[name] = _beside(file, path, path)
            case [*entries] if all(isinstance(entry, str) for entry in entries):
                found[name] = [_beside(file, entry, split_scale(entry)[0]) for entry in entries]
    return found


def _beside(file: Path, value: str, path: str) -> str:
    """Return a value as it is to be read from here, if its path is there beside the file; else the value as it is."""
    try:
        is_there = "://" not in path and (file.parent / path).exists()
    except OSError:  # such as a name that is too long
        is_there = False
    return str(file.parent / value) if is_there else value
