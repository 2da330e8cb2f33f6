"""What low precision and the step cache do to pictures that mean something: python -m benchmarks.drift --pictures 64

Lets the bulk engine draw prompts of the miniature in word orders that training never saw, half of them of pairs of kind
and colour that it never saw together, each from the same noise under every setting: exact in bfloat16, exact in
float32, in float8, with weights of 8 and of 4 bits, with the step cache at several thresholds, and with that and
float8. The judge (see `benchmarks.miniature`) says what the pictures show; PSNR says how far they are from the exact
ones in bfloat16, which low precisions and, on a GPU, everything else computes in. At 50 steps, as Qwen-Image's model
card has it, and at the miniature's own number.

What a skipped step saves depends on the blocks: it costs one of them, an eighth of the miniature's and a sixtieth of
Qwen-Image's. Prints a table, writes JSON, and lays the pictures of all settings out beside one another (`--sheet`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.full_size import synchronized
from benchmarks.results import tell
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import find_checkpoint, sampling_defaults
from models.engines.generator import Generator
from models.miniature.datasets.trials import Trial, asked, trials
from models.miniature.train import contact_sheet
from models.miniature.training.judge import JUDGED, Judge, agreement, load_judge
from models.requests import QWEN_IMAGE_DEFAULTS, PictureRequest, Shape
from safety.pictures.layers import psnr

JUDGE = Path(__file__).parent / "judge.safetensors"
PRECISIONS = ("float32", "float8", "int8", "nf4")  # to compare with the exact one
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
TOLD = [JUDGED.index("kind"), JUDGED.index("colour")]
FEWEST_STEPS = 2  # of a warm-up
SHOWN = 12  # pictures of each setting on the sheet

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Setting:
    """The options with which pictures are drawn."""

    precision: str
    step_cache: float | None = None

    def __str__(self) -> str:
        return self.precision + ("" if self.step_cache is None else f" + step cache {self.step_cache:g}")


EXACT = Setting("bfloat16")


@dataclass(frozen=True)
class Drift:
    """What a setting made of the pictures."""

    setting: Setting
    steps: int
    kind: float  # share of pictures in which the judge finds the kind that was asked for
    colour: float  # the same for the colour
    judged_otherwise: int  # pictures in which it finds another kind or colour than in the exact ones
    psnr: float  # against the exact pictures, dB, mean; `safety.pictures.layers.HIGHEST_PSNR` where they are the same
    lowest_psnr: float  # of the picture that is furthest off, dB
    skipped: float  # share of rows' steps that went through the first block alone
    seconds: float  # a picture, in the engine's own batches

    def __str__(self) -> str:
        return (
            f"{self.setting!s:28} {self.steps:5} {self.kind:7.1%} {self.colour:7.1%} {self.judged_otherwise:9} "
            f"{self.psnr:7.1f} {self.lowest_psnr:7.1f} {self.skipped:8.1%} {self.seconds:9.2f}"
        )


HEADER = f"{'setting':28} steps    kind  colour otherwise    PSNR   worst  skipped s/picture"


def settings(thresholds: Sequence[float], precisions: Sequence[str]) -> list[Setting]:
    """The exact one first, which all others are compared with; a precision's together, which share a model."""
    cached = {name: [Setting(name, each) for each in sorted(thresholds)] for name in (EXACT.precision, "float8")}
    others = [[Setting(name), *cached.get(name, [])] for name in precisions]
    return [EXACT, *cached[EXACT.precision], *(setting for some in others for setting in some)]


def drawn(generator: Generator, posed: Sequence[Trial], shape: Shape) -> tuple[Pictures, float, float]:
    """Pictures of trials, the i-th from seed i: uint8 [N, H, W, 3], the share of steps skipped, seconds a picture.

    Raises:
        RuntimeError: if a picture failed.
    """
    predictor = generator.predictor
    assert isinstance(predictor, Varlen)
    requests = [PictureRequest(trial.prompt, " ", seed, shape) for seed, trial in enumerate(posed)]
    before = predictor.asked, predictor.computed
    began = synchronized()
    ended = sorted((one for batch in generator.render(requests) for one in batch), key=lambda one: one.index)
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
    wanted: Sequence[Setting], posed: list[Trial], shapes: Sequence[Shape], judge: Judge, device: str
) -> Iterator[tuple[Drift, Pictures]]:
    """Draw the trials in every shape and setting, the exact one first."""
    exact: dict[Shape, tuple[Pictures, torch.Tensor]] = {}
    generator: Generator | None = None
    for setting in wanted:
        if generator is None or generator.precision != setting.precision:
            generator = Generator.load(find_checkpoint("miniature"), device=device, precision=setting.precision)
            first = shapes[0]
            drawn(generator, posed[:1], Shape(first.width, first.height, FEWEST_STEPS, first.guidance))
        assert isinstance(generator.predictor, Varlen)
        generator.predictor.step_cache = setting.step_cache
        for shape in shapes:
            pictures, skipped, seconds = drawn(generator, posed, shape)
            verdict = judge.verdict(torch.from_numpy(pictures))
            reference, told = exact.setdefault(shape, (pictures, verdict))
            found = agreement(verdict, asked(posed))
            ratios = [decibels(one, other) for one, other in zip(pictures, reference, strict=True)]
            drift = Drift(
                setting=setting,
                steps=shape.steps,
                kind=found.kind,
                colour=found.colour,
                judged_otherwise=int((verdict != told)[:, TOLD].any(1).sum()),
                psnr=float(np.mean(ratios)),
                lowest_psnr=min(ratios),
                skipped=skipped,
                seconds=seconds,
            )
            yield drift, pictures


def main() -> None:
    """Draw, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = sampling_defaults(find_checkpoint("miniature"))
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[QWEN_IMAGE_DEFAULTS.steps, own.steps])
    parser.add_argument("--thresholds", type=float, nargs="*", default=THRESHOLDS, help="of the step cache")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS, help="beside bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--sheet", type=Path, help="write the first pictures as one PNG, a row for each setting")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    shapes = [Shape(own.width, own.height, steps, own.guidance) for steps in arguments.steps]
    posed, judge = trials(arguments.pictures, "en", 0), load_judge(JUDGE, torch.device("cpu"))
    print(HEADER)
    results, shown = [], []
    for drift, pictures in drifts(
        settings(arguments.thresholds, arguments.precisions), posed, shapes, judge, arguments.device
    ):
        print(drift, flush=True)
        results.append(drift)
        if drift.steps == arguments.steps[0]:
            shown.append(torch.from_numpy(pictures[:SHOWN]))
    if arguments.sheet:
        contact_sheet(torch.cat(shown), arguments.sheet, columns=len(shown[0]))
    on_cpu = torch.device(arguments.device).type == "cpu"
    print(f"{len(posed)} pictures")
    tell(arguments.out, on_cpu=on_cpu, pictures=len(posed), drifts=list(map(asdict, results)))


if __name__ == "__main__":
    main()
