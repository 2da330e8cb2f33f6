"""Profiles: what a marketplace demands of a picture, in one TOML file each."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from safety.verdict import Reason, Verdict, allow, refuse

SHIPPED = Path(__file__).parent / "profiles"
METHOD = 1  # part of the digest: count it up when the measuring below, or that of layers, changes

BAND = 0.02  # of the shorter side: the border band that shows the background
SHADOW = 96  # of 255: how much darker than the background a soft shadow may be
NEUTRAL = 14  # of 255: a shadow has the background's hue within this
STANDS_OUT = 20  # of 255: a product differs from the background by more
SPECKS = 0.004  # of a row or column: fewer product pixels than this are noise

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0)]


class ProfileError(ValueError):
    """A profile that can't be used; the message names the file and the field."""


class Profile(BaseModel):
    """A marketplace's demands; what is None isn't demanded. Sizes are in pixels, bytes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = ""  # where the numbers come from, and the date they were read
    formats: tuple[str, ...] | None = None  # as Pillow spells them, in lower case: "png", "jpeg"
    min_width: Count | None = None
    min_height: Count | None = None
    min_longest_side: Count | None = None
    max_longest_side: Count | None = None
    max_pixels: Count | None = None
    max_bytes: Count | None = None
    background: Literal["any", "white", "plain"] = "any"
    background_tolerance: Annotated[int, Field(ge=0, le=255)] = 8  # per channel, from white or from the band's median
    background_share: Share = 0.97  # of the border band that has to be background
    min_product_share: Share | None = None  # longer side of the product's box, of the frame's same side
    max_product_share: Share | None = None
    # In dB, of a picture's layers put together again: see `safety.layers`. A decoder's noise (5 of 255 in each value)
    # leaves 29 and more; what is refused of drawings that lost a part is measured by `benchmarks.layers`.
    min_layers_psnr: Annotated[float, Field(ge=0, le=100)] = 26.0

    @model_validator(mode="after")
    def _least_below_most(self) -> Self:
        for least, most in (("min_longest_side", "max_longest_side"), ("min_product_share", "max_product_share")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{least} is above {most}")
        return self

    @classmethod
    def load(cls, name_or_path: str) -> Profile:
        """Read a shipped profile by its name ("amazon"), or any other by its path.

        Raises:
            ProfileError: if the file is missing or malformed.
        """
        is_path = name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path
        path = Path(name_or_path) if is_path else SHIPPED / f"{name_or_path}.toml"
        try:
            fields = tomllib.loads(path.read_text("utf-8"))
            return cls(**{"name": path.stem} | fields)
        except FileNotFoundError:
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
            raise ProfileError(f"There is no profile {name_or_path}; shipped are {shipped}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"The profile {path} isn't TOML: {error}.") from None
        except OSError as error:
            raise ProfileError(f"The profile {path} can't be read: {error.strerror}.") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "limits"
            raise ProfileError(f"The profile {path}, field {field}: {first['msg']}.") from None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides a verdict: all fields but the name and the source."""
        decides = f"{METHOD} {self.model_dump_json(exclude={'name', 'source'})}"
        return hashlib.sha256(decides.encode()).hexdigest()

    def check(self, pixels: np.ndarray, *, format: str, size_bytes: int) -> Verdict:  # noqa: A002
        """Check a picture against every demand; the message names all that it breaks.

        Args:
            pixels: uint8 [H, W, 3].
            format: the encoded file's format, "png", "jpeg" or "webp".
            size_bytes: the encoded file's size.

        Raises:
            ValueError: if `pixels` is any other kind of array.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"A picture is uint8 [H, W, 3]; this is {pixels.dtype} {list(pixels.shape)}.")
        broken = self._check_file(pixels.shape[1], pixels.shape[0], format, size_bytes)
        scores: dict[str, float] = {}
        if self.background != "any" or self.min_product_share or self.max_product_share:
            ground = measure_background(pixels, white=self.background == "white", tolerance=self.background_tolerance)
            scores["background"] = ground.share
            if self.background != "any" and ground.share < self.background_share:
                broken.append(
                    f"its border is {ground.share:.0%} {self.background} ({self.background_share:.0%} needed)"
                )
            # On a lively background there is no box to measure, and a profile that allows one doesn't ask for it.
            elif ground.share >= self.background_share and (self.min_product_share or self.max_product_share):
                share = product_share(pixels, ground.colour)
                scores["product_share"] = share
                broken += self._check_share(share)
        if broken:
            message = f"The picture doesn't meet the profile “{self.name}”: {'; '.join(broken)}."
            return refuse(Reason.PROFILE, message, scores)
        return allow(scores)

    def _check_file(self, width: int, height: int, format: str, size_bytes: int) -> list[str]:  # noqa: A002
        broken = []
        spelled = {"jpg": "jpeg", "tif": "tiff"}.get(format.lower(), format.lower())
        if self.formats is not None and spelled not in self.formats:
            broken.append(f"{spelled} isn't one of {', '.join(self.formats)}")
        for what, is_, least in (
            ("width", width, self.min_width),
            ("height", height, self.min_height),
            ("longest side", max(width, height), self.min_longest_side),
        ):
            if least is not None and is_ < least:
                broken.append(f"its {what} is {is_} pixels, below {least}")
        for what, is_, most, unit in (
            ("longest side", max(width, height), self.max_longest_side, "pixels"),
            ("area", width * height, self.max_pixels, "pixels"),
            ("size", size_bytes, self.max_bytes, "bytes"),
        ):
            if most is not None and is_ > most:
                broken.append(f"its {what} is {is_:,} {unit}, above {most:,}")
        return broken

    def _check_share(self, share: float) -> list[str]:
        if share == 0:
            return ["no product stands out from its background"]
        if self.min_product_share is not None and share < self.min_product_share:
            return [f"the product fills {share:.0%} of the frame, below {self.min_product_share:.0%}"]
        if self.max_product_share is not None and share > self.max_product_share:
            return [f"the product fills {share:.0%} of the frame, above {self.max_product_share:.0%}"]
        return []


class Ground(BaseModel):
    """The background as the border band shows it."""

    model_config = ConfigDict(frozen=True)

    colour: tuple[int, int, int]
    share: float  # of the band that has this colour


def measure_background(pixels: np.ndarray, *, white: bool, tolerance: int) -> Ground:
    """Measure how much of the picture's border band is white, or one plain colour (its median).

    The top edge and the upper three quarters of the sides are taken strictly. Products stand on the ground, so in the
    lower quarter a soft shadow also counts as background: darker by at most `SHADOW`, but of the same hue.

    Args:
        pixels: uint8 [H, W, 3].
    """
    height, width = pixels.shape[:2]
    band = max(1, round(BAND * min(height, width)))
    lower = height - max(band, height // 4)
    strict = np.concatenate(
        [
            pixels[:band].reshape(-1, 3),
            pixels[band:lower, :band].reshape(-1, 3),
            pixels[band:lower, -band:].reshape(-1, 3),
        ]
    ).astype(np.int16)
    lenient = np.concatenate(
        [
            pixels[lower:-band, :band].reshape(-1, 3),
            pixels[lower:-band, -band:].reshape(-1, 3),
            pixels[-band:].reshape(-1, 3),
        ]
    ).astype(np.int16)
    colour = np.full(3, 255) if white else np.median(strict, axis=0).astype(np.int16)
    darker = colour - lenient  # [N, 3]
    shadow = (darker.min(axis=1) >= -tolerance) & (darker.max(axis=1) <= SHADOW) & (np.ptp(darker, axis=1) <= NEUTRAL)
    fits = np.concatenate(
        [
            (np.abs(strict - colour) <= tolerance).all(axis=1),
            (np.abs(darker) <= tolerance).all(axis=1) | shadow,
        ]
    )
    red, green, blue = map(int, colour)
    return Ground(colour=(red, green, blue), share=float(fits.mean()))


def product_share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    """How much of the frame the product fills: its box's side over the frame's, for the larger of the two.

    The box holds every row and column in which more than specks differ from the background `colour`. By sides and not
    by area, because an upright umbrella fills its frame, too. 0 when nothing stands out.
    """
    differs = (np.abs(pixels.astype(np.int16) - np.array(colour, dtype=np.int16)) > STANDS_OUT).any(axis=2)  # [H, W]
    shares = []
    for axis in (0, 1):
        marked = np.flatnonzero(differs.mean(axis=axis) > SPECKS)
        if not marked.size:
            return 0.0
        shares.append((marked[-1] - marked[0] + 1) / differs.shape[1 - axis])
    return float(max(shares))
