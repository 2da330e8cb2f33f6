"""The training set of edits: products as they may look, and what can be asked for between their looks.

`DIR/pairs/288x224/00003.npy` holds 32 products of one shape, each in five scenes (uint8, [32, 5, height, width, 3]),
the JSON file beside it the scenes and the instructions, some of which speak of a picture of another product in the same
file. As with `models.miniature.datasets.drawings`, drawing goes on where it stopped.
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
from models.miniature.language.instructions import instruction, referring_instruction
from models.miniature.language.names import Language
from models.miniature.world.edits import ASKABLE, Edit, edits_among, random_states, unnamed_states
from models.miniature.world.world import Alteration, Scene, draw_alike

PART = 32  # products
STATES = 1 + len(ASKABLE)  # scenes of a product
UNNAMED = 0.5  # of the products: those of a colour that has no name
# (width, height) to its share: what the pipeline makes of square pictures and of those of 5 : 4, at 256² of area.
EDIT_SHAPES: dict[tuple[int, int], float] = {(256, 256): 0.84, (288, 224): 0.08, (224, 288): 0.08}
LANGUAGES: tuple[Language, ...] = ("en", "zh")  # of the instructions for every edit

Asked = tuple[tuple[int, ...], int, str]  # the numbers of pictures that are shown, of the one asked for, and a text


@dataclass(frozen=True)
class Instructions:
    """What is asked for of pictures, all with the same number of pictures."""

    texts: list[str]
    shown: Tensor  # int64 [instructions, pictures]: the picture that each is for, and then those beside it
    targets: Tensor  # int64 [instructions]: the picture that it asks for


@dataclass(frozen=True)
class Pairs:
    """All products of one shape, on the device that trains."""

    width: int
    height: int
    pictures: Tensor  # uint8 [N, height, width, 3]: `STATES` of a product follow one another
    scenes: Tensor  # int16 [N, attributes]
    asked: list[Instructions]  # with one picture, and where any are drawn, with two


def draw_pairs(folder: Path, width: int, height: int, number: int) -> None:
    """Draw one part from its own seed, unless it is there already."""
    path = folder / f"{width}x{height}" / f"{number:05d}.npy"
    if path.with_suffix(".json").exists():
        return
    random = Random(f"pairs {width}x{height} {number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.empty((PART, STATES, height, width, 3), np.uint8)
    rows: list[dict[str, Any]] = []
    products = []
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
        products.append(states)
    if width == height:  # other shapes are too rare to learn it from
        for product, row in enumerate(rows):
            row["referring"] = _referring(products, product, row["edits"], random)
    save_part(path, pictures, rows)


def _referring(
    products: list[list[Scene]], product: int, edits: list[tuple[int, int, str]], random: Random
) -> list[tuple[int, int, int, str]]:
    """Ask for edits of a product with a picture of another one beside it.

    They ask for the background of the second picture, in each language: for its kind, since light and grain are the
    product's own. Two more are of the product's other edits, for which the second picture is irrelevant.

    Returns:
        source, picture beside it, target and text, by the numbers of pictures in the part.
    """
    states, first = products[product], product * STATES
    others = [
        (number * STATES + at, scene)
        for number, scenes in enumerate(products)
        for at, scene in enumerate(scenes)
        if number != product and scene.fault == "none"
    ]
    told = []
    for source, target in ((0, 1), (1, 0)):
        edit = Edit(states[source], states[target])
        beside = [at for at, scene in others if scene.background == edit.target.background]
        if beside:
            texts = [referring_instruction(edit, random, language=language) for language in LANGUAGES]
            told += [(first + source, random.choice(beside), first + target, text) for text in texts]
    plain = random.sample(edits, len(LANGUAGES))
    return told + [(first + source, random.choice(others)[0], first + target, text) for source, target, text in plain]


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
        alone: list[Asked] = [
            ((product * STATES + source,), product * STATES + target, text)
            for product, row in enumerate(rows)
            for source, target, text in row["edits"]
        ]
        beside: list[Asked] = [
            ((start + source, start + other), start + target, text)
            for start in range(0, len(rows) * STATES, PART * STATES)
            for row in rows[start // STATES : start // STATES + PART]
            for source, other, target, text in (row["referring"] if width == height else ())
        ]
        scenes = np.array([scene for row in rows for scene in row["scenes"]], np.int16)
        found.append(
            Pairs(
                width=width,
                height=height,
                pictures=pictures,
                scenes=torch.from_numpy(scenes).to(device),
                asked=[_instructions(each, device) for each in (alone, beside) if each],
            )
        )
    if not found:
        raise FileNotFoundError(f"{folder} holds no pairs: run the stage pairs first")
    return found


def _instructions(asked: list[Asked], device: torch.device) -> Instructions:
    shown, targets, texts = zip(*asked, strict=True)
    return Instructions(list(texts), torch.tensor(shown, device=device), torch.tensor(targets, device=device))


def _read_part(path: Path, place: Tensor) -> list[Any]:
    """Read one part's pictures into `place`, [PART * STATES, H, W, 3]; returns what is known of its products."""
    place.copy_(torch.from_numpy(np.load(path.with_suffix(".npy"))).flatten(0, 1))
    rows: list[Any] = json.loads(path.read_text(encoding="utf-8"))
    return rows
