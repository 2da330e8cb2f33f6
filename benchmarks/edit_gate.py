"""How well the fidelity gate judges what an edit miniature makes: python -m benchmarks.edit_gate --weights DIR

For each ready-made instruction that a miniature is taught, it edits drawn products, as in `benchmarks.edit`. Wrong
results are edits of the same product altered before (another product or outline, colour, place or label), compared
with the product as it was, and sources to which nothing was done. An edit that `benchmarks.edit` finds fault with
counts as wrong, too. All pairs are judged by the limits of the instructions, and half of them by limits that the other
half chose, as `packshot calibrate --fidelity` chooses. Prints a table and writes JSON; with `--pairs-folder`, the
labelled pairs of each instruction, for that command. With that folder and no weights, it judges the pairs that lie
there: a GPU makes thousands in a minute, and measures them no faster than any processor.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.edit import OPAQUE, Editor, Eye
from benchmarks.fidelity import share_row
from benchmarks.miniature import Row, report
from models.miniature.language.instructions import instruction as worded
from models.miniature.training.edit_trials import EditTrial, coded
from models.miniature.world.edits import WRONGS, Edit, unseen_edit, wrong_result
from models.miniature.world.world import COLOURS, Drawing, draw_alike
from safety.fidelity.instruction import COLOUR, Instruction
from safety.fidelity.limits import LabelledPair, choose_limits
from safety.fidelity.measuring import EditedPair, measure, measure_wanted
from safety.fidelity.product_mask import product_mask
from safety.probes.calibration import TooFew
from safety.probes.held_out import is_held_out, picture_key
from tasks.calibration.calibrate_fidelity import ASKED as ASKED_ABOUT

HERE = Path(__file__).parent
ASKED = {"white-background": "background", "scene": "background", "recolour": "colour", "remove-text": "fault"}
"""The instructions, and the attribute of a drawing that each changes."""
NOTHING = "nothing"  # a wrong result: the source, encoded and decoded
OWN = "the model's own"  # a wrong result that nobody meant to be wrong
KEPT, LABELS = "kept", "; "  # the label of a right pair, and what stands between those of a wrong one
SAYS = {"shape": "product_changed", "colour": "product_changed", "label": "product_changed"}
SAYS |= {"moved": "moved", NOTHING: "not_changed"}
CHINESE = 3  # every third instruction
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """An edit to ask the model for, and what its result is compared with."""

    trial: EditTrial  # what the model is shown
    source: Drawing  # what the gate is shown
    wrong: str | None  # one of `WRONGS`, `NOTHING`, or None where the model is shown what the gate is
    colour: str  # which the gate is told was asked for


@dataclass(frozen=True)
class MadePair:
    """A result beside its source, and what is known of it; uint8 [H, W, 3] both."""

    source: Pixels
    result: Pixels
    mask: Pixels  # of the source's product, 0 or 255, [H, W]
    wrong: frozenset[str]  # the gate's reasons
    kind: str | None  # what is wrong with it, in a word; None of a right one
    colour: str  # which the gate is told was asked for
    instruction: str

    def row(self) -> dict[str, object]:
        """Return the pair as `packshot calibrate --fidelity` reads it."""
        return {
            "source": _png(self.source),
            "result": _png(self.result),
            "mask": _png(self.mask),
            "label": LABELS.join(sorted(self.wrong)) or KEPT,
            COLOUR: self.colour,
            "kind": self.kind,
            "instruction": self.instruction,
        }

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """Read what `row` wrote."""
        source, result, mask = (_pixels(row[name]) for name in ("source", "result", "mask"))
        wrong = frozenset(() if row["label"] == KEPT else row["label"].split(LABELS))
        return cls(source, result, mask, wrong, row["kind"], row[COLOUR], row["instruction"])

    def judged(self, number: int, instruction: Instruction) -> JudgedPair:
        """Measure the pair as the gate does."""
        compared = EditedPair(self.source, self.result, product_mask(self.source, self.mask))
        scores = measure(compared)
        if COLOUR in instruction.fields:
            scores |= measure_wanted(compared, self.colour)
        return JudgedPair(self.kind, LabelledPair(number, picture_key(self.source), self.wrong, scores))


@dataclass(frozen=True)
class JudgedPair:
    """A pair that was measured."""

    kind: str | None  # what is wrong with it, in a word; None of a right one
    pair: LabelledPair


def cases_of(name: str, right: int, seed: int) -> list[Case]:
    """Draw as many cases whose results should be right, and half as many whose results are wrong."""
    random = Random(f"gate {name} {seed}")
    wrongs = (*WRONGS, NOTHING)
    kinds = [None] * right + [wrongs[at % len(wrongs)] for at in range(right // 2)]
    return [_case(name, wrong, at, random) for at, wrong in enumerate(kinds)]


def _case(name: str, wrong: str | None, number: int, random: Random) -> Case:
    edit = _edit(name, random, roomy=wrong is not None)
    text = worded(edit, random, language="zh" if number % CHINESE == 0 else "en", split="test")
    told = edit.target.colour if name == "recolour" else ""
    if wrong is None or wrong == NOTHING or (wrong == "colour" and name == "recolour"):
        drawn = draw_alike([edit.source, edit.target, replace(edit.target, pattern="plain")], random)
        if wrong == "colour":
            told = random.choice([each for each in COLOURS if each not in (edit.source.colour, edit.target.colour)])
        return Case(EditTrial(edit, text, *drawn), drawn[0], wrong, told)
    before, after = wrong_result(Edit(edit.source, edit.source), wrong, random)
    return Case(EditTrial(edit, text, after, before, before), before, wrong, told)


def _edit(name: str, random: Random, *, roomy: bool) -> Edit:
    while True:
        edit = unseen_edit(random, ASKED[name])
        fits = ASKED[name] != "background" or (edit.target.background == "white") == (name == "white-background")
        if fits and not (roomy and edit.source.size == "large"):
            return edit


def labels_of(eye: Eye, name: str, cases: Sequence[Case], results: Sequence[Pixels]) -> list[frozenset[str]]:
    """What is wrong with each result, by the gate's reasons; nothing where `benchmarks.edit` finds no fault."""
    meant = [at for at, case in enumerate(cases) if case.wrong is None]
    findings = eye.findings([results[at] for at in meant], [cases[at].trial for at in meant])
    labels = []
    found = dict(zip(meant, findings, strict=True))
    for at, case in enumerate(cases):
        if case.wrong is not None:
            says = "not_changed" if name == "recolour" and case.wrong == "colour" else SAYS[case.wrong]
            labels.append(frozenset({says}))
        else:
            faults = {"not_changed": not found[at].there, "product_changed": not found[at].same}
            labels.append(frozenset(reason for reason, is_so in faults.items() if is_so))
    return labels


def made_pairs(editor: Editor, eye: Eye, name: str, cases: Sequence[Case]) -> list[MadePair]:
    """Make and label the results of an instruction's cases."""
    results = results_of(editor, cases)
    return [
        MadePair(
            case.source.picture,
            result,
            mask_of(case.source),
            wrong,
            case.wrong or (OWN if wrong else None),
            case.colour,
            case.trial.instruction,
        )
        for case, result, wrong in zip(cases, results, labels_of(eye, name, cases, results), strict=True)
    ]


def mask_of(drawing: Drawing) -> Pixels:
    """Where a drawing's product is, [H, W]: 255 there and 0 beside it."""
    return np.where(drawing.product[..., 3] >= OPAQUE, 255, 0).astype(np.uint8)


@dataclass
class Tally:
    """How a gate does on some pairs."""

    refused: list[bool]  # of right ones: rejected
    asked: list[bool]  # of them: left to a person
    found: list[tuple[str, bool]]  # of wrong ones: what is wrong, and whether it is rejected or left to a person

    @classmethod
    def of(cls, pairs: Sequence[JudgedPair], instruction: Instruction) -> Tally:
        """Judge pairs by an instruction's limits."""
        right = [instruction.judge(each.pair.scores) for each in pairs if each.kind is None]
        wrong = [(each.kind, instruction.judge(each.pair.scores)) for each in pairs if each.kind is not None]
        return cls(
            [not verdict.allowed and not verdict.waits for verdict in right],
            [verdict.waits for verdict in right],
            [(kind, not verdict.allowed) for kind, verdict in wrong],
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.refused + other.refused, self.asked + other.asked, self.found + other.found)

    def rows(self, label: str) -> list[Row]:
        """The figures, with their intervals at 95 %."""
        return [
            share_row(f"{label}: wrong pairs found", [hit for _, hit in self.found]),
            share_row(f"{label}: right pairs refused", self.refused),
            share_row(f"{label}: right pairs asked about", self.asked),
        ]

    def kinds(self, label: str) -> list[Row]:
        """What is found of each kind of wrong pairs."""
        names = sorted({kind for kind, _ in self.found})
        return [
            share_row(f"{label}: found: {name}", [hit for kind, hit in self.found if kind == name]) for name in names
        ]


def rows_of(judged: dict[str, tuple[Instruction, list[JudgedPair]]], refused: float, held_out: float) -> list[Row]:
    """The figures of all instructions, by their own limits and by chosen ones."""
    rows: list[Row] = []
    own, chosen = Tally([], [], []), Tally([], [], [])
    for name, (instruction, pairs) in judged.items():
        own += (tally := Tally.of(pairs, instruction))
        rows += tally.rows(f"{name}, its limits")
        try:
            found = choose_limits(
                instruction,
                [each.pair for each in pairs],
                refused=refused,
                asked=ASKED_ABOUT * refused,
                held_out=held_out,
            )
        except TooFew as error:
            print(f"{name}: {error}")
            continue
        others = [each for each in pairs if is_held_out(each.pair.key, held_out)]
        chosen += (tally := Tally.of(others, found.instruction))
        rows += tally.rows(f"{name}, chosen limits")
    for label, tally in (("all, their limits", own), ("all, chosen limits", chosen)):
        rows += [*tally.rows(label), *tally.kinds(label)]
    return rows


def write_pairs(folder: Path, name: str, pairs: Sequence[MadePair]) -> Path:
    """Write labelled pairs as `packshot calibrate --fidelity` reads them; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist([pair.row() for pair in pairs]), path, row_group_size=64)
    return path


def read_pairs(folder: Path, name: str) -> list[MadePair]:
    """Read what `write_pairs` wrote."""
    return [MadePair.of(row) for row in pq.read_table(folder / f"{name}.parquet").to_pylist()]


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(png: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(png)))


def results_of(editor: Editor, cases: Sequence[Case]) -> list[Pixels]:
    """Make the results of cases, each uint8 [H, W, 3]."""
    asked = [case.trial for case in cases if case.wrong != NOTHING]
    idle = [case.source.picture for case in cases if case.wrong == NOTHING]
    made, device = iter(editor.results(asked)), next(editor.denoiser.transformer.parameters()).device
    left = (coded(editor.vae, torch.from_numpy(picture)[None].to(device))[0].cpu().numpy() for picture in idle)
    return [next(left if case.wrong == NOTHING else made) for case in cases]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=Path, help="the folder that holds qwen-image-edit; without it, no pair is made"
    )
    parser.add_argument("--pairs", type=int, default=300, help="right ones of each instruction, and half as many wrong")
    parser.add_argument("--names", nargs="+", default=list(ASKED), choices=ASKED, help="of instructions")
    parser.add_argument("--instructions", type=Path, help="folder of their files, instead of the shipped ones")
    parser.add_argument("--refused", type=float, default=0.015, help="rate of right pairs that a limit may refuse")
    parser.add_argument("--held-out", type=float, default=0.5, help="share of the pairs that no limit is chosen by")
    parser.add_argument("--pairs-folder", type=Path, help="where the labelled pairs of each instruction lie")
    parser.add_argument("--only-make", action="store_true", help="write the pairs, and judge none")
    parser.add_argument("--layered", default="miniature", help="the checkpoint that takes results apart")
    parser.add_argument("--judge", type=Path, default=HERE / "judge.safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=20, help="of the drawings")
    parser.add_argument("--json", type=Path, default=HERE / "edit_gate.json")
    arguments = parser.parse_args()

    if arguments.only_make and arguments.weights is None:
        parser.error("name the weights that make the pairs, --weights")
    if arguments.pairs_folder is None and (arguments.only_make or arguments.weights is None):
        parser.error("name a folder for the pairs, --pairs-folder")
    pairs = made(arguments) if arguments.weights else {}
    if arguments.only_make:
        return
    judged = {}
    for name in arguments.names:
        file = arguments.instructions / f"{name}.toml" if arguments.instructions else name
        loaded = Instruction.load(str(file))
        some = pairs.get(name) or read_pairs(arguments.pairs_folder, name)
        judged[name] = loaded, [pair.judged(number, loaded) for number, pair in enumerate(some)]
        print(f"{name}: {len(some)} pairs judged", flush=True)
    report(rows_of(judged, arguments.refused, arguments.held_out), arguments.json)


def made(arguments: argparse.Namespace) -> dict[str, list[MadePair]]:
    """Make the pairs of all instructions, and write them if there is a folder for them."""
    editor = Editor.load(arguments.weights / "qwen-image-edit", torch.device(arguments.device), arguments.batch)
    eye = Eye(arguments.judge, arguments.layered, arguments.device)
    pairs = {}
    for name in arguments.names:
        pairs[name] = made_pairs(editor, eye, name, cases_of(name, arguments.pairs, arguments.seed))
        print(f"{name}: {len(pairs[name])} pairs made", flush=True)
        if arguments.pairs_folder:
            print(write_pairs(arguments.pairs_folder, name, pairs[name]), flush=True)
    return pairs


if __name__ == "__main__":
    main()
