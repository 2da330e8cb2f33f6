"""The source's own product laid back over an edited result: exact by construction, where only the scene was to change.

    check_keeps(instruction)                            # refuses one that means to change the product
    pixels = keep_product(source, result, mask)         # uint8 [H, W, 3], of the result's size

The shadow is left to the model. Where the result has the source's size and its product in place, the product's core is
the source's pixels, byte for byte; elsewhere they are scaled once.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from safety.fidelity.frames import PairError, eight_bits, fit_of
from safety.fidelity.instruction import Instruction, InstructionError
from safety.fidelity.measuring import METHOD as MEASURED
from safety.fidelity.measuring import EditedPair
from safety.fidelity.product_mask import COVERED, ProductMask

METHOD = f"1 {MEASURED}"  # part of the key of what is made so: count its first number up when pixels change
FEATHER = 0.004  # of the shorter side: over so many pixels inside of its outline the product fades into the scene
FOUND = 0.55  # correlation of outlines: another product in its place has 0.5 at most, an altered label 0.7
AS_LARGE = 0.004  # a product that was zoomed by less has its size, and is moved by whole pixels, which changes none


def check_keeps(instruction: Instruction) -> None:
    """Refuse an instruction that means to change the product: nothing of its result would be left.

    Raises:
        InstructionError: with a sentence.
    """
    if not instruction.keep_product:
        raise InstructionError(
            f'keep = "product" can\'t be used with the instruction {instruction.name}, which changes the product: its '
            "file says keep_product = false."
        )


def keep_product(source: np.ndarray, result: np.ndarray, mask: ProductMask) -> np.ndarray:
    """Return a result with the source's own product: uint8 [H, W, 3].

    The product goes where the model put it, and keeps the source's pixels where that is where it was.

    Args:
        source: as `safety.fidelity.fidelity_gate.judge_edit` takes it.
        result: the same.
        mask: where the source's product is.

    Raises:
        PairError: if the pictures can't be compared, or the result shows the product nowhere.
    """
    before = eight_bits(source, "The source")
    pair = EditedPair(source, result, mask)
    after = pair.after
    if pair.registration.likeness < FOUND:
        raise PairError(
            f"The product wasn't found in the result: its outlines agree by {pair.registration.likeness:.2f} at best, "
            f"below {FOUND:g}, so that nobody knows where its own pixels belong."
        )
    size = (after.shape[1], after.shape[0])
    to_result = _source_to_result(pair, size)
    cover = _warped(feathered(mask.cover), to_result, size)
    if before.shape[2] == 4:
        cover = np.minimum(cover, _warped(before[..., 3], to_result, size))
    product = _warped(np.ascontiguousarray(before[..., :3]), to_result, size)
    share = cover.astype(np.float32) / 255
    return np.stack([_mixed(product[..., channel], after[..., channel], share) for channel in range(3)], axis=-1)


def feathered(cover: np.ndarray) -> np.ndarray:
    """Return a mask, uint8 [H, W], that falls from 255 in the product's core to 0 at its outline."""
    inside = (cover >= COVERED).astype(np.uint8)
    width = max(1.0, FEATHER * min(cover.shape))
    # Nothing lies beyond the frame: where it cuts the product off there is no outline.
    padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    fading = np.clip(depth / (1 + width), 0, 1)
    soft: np.ndarray = (np.minimum(fading, np.where(cover >= COVERED, 1, 0)) * 255 + 0.5).astype(np.uint8)
    return soft


def _mixed(product: np.ndarray, scene: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return a product, uint8 [H, W], over a scene by its share of each pixel: where that is all, the product alone."""
    mixed: np.ndarray = (product * share + scene * (1 - share) + 0.5).astype(np.uint8)
    return np.where(share == 1, product, mixed)


def _source_to_result(pair: EditedPair, size: tuple[int, int]) -> np.ndarray:
    """Return the affine map from the source's pixels to the result's: float64 [2, 3]."""
    columns, rows = pair.source.shape[1], pair.source.shape[0]
    found, frame = pair.registration, pair.frame
    up = np.array([size[0] / frame.size[0], size[1] / frame.size[1]])
    if abs(found.zoom - 1) <= AS_LARGE:
        moved = fit_of((columns, rows), size).matrix()
        moved[:, 2] += np.round(np.array(found.shift) * up)
        return moved
    enlarged = np.array([[up[0], 0, (up[0] - 1) / 2], [0, up[1], (up[1] - 1) / 2]])
    return _then(_then(frame.fit.matrix(), found.matrix()), enlarged)


def _then(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the map that applies one after another, both [2, 3]."""
    last = np.array([[0.0, 0.0, 1.0]])
    both: np.ndarray = (np.concatenate([second, last]) @ np.concatenate([first, last]))[:2]
    return both


def _warped(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture, [H, W] or [H, W, C], in the result's frame; its edge goes on beside it."""
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    interpolation = cv2.INTER_CUBIC
    if np.allclose(matrix[:, :2], np.eye(2)) and np.allclose(matrix[:, 2], np.round(matrix[:, 2])):
        interpolation = cv2.INTER_NEAREST  # whole pixels are moved, and none is changed
    elif scale < 1:  # averaged first, so that nothing between two pixels is lost
        smaller = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        ratio = np.array([picture.shape[1] / smaller[0], picture.shape[0] / smaller[1]])
        back = np.array([[ratio[0], 0, (ratio[0] - 1) / 2], [0, ratio[1], (ratio[1] - 1) / 2]])
        picture, matrix = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA), _then(back, matrix)
    return np.asarray(cv2.warpAffine(picture, matrix, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE))
