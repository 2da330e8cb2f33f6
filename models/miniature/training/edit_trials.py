"""Edits that training never saw, with pictures of what they ask for, and what a model in training makes of them."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift, retrieve_timesteps
from torch import Tensor
from transformers import Qwen2Tokenizer

from models.miniature.datasets.drawings import ATTRIBUTES, attributes
from models.miniature.language.instructions import instruction, referring_instruction
from models.miniature.language.names import Language
from models.miniature.networks.architecture import EditSampling, new_scheduler
from models.miniature.training.denoiser import Denoiser, grid_of, latents_of
from models.miniature.training.editing import EMPTY, Conditioner
from models.miniature.training.judge import JUDGED, Judge
from models.miniature.world.edits import ASKABLE, EDITED, Edit, unseen_edit
from models.miniature.world.world import Drawing, draw, draw_alike, random_scene


@dataclass(frozen=True)
class EditTrial:
    """An edit of a pair of kind and colour that training never saw, asked for in words that it never saw."""

    edit: Edit
    instruction: str
    source: Drawing
    target: Drawing
    plain: Drawing  # the target without a pattern
    beside: Drawing | None = None  # a second picture, whose background is asked for


def edit_trials(count: int, language: Language, seed: int, *, width: int = 256, height: int = 256) -> list[EditTrial]:
    """Make trials; what is asked for takes turns."""
    random = Random(f"edit trials {language} {seed} {width}x{height}")
    made = []
    for index in range(count):
        edit = unseen_edit(random, ASKABLE[index % len(ASKABLE)], width=width, height=height)
        drawn = draw_alike([edit.source, edit.target, replace(edit.target, pattern="plain")], random)
        made.append(EditTrial(edit, instruction(edit, random, language=language, split="test"), *drawn))
    return made


def referring_trials(count: int, language: Language, seed: int) -> list[EditTrial]:
    """Make trials that ask for the background of a second picture, which shows another product."""
    random = Random(f"referring trials {language} {seed}")
    made = []
    for _ in range(count):
        edit = unseen_edit(random, "background")
        source, target, plain = draw_alike([edit.source, edit.target, replace(edit.target, pattern="plain")], random)
        kind = random.choice([kind for kind in EDITED if kind != edit.source.kind])
        other = replace(random_scene(random, kinds=[kind]), background=edit.target.background, fault="none")
        text = referring_instruction(edit, random, language=language, split="test")
        made.append(EditTrial(edit, text, source, target, plain, draw(other, random)))
    return made


def pixels_of(trials: list[EditTrial], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what trials show, uint8 [N, pictures, H, W, 3], and their targets, uint8 [N, H, W, 3].

    All are of one shape and have the same number of pictures.
    """
    shown = [[each.picture for each in (trial.source, trial.beside) if each is not None] for trial in trials]
    return (
        torch.from_numpy(np.array(shown)).to(device),
        torch.from_numpy(np.stack([trial.target.picture for trial in trials])).to(device),
    )


@torch.no_grad()
def edited(
    vae: AutoencoderKLQwenImage,
    denoiser: Denoiser,
    tokenizer: Qwen2Tokenizer,
    shown: Tensor,
    instructions: list[str],
    sampling: EditSampling,
) -> Tensor:
    """Edit pictures of one shape, together, as `QwenImageEditPlusPipeline` does it one at a time.

    Args:
        vae: the VAE, whole or reduced to single frames.
        denoiser: transformer and text encoder.
        tokenizer: the text encoder's.
        shown: uint8 [N, pictures, H, W, 3], of the size that the VAE shall read and make: sources, and those beside.
        instructions: one for each.
        sampling: steps and guidance.

    Returns:
        uint8 [N, H, W, 3]; the i-th starts from the noise of seed i.
    """
    device, transformer = shown.device, denoiser.transformer
    count, pictures = shown.shape[:2]
    rows, columns = grid_of(shown.shape[3], shown.shape[2])
    conditioner = Conditioner(denoiser.text_encoder, tokenizer)
    seen = conditioner.seen(shown.flatten(0, 1))
    every = torch.arange(count * pictures, device=device).view(count, pictures)
    told = [conditioner.encode(seen, every, instructions)]
    if sampling.guidance > 1:
        told.append(conditioner.encode(seen, every, [EMPTY] * count))
    condition = latents_of(vae, shown.flatten(0, 1)).float().unflatten(0, (count, pictures)).flatten(1, 2)
    channels = vae.config.z_dim
    noise = torch.cat(
        [
            torch.randn(1, channels, 2 * rows, 2 * columns, generator=torch.Generator().manual_seed(seed))
            for seed in range(count)
        ]
    )
    latents = (
        noise.view(-1, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).to(device)
    )
    scheduler = new_scheduler()
    config = scheduler.config
    shift = calculate_shift(
        latents.shape[1], config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    sigmas = np.linspace(1.0, 1 / sampling.steps, sampling.steps)
    timesteps, _ = retrieve_timesteps(scheduler, sampling.steps, device, sigmas=sigmas, mu=shift)
    for timestep in timesteps:
        found = [
            transformer(
                hidden_states=torch.cat([latents, condition], 1),
                timestep=(timestep / 1000).expand(len(latents)),
                encoder_hidden_states=embeds,
                encoder_hidden_states_mask=torch.arange(embeds.shape[1], device=device) < lengths[:, None],
                img_shapes=[[(1, rows, columns)] * (1 + pictures)] * len(latents),
                return_dict=False,
            )[0][:, : latents.shape[1]]
            for embeds, lengths in told
        ]
        velocity = found[0]
        if sampling.guidance > 1:
            guided = found[1] + sampling.guidance * (found[0] - found[1])
            velocity = guided * (found[0].norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return pictures_of(vae, latents, (rows, columns))


@torch.no_grad()
def coded(vae: AutoencoderKLQwenImage, pictures: Tensor) -> Tensor:
    """Encode and decode pictures, uint8 [N, H, W, 3]: the same, as a VAE has them."""
    return pictures_of(vae, latents_of(vae, pictures).float(), grid_of(pictures.shape[2], pictures.shape[1]))


@torch.no_grad()
def pictures_of(vae: AutoencoderKLQwenImage, latents: Tensor, grid: tuple[int, int]) -> Tensor:
    """Decode what `latents_of` encodes: [N, tokens, 4 * channels] to uint8 [N, H, W, 3].

    Args:
        vae: the VAE, whole or reduced to single frames.
        latents: normalised packed latents.
        grid: rows and columns of tokens.
    """
    (rows, columns), channels = grid, vae.config.z_dim
    mean, deviation = (
        torch.tensor(values, device=latents.device)[:, None, None]
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    folded = torch.unflatten(torch.unflatten(latents, 2, (channels, 2, 2)), 1, (rows, columns))
    whole = folded.permute(0, 3, 1, 4, 2, 5).reshape(len(latents), channels, 2 * rows, 2 * columns) * deviation + mean
    made = [vae.decode(chunk.unsqueeze(2)).sample[:, :, 0] for chunk in torch.split(whole, 64)]
    return (torch.cat(made) * 127.5 + 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def found_by(judge: Judge, made: Tensor, trials: list[EditTrial]) -> str:
    """Say in a line what a judge finds in edited pictures, uint8 [N, H, W, 3], and how far off their products are."""
    verdict = judge.verdict(made).cpu()
    scenes = torch.tensor([attributes(trial.edit.target) for trial in trials])
    right = {name: verdict[:, at] == scenes[:, list(ATTRIBUTES).index(name)] for at, name in enumerate(JUDGED)}
    asked = {name: torch.tensor([name in trial.edit.asked for trial in trials]) for name in JUDGED}
    shares = [f"{name} {float(right[name][asked[name]].float().mean()):.3f}" for name in JUDGED if asked[name].any()]
    kept = [f"{name} {float(right[name][~asked[name]].float().mean()):.3f}" for name in JUDGED if not asked[name].all()]
    off = [
        float(np.abs(each.astype(int) - trial.target.picture)[trial.target.product[..., 3] > 128].mean())
        for each, trial in zip(made.cpu().numpy(), trials, strict=True)
    ]
    levels = f"products off by {np.mean(off):.2f} of 255 in the mean, {np.quantile(off, 0.95):.2f} for the worst 5 %"
    return f"asked for: {', '.join(shares)}; kept: {', '.join(kept)}; {levels}"
