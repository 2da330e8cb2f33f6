"""Ids that variants of one row and another row would share: `mug.v2` is the second of `mug`."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from tasks.manifests.manifest import Manifest
from tasks.manifests.manifest_file import ManifestError

VARIANT = re.compile(r"(.+)\.v([1-9][0-9]*)")


def shared_id(manifest: str, row_id: str) -> ManifestError:
    """Say that a variant of a row would get another row's id."""
    return ManifestError(f"The variants of a row in {manifest} would get the id {row_id!r}, which another row has.")


def check_variant_ids(manifest: Manifest, default: int) -> None:
    """Refuse a manifest in which variants would get the id of another row; `default` is the job's number of them.

    Raises:
        ManifestError: naming the id.
    """
    has_own = "variants" in manifest.schema.names
    ids, variants = [], []
    for batch in manifest.batches(["id", "variants"] if has_own else ["id"], rows=16_384):
        ids.append(batch.column("id"))
        given = batch.column("variants") if has_own else pa.nulls(batch.num_rows, pa.int64())
        variants.append(pc.fill_null(given, default))
    names, numbers = pa.chunked_array(ids), pa.chunked_array(variants)
    alone = pc.and_(pc.match_substring_regex(names, r"\.v[1-9][0-9]*$"), pc.equal(numbers, 1))
    candidates = [match for name in names.filter(alone).to_pylist() if (match := VARIANT.fullmatch(name))]
    if not candidates:
        return
    stems = pa.array([match[1] for match in candidates], names.type)
    places = pc.index_in(stems, value_set=names.combine_chunks())
    for match, number in zip(candidates, numbers.take(places).to_pylist(), strict=True):
        if number is not None and number > 1 and int(match[2]) <= number:
            raise shared_id(manifest.name, match[0])
