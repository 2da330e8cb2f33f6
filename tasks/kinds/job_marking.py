"""How a job wants its results marked as made by a model."""

from __future__ import annotations

from tasks.job_sections import MarketplaceSection
from tasks.results.marking import Marking


def marking_of(section: MarketplaceSection) -> Marking:
    """Return how results are marked, which is done once the marker is opened."""
    return Marking(section.aigc_producer, section.c2pa_certificate, section.c2pa_key)
