"""A PSD opens with its layers named, in order and in place, and is a picture for those who read no layers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PsdImagePlugin
from psd_tools import PSDImage
from psd_tools.constants import Resource

from safety.marks.provenance import DigitalSourceType, xmp_packet
from safety.pictures.layers import composite
from tasks.results.layer_shelf import layer_names
from tasks.results.psd import LONGEST_SIDE, psd

HEIGHT, WIDTH = 40, 60
RANDOM = np.random.default_rng(4)
GROUND = np.concatenate([RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3)), np.full((HEIGHT, WIDTH, 1), 255)], 2).astype(
    np.uint8
)


def part(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """A layer with noise in one box, of every alpha but 0; outside of it are colours that nobody sees."""
    pixels = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[top:bottom, left:right] = RANDOM.integers(1, 256, (bottom - top, right - left))
    pixels[..., 3] = alpha
    return pixels


MUG, LABEL = part(5, 30, 11, 44), part(10, 17, 0, 60)
LAYERS = np.stack([GROUND, MUG, LABEL])


def written(layers: np.ndarray = LAYERS, names: list[str] | None = None) -> bytes:
    return psd(layers, composite(layers), layer_names(len(layers)) if names is None else names)


def opened(data: bytes) -> PSDImage:
    return PSDImage.open(io.BytesIO(data))


def whole(document: PSDImage, index: int) -> np.ndarray:
    """A layer, uint8 RGBA, on the document's canvas."""
    layer = document[index]
    canvas = np.zeros((document.height, document.width, 4), np.uint8)
    if layer.width:
        canvas[layer.top : layer.bottom, layer.left : layer.right] = np.round(layer.numpy() * 255)
    return canvas


def test_layers_are_named_and_in_order_from_the_bottom() -> None:
    document = opened(written())
    assert (document.width, document.height, document.depth) == (WIDTH, HEIGHT, 8)
    assert [layer.name for layer in document] == ["background", "layer 1", "layer 2"]
    assert all(layer.kind == "pixel" and layer.visible and layer.opacity == 255 for layer in document)


def test_every_visible_pixel_and_its_alpha_come_back() -> None:
    document = opened(written())
    for index, layer in enumerate(LAYERS):
        expected = np.where(layer[..., 3:] > 0, layer, 0)
        assert np.array_equal(whole(document, index), expected)


def test_a_layer_is_as_large_as_what_it_shows() -> None:
    _, mug, label = opened(written())
    assert mug.bbox == (11, 5, 44, 30)
    assert label.bbox == (0, 10, 60, 17)
    assert len(written(np.stack([GROUND, part(0, 4, 0, 4)]))) < len(written(np.stack([GROUND, MUG]))) - 3000


def test_photoshop_would_put_the_same_picture_together() -> None:
    blended = np.asarray(opened(written()).composite(ignore_preview=True).convert("RGBA"))
    assert np.abs(blended.astype(int) - composite(LAYERS)).max() <= 1


def test_who_reads_no_layers_sees_the_flattened_picture() -> None:
    flattened = composite(LAYERS)
    with Image.open(io.BytesIO(written())) as image:
        assert (image.format, image.mode) == ("PSD", "RGB")
        assert np.array_equal(np.asarray(image), flattened[..., :3])
    preview = opened(written()).topil()
    assert preview is not None
    assert np.array_equal(np.asarray(preview), flattened[..., :3])


def test_a_picture_with_holes_keeps_them_and_lies_over_white() -> None:
    layers = np.stack([MUG, LABEL])
    flattened = composite(layers)
    with Image.open(io.BytesIO(written(layers))) as image:
        raw = np.asarray(image)
    white = Image.new("RGBA", (WIDTH, HEIGHT), "white")
    white.alpha_composite(Image.fromarray(flattened, "RGBA"))
    assert np.array_equal(raw[..., 3], flattened[..., 3])
    assert np.abs(raw[..., :3].astype(int) - np.asarray(white)[..., :3]).max() <= 1
    preview = np.round(opened(written(layers)).numpy() * 255)
    clear = flattened[..., 3] > 127  # what little shows of the rest is rounded with its white
    assert preview.shape == flattened.shape
    assert np.abs(preview - flattened)[clear].max() <= 2


def test_a_layer_that_shows_nothing_is_there_all_the_same() -> None:
    nothing = np.zeros_like(MUG)
    document = opened(written(np.stack([nothing, MUG, nothing])))
    assert [layer.name for layer in document] == ["background", "layer 1", "layer 2"]
    assert [layer.size for layer in document] == [(0, 0), (33, 25), (0, 0)]
    assert np.array_equal(whole(document, 1), np.where(MUG[..., 3:] > 0, MUG, 0))
    with Image.open(io.BytesIO(written(np.stack([nothing])))) as image:
        assert not np.asarray(image)[..., 3].any()


def test_it_says_that_a_model_made_it() -> None:
    source_type = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
    packet = xmp_packet(software="packshot", source_type=source_type)
    assert opened(written()).image_resources.get_data(Resource.XMP_METADATA) == packet
    with Image.open(io.BytesIO(written())) as image:
        assert isinstance(image, PsdImagePlugin.PsdImageFile)
        assert [data for number, _, data in image.resources if number == 1060] == [packet]


def test_the_same_layers_are_the_same_bytes() -> None:
    hidden = LAYERS.copy()
    hidden[1:, ..., :3][hidden[1:, ..., 3] == 0] = 7
    assert written() == written(hidden)


@pytest.mark.parametrize("name", ["Schleife", "茶杯", "a" * 255, ""])
def test_a_name_may_be_in_any_script(name: str) -> None:
    (layer,) = opened(written(GROUND[None], [name]))
    assert layer.name == name


def test_layers_have_names_by_their_files() -> None:
    assert layer_names(0) == []
    assert layer_names(1) == ["background"]
    assert layer_names(4) == ["background", "layer 1", "layer 2", "layer 3"]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 7), (131, 3)])
def test_odd_sizes_come_back(width: int, height: int) -> None:
    layers = np.random.default_rng(1).integers(1, 256, (2, height, width, 4)).astype(np.uint8)
    document = opened(written(layers))
    assert all(np.array_equal(whole(document, index), layers[index]) for index in range(2))


@pytest.mark.parametrize(
    ("layers", "flattened", "names", "message"),
    [
        (LAYERS[..., :3], GROUND, layer_names(3), "Layers are uint8"),
        (LAYERS / 255, GROUND, layer_names(3), "Layers are uint8"),
        (LAYERS, GROUND[1:], layer_names(3), "The composite is uint8"),
        (LAYERS, GROUND, layer_names(2), "3 layers need as many names"),
        (LAYERS, GROUND, ["a", "b", "c" * 256], "at most 255 characters"),
        (np.zeros((1, 1, LONGEST_SIDE + 1, 4), np.uint8), None, layer_names(1), "at most 30,000 pixels a side"),
    ],
)
def test_what_no_psd_can_hold_is_an_error(
    layers: np.ndarray, flattened: np.ndarray | None, names: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        psd(layers, layers[0] if flattened is None else flattened, names)
