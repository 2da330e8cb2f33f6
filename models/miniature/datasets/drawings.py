"""The training set: drawings of random scenes with captions, drawn once by all processor cores and kept on disk.

`DIR/drawings/256x320/00003.npy` holds 256 pictures of one shape (uint8, [256, height, width, 3]), the JSON file beside
it their scenes and captions. A part is drawn from its own seed, so drawing goes on where it stopped.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.miniature.language import names as called
from models.miniature.language.captions import caption
from models.miniature.language.names import Language, Names
from models.miniature.world import world
from models.miniature.world.world import Scene, draw, random_scene

PART = 256  # pictures
SHAPES: dict[tuple[int, int], float] = {  # (width, height) to its share of all pictures
    (256, 256): 0.70,
    (320, 256): 0.11,
    (256, 320): 0.11,
    (192, 192): 0.05,
    (384, 384): 0.03,
}
CAPTIONS: tuple[Language, ...] = ("en", "en", "en", "en", "zh", "zh", "zh")  # of every picture
SMALL = 128  # pixels a side of the pictures that the judge and CLIP see

# Every attribute of a scene: the values it can take, and the words for them.
ATTRIBUTES: dict[str, tuple[tuple[str, ...], Names]] = {
    "kind": (world.KINDS, called.KIND_NAMES),
    "colour": (world.COLOURS, called.COLOUR_NAMES),
    "material": (world.MATERIALS, called.MATERIAL_NAMES),
    "pattern": (world.PATTERNS, called.PATTERN_NAMES),
    "background": (world.BACKGROUNDS, called.BACKGROUND_NAMES),
    "size": (world.SIZES, called.SIZE_NAMES),
    "position": (world.POSITIONS, called.POSITION_NAMES),
    "fault": (world.FAULTS, called.FAULT_NAMES),
}
UNSAID = -1


def attributes(scene: Scene) -> list[int]:
    """Return a scene as numbers: the index of its value for every one of `ATTRIBUTES`."""
    return [values.index(getattr(scene, name)) for name, (values, _) in ATTRIBUTES.items()]


def said(text: str, scene: Scene, language: Language) -> list[int]:
    """Return what a caption of `scene` says of it: as `attributes`, with `UNSAID` for what it leaves out."""
    text = text.lower()
    found = attributes(scene)
    for index, (name, (_, names)) in enumerate(ATTRIBUTES.items()):
        words = names.get(getattr(scene, name), {"en": (), "zh": ()})[language]
        # A fault's words may hold a field for a colour: what is fixed in them is enough to know them by.
        if not any(max(word.lower().split("{colour}"), key=len).strip() in text for word in words):
            found[index] = UNSAID
    return found


@dataclass(frozen=True)
class Part:
    """Pictures of one shape with what is known of them."""

    pictures: NDArray[np.uint8]  # [PART, height, width, 3]
    scenes: NDArray[np.int16]  # [PART, attributes]
    texts: list[list[str]]  # [PART, captions]
    said: NDArray[np.int16]  # [PART, captions, attributes]
    held_out: NDArray[np.bool_]  # [PART]: pairs of kind and colour that only the judge learns from


def parts(
    pictures: int, shapes: Mapping[tuple[int, int], float] = SHAPES, size: int = PART
) -> list[tuple[int, int, int]]:
    """Return the (width, height, number) of all parts, each of `size` pictures, that make up about `pictures`
    pictures.
    """
    return [
        (width, height, number)
        for (width, height), share in shapes.items()
        for number in range(max(1, round(pictures * share / size)))
    ]


def draw_part(folder: Path, width: int, height: int, number: int) -> None:
    """Draw one part from its own seed, unless it is there already."""
    path = folder / f"{width}x{height}" / f"{number:05d}.npy"
    if path.with_suffix(".json").exists():
        return
    random = Random(f"part {width}x{height} {number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.empty((PART, height, width, 3), np.uint8)
    rows = []
    for index in range(PART):
        scene = random_scene(random, width=width, height=height, held_out=None)
        pictures[index] = draw(scene, random).picture
        texts = [caption(scene, random, language=language, split="train") for language in CAPTIONS]
        rows.append(
            {
                "scene": attributes(scene),
                "texts": texts,
                "said": [said(text, scene, language) for text, language in zip(texts, CAPTIONS, strict=True)],
                "held_out": world.held_out(scene.kind, scene.colour),
            }
        )
    save_part(path, pictures, rows)


def save_part(path: Path, pixels: NDArray[np.uint8], rows: list[Any]) -> None:
    """Write a part's pixels to `path`, then what is known of them beside it: with that the part counts as drawn."""
    np.save(path, pixels)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    partial.replace(path.with_suffix(".json"))


def draw_all(folder: Path, pictures: int, processes: int) -> None:
    """Draw about `pictures` pictures with so many processes. Call it before CUDA is touched: the processes fork."""
    draw_parts(draw_part, folder, parts(pictures), processes)


def draw_parts(
    draw_one: Callable[[Path, int, int, int], None],
    folder: Path,
    wanted: Iterable[tuple[int, int, int]],
    processes: int,
) -> None:
    """Call `draw_one` with `folder` and each part, in so many processes; they fork."""
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        for waiting in [pool.submit(draw_one, folder, *part) for part in wanted]:
            waiting.result()


def read_parts(folder: Path, width: int, height: int) -> Iterator[Part]:
    """Read the parts of one shape, in order."""
    for path in sorted((folder / f"{width}x{height}").glob("*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        yield Part(
            pictures=np.load(path.with_suffix(".npy")),
            scenes=np.array([row["scene"] for row in rows], np.int16),
            texts=[row["texts"] for row in rows],
            said=np.array([row["said"] for row in rows], np.int16),
            held_out=np.array([row["held_out"] for row in rows], np.bool_),
        )


@dataclass(frozen=True)
class Caption:
    """A caption and what it says, as `attributes`."""

    text: str
    said: list[int]


def random_captions(count: int, processes: int) -> list[Caption]:
    """Make captions of scenes that nobody draws, held-out pairs left out, in the languages of `CAPTIONS`.

    Call it before CUDA is touched: the processes fork.
    """
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        return [each for part in pool.map(_captions_part, range(-(-count // PART))) for each in part]


def _captions_part(number: int) -> list[Caption]:
    random = Random(f"captions {number}")
    made = []
    for index in range(PART):
        scene, language = random_scene(random), CAPTIONS[index % len(CAPTIONS)]
        text = caption(scene, random, language=language)
        made.append(Caption(text, said(text, scene, language)))
    return made


@dataclass(frozen=True)
class Drawings:
    """All pictures of one shape, on the device that trains."""

    width: int
    height: int
    pictures: Tensor  # uint8 [N, height, width, 3]
    small: Tensor  # uint8 [N, SMALL, SMALL, 3]: the same pictures, squashed
    scenes: Tensor  # int16 [N, attributes]
    texts: list[list[str]]  # [N, captions]
    said: Tensor  # int16 [N, captions, attributes]
    held_out: Tensor  # bool [N]

    def __len__(self) -> int:
        return len(self.pictures)


def load(folder: Path, device: torch.device) -> list[Drawings]:
    """Read every shape that has been drawn.

    Raises:
        FileNotFoundError: if nothing has been drawn.
    """
    found = []
    for width, height in SHAPES:
        read = list(read_parts(folder, width, height))
        if not read:
            continue
        pictures = torch.cat([torch.from_numpy(part.pictures).to(device) for part in read])
        found.append(
            Drawings(
                width=width,
                height=height,
                pictures=pictures,
                small=torch.cat([squashed(chunk) for chunk in torch.split(pictures, PART)]),
                scenes=torch.from_numpy(np.concatenate([part.scenes for part in read])).to(device),
                texts=[row for part in read for row in part.texts],
                said=torch.from_numpy(np.concatenate([part.said for part in read])).to(device),
                held_out=torch.from_numpy(np.concatenate([part.held_out for part in read])).to(device),
            )
        )
    if not found:
        raise FileNotFoundError(f"{folder} holds no drawings: run the stage draw first")
    return found


def signed(pictures: Tensor) -> Tensor:
    """Turn pictures from uint8 [N, H, W, C] to floats -1 to 1 [N, C, H, W], as the VAE takes them."""
    return pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def squashed(pictures: Tensor) -> Tensor:
    """Shrink or stretch uint8 [N, H, W, 3] to uint8 [N, SMALL, SMALL, 3], smoothly."""
    small = functional.interpolate(pictures.permute(0, 3, 1, 2).float(), (SMALL, SMALL), mode="bicubic", antialias=True)
    return small.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()
