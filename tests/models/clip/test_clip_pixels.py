import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from models.clip.clip_pixels import Pixels

SETTINGS = {"size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "interpolation": "bicubic", "fill_color": 0}


def pixels(mode: str, **changes: object) -> Pixels:
    return Pixels.of({**SETTINGS, "resize_mode": mode, **changes})


def shown_by_open_clip(picture: np.ndarray, mode: str, **changes: object) -> torch.Tensor:
    return image_transform_v2(PreprocessCfg(**{**SETTINGS, "resize_mode": mode, **changes}), is_train=False)(
        Image.fromarray(picture)
    )


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["squash", "longest", "shortest"])
@pytest.mark.parametrize("side", [20, 32, 200])
def test_a_square_picture_is_seen_as_open_clip_shows_it(mode: str, interpolation: str, side: int) -> None:
    ours = pixels(mode, interpolation=interpolation)

    seen = ours.normalised(ours.fit([noise(side, side)]))[0]

    level = 1 / 255 / torch.tensor(ours.std).view(3, 1, 1)
    expected = shown_by_open_clip(noise(side, side), mode, interpolation=interpolation)
    assert ((seen - expected).abs() <= 1.01 * level).all()


@pytest.mark.parametrize("mode", ["squash", "longest"])
def test_modes_that_show_all_of_a_wide_picture_are_kept(mode: str) -> None:
    ours = pixels(mode)

    seen = ours.normalised(ours.fit([noise(60, 200)]))[0]

    level = 1 / 255 / torch.tensor(ours.std).view(3, 1, 1)
    assert ((seen - shown_by_open_clip(noise(60, 200), mode)).abs() <= 1.01 * level).all()


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("mode", ["squash", "longest", "shortest"])
def test_what_stands_at_an_end_of_a_wide_or_tall_picture_is_seen(mode: str, upright: bool) -> None:
    picture = np.full((100, 400, 3), 255, dtype=np.uint8)
    picture[:, :40] = (200, 0, 0)
    picture[:, 370:] = (0, 0, 200)
    if upright:
        picture = picture.transpose(1, 0, 2)

    seen = pixels(mode).fit([picture])[0].permute(1, 2, 0).int()

    for colour in ((200, 0, 0), (0, 0, 200)):
        assert ((seen - torch.tensor(colour)).abs().sum(dim=2) < 30).sum() > 10, colour
    cropped = shown_by_open_clip(picture, "shortest")
    assert (cropped.flatten(1).std(dim=1) < 0.01).all()  # open_clip shows its middle alone


def test_a_picture_that_was_made_to_fit_lies_on_the_colour_of_its_own_edge() -> None:
    picture = np.full((50, 200, 3), (250, 240, 230), dtype=np.uint8)
    picture[20:30, 50:150] = 0

    seen = pixels("shortest").fit([picture])[0]

    assert seen[:, 0, 0].tolist() == seen[:, -1, 31].tolist() == [250, 240, 230]


def test_any_shape_of_picture_comes_to_the_towers_own_size_also_where_that_is_no_square() -> None:
    for size in (32, (24, 40)):
        for mode in ("squash", "longest", "shortest"):
            fitted = pixels(mode, size=size).fit([noise(1, 1), noise(1, 900), noise(700, 2), noise(300, 500)])
            assert fitted.shape == (4, 3, *((32, 32) if size == 32 else size))
            assert fitted.dtype == torch.uint8
