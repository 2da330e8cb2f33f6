"""How well a picture is taken apart: its layers beside the parts that it was drawn from."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage
from numpy.typing import NDArray
from transformers import Qwen2Tokenizer

from models.architectures.architecture_registry import architecture_of, rules_of
from models.engines.decomposer import Decomposer
from models.loading.components import Components
from models.loading.placement import RESIDENT
from models.miniature.datasets.layered_drawings import layers_of, over, unseen_drawings
from models.miniature.networks.architecture import LayeredSampling
from models.miniature.training.denoiser import Denoiser
from models.miniature.training.export import layered_pipeline_of
from models.pipelines import LAYERED
from models.requests import LayersRequest, layers_shape

OPAQUE = 128  # of 255: from here on a pixel belongs to a layer


@dataclass(frozen=True)
class Puzzle:
    """A drawing of a pair of kind and colour that training never saw, and its parts; all uint8."""

    source: NDArray[np.uint8]  # [H, W, 4]
    parts: NDArray[np.uint8]  # [2 or 3, H, W, 4], bottom to top, straight alpha


@dataclass(frozen=True)
class Match:
    """What became of the puzzles of one number of parts."""

    iou: float  # mean over all layers of the intersection of alphas over their union, both cut at a half
    soft_iou: float  # the same of alphas as they are: the sum of the lesser over the sum of the greater
    decibels: float  # mean PSNR of the layers composed back against the source
    lowest: float  # the least of these PSNRs
    by_layer: tuple[float, ...]  # `iou` of each layer, bottom to top

    def __str__(self) -> str:
        each = ", ".join(f"{value:.3f}" for value in self.by_layer)
        return f"IoU {self.iou:.3f} ({each}), soft {self.soft_iou:.3f}, composed back {self.decibels:.1f} dB"


def puzzles(count: int, parts: int, seed: int, *, width: int = 256, height: int = 256) -> list[Puzzle]:
    """Draw puzzles of two parts, background and product, or of three, with the overlay of a fault."""
    drawings = unseen_drawings(count, seed, faulty=parts == 3, width=width, height=height)
    opaque = np.full((height, width, 1), 255, np.uint8)
    return [Puzzle(np.concatenate([each.picture, opaque], -1), layers_of(each)[:parts]) for each in drawings]


def solved(decomposer: Decomposer, posed: list[Puzzle], sampling: LayeredSampling) -> list[NDArray[np.uint8]]:
    """Take puzzles of one shape and number of parts apart, without captions: uint8 [parts, H, W, 4] of each.

    Raises:
        RuntimeError: if one fails.
    """
    parts, height, width = posed[0].parts.shape[:3]
    shape = layers_shape(
        width,
        height,
        multiple=decomposer.size_multiple,
        resolution=sampling.resolution,
        layers=parts,
        steps=sampling.steps,
        guidance=sampling.guidance,
        cfg_normalize=sampling.cfg_normalize,
    )
    requests = [LayersRequest(puzzle.source, "", " ", seed, shape) for seed, puzzle in enumerate(posed)]
    made = {picture.index: picture for batch in decomposer.decompose(requests) for picture in batch}
    found = [made[index].pixels for index in range(len(requests))]
    if any(pixels is None for pixels in found):
        raise RuntimeError(f"a picture could not be taken apart: {[each.failure for each in made.values()]}")
    return [pixels for pixels in found if pixels is not None]


def match(found: list[NDArray[np.uint8]], posed: list[Puzzle]) -> Match:
    """Compare layers with the parts that they should be. Two clear layers match."""
    rows, soft, ratios = [], [], []
    for layers, puzzle in zip(found, posed, strict=True):
        made, meant = layers[..., 3].astype(np.float64), puzzle.parts[..., 3].astype(np.float64)
        rows.append(_overlap(made >= OPAQUE, meant >= OPAQUE))
        soft.append(_overlap(made, meant))
        again = composed(layers)[..., :3].astype(np.float64)
        error = np.square(again - puzzle.source[..., :3]).mean()
        ratios.append(10 * np.log10(255**2 / max(error, 1e-3)))
    by_layer = np.mean(rows, axis=0)
    return Match(
        iou=float(by_layer.mean()),
        soft_iou=float(np.mean(soft)),
        decibels=float(np.mean(ratios)),
        lowest=float(min(ratios)),
        by_layer=tuple(float(each) for each in by_layer),
    )


def composed(layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay layers [L, H, W, 4] over one another, from the first up: [H, W, 4]."""
    whole = torch.from_numpy(layers[0])
    for layer in layers[1:]:
        whole = over(whole, torch.from_numpy(layer))
    return whole.numpy()


def _overlap(made: NDArray[np.generic], meant: NDArray[np.generic]) -> NDArray[np.float64]:
    """Intersection over union of each layer's alpha, [L, H, W] to [L]."""
    union = np.maximum(made, meant).sum((1, 2))
    shared = np.minimum(made, meant).sum((1, 2))
    return np.where(union > 0, shared / np.maximum(union, 1e-9), 1.0)


def decomposer_of(
    vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer, batch: int | None = None
) -> Decomposer:
    """Return the bulk engine around parts in training, the VAE reduced to single frames; nothing is copied."""
    stock = layered_pipeline_of(vae, denoiser, tokenizer)
    return Decomposer(
        Components(
            tokenizer=tokenizer,
            text_encoder=denoiser.text_encoder.model.language_model,
            transformer=denoiser.transformer,
            vae=vae,
            scheduler=stock.scheduler,
            architecture=architecture_of(LAYERED.name),
            rules=rules_of(LAYERED.name),
            device=vae.device,
            dtype=torch.float32,
            placement=RESIDENT,
        ),
        batch=batch,
    )
