"""How well the miniature takes pictures apart: python -m benchmarks.layers --pictures 48

Draws pictures of pairs of kind and colour that training never saw, of two parts (background, product) and of three (and
a banner, a watermark or a border), lets the shipped checkpoint decompose them without captions through the bulk engine,
and compares the layers with the parts. Says, too, what the default `min_layers_psnr` refuses of these layers, and of
drawings whose topmost part was lost. Prints a table and writes JSON.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.miniature import Row, report
from models.checkpoints.checkpoint import MINIATURE, Checkpoint, find_checkpoint, layers_defaults
from models.engines.decomposer import Decomposer
from models.miniature.networks.architecture import LayeredSampling
from models.miniature.training.matching import Puzzle, match, puzzles, solved
from safety.pictures.layers import composite, psnr
from safety.pictures.profile import Profile

HERE = Path(__file__).parent
SEED = 20  # of the drawings; those of the training's own figures have others
SQUARE = 8  # pixels a side of the checkerboard
SHOWN = 8  # pictures of each number of layers on the sheet


def sampling_of(checkpoint: Checkpoint) -> LayeredSampling:
    """The checkpoint's own settings."""
    own = layers_defaults(checkpoint)
    return LayeredSampling(own.layers, own.resolution, own.steps, own.guidance, own.cfg_normalize)


def measured(
    decomposer: Decomposer, posed: list[Puzzle], sampling: LayeredSampling
) -> tuple[list[Row], list[NDArray[np.uint8]]]:
    """The figures of puzzles of one shape and number of parts, and their layers."""
    parts, height, width = posed[0].parts.shape[:3]
    name = f"{parts} layers, {width} x {height}"
    solved(decomposer, posed[:1], sampling)  # so that nothing is timed that happens once
    began = time.perf_counter()
    found = solved(decomposer, posed, sampling)
    seconds = (time.perf_counter() - began) / len(posed)
    result = match(found, posed)
    rows = [
        Row(f"{name}: mean IoU of alpha", result.iou, ""),
        *(Row(f"{name}: IoU of layer {index}", each, "") for index, each in enumerate(result.by_layer)),
        Row(f"{name}: soft IoU of alpha", result.soft_iou, ""),
        Row(f"{name}: composed back", result.decibels, "dB"),
        Row(f"{name}: composed back, the worst", result.lowest, "dB"),
        Row(f"{name}: a picture, {decomposer.device}", seconds, "s"),
    ]
    return rows, found


def threshold(posed: list[Puzzle], found: list[NDArray[np.uint8]], least: float) -> list[Row]:
    """Of layers put together, how many are below the least PSNR: as they were made, and when the topmost is lost."""

    def refused(layers: list[NDArray[np.uint8]]) -> float:
        ratios = [psnr(puzzle.source, composite(each)) for puzzle, each in zip(posed, layers, strict=True)]
        return 100 * sum(ratio < least for ratio in ratios) / len(ratios)

    name = f"{len(found[0])} layers: below {least:g} dB"
    lost = "product" if len(found[0]) == 2 else "overlay"
    return [
        Row(f"{name}, as they were made", refused(found), "%"),
        Row(f"{name}, drawn parts without their {lost}", refused([puzzle.parts[:-1] for puzzle in posed]), "%"),
    ]


def over_checkerboard(layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a layer [H, W, 4] over grey squares: [H, W, 3]."""
    rows, columns = np.indices(layer.shape[:2]) // SQUARE
    board = np.where((rows + columns) % 2, 200, 240)[..., None]
    cover = layer[..., 3:] / 255
    return np.asarray(layer[..., :3] * cover + board * (1 - cover) + 0.5, np.uint8)


def sheet_of(posed: list[Puzzle], found: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """A row a picture: the source, the layers composed back, and each layer, filled up to `columns` tiles."""
    rows = []
    for puzzle, layers in zip(posed[:SHOWN], found, strict=False):
        tiles = [over_checkerboard(tile) for tile in (puzzle.source, composite(layers), *layers)]
        tiles += [np.full_like(tiles[0], 255)] * (columns - len(tiles))
        rows.append(np.concatenate(tiles, 1))
    return np.concatenate(rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=48, help="pictures of each number of layers")
    parser.add_argument("--weights", type=Path, default=MINIATURE, help="the folder that holds qwen-image-layered")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--steps", type=int, help="instead of the checkpoint's own")
    parser.add_argument("--shapes", action="store_true", help="measure pictures of 5 : 4 and 4 : 5, too")
    parser.add_argument("--sheet", type=Path, help="write sources, composites and layers as one PNG")
    parser.add_argument("--json", type=Path, default=HERE / "layers.json")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    folder = arguments.weights / "qwen-image-layered"
    checkpoint = find_checkpoint(str(folder), pipeline="QwenImageLayeredPipeline")
    sampling = sampling_of(checkpoint)
    sampling = replace(sampling, steps=arguments.steps or sampling.steps)
    decomposer = Decomposer.load(checkpoint, device=arguments.device, precision="float32")
    print(f"{sampling.steps} steps, guidance {sampling.guidance}, {decomposer.device}, {arguments.threads} threads")
    rows, sheets = [], []
    for width, height in [(256, 256), (288, 224), (224, 288)] if arguments.shapes else [(256, 256)]:
        for parts in (2, 3):
            posed = puzzles(arguments.pictures, parts, SEED, width=width, height=height)
            figures, found = measured(decomposer, posed, sampling)
            rows += figures
            if width == height:
                rows += threshold(posed, found, Profile(name="default").min_layers_psnr)
                sheets.append(sheet_of(posed, found, 5))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report([*rows, Row("weights", size / 2**20, "MiB")], arguments.json)
    if arguments.sheet:
        Image.fromarray(np.concatenate(sheets)).save(arguments.sheet)


if __name__ == "__main__":
    main()
