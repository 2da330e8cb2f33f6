"""The bulk engine for layers of source pictures: many pictures at a time, each as if it were alone."""

from collections.abc import Iterator, Sequence

from models.engines.captioner import CAPTION_ROWS, WrittenCaption, caption_pictures
from models.engines.engine import Admit, Engine
from models.engines.made_picture import Picture
from models.failure import Failure
from models.files.safetensors_files import CheckpointError
from models.lost_device import DeviceLost
from models.pipelines import LAYERED
from models.requests import LayersRequest, Pixels

__all__ = ["Admit", "Decomposer", "DeviceLost", "Failure", "Picture", "WrittenCaption"]


class Decomposer(Engine):
    """A Qwen-Image-Layered held open on one device.

    decomposer = Decomposer.load(find_checkpoint("miniature", pipeline=Decomposer.pipeline))
    for batch in decomposer.decompose(requests):
        for picture in batch:
            ...
    """

    pipeline = LAYERED.name

    @property
    def writes_captions(self) -> bool:
        """Whether `caption` can be asked: see `models.checkpoints.checkpoint.writes_captions`."""
        return self.components.captioner is not None

    def caption(
        self, sources: Sequence[Pixels], *, resolution: int, use_en_prompt: bool = True
    ) -> Iterator[list[WrittenCaption]]:
        """Write captions of source pictures, uint8 [H, W, 4] of any sizes, and yield each batch as it finishes.

        Every picture yields exactly one WrittenCaption; one that fails takes no other with it. How they are written:
        `models.engines.captioner.caption_pictures`.

        Args:
            resolution: what the pictures will be decomposed at.
            use_en_prompt: whether to write in English, else in Chinese.

        Raises:
            CheckpointError: if the checkpoint can't see pictures.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if self.components.captioner is None:
            raise CheckpointError(
                "This checkpoint can't caption pictures: its model_index.json names no processor for them. "
                "Give captions, leave them empty, or use a checkpoint such as Qwen/Qwen-Image-Layered."
            )
        yield from caption_pictures(
            self.components,
            self.components.captioner,
            sources,
            self._rows,
            resolution=resolution,
            use_en_prompt=use_en_prompt,
            most=min(self.batch or CAPTION_ROWS, CAPTION_ROWS),
        )

    def decompose(self, requests: Sequence[LayersRequest], *, admit: Admit | None = None) -> Iterator[list[Picture]]:
        """Take the sources of `requests`, which share one shape, apart, and yield each batch as it finishes.

        Every request yields exactly one Picture, whose pixels are uint8 [layers, H, W, 4] from bottom to top, with
        straight alpha, at the shape's height and width: the source's own aspect at about resolution² pixels, whatever
        the source's size (see `models.requests.layers_size`). One that fails or is refused takes no other with it.

        Args:
            admit: see `models.engines.engine.Admit`.

        Raises:
            ValueError: if the shapes differ, can't be drawn, or would stretch a source.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if not requests:
            return
        self._check(requests)
        shape = requests[0].shape
        if shape.layers < 1:
            raise ValueError("A picture can't be decomposed into no layers; give at least one.")
        # By so much `layers_size` rounds a side; what is further off is another aspect.
        rounded = 16 if 32 % self.size_multiple == 0 else 16 + self.size_multiple
        for request in requests:
            height, width = request.source.shape[:2]
            if abs(shape.width * height - shape.height * width) > rounded * (width + height):
                raise ValueError(
                    f"A source of {width} × {height} would be stretched to {shape.width} × {shape.height}; "
                    "take its shape from layers_shape."
                )
        yield from self._run(requests, admit=admit)
