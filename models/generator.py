"""The bulk engine for pictures from prompts: many at a time, each as if it were alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.engine import Engine, Picture
from models.failure import DeviceLost, Failure
from models.sampling import PictureRequest

__all__ = ["DeviceLost", "Failure", "Generator", "Picture"]


class Generator(Engine):
    """A Qwen-Image held open on one device.

    generator = Generator.load(find_checkpoint("miniature"))
    for batch in generator.render(requests):
        for picture in batch:
            ...
    """

    pipeline = "QwenImagePipeline"

    def render(self, requests: Sequence[PictureRequest]) -> Iterator[list[Picture]]:
        """Make the pictures of `requests`, which share one shape, and yield each batch as it finishes.

        Every request yields exactly one Picture, [H, W, 3]; one that fails takes no other with it.

        Raises:
            ValueError: if the shapes differ, or can't be drawn.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if not requests:
            return
        self._check(requests)
        if requests[0].shape.layers:
            raise ValueError("A picture made from a prompt has no layers; give a shape without.")
        for batch in self._run(requests):
            yield [
                picture if picture.pixels is None else replace(picture, pixels=picture.pixels[0]) for picture in batch
            ]
