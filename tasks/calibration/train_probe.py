"""Training a probe: labelled prompts in, a file for a policy out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.text_encoder import POOLING, text_encoder_digest
from models.files.whole_file import appearing_whole
from models.requests import Conditioning
from safety.probes.probe import Answer, Probe, ProbeError
from safety.probes.probe_training import Trained, check_labels, merged, train
from tasks.calibration.examples import Examples, open_examples
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.errors import RequestError
from tasks.job import Job
from tasks.kinds.registry import kind_of

AT_ONCE = 512  # prompts whose embeddings are held in memory


@dataclass(frozen=True)
class TrainedProbe:
    """A probe that was written, and what to expect of it."""

    probe: Probe
    concepts: list[Trained]
    prompts: int  # different ones


def train_probe(
    job: Job, examples: str, out: Path, *, max_false_positives: float, review: Sequence[str] = ()
) -> TrainedProbe:
    """Train a probe for the text encoder of a job's model, and write it to `out` as a whole.

    Args:
        job: whose model, device, precision and memory count.
        examples: the name of a file: see `tasks.calibration.examples`.
        max_false_positives: the share of safe prompts that a concept may refuse.
        review: the concepts for which a person is asked; the others block.

    Raises:
        RequestError: if the examples can't be used or are too few, or `out` can't be written.
        CheckpointError, CheckpointUnreachable, StoreError: if the model can't be found or opened.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise RequestError(f"The probe can't be written to {out}: it is a folder, or in none that is there.")
    labels = _labels(open_examples(examples, None), review, max_false_positives)
    checkpoint = find_checkpoint(job.model.model, job.model.revision, pipeline=kind_of(job).pipeline)
    vectors = prompt_vectors(list(labels), checkpoint, job)
    try:
        probe, told = train(
            list(labels),
            list(labels.values()),
            vectors,
            text_encoder=text_encoder_digest(checkpoint),
            checkpoint=checkpoint.name,
            pooling=POOLING,
            max_false_positives=max_false_positives,
            answers=dict.fromkeys(review, _REVIEW),
        )
    except ProbeError as error:
        raise RequestError(f"{examples}: {error}") from None
    _write(out, probe.data)
    return TrainedProbe(probe, told, len(labels))


_REVIEW: Answer = "review"


def _labels(examples: Examples, review: Sequence[str], max_false_positives: float) -> dict[str, frozenset[str]]:
    """Return the labels of each prompt, checked as far as that goes without a model."""
    rows = list(examples)
    for example in rows:
        if example.prompt is None:
            raise RequestError(f"Row {example.row} of the examples {examples.name} has no prompt.")
    try:
        labels = merged((example.prompt, example.labels) for example in rows if example.prompt is not None)
        concepts = check_labels(list(labels), list(labels.values()), max_false_positives)
    except ProbeError as error:
        raise RequestError(str(error)) from None
    for name in review:
        if name not in concepts:
            raise RequestError(f"No prompt is labelled {name}, so nobody can be asked about it.")
    return labels


def prompt_vectors(prompts: Sequence[str], checkpoint: Checkpoint, job: Job) -> np.ndarray:
    """Return what a job's model makes of prompts: float32 [N, D], as its engine would hand them to a probe.

    Raises:
        RequestError: if the text encoder can't read one.
        CheckpointError: if the model can't be opened.
    """
    from models.loading.prompt_encoder import load_prompt_encoder
    from models.sampling.pooled import read_prompts  # imports torch

    reader = load_prompt_encoder(
        checkpoint,
        device=job.hardware.device,
        precision=job.model.precision,
        memory_fraction=job.hardware.memory_fraction,
        gpu_memory=job.hardware.gpu_memory,
    )
    rows = []
    in_order = sorted(prompts, key=len)  # neighbours in length share batches
    for start in range(0, len(in_order), AT_ONCE):
        vectors, failures = read_prompts(reader, map(Conditioning, in_order[start : start + AT_ONCE]))
        for prompt, failure in failures.items():
            raise RequestError(f"The prompt {prompt.text[:80]!r} can't be read: {failure.message}")
        rows.append(vectors)
    found = {prompt.text: vector for some in rows for prompt, vector in some.items()}
    return np.stack([found[prompt] for prompt in prompts])


def _write(out: Path, data: bytes) -> None:
    try:
        with appearing_whole(out) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RequestError(f"The probe can't be written to {out}: {error.strerror}.") from None
