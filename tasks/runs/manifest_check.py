"""The check of a manifest before any run: which rows would fail, and what looks wrong, without a model or a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.files.safetensors_files import CheckpointError
from models.files.temporary_folder import temporary_folder
from safety.pictures.profile import Profile, ProfileError
from tasks.catalogue.catalogue import check_carried, read_catalogue
from tasks.errors import RequestError
from tasks.job import Job
from tasks.job_file import job_of, read_job
from tasks.judging.attainable import check_attainable
from tasks.judging.judges import load_policy
from tasks.kinds.job_kind import ManifestReading
from tasks.kinds.job_to_check import fields_said
from tasks.kinds.registry import kind_named, kind_of, kind_of_columns, kinds_of_fields
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.known_columns import holds_bytes
from tasks.manifests.manifest import Manifest, open_manifest
from tasks.manifests.row import BadRow
from tasks.manifests.row_error import RowFault
from tasks.manifests.suspicions import Suspicion, suspicions
from tasks.stores.opening import open_store
from tasks.stores.store import StoreAddressError

ROWS = 16_384  # looked at a time
SHOWN = 3  # ids that are given


@dataclass
class Failing:
    """Rows that would fail for one reason."""

    reason: str
    example: str  # what is said of the first of them, a sentence
    rows: int = 0
    ids: list[str] = field(default_factory=list)  # the first of them


@dataclass(frozen=True)
class ManifestChecked:
    """What a check found."""

    manifest: str
    kind: str  # of the job that it was checked for
    model: str
    files: int
    rows: int
    read: tuple[str, ...]  # columns
    carried: tuple[str, ...]
    failing: tuple[Failing, ...]  # the commonest first
    warnings: tuple[str, ...]  # of files and columns, in sentences
    suspicions: tuple[Suspicion, ...]

    @property
    def would_fail(self) -> int:
        """How many rows would fail."""
        return sum(one.rows for one in self.failing)


def check_manifest(
    address: str, job: Path | None, kind: str | None = None, *, store: str | None = None, **flags: Any
) -> ManifestChecked:
    """Check a manifest for a job: its files and columns as a whole, and every row as far as it needs no picture.

    Without the name of a `kind`, it is the one that the job's fields and the manifest's columns are for. With a store,
    the columns that are carried have to fit its catalogue.

    Raises:
        RequestError: if the manifest is refused as a whole, or the job is wrong.
        StoreError: if its bucket is out of reach.
    """
    with temporary_folder() as folder:
        try:
            fetched = fetch_manifest(address, folder)
            names = fetched.files[0].schema.names
            values = read_job(job) if job else {}
            kinds = [kind_named(kind)] if kind else kinds_of_fields(fields_said(values, flags))
            found = kind_of_columns(names, kinds)
            whole: Job = job_of(found.job, values, {**flags, "manifest": address, "store": store or ""}, job)
            reading = found.reading(whole)
            manifest = open_manifest(address, fetched, reading.columns, template_columns=reading.template_columns)
            reading.check(manifest)
            if store:
                check_carried(read_catalogue(open_store(store)), manifest)
            return ManifestChecked(
                manifest=address,
                kind=found.name,
                model=whole.model.model,
                files=len(manifest.files),
                rows=manifest.rows,
                read=tuple(name for name in manifest.schema.names if name not in manifest.carried.names),
                carried=tuple(manifest.carried.names),
                failing=tuple(_failing(manifest, reading, whole)),
                warnings=manifest.warnings,
                suspicions=tuple(suspicions(manifest)),
            )
        except (CheckpointError, ProfileError, StoreAddressError) as error:
            raise RequestError(str(error)) from error


def _failing(manifest: Manifest, reading: ManifestReading, job: Job) -> list[Failing]:
    groups: dict[tuple[str, str, str], Failing] = {}
    pictures = [name for name in manifest.columns.pictures if name in manifest.schema.names]
    images = [name for name in pictures if holds_bytes(manifest.schema.field(name).type)]
    columns = [name for name in manifest.schema.names if name in manifest.columns.known and name not in images]
    columns += [name for name in manifest.template_columns if name not in columns]
    columns += [name for name in reading.named_columns if name in manifest.schema.names and name not in columns]
    profiles = _Profiles(job)
    for batch in manifest.batches(columns, rows=ROWS):
        bad_rows = (*_without_picture(manifest, batch), *profiles.refused(batch), *reading.bad_rows(batch))
        found = {bad.id: bad for bad in bad_rows}
        for bad in found.values():
            key = (bad.reason, bad.column, bad.fault)
            group = groups.setdefault(key, Failing(str(bad.reason), bad.problem))
            group.rows += 1
            if len(group.ids) < SHOWN:
                group.ids.append(bad.id)
    return sorted(groups.values(), key=lambda one: -one.rows)


def _without_picture(manifest: Manifest, batch: pa.RecordBatch) -> Iterator[BadRow]:
    """Give rows whose picture has neither an address nor bytes."""
    for name in manifest.columns.image:
        if name in batch.schema.names:
            empty = pc.fill_null(pc.equal(batch.column(name), ""), True)
            for row_id in batch.column("id").filter(empty).to_pylist():
                sentence = f"The {name} is empty; it should be a picture's bytes or its address."
                yield BadRow(row_id, "", sentence, column=name, fault=RowFault.EMPTY)


class _Profiles:
    """Rows that name a profile that there isn't, or that this job's pictures can't meet."""

    def __init__(self, job: Job) -> None:
        self.job, self.policy = job, load_policy(job.safety.policy, job.safety.clip)
        self.gives_pictures = kind_of(job).gives_pictures
        self.problems: dict[str, str | None] = {}
        if problem := self._problem(job.marketplace.profile):
            raise RequestError(problem)

    def refused(self, batch: pa.RecordBatch) -> Iterator[BadRow]:
        """Give those of a batch."""
        if "profile" not in batch.schema.names:
            return
        column = batch.column("profile")
        names = [name for name in pc.unique(column).drop_null().to_pylist() if name.strip()]
        wrong = [name for name in names if self._problem(name.strip())]
        if wrong:
            bad = batch.filter(pc.is_in(column, value_set=pa.array(wrong, column.type)))
            for row_id, name in zip(bad.column("id").to_pylist(), bad.column("profile").to_pylist(), strict=True):
                profile = name.strip()
                yield BadRow(row_id, "", str(self._problem(profile)), column="profile", fault=f"profile {profile}")

    def _problem(self, name: str) -> str | None:
        if name not in self.problems:
            try:
                check_attainable(Profile.load(name), self.job, self.policy, gives_pictures=self.gives_pictures)
                self.problems[name] = None
            except ValueError as error:
                self.problems[name] = str(error)
        return self.problems[name]
