"""What `packshot doctor` looks at: the checks of everything that a job needs.

Checks import what they look at where they run, in a process of their own: see `tasks.doctor.examine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from models.finding import Finding
from models.pipelines import LAYERED
from tasks.doctor.examine import Check
from tasks.job import Job
from tasks.job_sections import NO_CLIP
from tasks.kinds.registry import kind_of

MASK_MODEL = "mask model"


def checks_of(job: Job) -> list[Check]:
    """Return everything that a job needs, from the machine up to the Prefect server."""
    looks = {
        "torch": _torch,
        "driver": _driver,
        "GPU": _gpu,
        "precision": _precision,
        "attention": _attention,
        "Triton": _triton,
        "checkpoint": _checkpoint,
        "placement": _placement,
        "host memory": _host,
        "disks": _disks,
        "store": _store,
        "Prefect": _prefect,
        "lanes": _lanes,
    }
    return [Check(name, partial(look, job)) for name, look in looks.items()]


def _torch(job: Job) -> Sequence[Finding]:
    from models.doctor.driver import check_torch

    return check_torch(job.hardware.device)


def _driver(job: Job) -> Sequence[Finding]:
    from models.doctor.driver import check_driver

    return check_driver(job.hardware.device, wants_gpu=job.model.model != "miniature")


def _gpu(job: Job) -> Sequence[Finding]:
    from models.doctor.gpu import check_gpu

    return check_gpu(job.hardware.device)


def _precision(job: Job) -> Sequence[Finding]:
    from models.doctor.gpu import check_precision

    return check_precision(job.hardware.device, job.model.precision)


def _attention(job: Job) -> Sequence[Finding]:
    from models.doctor.kernel_trials import check_attention

    return check_attention(job.hardware.device, job.model.precision, job.hardware.attention)


def _triton(job: Job) -> Sequence[Finding]:
    from models.doctor.kernel_trials import check_triton

    return check_triton(job.hardware.device)


def _checkpoint(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_controlnet, check_loras, check_model

    findings: list[Finding] = []
    checkpoint = None
    if model := _at_hand("checkpoint", job.model.model, findings):
        finding, checkpoint = check_model(model, job.model.revision, kind_of(job).pipeline)
        findings.append(finding)
    if checkpoint is not None and job.model.loras:
        findings.append(check_loras(job.model.loras, checkpoint))
    if checkpoint is not None and (named := kind_of(job).controlnet_of(job)):
        controlnet, revision = named
        if place := _at_hand("ControlNet", controlnet, findings):
            findings.append(check_controlnet(place, revision, checkpoint))
    if named := kind_of(job).mask_model_of(job):
        mask_model, revision = named
        if place := _at_hand(MASK_MODEL, mask_model, findings):
            findings.append(check_model(place, revision, LAYERED.name, name=MASK_MODEL)[0])
    return [*findings, *_clip(job)]


def _clip(job: Job) -> list[Finding]:
    from models.checkpoints.identity import CLIP_FOLDER
    from models.doctor.checkpoint_check import check_clip
    from tasks.errors import RequestError
    from tasks.judging.clip_classifier import check_judge
    from tasks.judging.judges import load_policy, unasked

    findings: list[Finding] = []
    try:
        if job.safety.clip == NO_CLIP:
            return [
                Finding.warning(
                    "CLIP", unasked(load_policy(job.safety.policy, job.safety.clip)), "Give a CLIP with --clip."
                )
            ]
        if clip := _at_hand("CLIP", job.safety.clip, findings):
            check_judge(
                job.safety.clip, CLIP_FOLDER if clip == "miniature" else Path(clip).expanduser(), job.model.model
            )
            findings.append(check_clip(clip, job.safety.clip_revision))
    except RequestError as error:
        findings.append(Finding.refused("CLIP", error, "Give another.", "request"))
    return findings


def _at_hand(name: str, model: str, findings: list[Finding]) -> str | None:
    """Return what a model is found by on this machine; where it isn't, `findings` gets to know why."""
    from models.files.safetensors_files import CheckpointError
    from tasks.checkpoints.checkpoints import at_hand_as
    from tasks.stores.store import StoreAddressError, StoreError

    give = "Give the address of a checkpoint."
    try:
        place = at_hand_as(model)
    except StoreAddressError as error:
        findings.append(Finding.failed(name, str(error), give, "request"))
        return None
    except CheckpointError as error:
        findings.append(Finding.refused(name, error, give, "request"))
        return None
    except StoreError as error:
        findings.append(Finding.failed(name, str(error), "Bring the bucket into reach."))
        return None
    if place is None:
        do = "Nothing, if the bucket can be reached then."
        findings.append(Finding.warning(name, f"{model} isn't on this machine: the first run fetches it.", do))
    return place


def _placement(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_model, controlnet_of
    from models.doctor.placement_check import check_placement
    from models.loading.optimization_options import OptimizationOptions

    model = _at_hand("checkpoint", job.model.model, [])
    checkpoint = check_model(model, job.model.revision, kind_of(job).pipeline)[1] if model else None
    if checkpoint is None:
        return []  # another check says why
    controlnet = None
    if (named := kind_of(job).controlnet_of(job)) and (place := _at_hand("ControlNet", named[0], [])):
        controlnet = controlnet_of(place, named[1], checkpoint)
    return check_placement(
        checkpoint,
        device=job.hardware.device,
        precision=job.model.precision,
        options=OptimizationOptions(
            job.hardware.fused,
            job.hardware.attention,
            job.model.precision == "float8",
            job.model.step_cache,
            job.values().get("condition_cache", 1),  # of jobs that edit
        ),
        wanted=job.hardware.placement,
        gpu_memory=job.hardware.gpu_memory,
        memory_fraction=job.hardware.memory_fraction,
        batch=job.hardware.batch,
        changed=bool(job.model.loras),
        controlnet=controlnet,
        lanes=_lanes_here(job),
    )


def _lanes_here(job: Job) -> int:
    """Return how many lanes a job has on this machine; of a cluster's it isn't known."""
    from tasks.runs.lane_count import lanes_here

    return lanes_here(job.hardware) if job.hardware.ray is None else 1


def _host(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_model
    from models.doctor.host import check_host

    model = _at_hand("checkpoint", job.model.model, [])
    checkpoint = check_model(model, job.model.revision, kind_of(job).pipeline)[1] if model else None
    return check_host(job.hardware.device, job.model.precision, checkpoint, _lanes_here(job))


def _disks(job: Job) -> Sequence[Finding]:
    from tasks.doctor.disk import check_disks

    return check_disks(job.store)


def _store(job: Job) -> Sequence[Finding]:
    from tasks.doctor.store_check import check_catalogue, check_store

    return [*check_store(job.store), *(check_catalogue(job.store) if job.store else [])]


def _prefect(job: Job) -> Sequence[Finding]:  # noqa: ARG001 as the others
    from flows.orchestration.prefect_settings import ServerError, find_server, import_prefect

    do = "Mend them, or set PREFECT_API_URL: to a server's address, or to nothing for one of each run's own."
    try:
        passed_over = [Finding.warning("Prefect", sentence, do) for sentence in find_server().passed_over]
        import_prefect()
    except ServerError as error:
        return [Finding.failed("Prefect", str(error), do)]
    from tasks.doctor.prefect_check import check_prefect

    return [*passed_over, *check_prefect()]


def _lanes(job: Job) -> Sequence[Finding]:
    if job.hardware.ray is None and job.hardware.lanes == "1":
        return []
    from flows.lanes.lanes_check import check_lanes_of
    from models.doctor.checkpoint_check import check_model

    model = _at_hand("checkpoint", job.model.model, [])
    checkpoint = check_model(model, job.model.revision, kind_of(job).pipeline)[1] if model else None
    files = [] if checkpoint is None else [checkpoint.folder]
    return check_lanes_of(job, [*files, *(Path(place) for place in (job.store, job.safety.clip))])
