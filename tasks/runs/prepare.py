"""Prepare: check everything that a run needs, find the run to go on with, and write its plan. No GPU work yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from models.checkpoints.checkpoint import Checkpoint, CheckpointError
from models.devices.gpu_presence import surely_no_gpu
from models.files.quantization_schemes import kept_precision
from models.files.temporary_folder import temporary_folder
from safety.marks.credentials import CredentialsError
from safety.pictures.profile import Profile, ProfileError
from safety.policy.policy import Policy
from tasks.catalogue.catalogue import Catalogue, check_carried, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.catalogue.expectation import Expectation, expect, shapes_of
from tasks.catalogue.retire import left_behind
from tasks.catalogue.row_versions import beside
from tasks.errors import RequestError
from tasks.job import Job
from tasks.job_sections import NO_CLIP
from tasks.judging.attainable import check_attainable
from tasks.judging.classifier import Classifier
from tasks.judging.classifier_registry import classifiers_of
from tasks.judging.clip_classifier import CLIP
from tasks.judging.judges import load_policy, unasked
from tasks.judging.probe_check import check_probe
from tasks.kinds.job_kind import JobKind, Resolved
from tasks.kinds.registry import kind_of
from tasks.lane.lane_spec import LaneSpec, model_name
from tasks.ledger.decision import Decisions
from tasks.ledger.plan import Plan, PlanCounts, Planner, Unread, write_plan
from tasks.ledger.run import Run, run_name
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.key import Maker, judgement
from tasks.manifests.manifest import Manifest, open_manifest
from tasks.manifests.manifest_file import ManifestError
from tasks.manifests.manifest_state import manifest_state
from tasks.manifests.row import RowShape
from tasks.manifests.suspicions import suspicions
from tasks.processes.process import Process, this_process
from tasks.review.reviews import ends_waiting
from tasks.runs.lane_count import check_lanes, wanted_lanes
from tasks.runs.take_up import TakenUp, find_run, take_up
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreAddressError


@dataclass(frozen=True)
class RunRequest:
    """What a command asks for: a job, and which part of it."""

    job: Job
    limit: int | None = None  # only the manifest's first rows
    retry: frozenset[str] = frozenset()  # statuses whose rows are done again
    retire_missing: bool = False  # withdraw rows that left the manifest


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to go, or the complete one that leaves nothing to do."""

    run: Run
    shards: int
    to_do: int  # rows of the plan that lanes take
    ended: int  # rows of them that have an outcome from an earlier start of this run
    complete: bool  # every row was settled before: nothing is to be done or written
    spec: LaneSpec
    manifest: str  # its address
    manifest_state: str = ""  # as it was planned: see `tasks.manifests.manifest_state`
    editor: str = ""  # the name under which this process edits the catalogue: see `tasks.catalogue.catalogue_edit`
    unlike_others: tuple[str, ...] = ()  # profiles of its rows that allow no picture like another one's
    retires: bool = False  # rows that left the manifest are withdrawn
    limited: bool = False  # the plan is about the manifest's first rows only
    unread: Unread = field(default_factory=Unread)
    warnings: tuple[str, ...] = ()  # of the manifest and of what judges it, in sentences
    expectation: Expectation | None = None  # of drawing all that the plan's shards hold
    catalogue: Catalogue | None = None  # as it stands, where nothing is to be done

    @property
    def store(self) -> Store:
        """The store, spoken to as was learned before."""
        return open_store(self.spec.store, dialect=self.spec.dialect)

    def leave(self) -> None:
        """Let others prune the store again, where the run ends without a commit."""
        CatalogueEdit(self.store, f"run {self.run.id}", name=self.editor).leave()


@dataclass(frozen=True)
class Checked:
    """Everything a request names, found and opened."""

    request: RunRequest
    store: Store
    kind: JobKind[Any]
    resolved: Resolved
    classifiers: tuple[Classifier, ...]
    policy: Policy
    profiles: dict[str, Profile]  # by name, filled as rows name them
    precision: str
    _policy_fingerprints: dict[str, str] = field(default_factory=dict)  # by profile: asked for every row

    def policy_fingerprint(self, profile: str) -> str:
        """Name the judges of a profile's pictures.

        Raises:
            ValueError: if there is no such profile, or this job's pictures could never meet it.
        """
        if profile not in self.profiles:
            loaded = Profile.load(profile)
            check_attainable(loaded, self.request.job, self.policy, gives_pictures=self.kind.gives_pictures)
            self.profiles[profile] = loaded
            judges = judgement(self.policy.digest, self.clip_revision, loaded.digest, self.other_classifiers)
            self._policy_fingerprints[profile] = judges
        return self._policy_fingerprints[profile]

    @property
    def clip_revision(self) -> str:
        """The revision of the CLIP, or that there is none."""
        return next((one.digest for one in self.classifiers if one.name == CLIP), NO_CLIP)

    @property
    def other_classifiers(self) -> dict[str, str]:
        """The digests of the classifiers beside the CLIP, by name."""
        return {one.name: one.digest for one in self.classifiers if one.name != CLIP}

    def label_of(self, profile: str) -> str | None:
        """Return the visible label that a profile wants drawn into pictures; into layers none is drawn."""
        return self.profiles[profile].visible_label if self.kind.gives_pictures else None

    @property
    def decisions(self) -> Decisions:
        """What people decided on rows of this store."""
        return Decisions(self.store)

    @property
    def maker(self) -> Maker:
        resolved = self.resolved
        return Maker(
            resolved.models.checkpoint.revision,
            self.precision,
            resolved.result_spec.form,
            loras=tuple((lora.revision, lora.scale) for lora in resolved.models.loras),
            scheduler=resolved.models.scheduler,
            step_cache=self.request.job.model.step_cache,
            finish=resolved.result_spec.finish,
        )

    def name(self, manifest: Manifest) -> str:
        """Return the name of this request's runs: whatever decides their outcome changes it."""
        deciding = {
            **self.request.job.deciding(),
            "model": self.resolved.models.checkpoint.revision,
            "precision": self.precision,
            "clip": self.clip_revision,
            "policy": self.policy.digest,
            "profile": self.profiles[self.request.job.marketplace.profile].digest,
            **self.maker.additions,
        }
        deciding |= {name: checkpoint.revision for name, checkpoint in self.resolved.beside.items()}
        if self.other_classifiers:
            deciding["classifiers"] = self.other_classifiers
        if self.request.retire_missing:
            deciding["retire_missing"] = True
        return run_name(manifest.digest, deciding, self.request.limit, self.request.retry)

    @property
    def unlike_others(self) -> tuple[str, ...]:
        """The profiles of the manifest's rows that allow no picture like another one's."""
        return tuple(sorted(name for name, profile in self.profiles.items() if profile.unlike_others))

    def spec(self, run: Run, *, from_before: bool) -> LaneSpec:
        """Return what the lanes of a run need to know."""
        job = self.request.job
        return LaneSpec(
            store=self.store.uri,
            dialect=self.store.dialect,
            run=run.id,
            checkpoint=self.resolved.models.checkpoint,
            loras=self.resolved.models.loras,
            scheduler=self.resolved.models.scheduler,
            classifiers=self.classifiers,
            policy=self.policy,
            profiles=dict(self.profiles),
            kind=self.kind.name,
            result_spec=self.resolved.result_spec,
            hardware=job.hardware,
            precision=self.precision,
            step_cache=job.model.step_cache,
            max_prompt_tokens=job.sampling.max_prompt_tokens,
            from_before=from_before,
        )


def check(request: RunRequest) -> Checked:
    """Find and open everything that a request names, before any work.

    Raises:
        RequestError: if something that it names is wrong.
        StoreError: if the store is out of reach, or can't be written.
    """
    job = request.job
    if request.retire_missing and request.limit is not None:
        raise RequestError("--retire-missing needs the whole manifest: leave out --limit.")
    check_lanes(job.hardware, job.model.precision)
    with _as_request_error():
        store = open_store(job.store)
        classifiers = classifiers_of(job)
        kind = kind_of(job)
        resolved = kind.resolve(job)
        checked = Checked(
            request=request,
            store=store,
            kind=kind,
            resolved=resolved,
            classifiers=classifiers,
            policy=load_policy(job.safety.policy, job.safety.clip),
            profiles={},
            precision=resolved_precision(job, resolved.models.checkpoint),
        )
        checked.policy_fingerprint(job.marketplace.profile)
        check_probe(checked.policy, resolved.models.checkpoint)
        resolved.result_spec.marking.open(kind.source_type)  # says now what wouldn't sign later
    return checked


def resolved_precision(job: Job, checkpoint: Checkpoint) -> str:
    """Return the precision that `auto` stands for with this checkpoint, on this machine's device.

    The GPUs of a cluster that lanes run on needn't be this machine's, too.

    Raises:
        CheckpointError: if the device isn't there, or can't multiply in the one that is asked for, or what that needs
            isn't installed.
    """
    precision, device = kept_precision(job.model.precision, checkpoint.folder), job.hardware.device
    if device == "cuda" and job.hardware.ray is not None and surely_no_gpu():
        device = "auto"
    if device in ("auto", "cpu") and precision in ("float32", "float16"):  # works anywhere; torch takes seconds
        return precision
    if precision == "auto" and (device == "cpu" or (device == "auto" and surely_no_gpu())):
        return "float32"
    from models.devices.device import find_device, find_precision

    found = find_precision(precision, find_device(device))
    return precision if precision != "auto" else str(found).removeprefix("torch.")


@contextmanager
def _as_request_error() -> Iterator[None]:
    """Raise what a person can mend as RequestError: the rooms below have errors of their own."""
    try:
        yield
    except (CheckpointError, CredentialsError, ProfileError, StoreAddressError) as error:
        raise RequestError(str(error)) from error


@contextmanager
def opened_manifest(checked: Checked) -> Iterator[Manifest]:
    """Give the request's manifest, opened and checked as a whole."""
    resolved, address = checked.resolved, checked.request.job.manifest
    with temporary_folder() as folder, _as_request_error():
        fetched = fetch_manifest(address, folder)
        yield open_manifest(address, fetched, resolved.columns, template_columns=resolved.template_columns)


def draft(checked: Checked, manifest: Manifest, catalogue: Catalogue, file: Path, *, keep: bool = True) -> PlanCounts:
    """Plan what is still to do into `file`. With `keep`, pictures that the manifest holds are put into the store."""
    with checked.resolved.reader(checked.store if keep else None) as rows:
        planner = Planner(
            rows=rows,
            maker=checked.maker,
            policy_fingerprint=checked.policy_fingerprint,
            label_of=checked.label_of,
            known=catalogue.known,
            retry=checked.request.retry,
            shard_rows=checked.request.job.output.shard_rows,
            decided=partial(ends_waiting, checked.decisions),
        )
        return write_plan(
            planner,
            manifest,
            file,
            limit=checked.request.limit,
            planned_from=catalogue.state.version,
            unlike_others=lambda: checked.unlike_others,
        )


@dataclass(frozen=True)
class Estimate:
    """What a run would do, for `--dry-run`."""

    plan_counts: PlanCounts
    expectation: Expectation | None  # of drawing all that is to be done
    price_per_hour: float | None  # of the device that draws
    bytes_a_row: float | None  # of what is stored, likewise
    published_twice: bool  # a publication takes as much room again
    left: int  # rows that left the manifest, and are published or may be
    retires: bool  # they are withdrawn
    lanes: int | None = 1  # that share the drawing; None: as many as a cluster has places for
    warnings: tuple[str, ...] = ()  # of the manifest and of what judges it, in sentences
    beside: tuple[str, ...] = ()  # what else is loaded than the checkpoint, each after the field that names it


def estimate(request: RunRequest) -> Estimate:
    """Return what a request would do. Writes nothing to the store."""
    checked = check(request)
    catalogue = read_catalogue(checked.store)
    with opened_manifest(checked) as manifest, temporary_folder() as folder:
        check_carried(catalogue, manifest)
        file = folder / "plan.parquet"
        plan_counts = draft(checked, manifest, catalogue, file, keep=False)
        return Estimate(
            plan_counts,
            _expectation(checked, catalogue, plan_counts.shapes),
            request.job.hardware.price_per_hour,
            catalogue.bytes_a_row(),
            published_twice=checked.store.copies_take_room,
            left=0 if request.limit is not None else _left_behind(checked, catalogue, Plan(file)),
            retires=request.retire_missing,
            lanes=wanted_lanes(request.job.hardware),
            warnings=_warnings(checked, manifest),
            beside=tuple(f"{name} {model_name(model, ())}" for name, model in checked.resolved.beside.items()),
        )


def prepare(request: RunRequest) -> Prepared:
    """Check a request, find its run in the store or start it, and write the plan.

    Raises:
        RequestError: if the request is wrong.
        StoreError: if the store is out of reach, or can't be written.
    """
    checked = check(request)
    store = checked.store
    store.probe()
    state = manifest_state(request.job.manifest)
    with opened_manifest(checked) as manifest, temporary_folder() as folder:
        file = folder / "plan.parquet"
        found = find_run(checked.name(manifest), store)
        check_carried(found.catalogue, manifest)

        def plan(catalogue: Catalogue) -> bool:
            plan_counts = draft(checked, manifest, catalogue, file)
            if manifest_state(request.job.manifest) != state:
                raise ManifestError(
                    f"The manifest {manifest.name} was written while it was read, so its rows may be of two versions: "
                    "give the command again when it is whole."
                )
            retires = request.retire_missing and _left_behind(checked, catalogue, Plan(file)) > 0
            return plan_counts.to_do > 0 or plan_counts.turned_bad > 0 or retires

        process, document = this_process(), _document(checked, manifest)
        taken = take_up(store, found, file, plan, document=document, process=process)
        with CatalogueEdit(store, f"run {taken.run.id}", process, taken.editor):
            return replace(_prepared(checked, taken, process, _warnings(checked, manifest)), manifest_state=state)


def _warnings(checked: Checked, manifest: Manifest) -> tuple[str, ...]:
    """Return what a person should know of a request that is followed all the same, in sentences."""
    nobody_judges = [] if checked.clip_revision != NO_CLIP else [unasked(checked.policy)]
    return (*nobody_judges, *manifest.warnings, *(one.sentence for one in suspicions(manifest)))


def _prepared(checked: Checked, taken: TakenUp, process: Process, warnings: tuple[str, ...]) -> Prepared:
    """Return what lanes and the end of a run need to know of one that was taken up."""
    request, plan = checked.request, taken.plan
    for profile in plan.profiles():
        checked.policy_fingerprint(profile)
    shards = 0 if taken.complete else plan.shards
    with process.threads() as pool:
        ended, _ = taken.run.outcomes(checked.store, shards, pool)
    return Prepared(
        run=taken.run,
        shards=shards,
        to_do=0 if taken.complete else plan.to_do,
        ended=ended.num_rows,
        complete=taken.complete,
        spec=checked.spec(taken.run, from_before=taken.catalogue.state.from_before or plan.planned_from is None),
        manifest=request.job.manifest,
        editor=taken.editor,
        unlike_others=checked.unlike_others,
        retires=request.retire_missing,
        limited=request.limit is not None,
        unread=plan.unread,
        warnings=warnings,
        expectation=None if taken.complete else _expectation(checked, taken.catalogue, shapes_of(plan)),
        catalogue=taken.catalogue if taken.complete else None,
    )


def _expectation(checked: Checked, catalogue: Catalogue, shapes: Mapping[RowShape, int]) -> Expectation | None:
    """Return how long drawing will take, from the store's earlier runs."""
    resolved, device = checked.resolved, checked.request.job.hardware.device
    here = "CPU" if device == "cpu" else None
    if here is None and not surely_no_gpu():
        from models.devices.device import find_device, find_gpu  # imports torch, as the job's precision has

        gpu = find_gpu(find_device(device))
        here = gpu.name if gpu else "CPU"
    model = model_name(resolved.models.checkpoint, resolved.models.loras)
    return expect(checked.store, catalogue, shapes, model=model, precision=checked.precision, device=here)


def _left_behind(checked: Checked, catalogue: Catalogue, plan: Plan) -> int:
    """Return how many rows left the manifest, and are published or may be."""
    others = beside(catalogue.table, plan.table())
    with this_process().threads() as pool:
        left = left_behind(others, checked.request.job.manifest, checked.store, pool)
    return int(pc.sum(left).as_py() or 0)


def _document(checked: Checked, manifest: Manifest) -> dict[str, object]:
    """Return what `job.json` says: the job as it was given, and everything that it stood for on that day.

    A rebuild of the catalogue goes by `model`, `text_column` and `retire_missing`.
    """
    resolved = checked.resolved
    return {
        "job": checked.request.job.model_dump(),
        "limit": checked.request.limit,
        "retry": sorted(checked.request.retry),
        "retire_missing": checked.request.retire_missing,
        "model": model_name(resolved.models.checkpoint, resolved.models.loras),
        "text_column": checked.kind.text_column,
        "manifest_sha256": manifest.digest,
        "manifest_rows": manifest.rows,
        "checkpoint_revision": resolved.models.checkpoint.revision,
        **{f"{name}_revision": checkpoint.revision for name, checkpoint in resolved.beside.items()},
        "loras": [{"name": str(lora), "revision": lora.revision} for lora in resolved.models.loras],
        "scheduler": resolved.models.scheduler,
        "clip_revision": checked.clip_revision,
        "other_classifiers": checked.other_classifiers,
        "precision": checked.precision,
        "policy_digest": checked.policy.digest,
    }
