"""How well the fidelity gate tells right edits from wrong ones: python -m benchmarks.fidelity --pairs 40

Draws pairs whose answer is known (`benchmarks.fidelity_pairs`), gives their results what a decoder leaves in a picture,
and has the shipped instructions judge them. A wrong pair is found if it is rejected or left to a person; a right one is
refused if it is rejected, and asked about if it is left to a person. Prints a table, what each measure's limit costs
and a pair's processor time, and writes JSON. `--vae` encodes and decodes the results by the miniature's own VAE.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage

from benchmarks.fidelity_pairs import INSTRUCTIONS, WRONGS, Pixels, labelled_pair, like_a_decoder
from benchmarks.miniature import WEIGHTS, Row, report
from models.architectures.qwen_image.single_frame import single_frame
from models.miniature.training.edit_trials import coded
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.instruction import Instruction
from safety.fidelity.product_mask import find_product
from safety.probes.calibration import percents, wilson
from safety.verdict import Verdict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A pair to draw."""

    instruction: str
    wrong: str | None
    number: int
    side: int


@dataclass(frozen=True)
class Answer:
    """What the gate made of one."""

    case: Case
    verdict: Verdict
    seconds: float  # of the processor


def cases(instructions: Sequence[str], pairs: int, side: int) -> Iterator[Case]:
    """All pairs to draw: as many of each kind of wrong ones, and of right ones as of all wrong ones together."""
    for instruction in instructions:
        for number in range(pairs * len(WRONGS)):
            yield Case(instruction, None, number, side)
        for wrong in WRONGS:
            for number in range(pairs):
                yield Case(instruction, wrong, number, side)


def answered(case: Case, *, seed: str, vae: bool, masks: bool) -> Answer | None:
    """Draw a pair and judge it; None where a mask is to be found and the source's background isn't plain."""
    cv2.setNumThreads(1)
    random = Random(f"fidelity {seed} {case.instruction} {case.wrong} {case.side} {case.number}")
    pair = labelled_pair(random, case.instruction, case.wrong, side=case.side)
    if not masks and not pair.plain:
        return None
    result = through_vae(pair.result) if vae else like_a_decoder(pair.result, random)
    instruction = Instruction.load(case.instruction)
    began = time.process_time()
    product = find_product(pair.source, pair.mask if masks else None)
    verdict = judge_edit(pair.source, result, product, instruction, pair.values)
    return Answer(case, verdict, time.process_time() - began)


@cache
def _vae() -> AutoencoderKLQwenImage:
    torch.set_num_threads(1)
    return single_frame(AutoencoderKLQwenImage.from_pretrained(WEIGHTS / "qwen-image" / "vae"))


def through_vae(pixels: Pixels) -> Pixels:
    """Encode and decode a picture by the miniature's VAE."""
    decoded: Pixels = coded(_vae(), torch.from_numpy(pixels)[None])[0].numpy()
    return decoded


def rows_of(name: str, answers: Sequence[Answer]) -> list[Row]:
    """The figures of some answers: what is found and what is refused, in all and by what is wrong."""
    right = [each.verdict for each in answers if each.case.wrong is None]
    wrong = [each.verdict for each in answers if each.case.wrong is not None]
    rows = [
        share_row(f"{name}: wrong pairs found", [not each.allowed for each in wrong]),
        share_row(f"{name}: wrong pairs rejected", [not each.allowed and not each.waits for each in wrong]),
        share_row(f"{name}: right pairs refused", [not each.allowed and not each.waits for each in right]),
        share_row(f"{name}: right pairs asked about", [each.waits for each in right]),
    ]
    for kind in WRONGS:
        some = [not each.verdict.allowed for each in answers if each.case.wrong == kind]
        rows.append(share_row(f"{name}: found: {kind}", some))
    return rows


def share_row(what: str, hits: Sequence[bool]) -> Row:
    """How many of some are hits, with the interval at 95 %."""
    if not hits:
        return Row(what, float("nan"), "%")
    return Row(what, 100 * sum(hits) / len(hits), f"% ({percents(wilson(sum(hits), len(hits)))} of {len(hits)})")


def blamed(answers: Sequence[Answer]) -> list[Row]:
    """Which checks refuse right pairs, or ask about them, by instruction."""
    counts: Counter[str] = Counter()
    for each in answers:
        if each.case.wrong is None and not each.verdict.allowed:
            checks = Instruction.load(each.case.instruction).checks
            for name, check in checks.items():
                value = each.verdict.scores.get(f"fidelity_{name}")
                nearest = check.limit if check.review is None else check.review
                if check.is_beyond(value, nearest) if value is not None else not check.optional:
                    counts[f"{each.case.instruction}: {name}"] += 1
    return [Row(f"right pairs beyond review, {name}", float(count), "") for name, count in sorted(counts.items())]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="of each instruction and each kind of wrong result")
    parser.add_argument("--instructions", nargs="+", default=list(INSTRUCTIONS), choices=INSTRUCTIONS)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024], help="pixels, multiples of 16")
    parser.add_argument("--vae", action="store_true", help="the miniature's own VAE in place of noise like one's")
    parser.add_argument(
        "--find-masks", action="store_true", help="give no masks, and draw sources on plain backgrounds"
    )
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", default="20", help="of the drawings")
    parser.add_argument("--json", type=Path, default=HERE / "fidelity.json")
    arguments = parser.parse_args()

    ask = partial(answered, seed=arguments.seed, vae=arguments.vae, masks=not arguments.find_masks)
    rows: list[Row] = []
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        for side in arguments.sides:
            found = [
                each
                for each in pool.map(ask, cases(arguments.instructions, arguments.pairs, side), chunksize=8)
                if each is not None
            ]
            for instruction in arguments.instructions:
                some = [each for each in found if each.case.instruction == instruction]
                rows += rows_of(f"{side}², {instruction}", some)
            rows += rows_of(f"{side}², all", found)
            rows += [Row(f"{side}²: {row.what}", row.figure, row.unit) for row in blamed(found)]
            seconds = float(np.median([each.seconds for each in found]))
            rows.append(Row(f"{side}²: a pair, one core", seconds, "s"))
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
