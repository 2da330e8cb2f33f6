"""Where the pictures of a job come from, and what one may take; plain values, which lanes are sent."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.sources.decoder import Decoder
from tasks.sources.pixels import Limits
from tasks.sources.source import Sources
from tasks.sources.web_source import WebSource


@dataclass(frozen=True)
class Intake:
    """Where the pictures that rows are made from come from, and what one may take."""

    folder: str  # where relative paths begin: see `tasks.sources.source.folder_of`
    image_hosts: tuple[str, ...]
    max_image_bytes: int
    max_image_pixels: int

    def sources(self) -> Sources:
        """Return what reads their bytes.

        Raises:
            RequestError: one of `image_hosts` isn't the name of a host.
        """
        return Sources(self.folder, web=WebSource(self.image_hosts), limit=self.max_image_bytes)

    def decoder(self, workers: int) -> Decoder:
        """Return what decodes them: so many processes, kept from planning to lanes and from one run to the next."""
        return Decoder(workers=workers, limits=Limits(pixels=self.max_image_pixels), keeps=True)
