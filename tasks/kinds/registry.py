"""The registry: every kind of job, found by its name, its job, the fields of one, or the columns of a manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tasks.job import Job, JobField, job_fields
from tasks.kinds.decompose.decompose_kind import DECOMPOSE
from tasks.kinds.edit.edit_kind import EDIT
from tasks.kinds.generate.generate_kind import GENERATE
from tasks.kinds.job_kind import JobKind

_kinds: list[JobKind[Any]] = [GENERATE, DECOMPOSE, EDIT]
"""Where nothing tells kinds apart, the first one is meant."""


def all_kinds() -> tuple[JobKind[Any], ...]:
    """Return every kind that there is."""
    return tuple(_kinds)


@contextmanager
def registered(kind: JobKind[Any]) -> Iterator[None]:
    """Have one kind more while a block runs."""
    _kinds.append(kind)
    try:
        yield
    finally:
        _kinds.remove(kind)


def kind_named(name: str) -> JobKind[Any]:
    """Return the kind of this name.

    Raises:
        KeyError: if there is none: a lane was told it by a packshot that has more kinds than this one.
    """
    return {kind.name: kind for kind in _kinds}[name]


def kind_of(job: Job) -> JobKind[Any]:
    """Return the kind of a job."""
    return next(kind for kind in _kinds if isinstance(job, kind.job))


def kinds_of_fields(names: Collection[str]) -> list[JobKind[Any]]:
    """Return the kinds whose jobs have most of these fields: several, where nothing among them tells them apart."""
    unknown = [len({*names} - job_fields(kind.job).keys()) for kind in _kinds]
    return [kind for kind, fields in zip(_kinds, unknown, strict=True) if fields == min(unknown)]


def kind_of_columns(names: Sequence[str], kinds: Sequence[JobKind[Any]]) -> JobKind[Any]:
    """Return which of some kinds a manifest of these columns is for: the one that is told by most of them."""
    return max(kinds, key=lambda kind: len(kind.told_by) if {*kind.told_by} <= {*names} else 0)


def all_fields() -> Mapping[str, JobField]:
    """Return the fields of the jobs of all kinds, each as the first kind has it that has it."""
    return {name: field for kind in reversed(_kinds) for name, field in job_fields(kind.job).items()}
