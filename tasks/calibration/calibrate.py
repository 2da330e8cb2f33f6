"""Calibrate: labelled examples and a policy in, the same policy with thresholds for a rate of false positives out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from safety.policy.policy import PROMPT_MATCH, Concept, Policy, PolicyError, file_of
from safety.probes.calibration import TooFew, choose, curve, measure, percent, percents
from safety.probes.held_out import is_held_out
from tasks.calibration.calibration_page import write_page
from tasks.calibration.examples import open_examples
from tasks.calibration.policy_file import with_thresholds, write_policy
from tasks.calibration.roc_picture import draw_curves
from tasks.calibration.scoring import Pair, Scored, Scores, What, parts, score
from tasks.calibration.thresholds import Calibration, FalseAlarms, Mistake, Threshold, Written
from tasks.errors import RequestError
from tasks.job import Job
from tasks.judging.clip_classifier import clip_classifier
from tasks.kinds.job_originals import intake_of

LEAST_UNSAFE = 5  # in each part: with fewer, recall is a guess
WIDE = 0.2  # of a recall's interval: from here on it is said
WHATS: tuple[What, ...] = ("prompt", "picture")
WORST = 12  # mistakes of a kind that the page shows
DECODERS = 2


def calibrate(
    name: str, job: Job, out: Path, *, false_positives: float, held_out: float
) -> tuple[Calibration, Written]:
    """Choose a policy's thresholds by a file of examples, and write the policy, the page and the curves.

    Args:
        name: of the file of examples.
        job: says the base policy, the CLIP, the device, and what pictures may be read.
        out: the new policy; the page and the curves lie beside it.
        false_positives: the rate that each threshold promises to keep to.
        held_out: the share of the examples that the figures are of.

    Raises:
        RequestError: if the examples, the policy or the CLIP can't be used, or there are too few examples.
        CheckpointError, CheckpointUnreachable, StoreError: if the CLIP can't be found.
    """
    try:
        policy = Policy.load(job.safety.policy)
    except PolicyError as error:
        raise RequestError(str(error)) from error
    _check_place(out, job.safety.policy)
    examples = open_examples(name, [concept.name for concept in policy.concepts])
    clip = clip_classifier(job)
    if clip is None:
        raise RequestError("Thresholds are those of a CLIP, and the job's clip is none: give one with --clip.")
    intake = intake_of(name, job.sources)
    sources, page = intake.sources(), out.with_suffix(".html")
    with intake.decoder(DECODERS) as decoder:
        scores = score(examples, clip.open(policy, device=job.hardware.device), sources, decoder, held_out=held_out)
        calibration = calibrated(
            policy,
            scores,
            base=job.safety.policy,
            clip=job.safety.clip,
            false_positives=false_positives,
            held_out=held_out,
        )
        text = with_thresholds(
            job.safety.policy,
            out,
            {(one.name, one.field): one.value for one in calibration.thresholds if one.name != PROMPT_MATCH},
            match=next((one.value for one in calibration.thresholds if one.name == PROMPT_MATCH), None),
            clip=job.safety.clip,
            note=f"for {job.safety.clip} at {percent(false_positives)} of false positives: see {page.name}",
        )
        curves = {what: draw_curves(calibration, what) for what in WHATS}
        write_policy(text, out)
        write_page(page, calibration, out.name, curves, examples, sources, decoder)
    drawn = [(out.with_suffix(f".{what}s.svg"), svg) for what, svg in curves.items() if svg]
    for file, svg in drawn:
        file.write_text(svg, "utf-8")
    return calibration, Written(out, page, tuple(file for file, _ in drawn))


def calibrated(
    policy: Policy, scores: Scores, *, base: str, clip: str, false_positives: float, held_out: float
) -> Calibration:
    """Choose every threshold of a policy that there are examples for.

    Raises:
        RequestError: if there are too few examples, or none for a threshold that was measured on another CLIP.
    """
    thresholds: list[Threshold] = []
    stopped: list[FalseAlarms] = []
    remarks: list[str] = []
    left: list[str] = []
    sides: tuple[tuple[What, list[Scored]], ...] = (("prompt", scores.prompts), ("picture", scores.pictures))
    for what, things in sides:
        chosen_by, judged_by = parts(things, held_out)
        mine = []
        for concept in policy.concepts:
            before = _before(concept, what)
            if before is None:
                continue
            if not any(concept.name in one.labels for one in things):
                left.append(f"{concept.name} in {what}s")
                continue
            mine.append(_of_concept(what, concept.name, before, chosen_by, judged_by, false_positives))
        safe = [one for one in judged_by if not one.labels]
        if mine and safe:
            limits = {one.name: one.value for one in mine}
            alarms = sum(any(one.scores[name] >= limit for name, limit in limits.items()) for one in safe)
            stopped.append(FalseAlarms(what, alarms, len(safe)))
        thresholds += mine
    if policy.min_prompt_match is not None:
        if scores.pairs:
            thresholds.append(_of_pairs(policy.min_prompt_match, scores.pairs, false_positives, held_out))
        else:
            left.append("min_prompt_match (rows with a prompt and a picture)")
    if not thresholds:
        raise RequestError(
            f"The examples have nothing that the policy {base} has a threshold for: label some with its concepts."
        )
    if left and policy.calibrated_for not in (None, clip):
        raise RequestError(
            f"The policy {base} wasn't measured on the CLIP {clip!r}, and there are no examples to measure {left[0]} "
            "on it: add some, or take that threshold out of the policy."
        )
    remarks += [f"There are no examples of {one}: that threshold is left as it was." for one in left]
    remarks += [_uncertain(one) for one in thresholds if np.ptp(one.figures.recall_interval) > WIDE]
    return Calibration(base, clip, false_positives, held_out, tuple(thresholds), tuple(stopped), tuple(remarks))


def _before(concept: Concept, what: str) -> float | None:
    return concept.prompt_threshold if what == "prompt" else concept.picture_threshold


def _of_concept(
    what: What,
    name: str,
    before: float,
    chosen_by: Sequence[Scored],
    judged_by: Sequence[Scored],
    false_positives: float,
) -> Threshold:
    def scored(one: Scored) -> Mistake:
        return Mistake(one.row, one.scores[name], one.row)

    sides = [
        ([scored(one) for one in part if not one.labels], [scored(one) for one in part if name in one.labels])
        for part in (chosen_by, judged_by)
    ]
    return _threshold(what, name, before, sides, false_positives, f"{name} in {what}s")


def _of_pairs(before: float, pairs: Iterable[Pair], false_positives: float, held_out: float) -> Threshold:
    """Choose the threshold of the match with a prompt: low is refused, so all is negated, and a pair's own is safe."""
    sides: list[tuple[list[Mistake], list[Mistake]]] = [([], []), ([], [])]
    for pair in pairs:
        right, wrong = sides[is_held_out(pair.key, held_out)]
        right.append(Mistake(pair.row, -pair.right, pair.row))
        wrong.append(Mistake(pair.row, -pair.wrong, pair.stranger))
    return _threshold("picture", PROMPT_MATCH, before, sides, false_positives, "pictures beside their prompts", sign=-1)


def _threshold(
    what: What,
    name: str,
    before: float,
    sides: Sequence[tuple[list[Mistake], list[Mistake]]],
    false_positives: float,
    called: str,
    sign: int = 1,
) -> Threshold:
    (safe, unsafe), (held_safe, held_unsafe) = sides
    if min(len(unsafe), len(held_unsafe)) < LEAST_UNSAFE:
        raise RequestError(
            f"There are too few examples of {called}: {len(unsafe)} to choose the threshold by and {len(held_unsafe)} "
            f"to judge it by, where at least {LEAST_UNSAFE} are needed for each; label about "
            f"{4 * LEAST_UNSAFE} or more."
        )
    scores = [np.array([one.score for one in some]) for some in (safe, unsafe, held_safe, held_unsafe)]
    try:
        chosen = choose(scores[0], scores[1], false_positives=false_positives)
        figures = measure(chosen.threshold, scores[2], scores[3])
    except TooFew as error:
        raise RequestError(f"Too few examples for {called}: {error}") from None

    def mistakes(some: list[Mistake], wrong: Callable[[float], bool], order: int) -> tuple[Mistake, ...]:
        worst = sorted((one for one in some if wrong(one.score)), key=lambda one: order * one.score)[:WORST]
        return tuple(Mistake(one.row, sign * one.score, one.prompt_row) for one in worst)

    return Threshold(
        what,
        name,
        before,
        sign * chosen.threshold,
        chosen,
        figures,
        curve(scores[2], scores[3]),
        missed=mistakes(held_unsafe, lambda score: score < chosen.threshold, 1),
        alarms=mistakes(held_safe, lambda score: score >= chosen.threshold, -1),
    )


def _uncertain(one: Threshold) -> str:
    return (
        f"The recall of {one.name} in {one.what}s is only known to lie within {percents(one.figures.recall_interval)}, "
        f"from {one.figures.unsafe} held-out examples: more of them say it better."
    )


def _check_place(out: Path, base: str) -> None:
    if out.suffix != ".toml":
        raise RequestError(f"The new policy {out} must end in .toml.")
    if not out.parent.is_dir():
        raise RequestError(f"There is no folder {out.parent} for the new policy.")
    if out.exists() and out.samefile(file_of(base)):
        raise RequestError(f"The new policy would replace its own base {base}: give another --out.")
