"""Suspicions: what looks wrong in a manifest's rows and may be meant all the same. They are told, and stop nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.manifests.column_types import is_text
from tasks.manifests.known_columns import broken_texts
from tasks.manifests.manifest import Manifest

ROWS = 16_384  # looked at a time
SHOWN = 3  # ids that a sentence gives
TEXTS = {  # the columns whose words a model is told, as a sentence has them
    "prompt": "a prompt",
    "caption": "a caption",
    "instruction": "an instruction",
    "scene": "a scene",
    "colour": "a colour",
    "negative_prompt": "a negative prompt",
}
LONGEST_ID = 40  # characters of one in a sentence
NOTHING = r"(?i)^\s*(nan|none|null|n/?a|#n/?a|undefined|nil|<na>|-+)\s*$"  # how tables of other programs write it
TAGS = "a|b|br|div|em|font|h[1-6]|hr|i|img|li|ol|p|span|strong|table|td|tr|u|ul"
HTML = rf"(?i)</?({TAGS})(\s[^<>]*)?/?>|&(amp|gt|lt|nbsp|quot|#x?[0-9a-f]+);"
BRACES = r"\{\{?[^{}]{0,64}\}|%\([A-Za-z_]+\)s|\[\[[^\[\]]{1,64}\]\]"
OFTEN, SHARE = 20, 0.01  # a prompt is told that so many rows, and this share of all, have
SETTINGS = ("negative_prompt", "seed", "width", "height", "steps", "guidance", "variants", "profile")


@dataclass
class Suspicion:
    """Rows of which one thing looks wrong."""

    what: str  # follows "3 rows have" or "1 row has"
    rows: int = 0
    ids: list[str] = field(default_factory=list)  # the first of them

    @property
    def sentence(self) -> str:
        """The count, what it is, and the first ids."""
        rows = "1 row has" if self.rows == 1 else f"{self.rows} rows have"
        which = listed(self.ids, self.rows)
        return f"{rows} {self.what}: {which}."

    def add(self, ids: pa.Array, mask: pa.Array) -> None:
        """Count the rows of a mask."""
        found = pc.sum(mask).as_py() or 0
        if found and len(self.ids) < SHOWN:
            self.ids += ids.filter(mask)[: SHOWN - len(self.ids)].to_pylist()
        self.rows += found


def listed(ids: Sequence[str], rows: int) -> str:
    """Return the first ids of so many rows, for people."""
    shown = [one if len(one) <= LONGEST_ID else f"{one[:LONGEST_ID]}…" for one in ids]
    return ", ".join(shown) + (", …" if rows > len(ids) else "")


def suspicions(manifest: Manifest) -> list[Suspicion]:
    """Look a manifest's texts through.

    Raises:
        ManifestError: where a page is damaged.
    """
    read = [name for name in TEXTS if name in manifest.schema.names and name in manifest.columns.known]
    filled = [
        field.name for field in manifest.carried if field.name in manifest.template_columns and is_text(field.type)
    ]
    carried = [field.name for field in manifest.carried if is_text(field.type)]
    settings = [name for name in SETTINGS if name in manifest.schema.names and name in manifest.columns.known]
    found = {name: _kinds(f"{name!r}" if name in filled else TEXTS[name]) for name in (*read, *filled)}
    broken = {
        name: Suspicion(f"text that isn't UTF-8 in the column {name!r}, which is carried as it is") for name in carried
    }
    repeats = _Repeats("prompt" if "prompt" in read else None)
    columns = list(dict.fromkeys(["id", *read, *carried, *settings]))
    for batch in manifest.batches(columns, rows=ROWS):
        ids = batch.column("id")
        for name, kinds in found.items():
            for pattern, suspicion in kinds:
                suspicion.add(ids, pc.fill_null(pc.match_substring_regex(batch.column(name), pattern), False))
        for name, suspicion in broken.items():
            places = broken_texts(batch.column(name))
            suspicion.add(ids, pa.array(np.isin(np.arange(batch.num_rows), places)))
        repeats.see(batch, settings)
    of_texts = [suspicion for _, suspicion in chain.from_iterable(found.values())]
    return [one for one in (*of_texts, *broken.values(), *repeats.found()) if one.rows]


def _kinds(where: str) -> list[tuple[str, Suspicion]]:
    """Return what a text is searched for."""
    return [
        (NOTHING, Suspicion(f"{where} that is 'nan', 'null' or the like, which is read as a word")),
        (HTML, Suspicion(f"{where} with HTML in it")),
        (BRACES, Suspicion(f"{where} with a placeholder in braces that nobody filled")),
    ]


class _Repeats:
    """Prompts that many rows have, and rows that ask for the very same picture."""

    def __init__(self, column: str | None) -> None:
        self.column = column
        self.ids: list[pa.Array] = []
        self.prompts: list[np.ndarray] = []  # hashes
        self.pictures: list[np.ndarray] = []  # hashes of all that decides a picture; 0 where the seed comes from the id

    def see(self, batch: pa.RecordBatch, settings: list[str]) -> None:
        """Remember a batch, 16 bytes and an id a row."""
        if self.column is None:
            return
        prompts = _hashes(batch.column(self.column))
        pictures = np.zeros(batch.num_rows, np.int64)
        if "seed" in settings:
            given = pc.is_valid(batch.column("seed")).to_numpy(zero_copy_only=False)
            if given.any():
                mixed = prompts.copy()
                for name in settings:
                    mixed = mixed * 1_000_003 ^ _hashes(batch.column(name))
                pictures = np.where(given & (prompts != 0), mixed, 0)
        self.ids.append(batch.column("id"))
        self.prompts.append(prompts)
        self.pictures.append(pictures)

    def found(self) -> Iterator[Suspicion]:
        """Give what was found."""
        if not self.ids:
            return
        ids = pa.chunked_array(self.ids)
        prompts, pictures = np.concatenate(self.prompts), np.concatenate(self.pictures)

        def often(counts: np.ndarray) -> np.ndarray:
            return (counts >= OFTEN) & (counts >= SHARE * len(ids))

        same = "the prompt and seed of another row, and ask for the same picture again"
        yield _repeated(ids, pictures, same, lambda counts: counts > 1)
        yield _repeated(ids, prompts, f"a prompt that at least {OFTEN} rows share", often)


def _repeated(
    ids: pa.ChunkedArray, values: np.ndarray, what: str, are: Callable[[np.ndarray], np.ndarray]
) -> Suspicion:
    found, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mask = (are(counts) & (found != 0))[places]
    suspicion = Suspicion(what)
    suspicion.add(ids, pa.chunked_array([pa.array(mask)]))
    return suspicion


def _hashes(column: pa.Array) -> np.ndarray:
    """Return a number for each value; 0 for null."""
    if pa.types.is_large_string(column.type):
        return np.fromiter((0 if one is None else hash(one) or 1 for one in column.to_pylist()), np.int64, len(column))
    numbers: np.ndarray = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return numbers.view(np.int64) if numbers.dtype == np.float64 else numbers.astype(np.int64)
