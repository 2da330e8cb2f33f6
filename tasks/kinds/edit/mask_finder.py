"""Where the product is on pictures that say nothing of it: found by a layered model, once for each picture."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint, layers_defaults, size_multiple, weight_files
from models.files.read_ahead import reading_ahead
from models.requests import LayersRequest, Shape, layers_shape
from safety.fidelity.frames import resized
from safety.fidelity.product_mask import ProductMask, find_product, product_layer
from tasks.kinds.edit.comparing import Size, compared_source, is_compared
from tasks.lane.lane_resources import LaneResources, load_engine, losing_the_device, make_room
from tasks.lane.original_reader import OriginalReader, resized_to
from tasks.ledger.run import Run
from tasks.manifests.key import digest
from tasks.manifests.row import PlannedPicture, Row
from tasks.processes.stopping import Stopped, stop, while_there_is_time
from tasks.progress import remark
from tasks.rows.originals import kept_path

if TYPE_CHECKING:
    from models.engines.decomposer import Decomposer

METHOD = 1  # part of the key of what is made by it: goes up when masks are found in another way
FEWEST_LAYERS = 3  # background, product, and what lies over it, such as a banner
CAPTION, NEGATIVE_PROMPT, SEED = "", " ", 0


def finding_of(mask_model: Checkpoint) -> str:
    """Name how a model finds products: its part in the keys and checks of rows that give no mask."""
    return digest(["mask model", METHOD, mask_model.revision])


class MaskFinder:
    """Finds products on pictures, and keeps where they are beside those, so that no picture is looked at twice.

    All pictures of a run are looked at before the first one is edited: the two models are never on the device at once.
    """

    def __init__(self, resources: LaneResources, checkpoint: Checkpoint, reader: OriginalReader) -> None:
        """`checkpoint` is that of the layered model."""
        self.resources, self.checkpoint, self.reader = resources, checkpoint, reader
        self.sampling, self.multiple = layers_defaults(checkpoint), size_multiple(checkpoint)
        self._name = digest([finding_of(checkpoint), resources.spec.precision])[:16]
        self._has_looked = False

    def of(self, picture: PlannedPicture, size: Size) -> np.ndarray | None:
        """Return where a product was found on a picture, at a size: uint8 [H, W], all 0 where there is none.

        It is None where the model failed to look at the picture.
        """
        found = self.resources.store.read(self._path(picture))
        return None if found is None else resized(np.asarray(Image.open(io.BytesIO(found[0]), formats=["PNG"])), size)

    def find_all(self) -> None:
        """Look at each picture of the run's plan on which nothing tells the product; where that was done, do nothing.

        The model is loaded when the first of them comes. Lanes side by side share the work: each goes through the
        shards in an order of its own, and passes over what another one has found.

        Raises:
            Stopped: if a person or the system asked for it.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if self._has_looked:
            return
        resources = self.resources
        left = [*Run(resources.spec.run).left(resources.store, range(resources.plan.shards), resources.pool)]
        random.SystemRandom().shuffle(left)
        decomposer: Decomposer | None = None
        for shard in left:
            untold = self._untold(resources.plan.shard(shard))
            if untold:
                decomposer = decomposer or self._load()
                self._find(decomposer, untold)
        self._has_looked = True
        if decomposer is not None:
            del decomposer
            make_room()

    def _untold(self, rows: list[Row]) -> dict[Shape, dict[PlannedPicture, np.ndarray]]:
        """Return the pictures of rows on which nothing tells the product and that weren't looked at, [H, W, 4].

        They come by the shape in which they are taken apart.
        """
        wanted = {row.pictures[0]: (row.width, row.height) for row in rows if is_compared(row) and row.mask is None}
        store, pool = self.resources.store, self.resources.pool
        known = pool.map(lambda picture: store.exists(self._path(picture)), wanted)
        new = [picture for picture, is_known in zip(wanted, known, strict=True) if not is_known]
        looked = pool.map(lambda picture: self._look(picture, wanted[picture]), new)
        untold: dict[Shape, dict[PlannedPicture, np.ndarray]] = defaultdict(dict)
        for picture, seen in zip(new, looked, strict=True):
            if seen is not None:
                shape, pixels = seen
                untold[shape][picture] = pixels
        return untold

    def _look(self, picture: PlannedPicture, size: Size) -> tuple[Shape, np.ndarray] | None:
        """Return an untold picture as the model sees it; None of others, and of those whose rows say what is wrong."""

        def seen(pixels: np.ndarray) -> tuple[Shape, np.ndarray] | None:
            product = find_product(compared_source(pixels, size))
            if isinstance(product, ProductMask) or not product.is_untold:
                return None
            try:
                shape = self._shape(pixels.shape[1], pixels.shape[0])
            except ValueError:  # too narrow for the model
                return None
            return shape, resized_to(pixels, (shape.width, shape.height))

        found = self.reader.reduced(picture, seen)
        return found if isinstance(found, tuple) else None

    def _shape(self, width: int, height: int) -> Shape:
        return layers_shape(
            width,
            height,
            multiple=self.multiple,
            resolution=self.sampling.resolution,
            layers=max(FEWEST_LAYERS, self.sampling.layers),
            steps=self.sampling.steps,
            guidance=self.sampling.guidance,
            cfg_normalize=self.sampling.cfg_normalize,
        )

    def _load(self) -> Decomposer:
        remark(f"{self.checkpoint.name} looks for products first, on pictures where nothing else tells them.")
        own = replace(
            self.resources.spec, checkpoint=self.checkpoint, loras=(), scheduler="checkpoint", step_cache=None
        )
        with losing_the_device(), reading_ahead(weight_files(self.checkpoint)):
            from models.engines.decomposer import Decomposer  # imports torch and diffusers, which takes seconds

            return load_engine(Decomposer, own)

    def _find(self, decomposer: Decomposer, untold: Mapping[Shape, Mapping[PlannedPicture, np.ndarray]]) -> None:
        for shape, pictures in untold.items():
            requests = [LayersRequest(pixels, CAPTION, NEGATIVE_PROMPT, SEED, shape) for pixels in pictures.values()]
            named = [*pictures]
            for batch in while_there_is_time(decomposer.decompose(requests)):
                for one in batch:
                    if one.pixels is not None:
                        self._keep(named[one.index], one.pixels)
                if stop.is_set():
                    raise Stopped

    def _keep(self, picture: PlannedPicture, layers: np.ndarray) -> None:
        plane = product_layer(layers)
        buffer = io.BytesIO()
        Image.fromarray(np.zeros(layers.shape[1:3], np.uint8) if plane is None else plane).save(buffer, "PNG")
        self.resources.store.adopt_or_put(self._path(picture), buffer.getvalue(), content_type="image/png")

    def _path(self, picture: PlannedPicture) -> str:
        return f"{kept_path(picture.source)}.mask-{self._name}.png"
