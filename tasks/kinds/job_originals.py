"""The pictures that a job's rows are made from: where they may come from, and what looks at them for a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.job import Job
from tasks.rows.originals import Originals
from tasks.sources.intake import Intake
from tasks.sources.source import folder_of
from tasks.stores.store import Store

MEASURING = 4  # processes that look at the headers of source pictures


def intake_of(job: Job) -> Intake:
    """Return where a job's pictures may come from, and what one may take.

    Raises:
        RequestError: one of its `image_hosts` isn't the name of a host.
    """
    intake = Intake(folder_of(job.manifest), job.image_hosts, job.max_image_bytes, job.max_image_pixels)
    intake.sources()  # refuses hosts that aren't any
    return intake


@contextmanager
def opened_originals(intake: Intake, store: Store | None) -> Iterator[Originals]:
    """Open what looks at pictures; those that a manifest holds are put into the store, if one is given."""
    with intake.decoder(MEASURING) as decoder:
        yield Originals(intake.sources(), decoder, store)
