"""The check of a manifest before any run: which rows would fail, and what looks wrong, without a model or a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoints.checkpoint import CheckpointError, layers_defaults, sampling_defaults, size_multiple
from models.checkpoints.schedule import fewest_steps
from models.files.temporary_folder import temporary_folder
from models.requests import QWEN_IMAGE_DEFAULTS, QWEN_IMAGE_LAYERED_DEFAULTS, LayersDefaults, SamplingDefaults
from safety.pictures.profile import Profile, ProfileError
from tasks.catalogue.catalogue import check_carried, read_catalogue
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.errors import RequestError
from tasks.job import DecomposeJob, GenerateJob, Job, load_job
from tasks.judging.attainable import check_attainable
from tasks.judging.judges import load_policy
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.known_columns import CONTROLLED, PICTURES, PROMPTS, holds_bytes
from tasks.manifests.manifest import Manifest, known_values, open_manifest
from tasks.manifests.row import BadRow
from tasks.manifests.suspicions import Suspicion, suspicions
from tasks.manifests.variant_ids import check_variant_ids
from tasks.outcome import FailureReason
from tasks.rows.picture_rows import asked_of, layer_defaults
from tasks.rows.prompt_rows import extra_values, job_defaults, rows_of
from tasks.rows.sound_rows import sound_pictures, sound_prompts
from tasks.stores.opening import open_store
from tasks.stores.store import StoreAddressError

Kind = Literal["generate", "decompose"]
ROWS = 16_384  # looked at a time
SHOWN = 3  # ids that are given
QWEN_MULTIPLE, QWEN_STEPS = 16, 2  # of Qwen-Image and Qwen-Image-Layered, for checkpoints that aren't at hand


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
    kind: Kind
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
        """How many rows would."""
        return sum(one.rows for one in self.failing)


def check_manifest(
    address: str, job: Path | None, kind: Kind | None = None, *, store: str | None = None, **flags: Any
) -> ManifestChecked:
    """Check a manifest for a job: its files and columns as a whole, and every row as far as it needs no picture.

    Without `kind`, a manifest of an `image` column and no `prompt` is one of pictures. With a store, the columns that
    are carried have to fit its catalogue.

    Raises:
        RequestError: if the manifest is refused as a whole, or the job is wrong.
        StoreError: if its bucket is out of reach.
    """
    with temporary_folder() as folder:
        try:
            fetched = fetch_manifest(address, folder)
            names = fetched.files[0].schema.names
            found = kind or ("decompose" if "image" in names and "prompt" not in names else "generate")
            job_kind = DecomposeJob if found == "decompose" else GenerateJob
            whole = load_job(job_kind, job, **{**flags, "manifest": address, "store": store or ""})
            columns, template, read = _reading(whole)
            manifest = open_manifest(address, fetched, columns, template_columns=template)
            if isinstance(whole, GenerateJob):
                check_variant_ids(manifest, whole.variants)
            if store:
                check_carried(read_catalogue(open_store(store)), manifest)
            return ManifestChecked(
                manifest=address,
                kind=found,
                model=whole.model,
                files=len(manifest.files),
                rows=manifest.rows,
                read=tuple(name for name in manifest.schema.names if name not in manifest.carried.names),
                carried=tuple(manifest.carried.names),
                failing=tuple(_failing(manifest, read, whole)),
                warnings=manifest.warnings,
                suspicions=tuple(suspicions(manifest)),
            )
        except (CheckpointError, ProfileError, StoreAddressError) as error:
            raise RequestError(str(error)) from error


def _failing(manifest: Manifest, read: Callable[[pa.RecordBatch], Iterator[BadRow]], job: Job) -> list[Failing]:
    groups: dict[tuple[str, str], Failing] = {}
    images = [name for name in manifest.columns.image if holds_bytes(manifest.schema.field(name).type)]
    columns = [name for name in manifest.schema.names if name in manifest.columns.known and name not in images]
    columns += [name for name in manifest.template_columns if name not in columns]
    profiles = _Profiles(job)
    for batch in manifest.batches(columns, rows=ROWS):
        found = {bad.id: bad for bad in (*_without_picture(manifest, batch), *profiles.refused(batch), *read(batch))}
        for bad in found.values():
            group = groups.setdefault((bad.reason, _kind_of(bad.problem)), Failing(str(bad.reason), bad.problem))
            group.rows += 1
            if len(group.ids) < SHOWN:
                group.ids.append(bad.id)
    return sorted(groups.values(), key=lambda one: -one.rows)


def _without_picture(manifest: Manifest, batch: pa.RecordBatch) -> Iterator[BadRow]:
    """Rows whose picture has neither an address nor bytes."""
    for name in manifest.columns.image:
        if name in batch.schema.names:
            empty = pc.fill_null(pc.equal(batch.column(name), ""), True)
            for row_id in batch.column("id").filter(empty).to_pylist():
                yield BadRow(row_id, "", f"The {name} is empty; it should be a picture's bytes or its address.")


def _kind_of(problem: str) -> str:
    """What sentences about the same have in common: all but numbers and what is quoted."""
    return re.sub(r"'(\\.|[^'\\])*'|\"[^\"]*\"|-?\d+(\.\d+)?(e[+-]?\d+)?|\b(nan|inf)\b", "…", problem)


def _reading(job: Job) -> tuple[Any, tuple[str, ...] | None, Callable[[pa.RecordBatch], Iterator[BadRow]]]:
    """The columns that a job reads, those of its template, and what gives the rows of a batch that would fail."""
    if isinstance(job, DecomposeJob):
        card, multiple, steps = _of_checkpoint(job, "QwenImageLayeredPipeline", QWEN_IMAGE_LAYERED_DEFAULTS)
        layered = layer_defaults(job, card, fewest_steps=steps, size_multiple=multiple)

        def pictures(batch: pa.RecordBatch) -> Iterator[BadRow]:
            for values in known_values(_unsound(batch, sound_pictures(batch, layered)), PICTURES):
                try:
                    asked_of(values, layered)
                except ValueError as error:
                    yield BadRow(values["id"], "", str(error))

        return PICTURES, None, pictures
    assert isinstance(job, GenerateJob)
    card, multiple, steps = _of_checkpoint(job, "QwenImagePipeline", QWEN_IMAGE_DEFAULTS)
    defaults = job_defaults(job, card, fewest_steps=steps, size_multiple=multiple)

    def prompts(batch: pa.RecordBatch) -> Iterator[BadRow]:
        rest = _unsound(batch, sound_prompts(batch, defaults))
        extra = extra_values(rest, defaults.template)
        for index, values in enumerate(known_values(rest, PROMPTS)):
            first = next(rows_of(values, extra[index] if extra else {}, defaults))
            if isinstance(first, BadRow):
                yield first

    template = defaults.template.columns if defaults.template else None
    return CONTROLLED if job.controlnet else PROMPTS, template, prompts


def _unsound(batch: pa.RecordBatch, sound: pa.Array) -> pa.RecordBatch:
    return batch.filter(pc.invert(sound))


def _of_checkpoint(job: Job, pipeline: str, card: Any) -> tuple[Any, int, int]:
    """The sampling defaults, the multiple of sizes, and the fewest steps: of a checkpoint at hand, or of Qwen's own."""
    lightning = job.scheduler == "lightning" or (job.scheduler == "auto" and bool(job.loras))
    if job.model != "miniature" and not Path(job.model).expanduser().is_dir():
        return card, QWEN_MULTIPLE, 1 if lightning else QWEN_STEPS
    checkpoint = find_checkpoint(job.model, job.revision, pipeline=pipeline)
    own: SamplingDefaults | LayersDefaults
    own = layers_defaults(checkpoint) if isinstance(job, DecomposeJob) else sampling_defaults(checkpoint)
    return own, size_multiple(checkpoint), fewest_steps(checkpoint, "lightning" if lightning else "checkpoint")


class _Profiles:
    """Rows that name a profile that there isn't, or that this job's pictures can't meet."""

    def __init__(self, job: Job) -> None:
        self.job, self.policy = job, load_policy(job.policy, job.clip)
        self.problems: dict[str, str | None] = {}
        if problem := self._problem(job.profile):
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
                yield BadRow(row_id, "", str(self._problem(name.strip())), FailureReason.BAD_VALUE)

    def _problem(self, name: str) -> str | None:
        if name not in self.problems:
            try:
                check_attainable(Profile.load(name), self.job, self.policy)
                self.problems[name] = None
            except ValueError as error:
                self.problems[name] = str(error)
        return self.problems[name]
