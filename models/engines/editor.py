"""The bulk engine for edited pictures: many at a time, whatever they are made from, each as if it were alone."""

from collections.abc import Iterator, Sequence

from models.engines.engine import Admit, Engine
from models.engines.made_picture import Picture, single
from models.failure import Failure
from models.lost_device import DeviceLost
from models.pipelines import EDIT_PLUS
from models.requests import EditRequest

__all__ = ["Admit", "DeviceLost", "Failure", "Picture", "PictureEditor"]


class PictureEditor(Engine):
    """A Qwen-Image-Edit of whichever generation, held open on one device.

    editor = PictureEditor.load(find_checkpoint("Qwen/Qwen-Image-Edit-2511", commit, pipeline=PictureEditor.pipeline))
    for batch in editor.edit(requests):
        for picture in batch:
            ...
    """

    pipeline = EDIT_PLUS.name

    def edit(self, requests: Sequence[EditRequest], *, admit: Admit | None = None) -> Iterator[list[Picture]]:
        """Make the pictures of `requests`, which share the shape of what is made, and yield each batch as it finishes.

        Every request yields exactly one Picture, [H, W, 3]; one that fails or is refused takes no other with it.

        Args:
            admit: see `models.engines.engine.Admit`.

        Raises:
            ValueError: if the shapes differ or can't be drawn, or a request has no picture, or more than the checkpoint
                looks at.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if not requests:
            return
        self._check(requests)
        most = self.components.rules.pipeline.most_pictures
        if any(not 1 <= len(request.pictures) <= most for request in requests):
            raise ValueError(f"An edit takes a picture, and {most} at most.")
        for batch in self._run(requests, admit=admit):
            yield [single(picture) for picture in batch]
