"""The texts on a product before and after an edit, read by OCR where the extra `ocr` is installed.

    reader = text_reader()                          # None without the extra
    if reader is not None:
        scores |= measure_text(pair, reader)        # {"fidelity_text_kept": 0.95, "fidelity_text_left": 0.0}

    texts = SourceTexts(source)                     # for all results of one source, which is read once
    scores |= measure_text(pair, reader, texts)

RapidOCR (PP-OCRv6, English and Chinese) brings its weights along and needs no network. Texts are compared by what they
say, and not by where they stand: labels that an edit scrambled are the usual fault of it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from threading import Lock

import numpy as np

from safety.fidelity.frames import eight_bits, opaque, resized
from safety.fidelity.measure_names import PREFIX
from safety.fidelity.measuring import EditedPair

# The constants below decide measures: count `safety.fidelity.measuring.METHOD` up when one changes.
CERTAIN = 0.8  # of 1: what is read with less is often texture
SHORTEST = 3  # letters and digits; Chinese, Japanese and Korean ones count double


@dataclass(frozen=True)
class ReadText:
    """A text in a picture."""

    text: str
    middle: tuple[float, float]  # of its box, x and y in pixels
    certainty: float  # of 1


Reader = Callable[[np.ndarray], list[ReadText]]
"""Reads a picture, uint8 [H, W, 3]."""


class SourceTexts:
    """The texts on a source, read when its first result asks for them; reading takes longer than all other measures."""

    def __init__(self, source: np.ndarray) -> None:
        """`source` is as `safety.fidelity.measuring.EditedPair` takes it."""
        self._source, self._lock = source, Lock()
        self._read: dict[tuple[int, int], list[ReadText]] = {}

    def at(self, size: tuple[int, int], reader: Reader) -> list[ReadText]:
        """Return what is read at a result's width and height.

        Raises:
            PairError: if the source is no picture that can be compared.
        """
        with self._lock:
            if size not in self._read:
                self._read[size] = reader(resized(opaque(eight_bits(self._source, "The source")), size))
            return self._read[size]


def reads_texts() -> bool:
    """Say whether the extra is installed, without importing it."""
    return all(importlib.util.find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))


def text_reader() -> Reader | None:
    """Open what reads texts, on one core; None where the extra isn't installed.

    One picture is read at a time: RapidOCR (3.10) keeps a picture's settings in itself while it reads.
    """
    if not reads_texts():
        return None
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    reading = Lock()

    def read(pixels: np.ndarray) -> list[ReadText]:
        with reading:
            found = engine(np.ascontiguousarray(pixels[..., ::-1]))  # as OpenCV orders channels
        if found.boxes is None:
            return []
        middles = np.asarray(found.boxes).mean(axis=1)
        return [
            ReadText(text, (float(x), float(y)), float(certainty))
            for text, (x, y), certainty in zip(found.txts, middles, found.scores, strict=True)
        ]

    return read


def measure_text(pair: EditedPair, reader: Reader, texts: SourceTexts | None = None) -> dict[str, float]:
    """Measure how much of the product's text was kept, and how much of the text beside it was left.

    `text_kept`: how alike what is read on the product is, before and after, 1 where it is the same. `text_left`: how
    many characters stand beside the product, of as many as stood there before. Neither is there where the source has no
    text in that place.

    Args:
        pair: what is compared.
        reader: what reads it.
        texts: those of the pair's source, if more results are compared with it.
    """
    after = pair.after
    before = (texts or SourceTexts(pair.before)).at((after.shape[1], after.shape[0]), reader)
    found, frame = pair.registration, pair.frame
    to_frame = np.array([frame.size[0] / after.shape[1], frame.size[1] / after.shape[0]])
    back = np.linalg.inv(np.concatenate([found.matrix(), [[0, 0, 1]]]))
    sides = []
    for reads, matrix in ((before, np.eye(3)), (reader(after), back)):
        on: list[ReadText] = []
        beside: list[ReadText] = []
        for read in reads:
            if read.certainty >= CERTAIN and _length(read.text) >= SHORTEST:
                place = matrix @ [*(np.array(read.middle) * to_frame), 1]
                (on if _is_on(pair.product, place) else beside).append(read)
        sides.append((_in_order(on), sum(_length(read.text) for read in beside)))
    (was, around), (now, left) = sides
    measured = {}
    if was:
        measured[f"{PREFIX}text_kept"] = SequenceMatcher(None, was, now, autojunk=False).ratio()
    if around:
        measured[f"{PREFIX}text_left"] = left / around
    return measured


def _is_on(product: np.ndarray, place: np.ndarray) -> bool:
    column, row = round(float(place[0])), round(float(place[1]))
    inside = 0 <= row < product.shape[0] and 0 <= column < product.shape[1]
    return inside and bool(product[row, column])


def _in_order(texts: Iterable[ReadText]) -> str:
    """Return what is read from top to bottom, without what cameras and readers change: case and spaces."""
    lines = sorted(texts, key=lambda read: (read.middle[1], read.middle[0]))
    return "".join("".join(read.text.casefold().split()) for read in lines)


def _length(text: str) -> int:
    return sum(2 if character >= "\u2e80" else 1 for character in text if character.isalnum())
