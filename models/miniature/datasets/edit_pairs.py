"""The training set of edits: products as they may look, and what can be asked for between their looks.

`DIR/pairs/288x224/00003.npy` holds 32 products of one shape, each in five scenes (uint8, [32, 5, height, width, 3]),
the JSON file beside it the scenes and the instructions. As with `models.miniature.datasets.drawings`, drawing goes on
where it stopped.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.miniature.datasets.drawings import attributes, draw_parts, parts, save_part
from models.miniature.language.instructions import instruction
from models.miniature.language.names import Language
from models.miniature.world.edits import ASKABLE, Edit, edits_among, random_states, unnamed_states
from models.miniature.world.world import Alteration, draw_alike

PART = 32  # products
STATES = 1 + len(ASKABLE)  # scenes of a product
UNNAMED = 0.5  # of the products: those of a colour that has no name
# (width, height) to its share: what the pipeline makes of square pictures and of those of 5 : 4, at 256² of area.
EDIT_SHAPES: dict[tuple[int, int], float] = {(256, 256): 0.84, (288, 224): 0.08, (224, 288): 0.08}
LANGUAGES: tuple[Language, ...] = ("en", "zh")  # of the instructions for every edit


@dataclass(frozen=True)
class Pairs:
    """All products of one shape, on the device that trains."""

    width: int
    height: int
    pictures: Tensor  # uint8 [N, height, width, 3]: `STATES` of a product follow one another
    scenes: Tensor  # int16 [N, attributes]
    texts: list[str]  # instructions
    sources: Tensor  # int64 [instructions]: the picture that each is for
    targets: Tensor  # int64 [instructions]: the picture that it asks for


def draw_pairs(folder: Path, width: int, height: int, number: int) -> None:
    """Draw one part from its own seed, unless it is there already."""
    path = folder / f"{width}x{height}" / f"{number:05d}.npy"
    if path.with_suffix(".json").exists():
        return
    random = Random(f"pairs {width}x{height} {number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.empty((PART, STATES, height, width, 3), np.uint8)
    rows = []
    for index in range(PART):
        states, alteration = random_states(random, width, height), Alteration()
        if random.random() < UNNAMED:
            states, alteration = unnamed_states(random, width, height)
        for at, drawing in enumerate(draw_alike(states, random, [alteration] * STATES)):
            pictures[index, at] = drawing.picture
        edits = [
            (source, target, instruction(Edit(states[source], states[target]), random, language=language))
            for source, target in edits_among(states, random)
            for language in LANGUAGES
        ]
        rows.append({"scenes": [attributes(scene) for scene in states], "edits": edits})
    save_part(path, pictures, rows)


def draw_all_pairs(folder: Path, products: int, processes: int) -> None:
    """Draw about so many products with so many processes. Call it before CUDA is touched: the processes fork."""
    draw_parts(draw_pairs, folder, parts(products, EDIT_SHAPES, PART), processes)


def load_pairs(folder: Path, device: torch.device) -> list[Pairs]:
    """Read every shape that has been drawn.

    Raises:
        FileNotFoundError: if nothing has been drawn.
    """
    found = []
    for width, height in EDIT_SHAPES:
        known = sorted((folder / f"{width}x{height}").glob("*.json"))
        if not known:
            continue
        pictures = torch.empty((len(known) * PART * STATES, height, width, 3), dtype=torch.uint8, device=device)
        with ThreadPoolExecutor(8) as threads:
            read = threads.map(_read_part, known, torch.split(pictures, PART * STATES))
            rows = [row for part in read for row in part]
        edits = [
            (product * STATES + source, product * STATES + target, text)
            for product, row in enumerate(rows)
            for source, target, text in row["edits"]
        ]
        sources, targets, texts = zip(*edits, strict=True)
        scenes = np.array([scene for row in rows for scene in row["scenes"]], np.int16)
        found.append(
            Pairs(
                width=width,
                height=height,
                pictures=pictures,
                scenes=torch.from_numpy(scenes).to(device),
                texts=list(texts),
                sources=torch.tensor(sources, device=device),
                targets=torch.tensor(targets, device=device),
            )
        )
    if not found:
        raise FileNotFoundError(f"{folder} holds no pairs: run the stage pairs first")
    return found


def _read_part(path: Path, place: Tensor) -> list[Any]:
    """Read one part's pictures into `place`, [PART * STATES, H, W, 3]; returns what is known of its products."""
    place.copy_(torch.from_numpy(np.load(path.with_suffix(".npy"))).flatten(0, 1))
    rows: list[Any] = json.loads(path.read_text(encoding="utf-8"))
    return rows
