"""What differs between a source and its aligned result: colours, structure and outlines, on the product and beside it.

Colour differences are CIEDE2000, of colours averaged over cells, as the formula is for patches of colour and not for
single pixels: 1 is just seen, 2 to 3 is seen side by side, 10 is another colour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from scipy.spatial import cKDTree
from skimage.color import deltaE_ciede2000
from skimage.metrics import structural_similarity

from safety.fidelity.registration import outlines

# The constants below decide measures: count `safety.fidelity.measuring.METHOD` up when one changes.
CELLS, LEAST_CELL = 96, 3.0  # along the shorter side, over which colours are averaged; and the least pixels of one
SPOT = 0.06  # of the shorter side: a spot of this width is what a person sees change on its own
RIM = 0.008  # of the shorter side: so near to its outline the product mixes with what lies behind it
SHADOW = 0.06  # of the shorter side: so near to the product its shadow lies, which isn't background
LEAST_CORE = 0.25  # of the product: where its rim leaves less, as of a chain, it is compared with its rim
SLACK = 0.006  # of the shorter side: an outline as near as this is the same one
SEEN, GONE = 0.35, 0.12  # strengths of an outline: one that is clearly there, and one that isn't any more
OVERLAY = 7.0  # CIEDE2000: where a banner or a watermark was taken away, a cell changed by more
EXAMPLES, NEIGHBOURS = 1024, 17  # cells by which a change of colours is known, and how many nearest ones vote
STROKE = 1.5  # cells: what changes over longer distances is shading, and no print
NO_COLOURS = 6.0  # CIEDE2000: what is further from its new colour is something else
LIGHT = 0.12  # of the shorter side: light changes over distances no shorter than this
NO_LIGHTNESS = 8.0  # times less that lightness counts where light may change
WINDOW = 7  # pixels of the cells' picture, over which structure is compared
RANGE = 100.0  # of lightness


@dataclass(frozen=True)
class Comparison:
    """Two pictures of one size, the product in one place, and where it is."""

    source: np.ndarray  # uint8 [H, W, 3]
    result: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # bool [H, W]
    shown: np.ndarray  # bool [H, W]: where both pictures show something

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return int(min(self.source.shape[:2]))

    @cached_property
    def core(self) -> np.ndarray:
        """Where there is nothing but product: bool [H, W]."""
        inner = _eroded(self.mask, RIM * self.side)
        return inner if inner.sum() >= LEAST_CORE * self.mask.sum() else self.mask

    @cached_property
    def beside(self) -> np.ndarray:
        """Where there is neither the product nor its shadow: bool [H, W]."""
        return np.asarray(~_dilated(self.mask, SHADOW * self.side) & self.shown)

    @cached_property
    def labs(self) -> tuple[np.ndarray, np.ndarray]:
        """Both pictures in CIELAB, averaged over cells: float32 [h, w, 3] each."""
        return self._by_cells(_lab(self.source)), self._by_cells(_lab(self.result))

    @cached_property
    def product_cells(self) -> np.ndarray:
        """How much of each cell is the product's core: float32 [h, w]; 0 of those that are less than half of it."""
        share = self._by_cells(self.core.astype(np.float32))
        return np.where(share >= 0.5, share, 0) if (share >= 0.5).any() else share

    @cached_property
    def difference(self) -> np.ndarray:
        """CIEDE2000 of every cell: [h, w]."""
        return np.asarray(deltaE_ciede2000(*self.labs), np.float32)

    @cached_property
    def tint_difference(self) -> np.ndarray:
        """CIEDE2000 of every cell with little weight on lightness, which light changes: [h, w]."""
        return np.asarray(deltaE_ciede2000(*self.labs, kL=NO_LIGHTNESS), np.float32)

    @cached_property
    def structure(self) -> np.ndarray:
        """SSIM of the lightness of every cell, after what light and colour explain was taken out: [h, w], at most 1."""
        before, after = (lab[..., 0] for lab in self.labs)
        _, likeness = structural_similarity(before, after, data_range=RANGE, win_size=self._window(), full=True)
        return np.asarray(likeness, np.float32)

    @cached_property
    def recoloured(self) -> np.ndarray:
        """What each cell of the product should have become, if it was only recoloured: CIELAB, float32 [h, w, 3].

        A product that was recoloured, and is the same otherwise, has one new colour for each old one, whatever they
        are. A cell's is the median of what became of the cells that had the nearest colours before.
        """
        before, after = self.labs
        there = self.product_cells > 0
        known = np.flatnonzero(there)
        some = np.random.default_rng(0).permutation(known)[:EXAMPLES]
        colours = before.reshape(-1, 3)
        count = min(NEIGHBOURS, len(some))
        _, nearest = cKDTree(colours[some]).query(colours[known], k=[*range(1, count + 1)])
        expected = after.copy()
        expected[there] = np.median(after.reshape(-1, 3)[some[nearest]], axis=1)
        return expected

    @cached_property
    def unexplained(self) -> np.ndarray:
        """CIEDE2000 of every cell to what a new colour makes of it, or to what it was, if that is nearer: [h, w]."""
        beyond = np.asarray(deltaE_ciede2000(self.recoloured, self.labs[1]), np.float32)
        return np.asarray(np.minimum(beyond, self.difference))

    @cached_property
    def redrawn(self) -> np.ndarray:
        """The same without what changes smoothly: [h, w], high where a print or a seam was drawn anew.

        White and black hide shading, which another colour shows, and two parts of one colour may get two: neither is
        as fine as a letter's stroke.
        """
        weight = self.product_cells
        beyond = (self.labs[1] - self.recoloured) * weight[..., None]
        around = np.maximum(cv2.GaussianBlur(weight, (0, 0), STROKE), 1e-3)[..., None]
        expected = self.recoloured + cv2.GaussianBlur(beyond, (0, 0), STROKE) / around
        finer = np.asarray(deltaE_ciede2000(expected, self.labs[1]), np.float32)
        return np.asarray(np.minimum(finer, self.difference))

    @cached_property
    def covered(self) -> np.ndarray:
        """Which cells something lay over that reaches beyond the product, and was taken away: bool [h, w]."""
        changed = (self.difference > OVERLAY).astype(np.uint8)
        _, parts = cv2.connectedComponents(changed, connectivity=8)
        outside = self._by_cells(self.beside.astype(np.float32)) >= 1
        reaching = np.unique(parts[outside & (changed > 0)])
        return np.isin(parts, reaching[reaching > 0])

    @property
    def covered_share(self) -> float:
        """The share of the product that was covered so."""
        return self.mean(self.covered.astype(np.float32))

    @cached_property
    def uncovered(self) -> Comparison:
        """The same pictures, compared where nothing lay over the product; all of it where everything was covered."""
        covered = cv2.resize(self.covered.astype(np.uint8), self.mask.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        rest = self.core & ~_dilated(covered, max(LEAST_CELL, self.side / CELLS))
        return replace(self, mask=rest) if rest.any() else self

    @property
    def light_change(self) -> float:
        """How unevenly lightness changed over the picture, in its units: the spread of its smooth change."""
        change = self.labs[1][..., 0] - self.labs[0][..., 0]
        weight = self._by_cells(self.shown.astype(np.float32))
        width = LIGHT * min(weight.shape)
        smooth = cv2.GaussianBlur(change * weight, (0, 0), width) / np.maximum(
            cv2.GaussianBlur(weight, (0, 0), width), 1e-6
        )
        low, high = np.percentile(smooth[weight >= 0.5], (5, 95))
        return float(high - low)

    def mean(self, cells: np.ndarray) -> float:
        """Return the mean over the product of what was measured of each cell."""
        weight = self.product_cells
        return float((cells * weight).sum() / weight.sum())

    def worst_spot(self, cells: np.ndarray) -> float:
        """Return the highest mean over any spot of the product of what was measured of each cell."""
        return _worst_spot(cells, self.product_cells)

    def beside_mean(self, cells: np.ndarray) -> float | None:
        """Return the mean beside the product of what was measured of each cell; None where it leaves nothing."""
        there = self._by_cells(self.beside.astype(np.float32)) >= 0.5
        return float(cells[there].mean()) if there.any() else None

    def lost_outlines(self) -> float:
        """Return which share of the product's outlines is gone in the spot where most are; 0 where it has none.

        An outline that is lost in its background counts only where no change of colours explains what is beside it: a
        white product on white has hardly any.
        """
        before, after = outlines(self.source), outlines(self.result)
        near = np.asarray(cv2.dilate(after, _disc(SLACK * self.side)))
        other = (self.unexplained > NO_COLOURS) & (self.product_cells > 0)
        around = np.asarray(cv2.dilate(other.astype(np.uint8), np.ones((5, 5), np.uint8)))
        beside = cv2.resize(around, self.mask.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        clear = (before >= SEEN) & _dilated(self.mask, SLACK * self.side)
        width = max(5, round(2 * SPOT * self.side) | 1)
        there = cv2.blur(clear.astype(np.float32), (width, width), borderType=cv2.BORDER_CONSTANT)
        gone = cv2.blur(
            (clear & beside & (near < GONE)).astype(np.float32), (width, width), borderType=cv2.BORDER_CONSTANT
        )
        enough = there >= max(1.0 / width, 1e-6)
        return float((gone[enough] / there[enough]).max()) if enough.any() else 0.0

    def beside_worst(self, cells: np.ndarray) -> float | None:
        """Return the highest mean over any spot beside the product; None where there is nothing."""
        there = self._by_cells(self.beside.astype(np.float32))
        return _worst_spot(cells, there) if (there >= 0.5).any() else None

    def changed(self, cells: np.ndarray, least: float) -> float:
        """Return the share of all cells that changed by more than `least`."""
        there = self._by_cells(self.shown.astype(np.float32)) >= 0.5
        return float((cells[there] > least).mean()) if there.any() else 0.0

    def _by_cells(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        step = max(LEAST_CELL, self.side / CELLS)
        size = (max(1, round(width / step)), max(1, round(height / step)))
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

    def _window(self) -> int:
        shortest = int(min(self.product_cells.shape))
        return min(WINDOW, shortest if shortest % 2 else shortest - 1)


def _worst_spot(cells: np.ndarray, weight: np.ndarray) -> float:
    """Return the highest weighted mean of cells, [h, w], over any spot that is at least half inside."""
    width = max(3, round(SPOT * min(weight.shape)) | 1)
    inside = cv2.blur(weight, (width, width), borderType=cv2.BORDER_CONSTANT)
    value = cv2.blur((cells * weight).astype(np.float32), (width, width), borderType=cv2.BORDER_CONSTANT)
    enough = inside >= min(0.5, float(inside.max()))
    return float((value[enough] / inside[enough]).max())


def _lab(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _disc(radius: float) -> np.ndarray:
    width = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))


def _eroded(mask: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(cv2.erode(mask.astype(np.uint8), _disc(radius), borderValue=1)) > 0


def _dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _disc(radius))) > 0
