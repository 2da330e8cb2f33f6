"""The family of Qwen-Image as a value: its classes, how its pipelines differ, and where its arithmetic is."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    QwenImageControlNetModel,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageLayeredPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from models.architectures.model_family import Architecture, PipelineRules, SchedulerConfig
from models.architectures.qwen_image.padded import Padded
from models.architectures.qwen_image.single_frame import single_frame
from models.architectures.qwen_image.varlen import Varlen
from models.pipelines import EDIT, EDIT_PLUS, LAYERED, TEXT_TO_IMAGE

TOKENS_OF_256 = 256  # image tokens of a 256² picture


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Put latents [B, F, C, h, w] in the order of tokens [B, F · h/2 · w/2, 4 · C]."""
    rows, frames, channels, height, width = latents.shape
    packed: torch.Tensor = QwenImageLayeredPipeline._pack_latents(
        latents.contiguous(), rows, channels, height, width, frames
    )
    return packed


def unpack(tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
    """Put tokens [B, F · h/2 · w/2, 4 · C] in the order of latents [B, C, F, h, w]."""
    latents: torch.Tensor = QwenImageLayeredPipeline._unpack_latents(tokens, height, width, frames - 1, 1)
    return latents


def guide(
    noise_pred: torch.Tensor, negative_pred: torch.Tensor, guidance: float, *, normalize: bool = True
) -> torch.Tensor:
    """Combine two predictions [B, N, C]; if normalised, each token keeps the norm of its conditional prediction."""
    guided = negative_pred + guidance * (noise_pred - negative_pred)
    if not normalize:
        return guided
    norm = torch.norm(noise_pred, dim=-1, keepdim=True)
    rescaled: torch.Tensor = guided * (norm / torch.norm(guided, dim=-1, keepdim=True))
    return rescaled


def shift_by_what_is_made(config: SchedulerConfig, tokens: int, frame_tokens: int) -> float:  # noqa: ARG001
    """Shift a schedule by all tokens of what is made, as the text-to-image pipeline does, and those that edit."""
    shift: float = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    return shift


def shift_by_frame(config: SchedulerConfig, tokens: int, frame_tokens: int) -> float:  # noqa: ARG001
    """Shift a schedule by the tokens of the source picture, which are a frame's, as the layered pipeline does."""
    return float((frame_tokens / TOKENS_OF_256) ** 0.5)


def language_model(text_encoder: Any) -> nn.Module:
    """Return what reads prompts: the text encoder without vision tower and head."""
    model: nn.Module = text_encoder.model.language_model
    return model


def vision_tower(text_encoder: Any) -> nn.Module:
    """Return what sees pictures for a text encoder."""
    model: nn.Module = text_encoder.model.visual
    return model


def picture_token(text_encoder: Any) -> int:
    """Return the id of the token in whose places a text encoder sees pictures."""
    return int(text_encoder.config.image_token_id)


def vae_scale(vae: Any) -> int:
    """Pixels a latent, along each axis, of a VAE; as the pipelines count them."""
    return int(2 ** len(vae.temperal_downsample))


def lora_loader(transformer: Any) -> QwenImagePipeline:
    """Return the pipeline around a transformer that LoRAs are loaded through."""
    return QwenImagePipeline(scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=transformer)


# What is particular to each pipeline; its texts are diffusers' own, so that they can't drift from those.
PARTS = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "transformer"))
TEXT_TO_IMAGE_STOCK, LAYERED_STOCK = QwenImagePipeline(**PARTS), QwenImageLayeredPipeline(**PARTS, processor=None)
EDIT_STOCK = QwenImageEditPipeline(**PARTS, processor=None)
EDIT_PLUS_STOCK = QwenImageEditPlusPipeline(**PARTS, processor=None)
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
OF_FRAMES = {"guidance_embeds": False, "use_layer3d_rope": False}
TEXT_TO_IMAGE_RULES = PipelineRules(
    TEXT_TO_IMAGE,
    template=TEXT_TO_IMAGE_STOCK.prompt_template_encode,
    template_tokens=TEXT_TO_IMAGE_STOCK.prompt_template_encode_start_idx,
    picture_text="",
    caption_prompts=None,
    shift=shift_by_what_is_made,
    transformer_config=OF_FRAMES,
)
LAYERED_RULES = PipelineRules(
    LAYERED,
    template=LAYERED_STOCK.prompt_template_encode,
    template_tokens=LAYERED_STOCK.prompt_template_encode_start_idx,
    picture_text="",
    caption_prompts=(LAYERED_STOCK.image_caption_prompt_en, LAYERED_STOCK.image_caption_prompt_cn),
    shift=shift_by_frame,
    transformer_config={"guidance_embeds": False, "use_layer3d_rope": True},
)
EDIT_RULES = PipelineRules(
    EDIT,
    template=EDIT_STOCK.prompt_template_encode.replace(PICTURE, ""),
    template_tokens=EDIT_STOCK.prompt_template_encode_start_idx,
    picture_text=PICTURE,  # stands in the template, where there is one picture
    caption_prompts=None,
    shift=shift_by_what_is_made,
    transformer_config=OF_FRAMES,
)
EDIT_PLUS_RULES = PipelineRules(
    EDIT_PLUS,
    template=EDIT_PLUS_STOCK.prompt_template_encode,
    template_tokens=EDIT_PLUS_STOCK.prompt_template_encode_start_idx,
    picture_text=f"Picture {{}}: {PICTURE}",  # in `_get_qwen_prompt_embeds`, where nothing gives it
    caption_prompts=None,
    shift=shift_by_what_is_made,
    transformer_config=OF_FRAMES,
)

QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    transformer=QwenImageTransformer2DModel,
    vae=AutoencoderKLQwenImage,
    text_encoder=Qwen2_5_VLForConditionalGeneration,
    controlnet=QwenImageControlNetModel,
    language_model=language_model,
    eyes=("model.visual.", "visual."),
    head=("lm_head.",),
    vision_tower=vision_tower,
    picture_token=picture_token,
    patch=2,
    pack=pack,
    unpack=unpack,
    guide=guide,
    vae_scale=vae_scale,
    single_frame=single_frame,
    varlen=Varlen,
    padded=Padded,
    lora_loader=lora_loader,
    rules={rules.pipeline.name: rules for rules in (TEXT_TO_IMAGE_RULES, LAYERED_RULES, EDIT_RULES, EDIT_PLUS_RULES)},
)
