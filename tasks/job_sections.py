"""The sections of a job: what it says of its model, of sampling, of safety, and so on."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

from models.checkpoints.lora import EXAMPLE
from models.checkpoints.schedule import WantedScheduler
from models.devices.attention import Attention
from models.placement_names import WantedPlacement
from safety.marks.provenance import AIGC_TEXT

MOST_LAYERS = 16
LANES = "^(auto|[1-9][0-9]{0,3})$"
NO_CLIP = "none"
"""The CLIP of a job that is judged by lists, profiles and whatever else its policy names."""


class Section(BaseModel):
    """Some fields of a job; `FIRST_FIELDS` are those that `safety.deciding` never leaves out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else bool
            if isinstance(value, bool) and kind is not bool and bool not in get_args(kind):
                raise ValueError(f"{name} is {str(value).lower()}, and isn't a question of true or false")
        return values


class ModelSection(Section):
    """What makes the results."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("model", "revision", "precision")

    model: str = Field(default="miniature", description="Checkpoint: 'miniature', a folder, s3:// address, or hub id.")
    revision: str | None = Field(default=None, description="Commit of a hub checkpoint, 40 hex digits.")
    loras: tuple[str, ...] = Field(
        default=(), description=f"LoRAs to merge into it: 'FILE.safetensors=0.8', a folder, or '{EXAMPLE}' of the hub."
    )
    scheduler: WantedScheduler = Field(
        default="auto",
        description="Noise schedule: 'checkpoint', or 'lightning', which auto takes for Lightning LoRAs.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "float8", "int8", "nf4"] = Field(
        default="auto",
        description="Number format; auto is bfloat16 on a GPU and float32 on a CPU, and keeps weights that are stored "
        "in fewer bits. float8 multiplies in 8 bits: faster on Hopper and later, and approximate. int8 and nf4 keep "
        "weights in bitsandbytes' 8 and 4 bits, in a half and a third of the memory: approximate, too.",
    )
    step_cache: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Skip most of a step where it changes a row by less than this share, such as 0.2: approximate.",
    )


class PictureModel(ModelSection):
    """What draws pictures."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (
        *ModelSection.FIRST_FIELDS,
        "controlnet",
        "controlnet_revision",
        "controlnet_scale",
    )

    controlnet: str | None = Field(
        default=None,
        description="ControlNet, to draw after the manifest's 'control' pictures: a folder, s3:// address, or hub id.",
    )
    controlnet_revision: str | None = Field(default=None, description="Commit of a hub ControlNet, 40 hex digits.")
    controlnet_scale: float = Field(default=1.0, ge=0, le=2, description="How strictly control pictures are followed.")


class SamplingSection(Section):
    """How results are sampled, for rows that don't say."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("negative_prompt", "seed", "steps", "guidance", "max_prompt_tokens")

    negative_prompt: str = Field(default=" ", description="What the picture should not show, for rows that don't say.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Rows without a seed get one from this and their id.")
    steps: int | None = Field(default=None, ge=1, le=500, description="Denoising steps; default: the checkpoint's.")
    guidance: float | None = Field(default=None, ge=0, le=50, description="True CFG scale; 1 or less is none.")
    max_prompt_tokens: int = Field(default=1024, ge=1, le=1024, description="Longer prompts fail instead of being cut.")


class PictureSampling(SamplingSection):
    """How pictures are sampled, for rows that don't say."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*SamplingSection.FIRST_FIELDS, "width", "height", "variants")

    width: int | None = Field(
        default=None, ge=64, le=4096, multiple_of=16, description="Pixels; default: the checkpoint's."
    )
    height: int | None = Field(
        default=None, ge=64, le=4096, multiple_of=16, description="Pixels; default: the checkpoint's."
    )
    variants: int = Field(default=1, ge=1, le=64, description="Pictures for each row, for rows that don't say.")


class LayerSampling(SamplingSection):
    """How layers are sampled, for rows that don't say."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*SamplingSection.FIRST_FIELDS, "layers", "resolution", "cfg_normalize")

    layers: int | None = Field(default=None, ge=1, le=MOST_LAYERS, description="Layers; default: the checkpoint's.")
    resolution: int | None = Field(
        default=None,
        ge=64,
        le=2048,
        description="Side of a square picture of the same area, pixels; default: the checkpoint's.",
    )
    cfg_normalize: bool | None = Field(
        default=None, description="Guided predictions keep the norm of the conditional ones; default: the checkpoint's."
    )


class SafetySection(Section):
    """What is refused, and what looks for it."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("policy", "clip", "clip_revision")

    policy: str = Field(
        default="default", description="What safety refuses: a name in safety/policies, or a TOML file."
    )
    clip: str = Field(
        default="miniature",
        description="CLIP that screens and classifies: 'miniature' (for that model alone), a folder, s3:// address, or "
        "hub id; 'none' leaves it to lists, profiles and whatever else the policy names.",
    )
    clip_revision: str | None = Field(default=None, description="Commit of a hub CLIP, 40 hex digits.")


class SourceSafety(SafetySection):
    """What is refused of source pictures, and what looks for it."""

    policy: str = Field(
        default="sources", description="What safety refuses: a name in safety/policies, or a TOML file."
    )


class MarketplaceSection(Section):
    """What a marketplace demands, and how results are marked as made by a model."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("profile",)

    profile: str = Field(
        default="none", description="What a marketplace demands: a name in safety/profiles, or a TOML file."
    )
    aigc_producer: str | None = Field(
        default=None,
        pattern=f"^{AIGC_TEXT}$",
        description="Code of the provider, for the AIGC metadata of GB 45438-2025; without it, none is written.",
    )
    c2pa_certificate: str | None = Field(
        default=None,
        description="PEM file of the certificate chain that signs C2PA content credentials, its own one first.",
    )
    c2pa_key: str | None = Field(
        default=None, description="PEM file of that certificate's private key, without a password."
    )

    @model_validator(mode="after")
    def _signs_with_both(self) -> MarketplaceSection:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("c2pa_certificate and c2pa_key belong together; give both or none")
        return self


class PictureMarketplace(MarketplaceSection):
    """What a marketplace demands of pictures, what is mended for it, and how they are marked."""

    snap_white: bool = Field(default=False, description="Make a nearly white background exactly white.")
    pad_square: bool = Field(default=False, description="Make frames square by adding background, where that is plain.")


class LayerMarketplace(MarketplaceSection):
    """What is demanded of layers, and how they are marked."""

    profile: str = Field(
        default="none",
        description="A name in safety/profiles, or a TOML file: of layers, its min_layers_psnr is demanded.",
    )


class SourcesSection(Section):
    """What rows are made from."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("image_hosts", "max_image_bytes", "max_image_pixels")

    image_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts that the manifest's pictures may be fetched from: 'cdn.example.com', or host:port.",
    )
    max_image_bytes: int = Field(default=64 << 20, ge=1, description="Larger pictures in the manifest fail their rows.")
    max_image_pixels: int = Field(default=64_000_000, ge=1, description="Those of more pixels fail their rows, too.")


class PromptSources(SourcesSection):
    """What prompts and control pictures are made from."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*SourcesSection.FIRST_FIELDS, "prompt_template")

    prompt_template: str | None = Field(
        default=None,
        description="Builds the prompt of rows that have none from other columns: '{color} {title}, on white'.",
    )


class LayerSources(SourcesSection):
    """What layers are made from: pictures, and captions of them."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*SourcesSection.FIRST_FIELDS, "use_en_prompt")

    use_en_prompt: bool = Field(default=True, description="Missing captions are written in English, else in Chinese.")


class OutputSection(Section):
    """How results are committed, and what counts as success."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = ("shard_rows",)

    shard_rows: int = Field(default=128, ge=1, le=10_000, description="Rows of a shard, the unit of commit and retry.")
    fail_beyond: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of rows, such as 0.05, beyond which the flow is Failed in Prefect where they failed or "
        "couldn't be judged; default: it is CompletedWithFailures, however many.",
    )


class PictureOutput(OutputSection):
    """How pictures are stored and committed."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*OutputSection.FIRST_FIELDS, "format", "quality")

    format: Literal["png", "jpeg", "webp"] = Field(default="png", description="How pictures are stored.")
    quality: int = Field(default=92, ge=1, le=100, description="Of JPEG and WebP; WebP at 100 is lossless.")


class LayerOutput(OutputSection):
    """How layers are stored and committed."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*OutputSection.FIRST_FIELDS, "psd")

    psd: bool = Field(default=True, description="Write layers.psd beside layers that are made.")
    flatten: bool = Field(default=False, description="Lay composite.png over white where it is transparent.")


class HardwareSection(Section):
    """Where and how a run computes."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_of_lanes_is_a_word(cls, values: Any) -> Any:
        if isinstance(values, dict) and type(values.get("lanes")) is int:
            return {**values, "lanes": str(values["lanes"])}
        return values

    @field_validator("lanes", mode="before")
    @classmethod
    def _lanes_are_a_number_or_auto(cls, lanes: Any) -> Any:
        if isinstance(lanes, str) and not re.fullmatch(LANES, lanes):
            raise ValueError(f'"{lanes}" is neither a number of processes, from 1 to 9999, nor "auto"')
        return lanes

    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda' or 'cuda:1'.")
    placement: WantedPlacement = Field(
        default="auto",
        description="Where the model's weights are: all on the GPU (resident), the transformer there (staged), as many "
        "blocks as fit (streamed), or blocks on several GPUs (balanced); auto is the fastest that fits.",
    )
    gpu_memory: ByteSize | None = Field(
        default=None, gt=0, description="Most memory of the GPU to use, such as 24GiB; default: what is free."
    )
    memory_fraction: float = Field(
        default=0.9, gt=0, le=1, description="Share of the free GPU memory that batches may fill."
    )
    batch: int | None = Field(default=None, ge=1, description="Most rows of a batch; default: as many as memory holds.")
    fused: bool = Field(
        default=True, description="Run the transformer in few large operations; off: as diffusers runs it."
    )
    attention: Attention = Field(default="auto", description="Attention kernel that is tried first; auto is cuDNN's.")
    lanes: str = Field(
        default="1",
        pattern=LANES,
        description="Processes that each draw on a GPU of their own: a number, or auto for one on every GPU. More than "
        "one run on Ray (the extra 'ray').",
    )
    ray: str | None = Field(
        default=None,
        description="Address of a Ray cluster, such as 10.0.0.1:6379, whose GPUs draw; default: those of this machine.",
    )
    stalled_minutes: float = Field(
        default=30.0,
        gt=0,
        description="A lane on Ray that gets on with nothing for so long is begun again, as where its GPU hangs.",
    )
    price_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="What an hour of the device costs, in your currency: the dry run then gives money.",
    )
