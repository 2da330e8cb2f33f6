"""The parts of a Qwen-Image or Qwen-Image-Layered checkpoint, loaded quietly and completely."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
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
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen2_5_VLForConditionalGeneration,
)

from models.checkpoint import Checkpoint, check_kind, weight_files, writes_captions
from models.compressed import check_form, compress
from models.failure import first_line
from models.forms import DIFFUSERS, TRANSFORMERS, Form, Forms, stored_weights
from models.host_weights import look_up_on_host, stream_layers
from models.lora import Lora
from models.merge import merge
from models.placement import RESIDENT, Placement
from models.read_ahead import reading_ahead
from models.schedule import LIGHTNING, Scheduler
from models.single_frame import single_frame
from models.stored import assemble, keep_stored, restored_state
from models.weight_stream import WeightStream
from models.weights import CheckpointError

# Where no captions are written, no logits are computed and no picture is read: head and vision tower needn't be there.
CAPTION_WEIGHTS = ("lm_head.", "model.visual.", "visual.")


@dataclass(frozen=True)
class Captioner:
    """What writes captions of pictures."""

    model: Qwen2_5_VLForConditionalGeneration  # its language model is the text encoder
    processor: ProcessorMixin
    prompt_en: str  # the pipeline's own, with a place for the picture
    prompt_cn: str


@dataclass(frozen=True)
class ControlNet:
    """What steers the transformer after control pictures: see `models.control`."""

    model: QwenImageControlNetModel
    scale: float  # how strictly, stock's `controlnet_conditioning_scale`


@dataclass(frozen=True)
class Components:
    """A Qwen-Image in parts; together they are what its diffusers pipeline holds."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: torch.nn.Module  # the language model of Qwen2.5-VL, without vision tower and head
    transformer: QwenImageTransformer2DModel
    vae: AutoencoderKLQwenImage
    scheduler: FlowMatchEulerDiscreteScheduler  # copied for each batch, since it counts its steps
    template: str  # the text a prompt is put into
    template_tokens: int  # how many tokens of the template come before the prompt, and are dropped
    device: torch.device
    dtype: torch.dtype
    placement: Placement
    vae_scale: int  # pixels a latent, along each axis
    captioner: Captioner | None = None  # where the checkpoint has a processor, which shows pictures to the text encoder
    controlnet: ControlNet | None = None  # where pictures are drawn after control pictures
    form: Form | None = None  # what the weights of the transformer's blocks are kept in; None: in `dtype`
    text_layers: WeightStream | None = None  # of a text encoder whose layers are in host memory

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While prompts are read; afterwards the text encoder leaves the device where it isn't resident."""
        try:
            yield
        finally:
            if self.text_layers is not None:
                self.text_layers.release()


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

    The blocks of a transformer that isn't resident are in host memory: `models.levers.open_predictor` takes them.

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
    tokenizer_class = index["tokenizer"][1]
    with quiet(), reading_ahead(weight_files(checkpoint, controlnet)):
        tokenizer = getattr(transformers, tokenizer_class).from_pretrained(folder / "tokenizer", local_files_only=True)
        flow_match = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        if scheduler == "lightning":
            flow_match = FlowMatchEulerDiscreteScheduler.from_config(LIGHTNING)
        text_encoder = _load(
            Qwen2_5_VLForConditionalGeneration,
            folder / "text_encoder",
            host if forms.text_encoder else home,
            dtype,
            unused,
        )
        if forms.text_encoder and forms.compresses_text_encoder:
            compress(text_encoder, forms.text_encoder, device, home)
        text_encoder.to(home)
        processor = None
        if writes_captions(checkpoint):
            processor_class = getattr(transformers, index["processor"][1])
            processor = processor_class.from_pretrained(folder / "processor", local_files_only=True)
        transformer = _load(
            QwenImageTransformer2DModel,
            folder / "transformer",
            host if forms.compresses_transformer else home,
            dtype,
            keep=None if forms.compresses_transformer else forms.transformer,
        )
        vae = _load(AutoencoderKLQwenImage, folder / "vae", device, dtype)
        steering = None
        if controlnet is not None:
            steering = ControlNet(_load(QwenImageControlNetModel, controlnet.folder, device, dtype), controlnet_scale)
    if flow_match.config.get("stochastic_sampling"):
        raise CheckpointError(f"{folder / 'scheduler'} samples with unseeded noise; set stochastic_sampling to false.")
    if transformer.config.guidance_embeds or transformer.config.use_layer3d_rope != is_layered:
        kind = "Qwen-Image-Layered" if is_layered else "text-to-image Qwen-Image"
        raise CheckpointError(f"{folder / 'transformer'} is no {kind}; give another checkpoint.")
    with quiet():
        merge(transformer, loras)
    if forms.transformer and forms.compresses_transformer:
        compress(transformer, forms.transformer, device, home)
        transformer.to(home)
    text_layers = None
    if placement.kind != "resident":
        for name, part in transformer.named_children():
            if name != "transformer_blocks":
                part.to(device)
        text_layers = _stream_text_encoder(text_encoder.model.language_model, device)
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


def _stream_text_encoder(text_encoder: Any, device: torch.device) -> WeightStream:
    """Have a text encoder read prompts on `device`, whose weights stay in host memory."""
    stream = stream_layers(text_encoder.layers, device)
    look_up_on_host(text_encoder.embed_tokens, device)
    text_encoder.norm.to(device)
    text_encoder.rotary_emb.to(device)
    return stream


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and chatter while something is loaded; errors still come as exceptions."""
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [(logger, logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    root = logging.getLogger()
    silence = logging.NullHandler()
    root.addHandler(silence)  # open_clip logs to the root logger, which would install a handler of its own
    for logger in loggers:
        logger.set_verbosity(logging.CRITICAL)
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silence)
        for logger, verbosity, progress_bar in before:
            logger.set_verbosity(verbosity)
            if progress_bar:
                logger.enable_progress_bar()


def _load(
    model_class: Any,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    unused: tuple[str, ...] = (),
    keep: Form | None = None,
) -> Any:
    """Load one component straight onto its device.

    Libraries fill missing weights with random numbers and a warning; here that is an error.

    Args:
        unused: beginnings of the names of weights that may be missing.
        keep: of a diffusers model, the form in which weights stay as they are stored. The weights of the text encoder's
            blocks always do.
    """
    is_of_diffusers = issubclass(model_class, diffusers.ModelMixin)
    weights = stored_weights(folder, DIFFUSERS if is_of_diffusers else TRANSFORMERS)
    is_compressed = any(stored.form for stored in weights.values())
    try:
        if is_compressed and is_of_diffusers:
            return assemble(model_class, folder, weights, device, dtype, keep).eval()
        source: dict[str, Any] = {"pretrained_model_name_or_path": folder}
        if is_compressed:
            config = model_class.config_class.from_pretrained(folder)
            config.__dict__.pop("quantization_config", None)
            source = {"pretrained_model_name_or_path": None, "config": config}
            source["state_dict"] = restored_state(weights, dtype)
        model, info = model_class.from_pretrained(
            **source,
            local_files_only=True,
            use_safetensors=True,
            device_map={"": device},
            output_loading_info=True,
            dtype=dtype,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError | CheckpointError):
            raise
        if "meta tensor" in str(error):  # how diffusers 0.42 with a device_map says that weights are missing
            raise CheckpointError(f"{folder} lacks weights that its config.json asks for; fetch it again.") from error
        raise CheckpointError(f"{folder} can't be loaded as {model_class.__name__}: {first_line(error)}") from error
    missing = [name for name in info["missing_keys"] if not name.startswith(unused)]
    if missing or info["mismatched_keys"]:
        name = missing[0] if missing else info["mismatched_keys"][0][0]
        raise CheckpointError(f"{folder} doesn't fit its own config.json: {name} is missing or of another size.")
    if is_compressed:
        keep_stored(model, weights)
        if (folder / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval().requires_grad_(False)
