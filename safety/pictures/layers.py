"""Layers of a picture: put together again they are the picture, and each of them shows something of its own."""

from __future__ import annotations

import numpy as np

from safety.pictures.channels import without_alpha
from safety.verdict import Reason, Verdict, allow, refuse, strictest

# The constants below decide verdicts: count `safety.pictures.profile.METHOD` up when one changes.
VISIBLE = 16  # of 255: alpha above this is seen; decoders leave less of it where nothing is
LEAST_VISIBLE = 1e-3  # share of the frame: a square of 3 % of its side, 20 pixels of 640
COPY = 8.0  # of 255: one layer with a decoder's noise (31 dB) twice differs by 5, two drawings in the same words by 20
WHITE = 255
HIGHEST_PSNR = 100.0  # dB: what equal pictures get, which have none; a megapixel that differs in one value has 113


def composite(layers: np.ndarray) -> np.ndarray:
    """Lay layers over one another, bottom to top: Porter-Duff "over" on straight alpha.

    Colours are mixed as they are stored, in gamma space, as Photoshop, browsers and Pillow's `alpha_composite` do it,
    and not in linear light. Sums are kept in float and rounded once. Where nothing is visible, colour is 0.

    Args:
        layers: uint8 [N, H, W, 4], at least one.

    Returns:
        uint8 [H, W, 4], straight alpha.

    Raises:
        ValueError: for any other kind of array.
    """
    _expect(layers, dimensions=4, what="Layers are uint8 [N, H, W, 4]")
    colour = np.zeros((*layers.shape[1:3], 3), np.float32)  # premultiplied
    alpha = np.zeros((*layers.shape[1:3], 1), np.float32)
    for layer in layers:
        cover = layer[..., 3:].astype(np.float32) / 255
        colour = colour * (1 - cover) + layer[..., :3] * cover
        alpha = alpha * (1 - cover) + cover
    straight = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0)
    return (np.concatenate([straight, 255 * alpha], axis=2) + 0.5).clip(0, 255).astype(np.uint8)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR in dB of two pictures, over the ground on which they differ more: white or black.

    Where both are opaque, the ground is hidden and this is the usual PSNR of their colours. Where one is transparent,
    the squared error is a convex function of the ground's grey, so no other grey shows a larger difference.

    Args:
        one: uint8 [H, W, 4], straight alpha.
        other: the same, of the same size.

    Returns:
        At most `HIGHEST_PSNR`, which equal pictures get.

    Raises:
        ValueError: for any other kind of array, and for two sizes.
    """
    for picture in (one, other):
        _expect(picture, dimensions=3, what="A picture is uint8 [H, W, 4]")
    if one.shape != other.shape:
        raise ValueError(f"Pictures of {_size(one)} and {_size(other)} can't be compared: the sizes differ.")
    error = max(
        float(np.square(_over(one, ground) - _over(other, ground)).mean(dtype=np.float64)) for ground in (WHITE, 0)
    )
    return HIGHEST_PSNR if error == 0 else min(HIGHEST_PSNR, float(10 * np.log10(255**2 / error)))


def over(picture: np.ndarray, ground: int) -> np.ndarray:
    """Return a picture, uint8 [H, W, 4], laid over a grey of 0 to 255: uint8 [H, W, 3]."""
    if picture[..., 3].min() == 255:  # as of most pictures, for which nothing has to be computed
        return without_alpha(picture)
    return (_over(picture, ground) + 0.5).astype(np.uint8)


def _over(picture: np.ndarray, ground: int) -> np.ndarray:
    cover = picture[..., 3].astype(np.float32) / 255
    beneath = ground * (1 - cover)
    return np.stack([picture[..., channel] * cover + beneath for channel in range(3)], axis=-1)


def judge_layers(source: np.ndarray, layers: np.ndarray, whole: np.ndarray, *, min_psnr: float) -> Verdict:
    """Refuse layers that don't compose back to their source, and those of which one is empty or another's copy.

    As many layers as a row asked for are as many as its shop expects, so an empty one is refused even where the
    picture has no part left to put there; `visible_layers` in the scores, and the sentence, say how many to ask for.

    Scores: `layers_psnr` (dB, see `psnr`), `emptiest_layer` (the least share of the frame that a layer shows),
    `visible_layers` (how many show something), and for two layers and more `closest_layers` (of 255: the mean
    difference of the two that are most alike, see `difference`).

    Args:
        source: uint8 [H, W, 4], straight alpha, at the size of the layers.
        layers: uint8 [N, H, W, 4], bottom to top.
        whole: uint8 [H, W, 4]: the layers put together, see `composite`.
        min_psnr: in dB; 0 asks for no likeness.

    Raises:
        ValueError: for any other kind of array, and for two sizes.
    """
    return strictest([_composes(source, whole, min_psnr), _shows(layers), _differs(layers)])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far two layers, uint8 [H, W, 4], are apart: from 0 for equal ones to 255.

    The mean absolute difference of alpha and of colour multiplied by it, over the pixels where either is visible: by
    the whole frame, two small parts would be alike because each leaves most of it empty. Two empty layers are equal.
    """
    either = (one[..., 3] > VISIBLE) | (other[..., 3] > VISIBLE)
    if not either.any():
        return 0.0
    return float(np.abs(_premultiplied(one[either]) - _premultiplied(other[either])).mean())


def _composes(source: np.ndarray, whole: np.ndarray, min_psnr: float) -> Verdict:
    likeness = psnr(source, whole)
    scores = {"layers_psnr": likeness}
    if likeness >= min_psnr:
        return allow(scores)
    message = f"Put together, the layers differ from the picture: {likeness:.1f} dB, below {min_psnr:g}."
    return refuse(Reason.LAYERS_MISMATCH, message, scores)


def _shows(layers: np.ndarray) -> Verdict:
    shares = (layers[..., 3] > VISIBLE).mean(axis=(1, 2))  # [N]
    empty = np.flatnonzero(shares < LEAST_VISIBLE)
    visible = len(layers) - len(empty)
    scores = {"emptiest_layer": float(shares.min()), "visible_layers": float(visible)}
    if not empty.size:
        return allow(scores)
    message = f"{_name(int(empty[0]))} is empty: {visible} of {len(layers)} show something."
    if visible:
        message += f" If the picture has no more parts, ask for {visible}."
    return refuse(Reason.EMPTY_LAYER, message, scores)


def _differs(layers: np.ndarray) -> Verdict:
    pairs = [(low, high) for high in range(len(layers)) for low in range(high)]
    if not pairs:
        return allow()
    apart, low, high = min((difference(layers[low], layers[high]), low, high) for low, high in pairs)
    scores = {"closest_layers": apart}
    if apart >= COPY:
        return allow(scores)
    of = "the bottom layer" if low == 0 else f"layer {low}"
    return refuse(Reason.COPIED_LAYER, f"{_name(high)} is a copy of {of}.", scores)


def _name(index: int) -> str:
    """Return what a layer is called; layers are counted as their files are: from 0, which is the bottom."""
    return "The bottom layer" if index == 0 else f"Layer {index}"


def _premultiplied(pixels: np.ndarray) -> np.ndarray:
    """Return colour multiplied by alpha, and alpha, float32 [..., 4]."""
    values = pixels.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255
    return values


def _expect(array: np.ndarray, *, dimensions: int, what: str) -> None:
    if array.dtype != np.uint8 or array.ndim != dimensions or array.shape[-1] != 4 or 0 in array.shape:
        raise ValueError(f"{what}; this is {array.dtype} {list(array.shape)}.")


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} × {picture.shape[0]}"
