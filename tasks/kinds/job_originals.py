"""The pictures that a job's rows are made from: where they may come from, and what looks at them for a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.job_sections import SourcesSection
from tasks.rows.originals import Originals
from tasks.sources.intake import Intake
from tasks.sources.source import folder_of
from tasks.stores.store import Store

MEASURING = 4  # processes that look at the headers of source pictures


def intake_of(table: str, section: SourcesSection) -> Intake:
    """Return where the pictures of a table, such as a manifest, may come from, and what one may take.

    Raises:
        RequestError: one of the section's `image_hosts` isn't the name of a host.
    """
    intake = Intake(folder_of(table), section.image_hosts, section.max_image_bytes, section.max_image_pixels)
    intake.sources()  # refuses hosts that aren't any
    return intake


@contextmanager
def opened_originals(intake: Intake, store: Store | None) -> Iterator[Originals]:
    """Open what looks at pictures; those that a manifest holds are put into the store, if one is given."""
    with intake.decoder(MEASURING) as decoder:
        yield Originals(intake.sources(), decoder, store)
