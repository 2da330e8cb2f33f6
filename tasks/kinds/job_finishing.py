"""How a job wants its results finished: fixed, marked as made by a model, and encoded."""

from __future__ import annotations

from tasks.job_sections import MarketplaceSection, PictureMarketplace, PictureOutput
from tasks.results.encoding import Encoding
from tasks.results.finishing import Finishing
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching


def marking_of(section: MarketplaceSection) -> Marking:
    """Return how results are marked, which is done once the marker is opened."""
    return Marking(section.aigc_producer, section.c2pa_certificate, section.c2pa_key)


def finishing_of(output: PictureOutput, marketplace: PictureMarketplace) -> Finishing:
    """Return how pictures are finished and stored."""
    return Finishing(
        Encoding(output.format, output.quality),
        Retouching(snap_white=marketplace.snap_white, pad_square=marketplace.pad_square),
        marking_of(marketplace),
    )
