"""Profiles: what a marketplace demands of a picture, in one TOML file each."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json

from safety.deciding import deciding
from safety.pictures.label import LabelText
from safety.pictures.measures import Box, edge_width, expect_rgb, measure_background, product_box
from safety.pictures.picture_file import EXTENSIONS, PictureFile
from safety.toml_file import TomlError, problems_of, read_toml
from safety.verdict import Reason, Verdict, allow, refuse

SHIPPED = Path(__file__).parents[1] / "profiles"
METHOD = 2  # part of the digest: count it up when the measuring of pictures, or that of layers, changes

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0)]
ColorSpace = Literal["srgb", "cmyk", "grey"]


class ProfileError(ValueError):
    """A profile that can't be used; the message names the file and the field."""


class Profile(BaseModel):
    """A marketplace's demands; what is None isn't demanded. Sizes are in pixels, bytes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FIRST_FIELDS: ClassVar = (
        "formats",
        "extension",
        "color_spaces",
        "min_width",
        "min_height",
        "min_longest_side",
        "max_longest_side",
        "max_pixels",
        "max_bytes",
        "background",
        "background_tolerance",
        "background_share",
        "background_shadows",
        "min_product_share",
        "max_product_share",
        "max_transparent",
        "max_edge_width",
        "concepts",
        "unlike_others",
        "visible_label",
        "aigc",
        "content_credentials",
        "min_layers_psnr",
    )

    name: str
    source: str = ""  # where the numbers come from, and the date they were read
    formats: tuple[str, ...] | None = None  # as Pillow spells them, in lower case: "png", "jpeg"
    extension: bool = False  # the file's name has to end as its content is called
    color_spaces: tuple[ColorSpace, ...] | None = None
    min_width: Count | None = None
    min_height: Count | None = None
    min_longest_side: Count | None = None
    max_longest_side: Count | None = None
    max_pixels: Count | None = None
    max_bytes: Count | None = None
    background: Literal["any", "white", "plain"] = "any"
    background_tolerance: Annotated[int, Field(ge=0, le=255)] = 8  # per channel, from white or from the band's median
    background_share: Share = 0.97  # of the border band that has to be background
    background_shadows: bool = True  # a soft shadow on the ground that reaches the border is background, too
    min_product_share: Share | None = None  # longer side of the product's box, of the frame's same side
    max_product_share: Share | None = None
    max_transparent: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of pixels that aren't opaque
    # pixels, of the sharpest edges: see `safety.pictures.measures`
    max_edge_width: Annotated[float, Field(ge=1)] | None = None
    concepts: tuple[str, ...] = ()  # of the policy, that a picture mayn't reach, whatever the policy does then
    unlike_others: bool = False  # not the same picture as that of an earlier row: see `safety.pictures.likeness`
    visible_label: LabelText | None = None  # drawn into a corner: see `safety.pictures.label`
    aigc: bool = False  # the implicit label of GB 45438-2025: see `safety.marks.provenance`
    content_credentials: bool = False  # C2PA: see `safety.marks.credentials`
    # In dB, of a picture's layers put together again: see `safety.pictures.layers`. A decoder's noise (5 of 255 in each
    # value) leaves 29 and more; what is refused of drawings that lost a part is measured by `benchmarks.layers`.
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
        """Read a shipped profile by its name ("amazon-main"), or any other by its path.

        Raises:
            ProfileError: if the file is missing or malformed.
        """
        is_path = name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path
        path = Path(name_or_path) if is_path else SHIPPED / f"{name_or_path}.toml"
        try:
            return cls(**{"name": path.stem} | read_toml(path))
        except FileNotFoundError:
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
            raise ProfileError(f"There is no profile {name_or_path}; shipped are {shipped}.") from None
        except TomlError as error:
            raise ProfileError(f"The profile {path} {error}.") from None
        except ValidationError as error:
            raise ProfileError(f"The profile {path}: {next(problems_of(error, cls))}.") from None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides a verdict: the method, and all fields but the name and the source.

        A field that came later is left out where it is its default: see `safety.deciding`.
        """
        fields = to_json(deciding(self, exclude=("name", "source")), inf_nan_mode="null")
        return hashlib.sha256(f"{METHOD} ".encode() + fields).hexdigest()

    def concepts_beyond(self, looked_for: Collection[str]) -> list[str]:
        """Return the concepts that this profile names and that a policy, which looks for these, doesn't look for."""
        return [name for name in self.concepts if name not in looked_for]

    def check(
        self, pixels: np.ndarray, file: PictureFile, *, extension: str, concepts: Mapping[str, tuple[float, float]]
    ) -> Verdict:
        """Check a picture against every demand; the message names all that it breaks.

        Args:
            pixels: uint8 [H, W, 3], without a visible label.
            file: what its bytes say.
            extension: how its name in the store ends, without the dot.
            concepts: how near the picture comes to what the policy looks for, by name: the score, and the score from
                which on it shows that. One that the profile names and that isn't here counts as shown.

        Raises:
            ValueError: if `pixels` is any other kind of array.
        """
        expect_rgb(pixels)
        broken = self._check_file(pixels.shape[1], pixels.shape[0], file, extension)
        broken += self._check_concepts(concepts)
        scores: dict[str, float] = {}
        for problems, measured in (self._check_frame(pixels), self._check_edges(pixels)):
            broken += problems
            scores |= measured
        if broken:
            message = f"The picture doesn't meet the profile “{self.name}”: {'; '.join(broken)}."
            return refuse(Reason.PROFILE, message, scores)
        return allow(scores)

    def check_transparency(self, transparent: float) -> Verdict:
        """Check what share of a picture's pixels isn't opaque, where that is all there is to check."""
        scores = {"transparent": transparent}
        if problems := self._check_transparent(transparent):
            return refuse(Reason.PROFILE, f"The picture doesn't meet the profile “{self.name}”: {problems[0]}.", scores)
        return allow(scores)

    def _check_file(self, width: int, height: int, file: PictureFile, extension: str) -> list[str]:
        broken = []
        if self.formats is not None and file.format not in self.formats:
            broken.append(f"{file.format} isn't one of {', '.join(self.formats)}")
        if self.extension and extension.lower() not in EXTENSIONS.get(file.format, (file.format,)):
            broken.append(f"it is called .{extension} and holds {file.format}")
        if self.color_spaces is not None and file.color_space not in self.color_spaces:
            broken.append(f"its colours are {file.color_space}, not {' or '.join(self.color_spaces)}")
        for what, is_, least in (
            ("width", width, self.min_width),
            ("height", height, self.min_height),
            ("longest side", max(width, height), self.min_longest_side),
        ):
            if least is not None and is_ < least:
                broken.append(f"its {what} is {is_:,} pixels, below {least:,}")
        for what, is_, most, unit in (
            ("longest side", max(width, height), self.max_longest_side, "pixels"),
            ("area", width * height, self.max_pixels, "pixels"),
            ("size", file.size_bytes, self.max_bytes, "bytes"),
        ):
            if most is not None and is_ > most:
                broken.append(f"its {what} is {is_:,} {unit}, above {most:,}")
        return broken + self._check_transparent(file.transparent)

    def _check_transparent(self, transparent: float) -> list[str]:
        if transparent <= self.max_transparent:
            return []
        return [f"{_percent(transparent)} of its pixels are transparent, above {_percent(self.max_transparent)}"]

    def _check_concepts(self, concepts: Mapping[str, tuple[float, float]]) -> list[str]:
        broken = []
        for name in self.concepts:
            label = name.replace("_", " ")
            if name not in concepts:
                broken.append(f"nobody could say whether it shows “{label}”")
            elif concepts[name][0] >= concepts[name][1]:
                score, limit = concepts[name]
                broken.append(f"it comes too close to “{label}” ({score:.3f}, limit {limit:.3f})")
        return broken

    def _check_frame(self, pixels: np.ndarray) -> tuple[list[str], dict[str, float]]:
        """Check the background, and the product's share of the frame."""
        measures_product = self.min_product_share is not None or self.max_product_share is not None
        if self.background == "any" and not measures_product:
            return [], {}
        ground = measure_background(
            pixels,
            white=self.background == "white",
            tolerance=self.background_tolerance,
            shadows=self.background_shadows,
        )
        scores = {"background": ground.share}
        if ground.share < self.background_share:
            # On a lively background there is no box to measure, and a profile that allows one doesn't ask for it.
            if self.background == "any":
                return [], scores
            colour = (
                "exactly white" if self.background == "white" and not self.background_tolerance else self.background
            )
            return [f"its border is {_percent(ground.share)} {colour}, below {_percent(self.background_share)}"], scores
        if not measures_product:
            return [], scores
        box, height, width = product_box(pixels, ground.colour), *pixels.shape[:2]
        share = box.share_of(width, height) if box else 0.0
        return self._check_share(box, share, width, height), scores | {"product_share": share}

    def _check_share(self, box: Box | None, share: float, width: int, height: int) -> list[str]:
        if box is None:
            return ["no product stands out from its background"]
        where = f"the product fills {_percent(share)} of the frame, from {box} of {width} × {height},"
        if self.min_product_share is not None and share < self.min_product_share:
            return [f"{where} below {_percent(self.min_product_share)}"]
        if self.max_product_share is not None and share > self.max_product_share:
            return [f"{where} above {_percent(self.max_product_share)}"]
        return []

    def _check_edges(self, pixels: np.ndarray) -> tuple[list[str], dict[str, float]]:
        if self.max_edge_width is None:
            return [], {}
        width = edge_width(pixels)
        if width is None:
            return ["it has no edge that stands out: nothing on it is sharp"], {}
        scores = {"edge_width": width}
        if width <= self.max_edge_width:
            return [], scores
        return [f"it is blurred: its sharpest edges are {width:.1f} pixels wide, above {self.max_edge_width:g}"], scores


def _percent(share: float) -> str:
    """Return a share as a person reads it, to a tenth of a percent, and never rounded up to all or down to nothing."""
    tenths = round(1000 * share)
    if 0 < share < 1:
        tenths = min(max(tenths, 1), 999)
    return f"{tenths / 10:g} %"
