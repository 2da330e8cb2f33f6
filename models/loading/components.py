"""The parts of a checkpoint of a diffusers pipeline, loaded quietly and completely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import ProcessorMixin

from models.architectures.architecture_registry import architecture_of, rules_of
from models.checkpoints.checkpoint import (
    Checkpoint,
    check_kind,
    edit_defaults,
    sees_pictures,
    weight_files,
    writes_captions,
)
from models.checkpoints.lora import Lora
from models.checkpoints.schedule import LIGHTNING, Scheduler
from models.files.quantization_schemes import QuantizationScheme, QuantizationSchemes
from models.files.read_ahead import reading_ahead
from models.files.safetensors_files import CheckpointError
from models.loading.component import load_part, loading
from models.loading.lora_merge import merge
from models.loading.placement import RESIDENT, Placement
from models.loading.prompt_encoder import (
    Eyes,
    PromptEncoder,
    load_text_encoder,
    load_tokenizer,
    stream_text_encoder,
)
from models.pipelines import TEXT_TO_IMAGE
from models.transformer.quantized import check_scheme, compress


@dataclass(frozen=True)
class Captioner:
    """What writes captions of pictures."""

    model: Any  # its language model is the text encoder
    processor: ProcessorMixin
    prompt_en: str  # the pipeline's own, with a place for the picture
    prompt_cn: str


@dataclass(frozen=True)
class ControlNet:
    """What steers the transformer after control pictures: see `models.sampling.control`."""

    model: Any
    scale: float  # how strictly, stock's `controlnet_conditioning_scale`


@dataclass(frozen=True, kw_only=True)
class Components(PromptEncoder):
    """A model in parts; together they are what its diffusers pipeline holds."""

    transformer: Any
    vae: Any
    scheduler: FlowMatchEulerDiscreteScheduler  # copied for each batch, since it counts its steps
    placement: Placement
    captioner: Captioner | None = None  # where the checkpoint has a processor, which shows pictures to the text encoder
    controlnet: ControlNet | None = None  # where pictures are drawn after control pictures
    scheme: QuantizationScheme | None = (
        None  # what the weights of the transformer's blocks are kept in; None: in `dtype`
    )

    @property
    def vae_scale(self) -> int:
        """Pixels a latent, along each axis."""
        return self.architecture.vae_scale(self.vae)

    @property
    def token_pixels(self) -> int:
        """Pixels a token, along each axis: what widths and heights are multiples of."""
        return self.vae_scale * self.architecture.patch

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that are denoised."""
        return self.architecture.latent_channels(self.transformer)


def load_components(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    placement: Placement = RESIDENT,
    *,
    pipeline: str = TEXT_TO_IMAGE.name,
    scheme: QuantizationScheme | None = None,
    controlnet: Checkpoint | None = None,
    controlnet_scale: float = 1.0,
    loras: Sequence[Lora] = (),
    scheduler: Scheduler = "checkpoint",
) -> Components:
    """Load a checkpoint's parts, each to where its placement has it.

    The blocks of a transformer that isn't resident are in host memory, where
    `models.loading.optimization_options.open_predictor` takes them.

    Args:
        pipeline: the name of the class whose work the parts are for, one of `models.pipelines.PIPELINES`.
        scheme: what the weights of the transformer's blocks are kept in; None for `dtype`. Weights that the checkpoint
            stores so are taken as they are, unless a LoRA changes them; others are compressed on `device`, one after
            another. The text encoder's stay as they are stored, or go the same way where nothing is stored compressed.
        controlnet: what `find_controlnet` found. It stays on the device whatever the placement: diffusers makes it
            of 5 blocks where the transformer has 60.
        controlnet_scale: see `ControlNet`.
        loras: what is merged into the transformer.
        scheduler: whose noise schedule it is sampled with.

    Raises:
        CheckpointError: if a part isn't what that pipeline needs, or lacks weights, or if a LoRA can't be merged.
    """
    folder = checkpoint.folder
    index = check_kind(folder, pipeline)
    architecture, rules = architecture_of(index["_class_name"]), rules_of(index["_class_name"])
    sees, writes = sees_pictures(checkpoint), writes_captions(checkpoint)
    schemes = QuantizationSchemes.of(folder, scheme, changed=bool(loras))
    for each in {schemes.transformer, schemes.text_encoder, schemes.stored}:
        check_scheme(each, device)
    host = torch.device("cpu")
    home = device if placement.kind == "resident" else host
    with loading(), reading_ahead(weight_files(checkpoint, controlnet)):
        tokenizer = load_tokenizer(folder, index["tokenizer"][1])
        flow_match = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        if scheduler == "lightning":
            flow_match = FlowMatchEulerDiscreteScheduler.from_config(LIGHTNING)
        text_encoder = load_text_encoder(
            architecture.text_encoder,
            folder,
            schemes,
            device,
            home,
            dtype,
            architecture.unused(sees=sees, writes=writes),
        )
        processor = _load_processor(folder, index) if sees or writes else None
        transformer = load_part(
            architecture.transformer,
            folder / "transformer",
            host if schemes.compresses_transformer else home,
            dtype,
            keep=None if schemes.compresses_transformer else schemes.transformer,
        )
        vae = load_part(architecture.vae, folder / "vae", device, dtype)
        steering = None
        if controlnet is not None:
            steering = ControlNet(
                load_part(architecture.controlnet, controlnet.folder, device, dtype), controlnet_scale
            )
    if flow_match.config.get("stochastic_sampling"):
        raise CheckpointError(
            f"{folder / 'scheduler'} samples with unseeded noise", "set stochastic_sampling to false."
        )
    if any(transformer.config[name] != value for name, value in rules.transformer_config.items()):
        raise CheckpointError(f"{folder / 'transformer'} is no {rules.pipeline.model}", "give another checkpoint.")
    with loading():
        merge(transformer, loras, architecture.lora_loader)
    if schemes.transformer and schemes.compresses_transformer:
        compress(transformer, schemes.transformer, device, home)
        transformer.to(home)
    text_layers, language_model = None, architecture.language_model(text_encoder)
    if placement.kind != "resident":
        for name, part in transformer.named_children():
            if name != "transformer_blocks":
                part.to(device)
        text_layers = stream_text_encoder(language_model, device)
    captioner, eyes = None, None
    if processor is not None and rules.caption_prompts is not None:
        captioner = Captioner(text_encoder, processor, *rules.caption_prompts)
    if processor is not None and sees:
        eyes = Eyes(
            vision_tower=architecture.vision_tower(text_encoder),
            image_processor=processor.image_processor,
            token=architecture.picture_token(text_encoder),
            merged=processor.image_processor.merge_size,
            by_grid=edit_defaults(checkpoint).grid_positions,
        )
    return Components(
        tokenizer=tokenizer,
        text_encoder=language_model,
        transformer=transformer,
        vae=architecture.single_frame(vae),
        scheduler=flow_match,
        architecture=architecture,
        rules=rules,
        device=device,
        dtype=dtype,
        placement=placement,
        captioner=captioner,
        controlnet=steering,
        scheme=scheme,
        text_layers=text_layers,
        eyes=eyes,
    )


def _load_processor(folder: Path, index: Mapping[str, Any]) -> ProcessorMixin:
    """Load what shows pictures to the text encoder.

    Raises:
        CheckpointError: if the checkpoint names none.
    """
    _, class_name = index.get("processor") or (None, None)
    if class_name is None:
        raise CheckpointError(
            f"{folder} names no processor in its model_index.json, without which its text encoder sees no pictures",
            "fetch it again.",
        )
    processor: ProcessorMixin = getattr(transformers, class_name).from_pretrained(
        folder / "processor", local_files_only=True
    )
    return processor
