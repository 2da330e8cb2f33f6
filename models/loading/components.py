"""The parts of a Qwen-Image or Qwen-Image-Layered checkpoint, loaded quietly and completely."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageControlNetModel,
    QwenImageLayeredPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import ProcessorMixin, Qwen2_5_VLForConditionalGeneration

from models.checkpoints.checkpoint import Checkpoint, check_kind, weight_files, writes_captions
from models.checkpoints.lora import Lora
from models.checkpoints.schedule import LIGHTNING, Scheduler
from models.files.quantization_formats import Form, Forms
from models.files.read_ahead import reading_ahead
from models.files.safetensors_files import CheckpointError
from models.loading.component import load_part, loading
from models.loading.lora_merge import merge
from models.loading.placement import RESIDENT, Placement
from models.loading.prompt_encoder import (
    CAPTION_WEIGHTS,
    Reader,
    load_text_encoder,
    load_tokenizer,
    stream_text_encoder,
)
from models.transformer.quantized import check_form, compress
from models.vae.single_frame import single_frame


@dataclass(frozen=True)
class Captioner:
    """What writes captions of pictures."""

    model: Qwen2_5_VLForConditionalGeneration  # its language model is the text encoder
    processor: ProcessorMixin
    prompt_en: str  # the pipeline's own, with a place for the picture
    prompt_cn: str


@dataclass(frozen=True)
class ControlNet:
    """What steers the transformer after control pictures: see `models.sampling.control`."""

    model: QwenImageControlNetModel
    scale: float  # how strictly, stock's `controlnet_conditioning_scale`


@dataclass(frozen=True, kw_only=True)
class Components(Reader):
    """A Qwen-Image in parts; together they are what its diffusers pipeline holds."""

    transformer: QwenImageTransformer2DModel
    vae: AutoencoderKLQwenImage
    scheduler: FlowMatchEulerDiscreteScheduler  # copied for each batch, since it counts its steps
    placement: Placement
    vae_scale: int  # pixels a latent, along each axis
    captioner: Captioner | None = None  # where the checkpoint has a processor, which shows pictures to the text encoder
    controlnet: ControlNet | None = None  # where pictures are drawn after control pictures
    form: Form | None = None  # what the weights of the transformer's blocks are kept in; None: in `dtype`


def load_components(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    placement: Placement = RESIDENT,
    *,
    pipeline: str = "QwenImagePipeline",
    form: Form | None = None,
    controlnet: Checkpoint | None = None,
    controlnet_scale: float = 1.0,
    loras: Sequence[Lora] = (),
    scheduler: Scheduler = "checkpoint",
) -> Components:
    """Load a checkpoint's parts, each to where its placement has it.

    The blocks of a transformer that isn't resident are in host memory: `models.loading.levers.open_predictor` takes
    them.

    Args:
        pipeline: `QwenImagePipeline` or `QwenImageLayeredPipeline`, whichever the parts are for.
        form: what the weights of the transformer's blocks are kept in; None for `dtype`. Weights that the checkpoint
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
    unused = () if writes_captions(checkpoint) else CAPTION_WEIGHTS
    index, is_layered = check_kind(folder, pipeline), pipeline == "QwenImageLayeredPipeline"
    forms = Forms.of(folder, form, changed=bool(loras))
    for each in {forms.transformer, forms.text_encoder, forms.stored}:
        check_form(each, device)
    host = torch.device("cpu")
    home = device if placement.kind == "resident" else host
    with loading(), reading_ahead(weight_files(checkpoint, controlnet)):
        tokenizer = load_tokenizer(folder, index["tokenizer"][1])
        flow_match = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        if scheduler == "lightning":
            flow_match = FlowMatchEulerDiscreteScheduler.from_config(LIGHTNING)
        text_encoder = load_text_encoder(folder, forms, device, home, dtype, unused)
        processor = None
        if writes_captions(checkpoint):
            processor_class = getattr(transformers, index["processor"][1])
            processor = processor_class.from_pretrained(folder / "processor", local_files_only=True)
        transformer = load_part(
            QwenImageTransformer2DModel,
            folder / "transformer",
            host if forms.compresses_transformer else home,
            dtype,
            keep=None if forms.compresses_transformer else forms.transformer,
        )
        vae = load_part(AutoencoderKLQwenImage, folder / "vae", device, dtype)
        steering = None
        if controlnet is not None:
            steering = ControlNet(
                load_part(QwenImageControlNetModel, controlnet.folder, device, dtype), controlnet_scale
            )
    if flow_match.config.get("stochastic_sampling"):
        raise CheckpointError(
            f"{folder / 'scheduler'} samples with unseeded noise", "set stochastic_sampling to false."
        )
    if transformer.config.guidance_embeds or transformer.config.use_layer3d_rope != is_layered:
        kind = "Qwen-Image-Layered" if is_layered else "text-to-image Qwen-Image"
        raise CheckpointError(f"{folder / 'transformer'} is no {kind}", "give another checkpoint.")
    with loading():
        merge(transformer, loras)
    if forms.transformer and forms.compresses_transformer:
        compress(transformer, forms.transformer, device, home)
        transformer.to(home)
    text_layers = None
    if placement.kind != "resident":
        for name, part in transformer.named_children():
            if name != "transformer_blocks":
                part.to(device)
        text_layers = stream_text_encoder(text_encoder.model.language_model, device)
    # The pipeline's own constants, so that they can't drift from diffusers'.
    parts = {"scheduler": flow_match, "vae": vae, "text_encoder": None, "tokenizer": None, "transformer": None}
    stock = QwenImageLayeredPipeline(processor=None, **parts) if is_layered else QwenImagePipeline(**parts)
    captioner = None
    if processor is not None:
        captioner = Captioner(text_encoder, processor, stock.image_caption_prompt_en, stock.image_caption_prompt_cn)
    return Components(
        tokenizer=tokenizer,
        text_encoder=text_encoder.model.language_model,
        transformer=transformer,
        vae=single_frame(vae),
        scheduler=flow_match,
        template=stock.prompt_template_encode,
        template_tokens=stock.prompt_template_encode_start_idx,
        device=device,
        dtype=dtype,
        placement=placement,
        vae_scale=stock.vae_scale_factor,
        captioner=captioner,
        controlnet=steering,
        form=form,
        text_layers=text_layers,
    )
