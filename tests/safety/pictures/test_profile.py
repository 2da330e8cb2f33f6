from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from safety.pictures.picture_file import PictureFile
from safety.pictures.profile import SHIPPED, Profile, ProfileError
from safety.verdict import Reason, Verdict

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


def check(
    profile: str | Profile,
    pixels: np.ndarray,
    *,
    kind: str = "jpeg",
    extension: str = "jpg",
    concepts: dict[str, tuple[float, float]] | None = None,
    **file: object,
) -> Verdict:
    profile = Profile.load(profile) if isinstance(profile, str) else profile
    whole = {"size_bytes": 100_000, "color_space": "srgb", "transparent": 0.0, **file}
    near = dict.fromkeys(profile.concepts, (-0.1, 0.0)) if concepts is None else concepts
    return profile.check(pixels, PictureFile(kind, **whole), extension=extension, concepts=near)


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
        (packshot(900, 900), "longest side is 900 pixels, below 1,000"),
        (packshot(ground=(250, 250, 250)), "its border is 0 % exactly white, below 97 %"),
        (packshot(frame=(200, 0, 0)), "exactly white, below 97 %"),
        (packshot(fill=0.5), "fills 50.1 % of the frame, from 300, 300 to 901, 901 of 1200 × 1200, below 85 %"),
    ],
    ids=["small", "off-white", "framed", "lost in its frame"],
)
def test_amazon_demands_a_large_product_on_pure_white(pixels: np.ndarray, complaint: str):
    verdict = check("amazon-main", pixels)
    assert verdict.reason is Reason.PROFILE
    assert verdict.message is not None
    assert complaint in verdict.message
    assert "“amazon-main”" in verdict.message


def test_google_limits_size_area_and_format():
    assert "width is 400" in str(check("google-merchant", packshot(400, 1200)).message)
    assert "above 16,000,000" in str(check("google-merchant", packshot(), size_bytes=16_000_001).message)
    assert "avif isn't one of" in str(check("google-merchant", packshot(), kind="avif").message)
    assert check("google-merchant", packshot(), kind="webp", extension="webp").allowed
    assert check("google-merchant", packshot(), kind="jpeg", extension="jpg").allowed
    tight = Profile(name="tight", max_pixels=10)
    assert "area is 1,440,000 pixels, above 10" in str(check(tight, packshot()).message)


def test_shopify_limits_the_longest_side():
    assert "5,001" in str(check("shopify", np.full((1, 5001, 3), 255, np.uint8)).message)


def test_all_faults_are_named_at_once():
    message = str(check("amazon-main", packshot(300, 300, ground=(9, 9, 9)), kind="webp").message)
    assert all(fault in message for fault in ("webp", "300", "white"))


def test_plain_takes_small_pictures_and_a_decoders_ripple():
    ripple = np.random.default_rng(2).integers(-6, 1, size=(192, 192, 3))
    assert check("plain", (packshot(192, 192, fill=0.6) + ripple).clip(0, 255).astype(np.uint8)).allowed
    assert check("plain", packshot(192, 192, ground=(235, 235, 235), fill=0.6)).reason is Reason.PROFILE
    assert check("plain", packshot(192, 192, frame=(255, 0, 0), fill=0.6)).reason is Reason.PROFILE
    assert check("plain", packshot(190, 190)).reason is Reason.PROFILE


def test_a_soft_shadow_on_the_ground_is_background_but_a_dark_top_is_not():
    shadowed = packshot(400, 400, fill=0.6, shadow=True)
    assert check("plain", shadowed).allowed
    assert check("plain", shadowed[::-1].copy()).reason is Reason.PROFILE


def test_a_coloured_patch_on_the_ground_is_no_shadow():
    pixels = packshot(400, 400, fill=0.6)
    pixels = pixels.copy()
    pixels[-30:] = (255, 200, 200)
    assert check("plain", pixels).reason is Reason.PROFILE


def test_a_plain_background_may_have_any_colour_but_only_one():
    plain = Profile(name="plain", background="plain", min_product_share=0.5)
    for ground in (WHITE, (30, 30, 30), (200, 120, 40)):
        assert check(plain, packshot(400, 400, ground=ground, fill=0.6)).allowed
    split = packshot(400, 400, fill=0.6).copy()
    split[:, :200][split[:, :200].min(axis=2) == 255] = (0, 0, 0)
    assert check(plain, split).reason is Reason.PROFILE


def test_specks_are_no_product():
    pixels = np.full((400, 400, 3), 255, np.uint8)
    pixels[10, 10] = 0
    demanding = Profile(name="demanding", max_product_share=0.9)
    assert "no product stands out" in str(check(demanding, pixels).message)


def test_too_large_a_product_is_refused_when_a_profile_says_so():
    profile = Profile(name="google strict", min_product_share=0.75, max_product_share=0.9)
    assert check(profile, packshot(fill=0.8)).allowed
    assert "above 90 %" in str(check(profile, packshot(fill=0.95)).message)


def test_no_share_is_demanded_where_a_lively_background_is_allowed():
    pixels = np.random.default_rng(1).integers(0, 256, size=(300, 300, 3)).astype(np.uint8)
    verdict = check(Profile(name="lifestyle", min_product_share=0.75), pixels)
    assert verdict.allowed
    assert "product_share" not in verdict.scores


@pytest.mark.parametrize(
    ("demand", "file", "complaint"),
    [
        ({"extension": True}, {"kind": "webp", "extension": "png"}, "it is called .png and holds webp"),
        ({"color_spaces": ("srgb",)}, {"color_space": "cmyk"}, "its colours are cmyk, not srgb"),
        ({"max_transparent": 0.0}, {"transparent": 0.25}, "25 % of its pixels are transparent, above 0 %"),
        ({"max_transparent": 0.0}, {"transparent": 1e-6}, "0.1 % of its pixels are transparent, above 0 %"),
        ({"max_bytes": 99_999}, {}, "its size is 100,000 bytes, above 99,999"),
    ],
)
def test_what_the_bytes_say_is_measured_against_its_limit(demand: dict, file: dict, complaint: str):
    verdict = check(Profile(name="strict", **demand), packshot(200, 200), **file)
    assert verdict.reason is Reason.PROFILE
    assert complaint in str(verdict.message)
    assert check(Profile(name="any"), packshot(200, 200), **file).allowed


def test_a_blurred_picture_is_refused_with_the_width_of_its_edges():
    sharp = packshot()
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(4)))
    verdict = check("amazon-main", blurred)
    assert "it is blurred: its sharpest edges are 10.3 pixels wide, above 4." in str(verdict.message)
    assert check("amazon-main", sharp).scores["edge_width"] == 1
    nothing = np.full((1200, 1200, 3), 128, np.uint8)
    assert "no edge that stands out" in str(check(Profile(name="sharp", max_edge_width=4), nothing).message)


def test_a_concept_that_a_profile_names_is_refused_and_so_is_one_that_nobody_judged():
    profile = Profile(name="bare", concepts=("text_banner", "watermark"))
    shown = {"text_banner": (0.02, 0.0), "watermark": (-0.1, 0.0)}
    message = str(check(profile, packshot(200, 200), concepts=shown).message)
    assert "it comes too close to “text banner” (0.020, limit 0.000)" in message
    assert "watermark" not in message
    assert "nobody could say whether it shows “watermark”" in str(
        check(profile, packshot(200, 200), concepts={"text_banner": (-0.1, 0.0)}).message
    )
    assert profile.concepts_beyond(["text_banner"]) == ["watermark"]


def test_a_shadow_at_the_border_is_not_exactly_white():
    shadowed = packshot(shadow=True)
    assert "exactly white" in str(check("amazon-main", shadowed).message)
    assert check(Profile(name="soft", background="white", background_tolerance=0), shadowed).allowed


def test_transparency_alone_can_be_checked():
    profile = Profile(name="opaque", max_transparent=0.0)
    assert profile.check_transparency(0.0).allowed
    verdict = profile.check_transparency(0.5)
    assert verdict.message == (
        "The picture doesn't meet the profile “opaque”: 50 % of its pixels are transparent, above 0 %."
    )


def test_tiny_pictures_are_refused_without_an_error():
    assert check("amazon-main", np.full((2, 3, 3), 255, np.uint8)).reason is Reason.PROFILE


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_rule_of_a_shipped_profile_says_where_it_comes_from_and_when(path: Path):
    for line in path.read_text("utf-8").splitlines():
        if " = " in line and not line.startswith(("#", "source", "concepts", "background = ")):
            assert "#" in line, line
    assert "2026" in Profile.load(path.stem).source or Profile.load(path.stem).source == "none"


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
        ("max_edge_width = 0.5", "max_edge_width"),
        ("color_spaces = ['rgb']", "color_spaces"),
        ("visible_label = 'generated'", "visible_label"),
        ("colour = 1", "colour"),
        ("= =", "TOML"),
    ],
)
def test_a_malformed_profile_is_refused_with_its_file_and_field(tmp_path: Path, text: str, field: str):
    (tmp_path / "mine.toml").write_text(text, "utf-8")
    with pytest.raises(ProfileError, match=rf"mine\.toml.*{field}"):
        Profile.load(str(tmp_path / "mine.toml"))


def test_a_missing_profile_is_refused_with_the_shipped_names():
    with pytest.raises(
        ProfileError, match="shipped are amazon-main, china, default, google-merchant, none, plain, shopify"
    ):
        Profile.load("nowhere")
