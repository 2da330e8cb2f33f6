"""The layered training set: drawings in their parts, half of them with a fault, drawn once by all processor cores.

`DIR/layers/288x224/00003.npy` holds the parts of 64 drawings of one shape (uint8, [64, 3, height, width, 4]), the JSON
file beside it their captions. As with `models.miniature.datasets.drawings`, drawing goes on where it stopped.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.miniature.datasets.drawings import draw_parts, parts, save_part
from models.miniature.language.captions import caption
from models.miniature.language.names import Language
from models.miniature.world.world import FAULTS, Drawing, Scene, draw, random_scene

PART = 64  # drawings
# (width, height) to its share: what `models.requests.layers_size` makes of square pictures and of those of 5 : 4.
LAYERED_SHAPES: dict[tuple[int, int], float] = {(256, 256): 0.84, (288, 224): 0.08, (224, 288): 0.08}
CAPTIONS: tuple[Language, ...] = ("en", "en", "zh")  # of every drawing
FAULTY = 0.5  # of the drawings: a fault is the third layer
FRAMES = {2: (0, 1, 4), 3: (0, 1, 2, 3)}  # numbers of layers, and which of `frames` are then wanted


def layers_of(drawing: Drawing) -> NDArray[np.uint8]:
    """Return a drawing's background, product and overlay: uint8 [3, H, W, 4], straight alpha.

    Where a layer is clear it is zero throughout, as Pillow leaves pixels that it resized.
    """
    full = np.full((*drawing.background.shape[:2], 1), 255, np.uint8)
    layers = np.stack([np.concatenate([drawing.background, full], -1), drawing.product, drawing.overlay])
    layers[layers[..., 3] == 0] = 0
    return layers


def layered_scene(random: Random, width: int, height: int, *, faulty: bool, held_out: bool = False) -> Scene:
    """Pick a scene with a fault, or one without; `held_out` as in `random_scene`."""
    scene = random_scene(random, width=width, height=height, held_out=held_out)
    return replace(scene, fault=random.choice(FAULTS[1:]) if faulty else FAULTS[0])


def over(below: Tensor, above: Tensor) -> Tensor:
    """Lay uint8 [..., 4] over uint8 [..., 4], both with straight alpha; clear pixels come out as zeros."""
    cover, base = above[..., 3:].float() / 255, below[..., 3:].float() / 255
    base = base * (1 - cover)
    alpha = cover + base
    colour = (above[..., :3] * cover + below[..., :3] * base) / alpha.clamp(min=1e-6)
    return torch.cat([colour, 255 * alpha], -1).add_(0.5).clamp_(0, 255).byte()


def frames(layers: Tensor) -> Tensor:
    """Return all that a drawing can be taken apart into: uint8 [B, 3, H, W, 4] to uint8 [B, 5, H, W, 4].

    First the picture, then background, product, overlay, and last product and overlay in one.
    """
    background, product, overlay = layers.unbind(1)
    merged = over(product, overlay)
    return torch.stack([over(background, merged), background, product, overlay, merged], 1)


def unseen_drawings(count: int, seed: int, *, faulty: bool, width: int = 256, height: int = 256) -> list[Drawing]:
    """Draw pairs of kind and colour that training never sees, with a fault or without."""
    random = Random(f"unseen layers {faulty} {seed}")
    scenes = (layered_scene(random, width, height, faulty=faulty, held_out=True) for _ in range(count))
    return [draw(scene, random) for scene in scenes]


@dataclass(frozen=True)
class Layers:
    """All drawings of one shape in their parts, on the device that trains."""

    width: int
    height: int
    layers: Tensor  # uint8 [N, 3, height, width, 4]
    texts: list[list[str]]  # [N, captions]

    def __len__(self) -> int:
        return len(self.layers)


def draw_layers(folder: Path, width: int, height: int, number: int) -> None:
    """Draw one part from its own seed, unless it is there already."""
    path = folder / f"{width}x{height}" / f"{number:05d}.npy"
    if path.with_suffix(".json").exists():
        return
    random = Random(f"layers {width}x{height} {number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((PART, 3, height, width, 4), np.uint8)
    texts = []
    for index in range(PART):
        scene = layered_scene(random, width, height, faulty=random.random() < FAULTY)
        pixels[index] = layers_of(draw(scene, random))
        texts.append([caption(scene, random, language=language, split="train") for language in CAPTIONS])
    save_part(path, pixels, texts)


def draw_all_layers(folder: Path, drawings: int, processes: int) -> None:
    """Draw about `drawings` drawings with so many processes. Call it before CUDA is touched: the processes fork."""
    draw_parts(draw_layers, folder, parts(drawings, LAYERED_SHAPES, PART), processes)


def load_layers(folder: Path, device: torch.device) -> list[Layers]:
    """Read every shape that has been drawn.

    Raises:
        FileNotFoundError: if nothing has been drawn.
    """
    found = []
    for width, height in LAYERED_SHAPES:
        known = sorted((folder / f"{width}x{height}").glob("*.json"))
        if not known:
            continue
        # Read into its place: a copy of all that would take as much memory again.
        layers = torch.empty((len(known) * PART, 3, height, width, 4), dtype=torch.uint8, device=device)
        with ThreadPoolExecutor(8) as threads:
            texts = [row for part in threads.map(_read_part, known, torch.split(layers, PART)) for row in part]
        found.append(Layers(width, height, layers, texts))
    if not found:
        raise FileNotFoundError(f"{folder} holds no layers: run the stage layers first")
    return found


def _read_part(path: Path, place: Tensor) -> list[list[str]]:
    """Read one part's pixels into `place`, [PART, 3, H, W, 4]; returns its captions."""
    place.copy_(torch.from_numpy(np.load(path.with_suffix(".npy"))))
    texts: list[list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return texts
