"""Prepare: check everything that a run needs, find the run to go on with, and write its plan. No GPU work yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow.compute as pc

from models.checkpoints.checkpoint import Checkpoint, CheckpointError
from models.devices.gpu_presence import surely_no_gpu
from models.files.quantization_schemes import kept_precision
from models.files.temporary_folder import temporary_folder
from safety.marks.credentials import CredentialsError
from safety.marks.provenance import DigitalSourceType
from safety.pictures.profile import Profile, ProfileError
from safety.policy.policy import Policy
from tasks.catalogue.catalogue import Catalogue, check_carried, read_catalogue
from tasks.catalogue.catalogue_edit import Edit
from tasks.catalogue.expectation import Expectation, expect, shapes_of
from tasks.catalogue.retire import left_behind
from tasks.catalogue.row_versions import beside
from tasks.errors import RequestError
from tasks.job import NO_CLIP, Job
from tasks.judging.attainable import check_attainable
from tasks.judging.judges import clip_of, load_policy, unasked
from tasks.judging.probe_check import check_probe
from tasks.lane.job_specs import Pictures
from tasks.lane.lane_spec import LaneSpec, model_name
from tasks.ledger.decision import Decisions
from tasks.ledger.plan import Census, Plan, Planner, Unread, write_plan
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
from tasks.runs.job_kinds import Kind, kind_of
from tasks.runs.take_up import TakenUp, take_up
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreAddressError

MEASURING = 4  # processes that look at the headers of source pictures


@dataclass(frozen=True)
class Request:
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
    asking: tuple[str, ...] = ()  # profiles of its rows that allow no picture like another one's
    retires: bool = False  # rows that left the manifest are withdrawn
    limited: bool = False  # the plan is about the manifest's first rows only
    unread: Unread = field(default_factory=Unread)
    warnings: tuple[str, ...] = ()  # of the manifest and of what judges it, in sentences
    expectation: Expectation | None = None  # of drawing all that the plan's shards hold

    @property
    def store(self) -> Store:
        """The store, spoken to as was learned before."""
        return open_store(self.spec.store, dialect=self.spec.dialect)

    def leave(self) -> None:
        """Let others prune the store again, where the run ends without a commit."""
        Edit(self.store, f"run {self.run.id}", name=self.editor).leave()


@dataclass(frozen=True)
class Checked:
    """Everything a request names, found and opened."""

    request: Request
    store: Store
    kind: Kind
    clip: Checkpoint | None  # None: no concept is looked for
    policy: Policy
    profiles: dict[str, Profile]  # by name, filled as rows name them
    precision: str
    _judged_by: dict[str, str] = field(default_factory=dict)  # by profile: asked for every row

    def judged_by(self, profile: str) -> str:
        """Names the judges of a profile's pictures.

        Raises:
            ValueError: if there is no such profile, or this job's pictures could never meet it.
        """
        if profile not in self.profiles:
            loaded = Profile.load(profile)
            check_attainable(loaded, self.request.job, self.policy)
            self.profiles[profile] = loaded
            judges = judgement(self.policy.digest, self.clip_revision, self.profiles[profile].digest)
            self._judged_by[profile] = judges
        return self._judged_by[profile]

    @property
    def clip_revision(self) -> str:
        """The revision of the CLIP, or that there is none."""
        return self.clip.revision if self.clip else NO_CLIP

    def label_of(self, profile: str) -> str | None:
        """The visible label that a profile wants drawn into pictures; into layers none is drawn."""
        return self.profiles[profile].visible_label if isinstance(self.kind.making, Pictures) else None

    @property
    def decisions(self) -> Decisions:
        """What people decided on rows of this store."""
        return Decisions(self.store)

    @property
    def maker(self) -> Maker:
        kind = self.kind
        return Maker(
            kind.checkpoint.revision,
            self.precision,
            kind.making.form,
            loras=tuple((lora.revision, lora.scale) for lora in kind.loras),
            scheduler=kind.scheduler,
            step_cache=self.request.job.step_cache,
            finish=kind.making.finish,
        )

    def name(self, manifest: Manifest) -> str:
        """The name of this request's runs: whatever decides their outcome changes it."""
        deciding = {
            **self.request.job.deciding(),
            "model": self.kind.checkpoint.revision,
            "precision": self.precision,
            "clip": self.clip_revision,
            "policy": self.policy.digest,
            "profile": self.profiles[self.request.job.profile].digest,
            **self.maker.additions,
        }
        if self.kind.controlnet:
            deciding["controlnet"] = self.kind.controlnet.revision
        if self.request.retire_missing:
            deciding["retire_missing"] = True
        return run_name(manifest.digest, deciding, self.request.limit, self.request.retry)

    @property
    def asking(self) -> tuple[str, ...]:
        """The profiles of the manifest's rows that allow no picture like another one's."""
        return tuple(sorted(name for name, profile in self.profiles.items() if profile.unlike_others))

    def spec(self, run: Run, *, from_before: bool) -> LaneSpec:
        """What the lanes of a run need to know."""
        job = self.request.job
        return LaneSpec(
            store=self.store.uri,
            dialect=self.store.dialect,
            run=run.id,
            checkpoint=self.kind.checkpoint,
            loras=self.kind.loras,
            scheduler=self.kind.scheduler,
            clip=self.clip,
            policy=self.policy,
            profiles=dict(self.profiles),
            making=self.kind.making,
            device=job.device,
            precision=self.precision,
            fused=job.fused,
            attention=job.attention,
            step_cache=job.step_cache,
            batch=job.batch,
            memory_fraction=job.memory_fraction,
            gpu_memory=job.gpu_memory,
            placement=job.placement,
            max_prompt_tokens=job.max_prompt_tokens,
            from_before=from_before,
        )


def check(request: Request) -> Checked:
    """Find and open everything that a request names, before any work.

    Raises:
        RequestError: if something that it names is wrong.
        StoreError: if the store is out of reach, or can't be written.
    """
    job = request.job
    if request.retire_missing and request.limit is not None:
        raise RequestError("--retire-missing needs the whole manifest: leave out --limit.")
    with _as_request_error():
        store = open_store(job.store)
        clip = clip_of(job)
        kind = kind_of(job)
        checked = Checked(
            request=request,
            store=store,
            kind=kind,
            clip=clip,
            policy=load_policy(job.policy, job.clip),
            profiles={},
            precision=resolved_precision(job, kind.checkpoint),
        )
        checked.judged_by(job.profile)
        check_probe(checked.policy, kind.checkpoint)
        kind.making.marking.open(DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA)  # says now what wouldn't sign later
    return checked


def resolved_precision(job: Job, checkpoint: Checkpoint) -> str:
    """The precision that `auto` stands for with this checkpoint, on this machine's device.

    Raises:
        CheckpointError: if the device isn't there, or can't multiply in the one that is asked for, or what that needs
            isn't installed.
    """
    precision = kept_precision(job.precision, checkpoint.folder)
    if job.device in ("auto", "cpu") and precision in ("float32", "float16"):  # works anywhere; torch takes seconds
        return precision
    if precision == "auto" and (job.device == "cpu" or (job.device == "auto" and surely_no_gpu())):
        return "float32"
    from models.devices.device import find_device, find_precision

    found = find_precision(precision, find_device(job.device))
    return precision if precision != "auto" else str(found).removeprefix("torch.")


@contextmanager
def _as_request_error() -> Iterator[None]:
    """The rooms below have their own sentences for what a person can mend."""
    try:
        yield
    except (CheckpointError, CredentialsError, ProfileError, StoreAddressError) as error:
        raise RequestError(str(error)) from error


@contextmanager
def opened_manifest(checked: Checked) -> Iterator[Manifest]:
    """The request's manifest, opened and checked as a whole."""
    kind, address = checked.kind, checked.request.job.manifest
    with temporary_folder() as folder, _as_request_error():
        fetched = fetch_manifest(address, folder)
        yield open_manifest(address, fetched, kind.columns, template_columns=kind.template_columns)


def draft(checked: Checked, manifest: Manifest, catalogue: Catalogue, file: Path, *, keep: bool = True) -> Census:
    """Plan what is still to do into `file`. With `keep`, pictures that the manifest holds are put into the store."""
    with checked.kind.reader(checked.store if keep else None) as rows:
        planner = Planner(
            rows=rows,
            maker=checked.maker,
            judged_by=checked.judged_by,
            label_of=checked.label_of,
            known=catalogue.known,
            retry=checked.request.retry,
            shard_rows=checked.request.job.shard_rows,
            decided=partial(ends_waiting, checked.decisions),
        )
        return write_plan(
            planner,
            manifest,
            file,
            limit=checked.request.limit,
            planned_from=catalogue.state.version,
            unlike_others=lambda: checked.asking,
        )


@dataclass(frozen=True)
class Estimate:
    """What a run would do, for `--dry-run`."""

    census: Census
    expectation: Expectation | None  # of drawing all that is to be done
    price_per_hour: float | None  # of the device that draws
    bytes_a_row: float | None  # of what is stored, likewise
    published_twice: bool  # a publication takes as much room again
    left: int  # rows that left the manifest, and are published or may be
    retires: bool  # they are withdrawn
    warnings: tuple[str, ...] = ()  # of the manifest and of what judges it, in sentences


def estimate(request: Request) -> Estimate:
    """What a request would do. Writes nothing to the store."""
    checked = check(request)
    catalogue = read_catalogue(checked.store)
    with opened_manifest(checked) as manifest, temporary_folder() as folder:
        check_carried(catalogue, manifest)
        file = folder / "plan.parquet"
        census = draft(checked, manifest, catalogue, file, keep=False)
        return Estimate(
            census,
            _expectation(checked, catalogue, census.shapes),
            request.job.price_per_hour,
            catalogue.bytes_a_row(),
            published_twice=checked.store.uri.startswith("s3://"),
            left=0 if request.limit is not None else _left_behind(checked, catalogue, Plan(file)),
            retires=request.retire_missing,
            warnings=_warnings(checked, manifest),
        )


def prepare(request: Request) -> Prepared:
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
        check_carried(read_catalogue(store), manifest)

        def plan(catalogue: Catalogue) -> bool:
            census = draft(checked, manifest, catalogue, file)
            if manifest_state(request.job.manifest) != state:
                raise ManifestError(
                    f"The manifest {manifest.name} was written while it was read, so its rows may be of two versions: "
                    "give the command again when it is whole."
                )
            retires = request.retire_missing and _left_behind(checked, catalogue, Plan(file)) > 0
            return census.to_do > 0 or retires

        process, document = this_process(), _document(checked, manifest)
        taken = take_up(store, checked.name(manifest), file, plan, document=document, process=process)
        try:
            return replace(_prepared(checked, taken, process, _warnings(checked, manifest)), manifest_state=state)
        except BaseException:
            Edit(store, f"run {taken.run.id}", process, taken.editor).leave()
            raise


def _warnings(checked: Checked, manifest: Manifest) -> tuple[str, ...]:
    """What a person should know of a request that is followed all the same, in sentences."""
    nobody_judges = [] if checked.clip else [unasked(checked.policy)]
    return (*nobody_judges, *manifest.warnings, *(one.sentence for one in suspicions(manifest)))


def _prepared(checked: Checked, taken: TakenUp, process: Process, warnings: tuple[str, ...]) -> Prepared:
    """What lanes and the end of a run need to know of one that was taken up."""
    request, plan = checked.request, taken.plan
    for profile in plan.profiles():
        checked.judged_by(profile)
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
        asking=checked.asking,
        retires=request.retire_missing,
        limited=request.limit is not None,
        unread=plan.unread,
        warnings=warnings,
        expectation=None if taken.complete else _expectation(checked, taken.catalogue, shapes_of(plan)),
    )


def _expectation(checked: Checked, catalogue: Catalogue, shapes: Mapping[RowShape, int]) -> Expectation | None:
    """How long drawing will take, from the store's earlier runs."""
    kind, device = checked.kind, checked.request.job.device
    here = "CPU" if device == "cpu" else None
    if here is None and not surely_no_gpu():
        from models.devices.device import find_device, find_gpu  # imports torch, as the job's precision has

        gpu = find_gpu(find_device(device))
        here = gpu.name if gpu else "CPU"
    model = model_name(kind.checkpoint, kind.loras)
    return expect(checked.store, catalogue, shapes, model=model, precision=checked.precision, device=here)


def _left_behind(checked: Checked, catalogue: Catalogue, plan: Plan) -> int:
    """How many rows left the manifest, and are published or may be."""
    others = beside(catalogue.table, plan.table())
    with this_process().threads() as pool:
        left = left_behind(others, checked.request.job.manifest, checked.store, pool)
    return int(pc.sum(left).as_py() or 0)


def _document(checked: Checked, manifest: Manifest) -> dict[str, object]:
    """What `job.json` says: the job as it was given, and everything that it stood for on that day.

    A rebuild of the catalogue goes by `model`, `text_column` and `retire_missing`.
    """
    return {
        "job": checked.request.job.model_dump(),
        "limit": checked.request.limit,
        "retry": sorted(checked.request.retry),
        "retire_missing": checked.request.retire_missing,
        "model": model_name(checked.kind.checkpoint, checked.kind.loras),
        "text_column": checked.kind.making.text_column,
        "manifest_sha256": manifest.digest,
        "manifest_rows": manifest.rows,
        "checkpoint_revision": checked.kind.checkpoint.revision,
        "controlnet_revision": checked.kind.controlnet.revision if checked.kind.controlnet else None,
        "loras": [{"name": str(lora), "revision": lora.revision} for lora in checked.kind.loras],
        "scheduler": checked.kind.scheduler,
        "clip_revision": checked.clip_revision,
        "precision": checked.precision,
        "policy_digest": checked.policy.digest,
    }
