"""What low precision and the caches do to pictures that mean something: python -m benchmarks.drift --pictures 64

Lets the bulk engine draw prompts of the miniature in word orders that training never saw, half of them of pairs of kind
and colour that it never saw together, each from the same noise under every setting: exact in bfloat16, exact in
float32, in float8, with weights of 8 and of 4 bits, with the step cache at several thresholds, and with that and
float8. The judge (see `benchmarks.miniature`) says what the pictures show; PSNR says how far they are from the exact
ones in bfloat16, which low precisions and, on a GPU, everything else computes in. At 50 steps, as Qwen-Image's model
card has it, and at the miniature's own number.

With `--edits FOLDER` a checkpoint that edits, of whatever size, is asked for edits of drawings that training never saw,
in words that it never saw, and the condition cache is compared, too: alone, and with the step cache. The judge looks
for the kind and the colour of the product as it should be after the edit, and pictures are judged otherwise where it
finds another kind, colour, background or fault.

What a skipped step saves depends on the blocks: it costs one of them, an eighth of the miniature's and a sixtieth of
Qwen-Image's. Prints a table, writes JSON, and lays the pictures of all settings out beside one another (`--sheet`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.full_size import synchronized
from benchmarks.results import tell
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import Checkpoint, edit_defaults, find_checkpoint, sampling_defaults, size_multiple
from models.engines.editor import PictureEditor
from models.engines.generator import Generator
from models.engines.made_picture import Picture
from models.miniature.datasets.drawings import attributes
from models.miniature.datasets.trials import asked, trials
from models.miniature.train import contact_sheet
from models.miniature.training.edit_trials import EditTrial, edit_trials
from models.miniature.training.judge import JUDGED, Judge, agreement, load_judge
from models.requests import (
    QWEN_IMAGE_DEFAULTS,
    QWEN_IMAGE_EDIT_PLUS_DEFAULTS,
    ConditionPicture,
    EditDefaults,
    EditPicture,
    EditRequest,
    PictureRequest,
    SeenPicture,
    Shape,
    edit_size,
)
from models.sampling.latents import resized
from safety.pictures.layers import psnr

JUDGE = Path(__file__).parent / "judge.safetensors"
PRECISIONS = ("float32", "float8", "int8", "nf4")  # to compare with the exact one
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
CONDITION_CACHES = (2, 3, 4)
EDIT_SEED = 21  # of the trials; training's own figures have 1, and benchmarks.edit 20
FEWEST_STEPS = 2  # of a warm-up
SHOWN = 12  # pictures of each setting on the sheet

Pictures = NDArray[np.uint8]
BulkEngine = Generator | PictureEditor


@dataclass(frozen=True)
class Setting:
    """The options with which pictures are drawn."""

    precision: str
    step_cache: float | None = None
    condition_cache: int = 1

    def __str__(self) -> str:
        step = "" if self.step_cache is None else f" + step cache {self.step_cache:g}"
        return (
            self.precision + step + (f" + condition cache {self.condition_cache}" if self.condition_cache > 1 else "")
        )


EXACT = Setting("bfloat16")


@dataclass(frozen=True)
class Assignment:
    """What an engine is asked to make, and what a judge should see on it."""

    checkpoint: Checkpoint
    open: Callable[..., BulkEngine]
    make: Callable[[BulkEngine, Shape, int], Iterator[list[Picture]]]  # so many pictures, the i-th from seed i
    scenes: torch.Tensor  # int64 [N, attributes]
    told: tuple[str, ...]  # by which of `JUDGED` pictures are told from the exact ones
    shapes: Sequence[Shape]

    @property
    def columns(self) -> list[int]:
        """The columns of a verdict by which pictures are told from the exact ones."""
        return [JUDGED.index(name) for name in self.told]


@dataclass(frozen=True)
class Drift:
    """What a setting made of the pictures."""

    setting: Setting
    steps: int
    kind: float  # share of pictures in which the judge finds the kind that was asked for
    colour: float  # the same for the colour
    judged_otherwise: int  # pictures in which it finds something else than in the exact ones: see `Assignment.told`
    psnr: float  # against the exact pictures, dB, mean; `safety.pictures.layers.HIGHEST_PSNR` where they are the same
    lowest_psnr: float  # of the picture that is furthest off, dB
    skipped: float  # share of rows' steps that went through the first block alone
    seconds: float  # a picture, in the engine's own batches

    def __str__(self) -> str:
        return (
            f"{self.setting!s:44} {self.steps:5} {self.kind:7.1%} {self.colour:7.1%} {self.judged_otherwise:9} "
            f"{self.psnr:7.1f} {self.lowest_psnr:7.1f} {self.skipped:8.1%} {self.seconds:9.2f}"
        )


HEADER = f"{'setting':44} steps    kind  colour otherwise    PSNR   worst  skipped s/picture"


def settings(
    thresholds: Sequence[float], precisions: Sequence[str], condition_caches: Sequence[int] = ()
) -> list[Setting]:
    """The exact one first, which all others are compared with; a precision's together, which share a model."""
    caches = [(each, 1) for each in sorted(thresholds)]
    caches += product((None, *sorted(thresholds)), sorted(condition_caches))
    found = [EXACT]
    for name in (EXACT.precision, *precisions):
        found += [] if name == EXACT.precision else [Setting(name)]
        found += [Setting(name, *each) for each in caches] if name in (EXACT.precision, "float8") else []
    return sorted(found, key=lambda each: (each.precision != EXACT.precision, each.precision, each.condition_cache))


def drawing(count: int, steps: Sequence[int]) -> Assignment:
    """The shipped miniature draws prompts that it never saw."""
    checkpoint, posed = find_checkpoint("miniature"), trials(count, "en", 0)
    own = sampling_defaults(checkpoint)

    def make(engine: BulkEngine, shape: Shape, some: int) -> Iterator[list[Picture]]:
        assert isinstance(engine, Generator)
        return engine.render(
            [PictureRequest(trial.prompt, " ", seed, shape) for seed, trial in enumerate(posed[:some])]
        )

    shapes = [
        Shape(own.width, own.height, each, own.guidance) for each in steps or (QWEN_IMAGE_DEFAULTS.steps, own.steps)
    ]
    return Assignment(checkpoint, Generator.load, make, asked(posed), ("kind", "colour"), shapes)


def editing(folder: str, count: int, steps: Sequence[int]) -> Assignment:
    """A checkpoint in a folder edits drawings that it never saw."""
    checkpoint, posed = find_checkpoint(folder, pipeline=PictureEditor.pipeline), edit_trials(count, "en", EDIT_SEED)
    own, multiple = edit_defaults(checkpoint), size_multiple(checkpoint)
    pictures = [looked_at(trial, own, multiple) for trial in posed]

    def make(engine: BulkEngine, shape: Shape, some: int) -> Iterator[list[Picture]]:
        assert isinstance(engine, PictureEditor)
        rows = enumerate(zip(posed[:some], pictures, strict=False))
        return engine.edit(
            [EditRequest(trial.instruction, " ", seed, shape, (picture,)) for seed, (trial, picture) in rows]
        )

    size = pictures[0].encoded
    shapes = [
        Shape(size.width, size.height, each, own.guidance)
        for each in steps or (QWEN_IMAGE_EDIT_PLUS_DEFAULTS.steps, own.steps)
    ]
    scenes = torch.tensor([attributes(trial.edit.target) for trial in posed])
    return Assignment(checkpoint, PictureEditor.load, make, scenes, JUDGED, shapes)


def looked_at(trial: EditTrial, own: EditDefaults, multiple: int) -> EditPicture:
    """A trial's source at both sizes at which a checkpoint looks at it."""
    pixels = trial.source.picture
    height, width = pixels.shape[:2]
    encoded = edit_size(width, height, own.resolution, multiple)
    seen = np.asarray(resized(pixels, *edit_size(width, height, own.vision_resolution, 1), 3))
    return EditPicture(SeenPicture.of(seen), ConditionPicture(np.asarray(resized(pixels, *encoded, 3)), *encoded))


def made(engine: BulkEngine, assignment: Assignment, shape: Shape, count: int) -> tuple[Pictures, float, float]:
    """Pictures of an assignment: uint8 [N, H, W, 3], the share of steps skipped, seconds a picture.

    Raises:
        RuntimeError: if a picture failed.
    """
    predictor = engine.predictor
    assert isinstance(predictor, Varlen)
    before = predictor.asked, predictor.computed
    began = synchronized()
    ended = sorted((one for batch in assignment.make(engine, shape, count) for one in batch), key=lambda one: one.index)
    seconds = synchronized() - began
    if failures := [one.failure.message for one in ended if one.failure]:
        raise RuntimeError(f"{len(failures)} of {len(ended)} pictures failed, the first so: {failures[0]}")
    steps, computed = predictor.asked - before[0], predictor.computed - before[1]
    pictures = np.stack([one.pixels for one in ended if one.pixels is not None])
    return pictures, 1 - computed / steps if steps else 0.0, seconds / len(ended)


def decibels(one: Pictures, other: Pictures) -> float:
    """PSNR of two pictures [H, W, 3], dB."""
    opaque = np.full((*one.shape[:2], 1), 255, np.uint8)
    return psnr(np.concatenate([one, opaque], 2), np.concatenate([other, opaque], 2))


def drifts(
    wanted: Sequence[Setting], assignment: Assignment, judge: Judge, device: str
) -> Iterator[tuple[Drift, Pictures]]:
    """Make an assignment's pictures in every shape and setting, the exact one first."""
    exact: dict[Shape, tuple[Pictures, torch.Tensor]] = {}
    engine: BulkEngine | None = None
    opened: tuple[str, int] | None = None
    for setting in wanted:
        if engine is None or opened != (setting.precision, setting.condition_cache):
            opened = setting.precision, setting.condition_cache
            load = partial(assignment.open, assignment.checkpoint, device=device, precision=setting.precision)
            engine = load(condition_cache=setting.condition_cache)
            first = assignment.shapes[0]
            made(engine, assignment, Shape(first.width, first.height, FEWEST_STEPS, first.guidance), 1)
        assert isinstance(engine.predictor, Varlen)
        engine.predictor.step_cache = setting.step_cache
        for shape in assignment.shapes:
            pictures, skipped, seconds = made(engine, assignment, shape, len(assignment.scenes))
            verdict = judge.verdict(torch.from_numpy(pictures))
            reference, told = exact.setdefault(shape, (pictures, verdict))
            found = agreement(verdict, assignment.scenes)
            ratios = [decibels(one, other) for one, other in zip(pictures, reference, strict=True)]
            drift = Drift(
                setting=setting,
                steps=shape.steps,
                kind=found.kind,
                colour=found.colour,
                judged_otherwise=int((verdict != told)[:, assignment.columns].any(1).sum()),
                psnr=float(np.mean(ratios)),
                lowest_psnr=min(ratios),
                skipped=skipped,
                seconds=seconds,
            )
            yield drift, pictures


def main() -> None:
    """Make, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument(
        "--edits", metavar="FOLDER", help="a checkpoint that edits, in place of the miniature that draws"
    )
    parser.add_argument("--steps", type=int, nargs="+", help="those of the model card, and the checkpoint's own")
    parser.add_argument("--thresholds", type=float, nargs="*", default=THRESHOLDS, help="of the step cache")
    parser.add_argument("--condition-caches", type=int, nargs="*", default=CONDITION_CACHES, help="of --edits")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS, help="beside bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--sheet", type=Path, help="write the first pictures as one PNG, a row for each setting")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    count, steps = arguments.pictures, arguments.steps
    assignment = editing(arguments.edits, count, steps) if arguments.edits else drawing(count, steps)
    wanted = settings(arguments.thresholds, arguments.precisions, arguments.condition_caches if arguments.edits else ())
    judge = load_judge(JUDGE, torch.device("cpu"))
    print(HEADER)
    results, shown = [], []
    for drift, pictures in drifts(wanted, assignment, judge, arguments.device):
        print(drift, flush=True)
        results.append(drift)
        if drift.steps == assignment.shapes[0].steps:
            shown.append(torch.from_numpy(pictures[:SHOWN]))
    if arguments.sheet:
        contact_sheet(torch.cat(shown), arguments.sheet, columns=len(shown[0]))
    on_cpu = torch.device(arguments.device).type == "cpu"
    print(f"{count} pictures")
    tell(arguments.out, on_cpu=on_cpu, pictures=count, drifts=list(map(asdict, results)))


if __name__ == "__main__":
    main()
