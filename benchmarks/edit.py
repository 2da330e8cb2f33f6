"""How well an edit miniature edits: python -m benchmarks.edit --weights DIR --pictures 96

Asks the checkpoint that `models.miniature.train` made for edits of pairs of kind and colour that training never saw, in
words that it never saw; a few of them with a second picture, whose background is asked for. Whether the asked change is
there says the judge (`benchmarks/judge.safetensors`, trained on drawings alone), and of patterns, how they are drawn.
Whether the product is the same says what the shipped layered miniature takes out of the result: it must lie where the
source's product lies (IoU), or where the miniature sees it in the drawn target, for of a white bowl on white it finds a
part alone; and what the edit should have kept of it must look the same (CIEDE2000, of colours over 4 x 4 pixels, as the
formula is for patches). The same measures are taken of the drawn targets, as they are and encoded and decoded, which
bounds what can be reached, and of results that are wrong.
Prints a table and writes JSON. It needs scikit-image.
"""

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Self

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage, QwenImageEditPlusPipeline
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.color import deltaE_ciede2000, rgb2lab
from transformers import Qwen2Tokenizer

from benchmarks.miniature import Row, report
from benchmarks.patterns import pattern_of
from models.architectures.qwen_image.single_frame import single_frame
from models.checkpoints.checkpoint import find_checkpoint
from models.engines.decomposer import Decomposer
from models.files.safetensors_files import read_json
from models.miniature.datasets.drawings import ATTRIBUTES, attributes
from models.miniature.language.names import Language
from models.miniature.networks.architecture import EditSampling
from models.miniature.training.denoiser import Denoiser
from models.miniature.training.edit_trials import EditTrial, coded, edit_trials, edited, pixels_of, referring_trials
from models.miniature.training.judge import JUDGED, Judge, load_judge
from models.miniature.world.edits import ASKABLE, WRONGS, unseen_edit, wrong_result
from models.miniature.world.world import PIGMENTS, Drawing
from models.requests import LayersRequest, layers_shape

HERE = Path(__file__).parent
OPAQUE = 128  # of 255: from here on a pixel is the product's
CELL = 4  # pixels a side, over which colours are averaged
LEAST_IOU, MOST_DIFFERENCE = 0.9, 6.0
SAME = 2  # of 255: nearer pixels of source and target are to be kept
NEAR = 12  # pixels: nearer to what an edit changes of a product, what is the same may lie between stripes
LEAST_KEPT = 0.1  # of a product: of less, such as a buckle, the VAE's blur is all that would be measured


@dataclass(frozen=True)
class Finding:
    """What one result is like."""

    there: bool  # whether the asked change is there
    iou: float  # of the product in the result and in the source, or in the drawn target where that is more
    difference: float | None  # CIEDE2000 of what was to be kept of the product; None where nothing was
    pixel_difference: float | None  # the same, pixel by pixel

    @property
    def same(self) -> bool:
        """Whether the product is the same."""
        return self.iou >= LEAST_IOU and (self.difference is None or self.difference <= MOST_DIFFERENCE)


@dataclass(frozen=True)
class Editor:
    """An edit miniature."""

    vae: AutoencoderKLQwenImage
    denoiser: Denoiser
    tokenizer: Qwen2Tokenizer
    sampling: EditSampling
    batch: int  # pictures at a time

    @classmethod
    def load(cls, folder: Path, device: torch.device, batch: int) -> Self:
        """Open the checkpoint in a folder, with its own sampling."""
        pipeline = QwenImageEditPlusPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
        sampling = EditSampling(**read_json(folder / "sampling_config.json"))
        denoiser = Denoiser(pipeline.text_encoder, pipeline.transformer)
        return cls(single_frame(pipeline.vae), denoiser, pipeline.tokenizer, sampling, batch)

    def results(self, trials: Sequence[EditTrial]) -> list[NDArray[np.uint8]]:
        """Edit the sources of trials of one shape and with the same number of pictures, each uint8 [H, W, 3]."""
        made = []
        for start in range(0, len(trials), self.batch):
            some = trials[start : start + self.batch]
            shown, _ = pixels_of(some, next(self.denoiser.transformer.parameters()).device)
            texts = [each.instruction for each in some]
            made.append(edited(self.vae, self.denoiser, self.tokenizer, shown, texts, self.sampling))
        return list(torch.cat(made).cpu().numpy())


class Eye:
    """What looks at results: the judge and the layered miniature."""

    def __init__(self, judge: Path, layered: str, device: str) -> None:
        """Open both."""
        self.judge: Judge = load_judge(judge, torch.device(device))
        checkpoint = find_checkpoint(layered, pipeline="QwenImageLayeredPipeline")
        self.decomposer = Decomposer.load(checkpoint, device=device, precision="float32")

    def products(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.bool_]]:
        """Where the product is in each of the pictures, uint8 [H, W, 3] of one shape: [H, W]."""
        height, width = pictures[0].shape[:2]
        shape = layers_shape(
            width,
            height,
            multiple=self.decomposer.size_multiple,
            resolution=256,
            layers=2,
            steps=5,
            guidance=1.0,
            cfg_normalize=True,
        )
        opaque = np.full((height, width, 1), 255, np.uint8)
        requests = [
            LayersRequest(np.concatenate([each, opaque], -1), "", " ", seed, shape)
            for seed, each in enumerate(pictures)
        ]
        made = {layers.index: layers.pixels for batch in self.decomposer.decompose(requests) for layers in batch}
        return [made[index][1, ..., 3] >= OPAQUE for index in range(len(requests))]  # type: ignore[index]

    def findings(self, made: Sequence[NDArray[np.uint8]], trials: Sequence[EditTrial]) -> list[Finding]:
        """What results of trials of one shape, each uint8 [H, W, 3], are like."""
        verdict = self.judge.verdict(torch.from_numpy(np.stack(made)).to(next(self.judge.parameters()).device)).cpu()
        columns, places = list(ATTRIBUTES), self.products(made)
        overlaps = self.overlaps(places, [trial.target for trial in trials])
        found = []
        for trial, picture, iou, said in zip(trials, made, overlaps, verdict.tolist(), strict=True):
            scene, (asked,) = attributes(trial.edit.target), trial.edit.asked
            if asked == "pattern":
                there = (
                    pattern_of(picture, trial.plain, PIGMENTS[trial.edit.target.colour]) == trial.edit.target.pattern
                )
            else:
                there = said[JUDGED.index(asked)] == scene[columns.index(asked)]
            found.append(Finding(there, iou, *kept_difference(picture, trial.source, trial.target)))
        return found

    def overlaps(self, masks: Sequence[NDArray[np.bool_]], drawings: Sequence[Drawing]) -> list[float]:
        """How well masks of products fit drawings of them (IoU): the products themselves, or what is found of them.

        Some products can't be told from their backgrounds, such as white ones on white, whoever made the picture.
        """
        found = [overlap(mask, each.product[..., 3] >= OPAQUE) for mask, each in zip(masks, drawings, strict=True)]
        if short := [at for at, share in enumerate(found) if share < LEAST_IOU]:
            for at, seen in zip(short, self.products([drawings[at].picture for at in short]), strict=True):
                found[at] = max(found[at], overlap(masks[at], seen))
        return found


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def kept_difference(picture: NDArray[np.uint8], source: Drawing, target: Drawing) -> tuple[float | None, float | None]:
    """How different a result is in what an edit should have kept of the product: mean CIEDE2000 by cells, by pixels."""
    shown = (source.product[..., 3] == 255) & (source.overlay[..., 3] == 0)
    changed = np.abs(source.picture.astype(int) - target.picture).max(-1) > SAME
    kept = shown & ~binary_dilation(changed & shown, iterations=NEAR)
    cells = averaged(kept[..., None].astype(float))[..., 0] == 1
    if kept.sum() < LEAST_KEPT * shown.sum() or not cells.any():
        return None, None
    by_cell = deltaE_ciede2000(rgb2lab(averaged(picture / 255)), rgb2lab(averaged(source.picture / 255)))
    by_pixel = deltaE_ciede2000(rgb2lab(picture), rgb2lab(source.picture))
    return float(by_cell[cells].mean()), float(by_pixel[kept].mean())


def averaged(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average [H, W, C] over cells: [H / CELL, W / CELL, C]."""
    height, width, channels = pixels.shape
    cells = pixels.reshape(height // CELL, CELL, width // CELL, CELL, channels).mean((1, 3))
    return np.asarray(cells, np.float64)


def rows_of(name: str, findings: Sequence[Finding], trials: Sequence[EditTrial]) -> list[Row]:
    """The figures of results: all of them, and those of each thing that was asked for."""

    def share(values: Sequence[bool]) -> float:
        return 100 * sum(values) / len(values)

    rows = []
    attributes = {attribute for trial in trials for attribute in trial.edit.asked}
    for asked in ("", *ASKABLE) if len(attributes) > 1 else ("",):
        some = [each for each, trial in zip(findings, trials, strict=True) if asked in ("", *trial.edit.asked)]
        label = f"{name}: {asked or 'all'}"
        rows += [
            Row(f"{label}: what was asked for is there", share([each.there for each in some]), "%"),
            Row(f"{label}: the product is the same", share([each.same for each in some]), "%"),
            Row(f"{label}: both", share([each.there and each.same for each in some]), "%"),
        ]
    differences = [each.difference for each in findings if each.difference is not None]
    by_pixel = [each.pixel_difference for each in findings if each.pixel_difference is not None]
    return [
        *rows,
        Row(f"{name}: IoU, mean", float(np.mean([each.iou for each in findings])), ""),
        Row(f"{name}: IoU, the worst 5 % below", float(np.quantile([each.iou for each in findings], 0.05)), ""),
        Row(f"{name}: CIEDE2000 over 4 x 4 pixels, mean", float(np.mean(differences)), ""),
        Row(f"{name}: CIEDE2000 over 4 x 4 pixels, the worst 5 % above", float(np.quantile(differences, 0.95)), ""),
        Row(f"{name}: CIEDE2000 pixel by pixel, mean", float(np.mean(by_pixel)), ""),
    ]


def wrong_rows(eye: Eye, count: int) -> list[Row]:
    """How many results that are wrong these measures tell: drawn ones, without any model."""
    random = Random("wrong results")
    rows = []
    for wrong in WRONGS:
        drawn: list[tuple[Drawing, Drawing]] = []
        while len(drawn) < count:
            edit = unseen_edit(random, random.choice(("background", "fault")))
            if edit.source.size != "large":
                drawn.append(wrong_result(edit, wrong, random))
        before, after = zip(*drawn, strict=True)
        overlaps = eye.overlaps(eye.products([each.picture for each in after]), before)
        told = 0
        for source, result, iou in zip(before, after, overlaps, strict=True):
            difference, _ = kept_difference(result.picture, source, source)
            told += iou < LEAST_IOU or (difference is not None and difference > MOST_DIFFERENCE)
        rows.append(Row(f"wrong results told by these measures: {wrong}", 100 * told / count, "%"))
    return rows


def sheet_of(
    trials: Sequence[EditTrial], made: Sequence[NDArray[np.uint8]], findings: Sequence[Finding]
) -> NDArray[np.uint8]:
    """Three edits a row, each its pictures, its result and the drawn target; a mark over results that fall short."""
    tiles = []
    for trial, picture, finding in zip(trials, made, findings, strict=True):
        shown = picture.copy()
        if not finding.there:
            shown[:8, : shown.shape[1] // 2] = (255, 0, 0)
        if not finding.same:
            shown[:8, shown.shape[1] // 2 :] = (0, 0, 255)
        beside = [] if trial.beside is None else [trial.beside.picture]
        tiles.append(np.concatenate([trial.source.picture, *beside, shown, trial.target.picture], 1))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 3)
    return np.concatenate([np.concatenate(tiles[at : at + 3], 1) for at in range(0, len(tiles), 3)])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pictures",
        type=int,
        default=96,
        help="edits in English; half as many in Chinese, a quarter more with a second picture",
    )
    parser.add_argument("--weights", type=Path, required=True, help="the folder that holds qwen-image-edit")
    parser.add_argument("--layered", default="miniature", help="the checkpoint that takes results apart")
    parser.add_argument("--judge", type=Path, default=HERE / "judge.safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=20, help="of the trials; those of training's own figures have 1")
    parser.add_argument("--steps", type=int, help="instead of the checkpoint's own")
    parser.add_argument("--guidance", type=float, help="instead of the checkpoint's own")
    parser.add_argument("--shapes", action="store_true", help="measure pictures of 5 : 4 and 4 : 5, too")
    parser.add_argument("--bare", action="store_true", help="neither the drawn targets nor wrong results")
    parser.add_argument(
        "--sheet", type=Path, help="write sources, results and targets of each case as one PNG, and the instructions"
    )
    parser.add_argument("--json", type=Path, default=HERE / "edit.json")
    arguments = parser.parse_args()

    folder, device = arguments.weights / "qwen-image-edit", torch.device(arguments.device)
    editor = Editor.load(folder, device, arguments.batch)
    own = editor.sampling
    sampling = replace(own, steps=arguments.steps or own.steps, guidance=arguments.guidance or own.guidance)
    editor = replace(editor, sampling=sampling)
    eye = Eye(arguments.judge, arguments.layered, arguments.device)
    print(f"{sampling.steps} steps, guidance {sampling.guidance}, {device}")

    rows: list[Row] = []
    cases: list[tuple[str, list[EditTrial]]] = []
    languages: tuple[tuple[str, Language, int], ...] = (
        ("English", "en", arguments.pictures),
        ("Chinese", "zh", max(4, arguments.pictures // 2)),
    )
    for name, language, count in languages:
        cases.append((name, edit_trials(count, language, arguments.seed)))
    for name, language, count in languages:
        trials = referring_trials(max(4, count // 4), language, arguments.seed)
        cases.append((f"{name}, the background of a second picture", trials))
    if arguments.shapes:
        for width, height in ((288, 224), (224, 288)):
            trials = edit_trials(max(4, arguments.pictures // 4), "en", arguments.seed, width=width, height=height)
            cases.append((f"{width} x {height}", trials))
    for name, trials in cases:
        editor.results(trials[:1])  # so that nothing is timed that happens once
        began = time.perf_counter()
        made = editor.results(trials)
        seconds = (time.perf_counter() - began) / len(trials)
        findings = eye.findings(made, trials)
        rows += [*rows_of(name, findings, trials), Row(f"{name}: a picture, {device}", seconds, "s")]
        if not arguments.bare and name == "English":
            drawn = eye.findings([trial.target.picture for trial in trials], trials)
            rows += rows_of("drawn targets", drawn, trials)
            _, targets = pixels_of(trials, device)
            through_vae = list(coded(editor.vae, targets).cpu().numpy())
            rows += rows_of("drawn targets through the VAE", eye.findings(through_vae, trials), trials)
        if arguments.sheet:
            path = arguments.sheet.with_stem("-".join([arguments.sheet.stem, *re.findall(r"\w+", name.lower())]))
            Image.fromarray(sheet_of(trials[:48], made[:48], findings[:48])).save(path)
            listing = "\n".join(f"{at:3d} {each.instruction}" for at, each in enumerate(trials[:48]))
            path.with_suffix(".txt").write_text(listing + "\n", encoding="utf-8")
    if not arguments.bare:
        rows += wrong_rows(eye, arguments.pictures)
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    report([*rows, Row("weights that are its own", size / 2**20, "MiB")], arguments.json)


if __name__ == "__main__":
    main()
