"""What a policy says of one prompt or picture, and why: by the same judges as a run's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from safety.pictures.layers import WHITE, over
from safety.pictures.picture import inspect
from safety.policy.concepts import judge_picture, judge_prompt
from safety.policy.explanation import Explanation, Nearness, listed_in, nearness, probe_nearness, readings
from safety.policy.policy import PROMPT_MATCH, Policy
from safety.probes.probe import judge_vectors
from safety.text.texts import judge_text
from safety.verdict import Reason, Verdict, allow, strictest
from tasks.calibration.train_probe import prompt_vectors
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.errors import RequestError
from tasks.job import Job
from tasks.judging.classifier_registry import classifiers_of
from tasks.judging.judges import Judges, load_policy, unasked, unjudged
from tasks.judging.probe_check import check_probe
from tasks.kinds.registry import kind_of
from tasks.sources.decoder import Decoder
from tasks.sources.source import LARGEST
from tasks.sources.source_error import SourceError


def judges_of(job: Job) -> Judges:
    """Return the judges of a job's prompts and pictures, without its profiles.

    Raises:
        RequestError: if the policy can't be used, or was measured on another CLIP, or the CLIP is for another model.
        CheckpointError, CheckpointUnreachable, StoreError: if the CLIP can't be found.
    """
    policy = load_policy(job.safety.policy, job.safety.clip)
    return Judges(policy, classifiers_of(job), {}, device=job.hardware.device)


def ask_probe(prompt: str, job: Job, policy: Policy) -> Verdict | None:
    """Return what the policy's probe says of a prompt as a job's model reads it; None without one.

    Raises:
        RequestError: if the probe was trained for another text encoder.
        CheckpointError, CheckpointUnreachable, StoreError: if the model can't be found or opened.
    """
    if policy.probe is None or not prompt.strip():
        return None
    checkpoint = find_checkpoint(job.model.model, job.model.revision, pipeline=kind_of(job).pipeline)
    check_probe(policy, checkpoint)
    return judge_vectors(prompt_vectors([prompt], checkpoint, job), policy.probe)[0]


def explain_prompt(prompt: str, judges: Judges, by_probe: Verdict | None = None) -> Explanation:
    """Return why a prompt is allowed or refused. It is asked of the CLIP also where a list refuses it.

    `by_probe` is what `ask_probe` answered.
    """
    policy = judges.policy
    by_list = judge_text(prompt, policy.blocklist, what="prompt")
    by_meaning, near = _meaning_of_prompt(prompt, judges) if judges.asks_clip else (allow(), ())
    verdicts = [by_list, by_meaning, *(reading.verdict for reading in judges.besides_clip.screen([prompt]))]
    if by_probe is not None and policy.probe is not None:
        verdicts, near = [*verdicts, by_probe], (*near, *probe_nearness(by_probe.scores, policy.probe))
    listed = listed_in(prompt, policy.blocklist)
    return Explanation("prompt", strictest(verdicts), readings(prompt), listed, near, unasked=_unasked(judges))


def _meaning_of_prompt(prompt: str, judges: Judges) -> tuple[Verdict, tuple[Nearness, ...]]:
    try:
        clip = judges.by_clip
        windows = clip.windows([prompt])[0]
        verdict = judge_prompt(windows, clip.concepts, clip.policy)
        return verdict, nearness(windows, verdict.scores, clip.concepts, clip.policy, "prompt")
    except Exception as error:  # noqa: BLE001  as in a run, what can't be screened is refused
        return unjudged(Reason.SCREEN_FAILED, "prompt could not be screened", error), ()


def _unasked(judges: Judges) -> str | None:
    return None if judges.asks_clip else unasked(judges.policy)


def explain_picture(file: Path, prompt: str | None, judges: Judges) -> Explanation:
    """Return why a picture is allowed or refused, beside its prompt if one is given. What is transparent lies on white.

    Raises:
        RequestError: if there is no picture, or it can't be decoded.
    """
    pixels, policy = _pixels(file), judges.policy
    shown = inspect(pixels)
    by_meaning, near = _meaning_of_picture(pixels, prompt, judges) if judges.asks_clip else (allow(), ())
    match = by_meaning.scores.get(PROMPT_MATCH)
    return Explanation(
        "picture",
        strictest([shown, by_meaning, *_of_others(pixels, prompt, judges.besides_clip)]),
        near=near,
        match=None if match is None else (match, policy.min_prompt_match),
        unasked=_unasked(judges),
    )


def _meaning_of_picture(pixels: np.ndarray, prompt: str | None, judges: Judges) -> tuple[Verdict, tuple[Nearness, ...]]:
    try:
        clip = judges.by_clip
        (row,) = clip.model.embed_pictures([pixels])
        windows = clip.windows([prompt])[0] if prompt else None
        verdict = judge_picture(row, windows, clip.concepts, clip.policy)
        return verdict, nearness(row[None], verdict.scores, clip.concepts, clip.policy, "picture")
    except Exception as error:  # noqa: BLE001  likewise
        return unjudged(Reason.CLASSIFIER_FAILED, "picture could not be classified", error), ()


def _of_others(pixels: np.ndarray, prompt: str | None, others: Judges) -> list[Verdict]:
    """Return what the classifiers beside the CLIP say of a picture, which may be that of a prompt."""
    return others.see([pixels], [reading.kept for reading in others.screen([prompt])] if prompt else None)


def _pixels(file: Path) -> np.ndarray:
    try:
        if file.stat().st_size > LARGEST:
            raise RequestError(f"The picture {file} is over {LARGEST >> 20} MiB, the most that is read.")
        data = file.read_bytes()
    except FileNotFoundError:
        raise RequestError(f"There is no picture {file}.") from None
    except OSError as error:
        raise RequestError(f"The picture {file} can't be read: {error.strerror}.") from None
    with Decoder(workers=1) as decoder:
        try:
            return over(decoder.decode(data).pixels, WHITE)
        except SourceError as error:
            raise RequestError(f"{file}: {error.message}") from None
