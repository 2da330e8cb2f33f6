from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from safety.profile import SHIPPED, Profile, ProfileError, measure_background, product_share
from safety.verdict import Reason

WHITE = (255, 255, 255)


def packshot(
    width: int = 1200,
    height: int = 1200,
    *,
    ground: tuple[int, int, int] = WHITE,
    fill: float = 0.9,
    shadow: bool = False,
    frame: tuple[int, int, int] | None = None,
) -> np.ndarray:
    image = Image.new("RGB", (width, height), ground)
    box = (width * (1 - fill) / 2, height * (1 - fill) / 2, width * (1 + fill) / 2, height * (1 + fill) / 2)
    if shadow:
        dark = tuple(value - 60 for value in ground)
        ImageDraw.Draw(image).rectangle((0, height * 0.9, width, height), fill=dark)
        image = image.filter(ImageFilter.GaussianBlur(width * 0.02))
    ImageDraw.Draw(image).rounded_rectangle(box, radius=20, fill=(40, 80, 120))
    if frame:
        ImageDraw.Draw(image).rectangle((0, 0, width - 1, height - 1), outline=frame, width=max(4, width // 40))
    return np.asarray(image)


def check(profile: str | Profile, pixels: np.ndarray, *, kind: str = "jpeg", size_bytes: int = 100_000):
    profile = Profile.load(profile) if isinstance(profile, str) else profile
    return profile.check(pixels, format=kind, size_bytes=size_bytes)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_every_shipped_profile_passes_a_good_packshot_and_says_where_it_comes_from(name: str):
    profile = Profile.load(name)
    assert profile.name == name
    assert profile.source
    assert check(profile, packshot()).allowed


def test_none_and_default_demand_nothing():
    for name in ("none", "default"):
        assert check(name, np.zeros((1, 1, 3), np.uint8), kind="anything", size_bytes=10**12).allowed


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (packshot(900, 900), "longest side is 900 pixels, below 1000"),
        (packshot(ground=(250, 250, 250)), "white"),
        (packshot(frame=(200, 0, 0)), "white"),
        (packshot(fill=0.5), "fills 50% of the frame, below 85%"),
    ],
    ids=["small", "off-white", "framed", "lost in its frame"],
)
def test_amazon_demands_a_large_product_on_pure_white(pixels: np.ndarray, complaint: str):
    verdict = check("amazon", pixels)
    assert verdict.reason is Reason.PROFILE
    assert verdict.message is not None
    assert complaint in verdict.message
    assert "“amazon”" in verdict.message


def test_google_limits_size_area_and_format():
    assert "width is 400" in str(check("google", packshot(400, 1200)).message)
    assert "above 16,000,000" in str(check("google", packshot(), size_bytes=16_000_001).message)
    assert "avif" in str(check("google", packshot(), kind="AVIF").message)
    assert check("google", packshot(), kind="WEBP").allowed
    assert check("google", packshot(), kind="jpg").allowed
    tight = Profile(name="tight", max_pixels=10)
    assert "area is 1,440,000 pixels, above 10" in str(check(tight, packshot()).message)


def test_shopify_limits_the_longest_side():
    assert "5,001" in str(check("shopify", np.full((1, 5001, 3), 255, np.uint8)).message)


def test_all_faults_are_named_at_once():
    message = str(check("amazon", packshot(300, 300, ground=(9, 9, 9)), kind="webp").message)
    assert all(fault in message for fault in ("webp", "300", "white"))


def test_white_takes_small_pictures_and_a_decoders_ripple():
    ripple = np.random.default_rng(2).integers(-6, 1, size=(192, 192, 3))
    assert check("white", (packshot(192, 192, fill=0.6) + ripple).clip(0, 255).astype(np.uint8)).allowed
    assert check("white", packshot(192, 192, ground=(235, 235, 235), fill=0.6)).reason is Reason.PROFILE
    assert check("white", packshot(192, 192, frame=(255, 0, 0), fill=0.6)).reason is Reason.PROFILE
    assert check("white", packshot(190, 190)).reason is Reason.PROFILE


def test_a_soft_shadow_on_the_ground_is_background_but_a_dark_top_is_not():
    shadowed = packshot(400, 400, fill=0.6, shadow=True)
    assert check("white", shadowed).allowed
    assert check("white", shadowed[::-1].copy()).reason is Reason.PROFILE


def test_a_coloured_patch_on_the_ground_is_no_shadow():
    pixels = packshot(400, 400, fill=0.6)
    pixels = pixels.copy()
    pixels[-30:] = (255, 200, 200)
    assert check("white", pixels).reason is Reason.PROFILE


def test_a_plain_background_may_have_any_colour_but_only_one():
    plain = Profile(name="plain", background="plain", min_product_share=0.5)
    for ground in (WHITE, (30, 30, 30), (200, 120, 40)):
        assert check(plain, packshot(400, 400, ground=ground, fill=0.6)).allowed
    split = packshot(400, 400, fill=0.6).copy()
    split[:, :200][split[:, :200].min(axis=2) == 255] = (0, 0, 0)
    assert check(plain, split).reason is Reason.PROFILE


@pytest.mark.parametrize("fill", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("width", "height"), [(192, 192), (400, 300), (300, 800)])
def test_the_product_share_is_measured_along_the_fuller_side(width: int, height: int, fill: float):
    assert product_share(packshot(width, height, fill=fill), WHITE) == pytest.approx(fill, abs=0.02)


def test_specks_are_no_product():
    pixels = np.full((400, 400, 3), 255, np.uint8)
    pixels[10, 10] = 0
    assert product_share(pixels, WHITE) == 0
    demanding = Profile(name="demanding", max_product_share=0.9)
    assert "no product stands out" in str(check(demanding, pixels).message)


def test_too_large_a_product_is_refused_when_a_profile_says_so():
    profile = Profile(name="google strict", min_product_share=0.75, max_product_share=0.9)
    assert check(profile, packshot(fill=0.8)).allowed
    assert "above 90%" in str(check(profile, packshot(fill=0.95)).message)


def test_no_share_is_demanded_where_a_lively_background_is_allowed():
    pixels = np.random.default_rng(1).integers(0, 256, size=(300, 300, 3)).astype(np.uint8)
    verdict = check(Profile(name="lifestyle", min_product_share=0.75), pixels)
    assert verdict.allowed
    assert "product_share" not in verdict.scores


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
def test_tiny_pictures_are_measured_without_an_error(shape: tuple[int, int]):
    pixels = np.full((*shape, 3), 255, np.uint8)
    assert measure_background(pixels, white=True, tolerance=0).share == 1
    assert check("amazon", pixels).reason is Reason.PROFILE


def test_the_digest_follows_the_demands_and_not_the_name(tmp_path: Path):
    def digest(text: str, name: str) -> str:
        (tmp_path / name).write_text(text, "utf-8")
        return Profile.load(str(tmp_path / name)).digest

    first = digest("min_width = 100", "a.toml")
    assert digest('# comment\nsource = "me"\nmin_width = 100', "b.toml") == first
    assert digest("min_width = 101", "a.toml") != first
    assert digest("min_width = 100\nmin_layers_psnr = 30", "a.toml") != first
    assert Profile.load("none").digest == Profile.load("default").digest


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("min_width = 0", "min_width"),
        ("background = 'blue'", "background"),
        ("min_product_share = 1.5", "min_product_share"),
        ("min_product_share = 0.9\nmax_product_share = 0.5", "min_product_share is above"),
        ("min_layers_psnr = -1", "min_layers_psnr"),
        ("colour = 1", "colour"),
        ("= =", "TOML"),
    ],
)
def test_a_malformed_profile_is_refused_with_its_file_and_field(tmp_path: Path, text: str, field: str):
    (tmp_path / "mine.toml").write_text(text, "utf-8")
    with pytest.raises(ProfileError, match=rf"mine\.toml.*{field}"):
        Profile.load(str(tmp_path / "mine.toml"))


def test_a_missing_profile_is_refused_with_the_shipped_names():
    with pytest.raises(ProfileError, match="shipped are amazon, default, google, none, shopify, white"):
        Profile.load("nowhere")
