"""The bulk engine for pictures from prompts: many at a time, each as if it were alone."""

from collections.abc import Iterator, Sequence

import torch

from models.engines.engine import Admit, Engine
from models.engines.made_picture import Picture, single
from models.failure import Failure
from models.lost_device import DeviceLost
from models.pipelines import TEXT_TO_IMAGE
from models.requests import PictureRequest
from models.sampling.latents import encode

__all__ = ["Admit", "DeviceLost", "Failure", "Generator", "Picture"]


class Generator(Engine):
    """A Qwen-Image held open on one device.

    generator = Generator.load(find_checkpoint("miniature"))
    for batch in generator.render(requests):
        for picture in batch:
            ...
    """

    pipeline = TEXT_TO_IMAGE.name

    def render(self, requests: Sequence[PictureRequest], *, admit: Admit | None = None) -> Iterator[list[Picture]]:
        """Make the pictures of `requests`, which share one shape, and yield each batch as it finishes.

        Every request yields exactly one Picture, [H, W, 3]; one that fails or is refused takes no other with it.

        Args:
            admit: see `models.engines.engine.Admit`.

        Raises:
            ValueError: if the shapes differ, or can't be drawn; if a control picture is missing where there is a
                ControlNet, or is there where there is none.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if not requests:
            return
        self._check(requests)
        if requests[0].shape.layers:
            raise ValueError("A picture made from a prompt has no layers; give a shape without.")
        controlled = self.components.controlnet is not None
        if any((request.control is not None) != controlled for request in requests):
            raise ValueError(
                "With a ControlNet every request needs a control picture."
                if controlled
                else "A control picture needs a ControlNet; load the checkpoint with one."
            )
        shape = requests[0].shape

        @torch.inference_mode()
        def controls(batch: list[int]) -> torch.Tensor:
            pictures = [control for index in batch if (control := requests[index].control) is not None]
            return encode(self.components, shape.width, shape.height, pictures)

        for batch in self._run(requests, controls=controls if controlled else None, admit=admit):
            yield [single(picture) for picture in batch]
