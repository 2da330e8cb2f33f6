"""Qwen-Image, Qwen-Image-Layered and Qwen-Image-Edit at full size, or at a toy one, with random weights.

Speed and memory don't depend on the values of weights, so the full size needs no checkpoint.
"""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    QwenImageEditPlusPipeline,
    QwenImageLayeredPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from models.architectures.architecture_registry import architecture_of, rules_of
from models.architectures.qwen_image.single_frame import single_frame
from models.loading.component import loading
from models.loading.components import Components
from models.loading.placement import RESIDENT
from models.loading.prompt_encoder import Eyes
from models.miniature.networks.architecture import new_scheduler

TEMPLATE = "." * 34 + "{}....."  # 34 tokens to drop and five to keep, as Qwen-Image's own, at one token a byte
EDIT_TEMPLATE = "." * 64 + "{}....."  # the same of the pipeline that edits
PICTURE_TOKENS = {  # by the name of their setting in a text encoder's configuration
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}

FULL: dict[str, Any] = {
    "transformer": {},  # diffusers' defaults are Qwen-Image's sizes
    "vae": {},
    "text": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584},
}
TINY: dict[str, Any] = {
    "transformer": {
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    "vae": {"base_dim": 8, "num_res_blocks": 1},
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    },
    "vision": {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    },
}


def new_pipeline(*, tiny: bool = False, layered: bool = False, device: torch.device | None = None) -> Any:
    """A `QwenImagePipeline` or `QwenImageLayeredPipeline`, built on its device: bfloat16 on CUDA, float32 when tiny."""
    sizes = TINY if tiny else FULL
    device = device or torch.device("cpu" if tiny else "cuda:0")
    dtype = torch.float32 if tiny else torch.bfloat16
    with loading():
        parts = {
            "scheduler": new_scheduler(),
            "vae": new_vae({**sizes["vae"], **({"input_channels": 4} if layered else {})}, device, dtype),
            "text_encoder": new_text_encoder(sizes, device, dtype),
            "tokenizer": byte_tokenizer(),
            "transformer": new_transformer(sizes["transformer"], device, dtype, layered=layered),
        }
        pipeline = QwenImageLayeredPipeline(processor=None, **parts) if layered else QwenImagePipeline(**parts)
    pipeline.prompt_template_encode = TEMPLATE
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def new_edit_pipeline(*, tiny: bool = False) -> Any:
    """A `QwenImageEditPlusPipeline` as Edit-2511 has it, built like those of `new_pipeline`."""
    sizes = TINY if tiny else FULL
    device, dtype = torch.device("cpu" if tiny else "cuda:0"), torch.float32 if tiny else torch.bfloat16
    tokenizer = byte_tokenizer()
    with loading():
        pipeline = QwenImageEditPlusPipeline(
            scheduler=new_scheduler(),
            vae=new_vae(sizes["vae"], device, dtype),
            text_encoder=new_text_encoder(sizes, device, dtype),
            tokenizer=tokenizer,
            processor=new_processor(tokenizer),
            transformer=new_transformer({**sizes["transformer"], "zero_cond_t": True}, device, dtype),
        )
    pipeline.prompt_template_encode = EDIT_TEMPLATE
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def new_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """What shows pictures to a text encoder."""
    return Qwen2VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor())


def new_vae(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> AutoencoderKLQwenImage:
    """A VAE with random weights."""
    return AutoencoderKLQwenImage(**config).to(device, dtype).eval().requires_grad_(False)


def new_text_encoder(
    sizes: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> Qwen2_5_VLForConditionalGeneration:
    """A text encoder with random weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            config = text_encoder_config(sizes["text"], sizes["vision"])
            return Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def text_encoder_config(text: dict[str, Any], vision: dict[str, Any]) -> Qwen2_5_VLConfig:
    """The configuration of a text encoder whose tokenizer is `byte_tokenizer`."""
    tokenizer = byte_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in PICTURE_TOKENS.items()}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)


def new_transformer(
    config: dict[str, Any], device: torch.device, dtype: torch.dtype, *, layered: bool = False
) -> QwenImageTransformer2DModel:
    """Built on meta and filled on the device: 38 GiB never pass through host memory."""
    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel(**config, use_layer3d_rope=layered, use_additional_t_cond=layered)
    rope = type(transformer.pos_embed)  # its tables are plain tensors, and would stay on meta
    transformer = transformer.to(dtype).to_empty(device=device)
    transformer.pos_embed = rope(theta=10000, axes_dim=list(transformer.config.axes_dims_rope), scale_rope=True)
    deviation = 0.02 * (3072 / transformer.inner_dim) ** 0.5  # as much comes out of a toy's products as goes in
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.normal_(0, deviation)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return transformer.eval()


def byte_tokenizer() -> Qwen2Tokenizer:
    """One token a byte: no vocabulary to download, and a prompt's length is plain to see."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    return Qwen2Tokenizer(vocab=vocab, merges=[], extra_special_tokens=[*PICTURE_TOKENS.values()], padding_side="right")


def components_of(pipeline: Any) -> Components:
    """A pipeline's weights in packshot's hands; only the VAE is a copy. Texts stand in the pipeline's own template."""
    architecture, rules = architecture_of(type(pipeline).__name__), rules_of(type(pipeline).__name__)
    eyes = None
    if isinstance(pipeline, QwenImageEditPlusPipeline):
        shows = pipeline.processor.image_processor
        eyes = Eyes(
            vision_tower=architecture.vision_tower(pipeline.text_encoder),
            image_processor=shows,
            token=architecture.picture_token(pipeline.text_encoder),
            merged=shows.merge_size,
            by_grid=False,  # as stock counts
        )
    return Components(
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder.model.language_model,
        transformer=pipeline.transformer,
        vae=single_frame(copy.deepcopy(pipeline.vae)),
        scheduler=pipeline.scheduler,
        architecture=architecture,
        rules=replace(rules, template=pipeline.prompt_template_encode),
        device=pipeline.transformer.device,
        dtype=pipeline.transformer.dtype,
        placement=RESIDENT,
        eyes=eyes,
    )


def forward_flop(transformer: QwenImageTransformer2DModel, image_tokens: int, text_tokens: int) -> float:
    """Floating-point operations of one forward of one sequence: the blocks' products and their attention."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    tokens = image_tokens + text_tokens
    return float(config.num_layers * (2 * 12 * width**2 * tokens + 4 * tokens**2 * width))


@contextmanager
def sampling_gpu(seconds: float = 0.1) -> Iterator[list[float]]:
    """Sample how busy the GPU is: gives a list that holds one number at the end, the mean share of time, 0 … 1.

    What NVML calls utilization: the share of its last sample period in which any kernel ran. Empty without NVML.
    """
    busy: list[float] = []
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(seconds):
            samples.append(torch.cuda.utilization() / 100)

    if not torch.cuda.is_available():
        yield busy
        return
    try:
        torch.cuda.utilization()
    except ModuleNotFoundError:  # of nvidia-ml-py
        yield busy
        return
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        done.set()
        thread.join()
        if samples:
            busy.append(statistics.mean(samples))


def synchronized() -> float:
    """The time, when the GPU has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
