"""What `packshot doctor` looks at: the checks of everything that a job needs.

Checks import what they look at where they run, in a process of their own: see `tasks.doctor.examine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from models.finding import Finding
from tasks.doctor.examine import Check
from tasks.job import NO_CLIP, GenerateJob, Job


def checks_of(job: Job) -> list[Check]:
    """Everything that a job needs, from the machine up to the Prefect server."""
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
    }
    return [Check(name, partial(look, job)) for name, look in looks.items()]


def _torch(job: Job) -> Sequence[Finding]:
    from models.doctor.driver import check_torch

    return check_torch(job.device)


def _driver(job: Job) -> Sequence[Finding]:
    from models.doctor.driver import check_driver

    return check_driver(job.device, wants_gpu=job.model != "miniature")


def _gpu(job: Job) -> Sequence[Finding]:
    from models.doctor.gpu import check_gpu

    return check_gpu(job.device)


def _precision(job: Job) -> Sequence[Finding]:
    from models.doctor.gpu import check_precision

    return check_precision(job.device, job.precision)


def _attention(job: Job) -> Sequence[Finding]:
    from models.doctor.kernel_trials import check_attention

    return check_attention(job.device, job.precision, job.attention)


def _triton(job: Job) -> Sequence[Finding]:
    from models.doctor.kernel_trials import check_triton

    return check_triton(job.device)


def _checkpoint(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_controlnet, check_loras, check_model

    findings: list[Finding] = []
    checkpoint = None
    if model := _at_hand("checkpoint", job.model, findings):
        finding, checkpoint = check_model(model, job.revision, _pipeline(job))
        findings.append(finding)
    if checkpoint is not None and job.loras:
        findings.append(check_loras(job.loras, checkpoint))
    if checkpoint is not None and isinstance(job, GenerateJob):
        controlnet = _at_hand("ControlNet", job.controlnet, findings) if job.controlnet else None
        if controlnet:
            findings.append(check_controlnet(controlnet, job.controlnet_revision, checkpoint))
    return [*findings, *_clip(job)]


def _clip(job: Job) -> list[Finding]:
    from models.checkpoints.identity import CLIP_FOLDER
    from models.doctor.checkpoint_check import SENTENCE, check_clip
    from tasks.errors import RequestError
    from tasks.judging.judges import check_judge, load_policy, unasked

    findings: list[Finding] = []
    try:
        if job.clip == NO_CLIP:
            return [Finding.warning("CLIP", unasked(load_policy(job.policy, job.clip)), "Give a CLIP with --clip.")]
        if clip := _at_hand("CLIP", job.clip, findings):
            check_judge(job.clip, CLIP_FOLDER if clip == "miniature" else Path(clip).expanduser(), job.model)
            findings.append(check_clip(clip, job.clip_revision))
    except RequestError as error:
        findings.append(Finding.refused("CLIP", str(error), SENTENCE, "Give another.", "request"))
    return findings


def _at_hand(name: str, model: str, findings: list[Finding]) -> str | None:
    """What a model is found by on this machine; where it isn't, `findings` gets to know why."""
    from models.doctor.checkpoint_check import SENTENCE
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
        findings.append(Finding.refused(name, str(error), SENTENCE, give, "request"))
        return None
    except StoreError as error:
        findings.append(Finding.refused(name, str(error), SENTENCE, "Bring the bucket into reach.", "reach"))
        return None
    if place is None:
        do = "Nothing, if the bucket can be reached then."
        findings.append(Finding.warning(name, f"{model} isn't on this machine: the first run fetches it.", do))
    return place


def _placement(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_model, controlnet_of
    from models.doctor.placement_check import check_placement
    from models.loading.optimization_options import OptimizationOptions

    model = _at_hand("checkpoint", job.model, [])
    checkpoint = check_model(model, job.revision, _pipeline(job))[1] if model else None
    if checkpoint is None:
        return []  # another check says why
    controlnet = None
    if isinstance(job, GenerateJob) and job.controlnet and (place := _at_hand("ControlNet", job.controlnet, [])):
        controlnet = controlnet_of(place, job.controlnet_revision, checkpoint)
    return check_placement(
        checkpoint,
        _pipeline(job),
        device=job.device,
        precision=job.precision,
        options=OptimizationOptions(job.fused, job.attention, job.precision == "float8", job.step_cache),
        wanted=job.placement,
        gpu_memory=job.gpu_memory,
        memory_fraction=job.memory_fraction,
        batch=job.batch,
        changed=bool(job.loras),
        controlnet=controlnet,
    )


def _host(job: Job) -> Sequence[Finding]:
    from models.doctor.checkpoint_check import check_model
    from models.doctor.host import check_host

    model = _at_hand("checkpoint", job.model, [])
    checkpoint = check_model(model, job.revision, _pipeline(job))[1] if model else None
    return check_host(job.device, job.precision, checkpoint)


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


def _pipeline(job: Job) -> str:
    return "QwenImagePipeline" if isinstance(job, GenerateJob) else "QwenImageLayeredPipeline"
