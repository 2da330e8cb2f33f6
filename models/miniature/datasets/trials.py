"""Prompts that training never saw, with the scenes they ask for."""

from dataclasses import dataclass, replace
from random import Random

import torch
from diffusers import QwenImagePipeline
from torch import Tensor

from models.miniature.datasets.drawings import attributes
from models.miniature.language.captions import caption
from models.miniature.language.names import Language
from models.miniature.world.world import Scene, random_scene


@dataclass(frozen=True)
class Trial:
    """A prompt in a word order kept from training, and what it asks for."""

    scene: Scene
    prompt: str
    held_out: bool  # whether training never saw this kind in this colour


def trials(count: int, language: Language, seed: int, *, width: int = 256, height: int = 256) -> list[Trial]:
    """Make trials, half of them of pairs of kind and colour that training never saw, in turns."""
    random = Random(f"trials {language} {seed}")
    made = []
    for index in range(count):
        unseen = index % 2 == 1
        scene = random_scene(random, width=width, height=height, held_out=unseen)
        if random.random() < 0.7:  # faults are tried elsewhere; here too many would crowd out the products
            scene = replace(scene, fault="none")
        made.append(Trial(scene, caption(scene, random, language=language, split="test"), unseen))
    return made


def asked(trials: list[Trial]) -> Tensor:
    """Return what the trials ask for: int64 [N, attributes]."""
    return torch.tensor([attributes(trial.scene) for trial in trials])


@torch.no_grad()
def pictures(
    pipeline: QwenImagePipeline, prompts: list[str], *, width: int, height: int, steps: int, guidance: float, batch: int
) -> Tensor:
    """Make pictures of prompts with diffusers' own pipeline, the i-th from seed i: uint8 [N, height, width, 3]."""
    rows = []
    for start in range(0, len(prompts), batch):
        chunk = prompts[start : start + batch]
        images = pipeline(
            prompt=chunk,
            negative_prompt=[" "] * len(chunk) if guidance > 1 else None,
            true_cfg_scale=guidance,
            width=width,
            height=height,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(start + at) for at in range(len(chunk))],
            output_type="pt",
        ).images
        rows.append((images.float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1))
    return torch.cat(rows)
