"""What a family of picture models is: a value that the engines' straight road reads wherever families differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from models.pipelines import Pipeline
from models.transformer.predictor import Predictor

SchedulerConfig = Mapping[str, Any]


class Pack(Protocol):
    """Puts latents in the order in which the transformer reads them."""

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """[B, F, C, h, w] to tokens [B, F · h/patch · w/patch, patch² · C]."""


class Unpack(Protocol):
    """Puts tokens in the order in which the VAE reads them."""

    def __call__(self, tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
        """[B, F · h/patch · w/patch, patch² · C] to latents [B, C, F, h, w]; `height` and `width` are h and w."""


class Guide(Protocol):
    """Combines the predictions of both branches of guidance."""

    def __call__(
        self, noise_pred: torch.Tensor, negative_pred: torch.Tensor, guidance: float, *, normalize: bool = True
    ) -> torch.Tensor:
        """Two predictions [B, N, C] to one; `normalize` as `models.requests.Shape.cfg_normalize`."""


@dataclass(frozen=True)
class PipelineRules:
    """What is particular to one pipeline of a family."""

    pipeline: Pipeline
    template: str  # the text that a prompt is put into
    template_tokens: int  # tokens of the template that come before the prompt, and are dropped
    picture_text: str  # what stands before the prompt for each picture that is seen with it; "{}" is its number
    caption_prompts: tuple[str, str] | None  # what a captioner is asked, in English and in Chinese
    shift: Callable[[SchedulerConfig, int, int], float]
    """How far the noise schedule is shifted (`mu`), by the scheduler's settings, the image tokens of all that is made,
    and those of one frame of it."""
    transformer_config: Mapping[str, object]  # what the transformer's settings must say


@dataclass(frozen=True)
class Architecture:
    """What a family is made of, in classes of diffusers and transformers, and the arithmetic that is its own."""

    name: str
    transformer: Any  # the class
    vae: Any
    text_encoder: Any
    controlnet: Any
    language_model: Callable[[Any], nn.Module]  # of a text encoder, what reads prompts: without vision tower and head
    eyes: tuple[str, ...]  # beginnings of the names of the weights by which a text encoder sees pictures
    head: tuple[str, ...]  # and of those by which it writes
    vision_tower: Callable[[Any], nn.Module]  # of a text encoder, what sees pictures
    picture_token: Callable[[Any], int]  # of a text encoder, the id of the token in whose places it sees them
    patch: int  # latents that become a token, along each axis
    pack: Pack
    unpack: Unpack
    guide: Guide
    vae_scale: Callable[[Any], int]  # pixels a latent, along each axis, of a VAE
    single_frame: Callable[[Any], Any]  # reduces a VAE to single pictures, in place
    varlen: Callable[..., Predictor]  # runs a transformer over sequences of any lengths, in float8 and on several GPUs
    padded: Callable[[Any], Predictor]  # runs it as diffusers does
    lora_loader: Callable[[Any], Any]  # the pipeline around a transformer that LoRAs are loaded through
    rules: Mapping[str, PipelineRules]  # by the name of the pipeline's class

    def unused(self, *, sees: bool = False, writes: bool = False) -> tuple[str, ...]:
        """Beginnings of the names of a text encoder's weights that nobody asks for, where it reads texts."""
        return (*(() if sees or writes else self.eyes), *(() if writes else self.head))

    def latent_channels(self, transformer: Any) -> int:
        """Channels of the latents that a transformer reads."""
        return int(transformer.config.in_channels) // self.patch**2
