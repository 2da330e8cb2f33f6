"""Which classifiers judge what a job makes. A new one is registered here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable

from tasks.job import Job
from tasks.judging.classifier import Classifier
from tasks.judging.clip_classifier import clip_classifier

REGISTERED: tuple[Callable[[Job], Classifier | None], ...] = (clip_classifier,)
"""What gives a job's classifiers, in the order in which they are asked; each gives None where a job goes without."""
NAME = re.compile(r"[a-z][a-z0-9_]*")
TAKEN = ("probe",)  # whose scores are called `probe.…`


def classifiers_of(job: Job) -> tuple[Classifier, ...]:
    """Find the classifiers of a job.

    Raises:
        RequestError, CheckpointError, CheckpointUnreachable, StoreError: as each of those that find them.
        ValueError: if scores of two of them would have one name.
    """
    found = tuple(one for find in REGISTERED if (one := find(job)) is not None)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1 or name in TAKEN or not NAME.fullmatch(name):
            raise ValueError(f"A classifier can't be called {name!r}: the names of scores begin with it.")
    return found
