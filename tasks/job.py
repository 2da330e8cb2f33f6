"""The job: everything but the manifest's rows that decides the outcome."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from models.checkpoints.lora import EXAMPLE, split_scale
from models.checkpoints.schedule import WantedScheduler
from models.devices.attention import Attention
from models.placement_names import WantedPlacement
from safety.deciding import deciding
from safety.marks.provenance import AIGC_TEXT
from safety.toml_file import TomlError, problems_of, read_toml
from tasks.errors import RequestError

PATH_FIELDS = (
    "manifest",
    "store",
    "model",
    "loras",
    "controlnet",
    "clip",
    "policy",
    "profile",
    "c2pa_certificate",
    "c2pa_key",
)
ELSEWHERE = (
    "manifest",
    "store",
    "device",
    "batch",
    "memory_fraction",
    "gpu_memory",
    "placement",
    "fused",
    "attention",
    "fail_beyond",
    "price_per_hour",
)
"""Fields that say where and how a run reads, writes, computes and tells, and change pictures by rounding at most."""
SAID_BY_THE_KEY = (
    "loras",
    "scheduler",
    "step_cache",
    "snap_white",
    "pad_square",
    "flatten",
    "aigc_producer",
    "c2pa_certificate",
    "c2pa_key",
)
"""Fields that decide by what the key says of them, where they are used: see `tasks.manifests.key.Maker.additions`."""
MOST_LAYERS = 16
NO_CLIP = "none"
"""The CLIP of a job that is judged by lists, profiles and whatever else its policy names."""


class Job(BaseModel):
    """What every job says. One TOML file, and every field also a flag: `--negative-prompt`, `--shard-rows`, …"""

    model_config = ConfigDict(extra="forbid", frozen=True)
    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (
        "model",
        "revision",
        "clip",
        "clip_revision",
        "precision",
        "negative_prompt",
        "seed",
        "steps",
        "guidance",
        "max_prompt_tokens",
        "policy",
        "profile",
        "image_hosts",
        "max_image_bytes",
        "max_image_pixels",
        "shard_rows",
    )

    manifest: str = Field(description="Parquet file, folder of Parquet files, or s3:// address: one row a picture.")
    store: str = Field(description="Where pictures and the catalogue go: s3://bucket/prefix, or a folder.")

    model: str = Field("miniature", description="Checkpoint: 'miniature', a folder, s3:// address, or hub id.")
    revision: str | None = Field(None, description="Commit of a hub checkpoint, 40 hex digits.")
    loras: tuple[str, ...] = Field(
        (), description=f"LoRAs to merge into it: 'FILE.safetensors=0.8', a folder, or '{EXAMPLE}' of the hub."
    )
    scheduler: WantedScheduler = Field(
        "auto", description="Noise schedule: 'checkpoint', or 'lightning', which auto takes for Lightning LoRAs."
    )
    clip: str = Field(
        "miniature",
        description="CLIP that screens and classifies: 'miniature' (for that model alone), a folder, s3:// address, or "
        "hub id; 'none' leaves it to lists, profiles and whatever else the policy names.",
    )
    clip_revision: str | None = Field(None, description="Commit of a hub CLIP, 40 hex digits.")
    device: str = Field("auto", description="'auto', 'cpu', 'cuda' or 'cuda:1'.")
    precision: Literal["auto", "float32", "bfloat16", "float16", "float8", "int8", "nf4"] = Field(
        "auto",
        description="Number format; auto is bfloat16 on a GPU and float32 on a CPU, and keeps weights that are stored "
        "in fewer bits. float8 multiplies in 8 bits: faster on Hopper and later, and approximate. int8 and nf4 keep "
        "weights in bitsandbytes' 8 and 4 bits, in a half and a third of the memory: approximate, too.",
    )
    step_cache: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Skip most of a step where it changes a row by less than this share, such as 0.2: approximate.",
    )
    fused: bool = Field(True, description="Run the transformer in few large operations; off: as diffusers runs it.")
    attention: Attention = Field("auto", description="Attention kernel that is tried first; auto is cuDNN's.")

    negative_prompt: str = Field(" ", description="What the picture should not show, for rows that don't say.")
    seed: int = Field(0, ge=0, lt=2**63, description="Rows without a seed get one from this and their id.")
    steps: int | None = Field(None, ge=1, le=500, description="Denoising steps; default: the checkpoint's.")
    guidance: float | None = Field(None, ge=0, le=50, description="True CFG scale; 1 or less is none.")
    max_prompt_tokens: int = Field(1024, ge=1, le=1024, description="Longer prompts fail instead of being cut.")

    policy: str = Field("default", description="What safety refuses: a name in safety/policies, or a TOML file.")
    profile: str = Field("none", description="What a marketplace demands: a name in safety/profiles, or a TOML file.")

    aigc_producer: str | None = Field(
        None,
        pattern=f"^{AIGC_TEXT}$",
        description="Code of the provider, for the AIGC metadata of GB 45438-2025; without it, none is written.",
    )
    c2pa_certificate: str | None = Field(
        None, description="PEM file of the certificate chain that signs C2PA content credentials, its own one first."
    )
    c2pa_key: str | None = Field(None, description="PEM file of that certificate's private key, without a password.")

    image_hosts: tuple[str, ...] = Field(
        (), description="Hosts that the manifest's pictures may be fetched from: 'cdn.example.com', or host:port."
    )
    max_image_bytes: int = Field(64 << 20, ge=1, description="Larger pictures in the manifest fail their rows.")
    max_image_pixels: int = Field(64_000_000, ge=1, description="Those of more pixels fail their rows, too.")

    fail_beyond: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of rows, such as 0.05, beyond which the flow is Failed in Prefect where they failed or "
        "couldn't be judged; default: it is CompletedWithFailures, however many.",
    )
    price_per_hour: float | None = Field(
        None, gt=0, description="What an hour of the device costs, in your currency: the dry run then gives money."
    )
    shard_rows: int = Field(128, ge=1, le=10_000, description="Rows of a shard, the unit of commit and retry.")
    batch: int | None = Field(None, ge=1, description="Most rows of a batch; default: as many as memory holds.")
    placement: WantedPlacement = Field(
        "auto",
        description="Where the model's weights are: all on the GPU (resident), the transformer there (staged), as many "
        "blocks as fit (streamed), or blocks on several GPUs (balanced); auto is the fastest that fits.",
    )
    gpu_memory: ByteSize | None = Field(
        None, gt=0, description="Most memory of the GPU to use, such as 24GiB; default: what is free."
    )
    memory_fraction: float = Field(0.9, gt=0, le=1, description="Share of the free GPU memory that batches may fill.")

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else bool
            if isinstance(value, bool) and kind is not bool and bool not in get_args(kind):
                raise ValueError(f"{name} is {str(value).lower()}, and isn't a question of true or false")
        return values

    @model_validator(mode="after")
    def _levers_fit(self) -> Job:
        if not self.fused and (self.precision == "float8" or self.step_cache is not None):
            raise ValueError("precision float8 and step_cache need the fused transformer; leave fused on")
        return self

    @model_validator(mode="after")
    def _signs_with_both(self) -> Job:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("c2pa_certificate and c2pa_key belong together; give both or none")
        return self

    def deciding(self) -> dict[str, Any]:
        """The fields that decide what a run does: all but where it reads, writes and computes, and what keys say.

        A field that came later is left out where it is its default: see `safety.deciding`.
        """
        return {"job": type(self).__name__, **deciding(self, exclude=(*ELSEWHERE, *SAID_BY_THE_KEY))}


class GenerateJob(Job):
    """A job that makes pictures from prompts."""

    FIRST_FIELDS: ClassVar = (
        *Job.FIRST_FIELDS,
        "prompt_template",
        "width",
        "height",
        "variants",
        "controlnet",
        "controlnet_revision",
        "controlnet_scale",
        "format",
        "quality",
    )

    prompt_template: str | None = Field(
        None, description="Builds the prompt of rows that have none from other columns: '{color} {title}, on white'."
    )
    width: int | None = Field(None, ge=64, le=4096, multiple_of=16, description="Pixels; default: the checkpoint's.")
    height: int | None = Field(None, ge=64, le=4096, multiple_of=16, description="Pixels; default: the checkpoint's.")
    variants: int = Field(1, ge=1, le=64, description="Pictures for each row, for rows that don't say.")
    controlnet: str | None = Field(
        None,
        description="ControlNet, to draw after the manifest's 'control' pictures: a folder, s3:// address, or hub id.",
    )
    controlnet_revision: str | None = Field(None, description="Commit of a hub ControlNet, 40 hex digits.")
    controlnet_scale: float = Field(1.0, ge=0, le=2, description="How strictly control pictures are followed.")
    format: Literal["png", "jpeg", "webp"] = Field("png", description="How pictures are stored.")
    quality: int = Field(92, ge=1, le=100, description="Of JPEG and WebP; WebP at 100 is lossless.")
    snap_white: bool = Field(False, description="Make a nearly white background exactly white.")
    pad_square: bool = Field(False, description="Make frames square by adding background, where that is plain.")


class DecomposeJob(Job):
    """A job that takes source pictures apart into RGBA layers."""

    FIRST_FIELDS: ClassVar = (*Job.FIRST_FIELDS, "layers", "resolution", "cfg_normalize", "use_en_prompt", "psd")

    policy: str = Field("sources", description="What safety refuses: a name in safety/policies, or a TOML file.")

    profile: str = Field(
        "none", description="A name in safety/profiles, or a TOML file: of layers, its min_layers_psnr is demanded."
    )
    layers: int | None = Field(None, ge=1, le=MOST_LAYERS, description="Layers; default: the checkpoint's.")
    resolution: int | None = Field(
        None,
        ge=64,
        le=2048,
        description="Side of a square picture of the same area, pixels; default: the checkpoint's.",
    )
    cfg_normalize: bool | None = Field(
        None, description="Guided predictions keep the norm of the conditional ones; default: the checkpoint's."
    )
    use_en_prompt: bool = Field(True, description="Missing captions are written in English, else in Chinese.")
    psd: bool = Field(True, description="Write layers.psd beside layers that are made.")
    flatten: bool = Field(False, description="Lay composite.png over white where it is transparent.")


AnyJob = TypeVar("AnyJob", bound=Job)


def load_job(kind: type[AnyJob], file: Path | None, **flags: Any) -> AnyJob:
    """The job of a TOML file, with flags over it. Paths in the file are relative to the file.

    Raises:
        RequestError: if the file can't be read or a value is wrong; the sentence names the field.
    """
    return job_of(kind, values_of(file, flags), file)


def values_of(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The values of a TOML file, with flags over them.

    Raises:
        RequestError: if the file can't be read.
    """
    values = _read_toml(file) if file else {}
    return values | {name: value for name, value in flags.items() if value is not None}


def job_of(kind: type[AnyJob], values: dict[str, Any], file: Path | None) -> AnyJob:
    """The job of these values, which came from a file, if one is given.

    Raises:
        RequestError: if one is wrong; the sentence names the field.
    """
    where = f" ({file})" if file else ""
    try:
        job = kind(**values)
    except ValidationError as error:
        raise RequestError(f"The job{where} is wrong: {'; '.join(problems_of(error, kind))}.") from error
    for name in PATH_FIELDS:
        value = getattr(job, name, None)
        if isinstance(value, str) and value.startswith("~") and os.path.expanduser(value) == value:  # noqa: PTH111
            raise RequestError(f"The job{where} is wrong: {name} is {value}, and there is no such user's home folder.")
    return job


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        values = read_toml(file)
    except FileNotFoundError as error:
        raise RequestError(f"There is no job file {file}.") from error
    except TomlError as error:
        raise RequestError(f"The job file {file} {error}.") from error
    for name in PATH_FIELDS:
        match values.get(name):
            case str(path):
                values[name] = _beside(file, path, path)
            case [*entries] if all(isinstance(entry, str) for entry in entries):
                values[name] = [_beside(file, entry, split_scale(entry)[0]) for entry in entries]
    return values


def _beside(file: Path, value: str, path: str) -> str:
    """A value as it is to be read from here, if the path in it is there beside the file; else the value as it is."""
    try:
        is_there = "://" not in path and (file.parent / path).exists()
    except OSError:  # such as a name that is too long
        is_there = False
    return str(file.parent / value) if is_there else value
