"""A policy's file with other thresholds, and its comments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import AoT, Table

from safety.policy.policy import Policy, PolicyError, file_of
from tasks.errors import RequestError

NOTE = "# Calibrated by packshot"  # begins the file's first line


def with_thresholds(
    base: str, out: Path, thresholds: Mapping[tuple[str, str], float], *, match: float | None, clip: str, note: str
) -> str:
    """Return the text of a policy like `base`, to be written to `out`, with other thresholds.

    A policy that extends a shipped one becomes whole, because the other one's thresholds can't be changed from there.

    Args:
        thresholds: by concept and field: `("weapon", "prompt_threshold")`.
        match: the new `min_prompt_match`, or None to leave it alone.
        clip: what `calibrated_for` is to name.
        note: the end of the first line.

    Raises:
        RequestError: if the base can't be read.
    """
    file = file_of(base)
    try:
        document = _whole(tomlkit.parse(file.read_text("utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomlkit.exceptions.TOMLKitError) as error:
        raise RequestError(f"The policy {base} can't be read: {error}.") from None
    _move_files(document, file.parent, out.parent)
    document["calibrated_for"] = clip
    if match is not None:
        document["min_prompt_match"] = match
    for concept in _concepts(document):
        for field in ("prompt_threshold", "picture_threshold"):
            if (concept["name"], field) in thresholds:
                concept[field] = thresholds[str(concept["name"]), field]
    lines = tomlkit.dumps(document).splitlines(keepends=True)
    rest = lines[1:] if lines and lines[0].startswith(NOTE) else lines
    return f"{NOTE} {note}\n{''.join(rest)}"


def write_policy(text: str, out: Path) -> Policy:
    """Put a policy's text in its place, whole, once it is sure that it can be loaded from there.

    Raises:
        RequestError: if it can't, or the file can't be written.
    """
    part = out.with_name(f".{out.stem}.part.toml")
    try:
        part.write_text(text, "utf-8")
        try:
            policy = Policy.load(str(part))
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except PolicyError as error:
        raise RequestError(str(error)) from error
    except OSError as error:
        raise RequestError(f"The policy {out} can't be written: {error.strerror}.") from None
    return policy


def _whole(document: TOMLDocument) -> TOMLDocument:
    """Return a policy that extends none: the one that it extended, under its own fields, and its concepts added."""
    if "extends" not in document:
        return document
    under = _whole(tomlkit.parse(file_of(str(document.pop("extends"))).read_text("utf-8")))
    without = [str(name) for name in document.pop("without", [])]
    own = document.pop("concepts", None)
    concepts = _concepts(under)
    for at in reversed([at for at, concept in enumerate(concepts) if concept["name"] in without]):
        del concepts[at]
    for field, value in document.items():
        under[field] = value
    for concept in own if own is not None else ():
        concepts.append(concept)
    return under


def _concepts(document: TOMLDocument) -> AoT | list[Table]:
    found: Any = document.get("concepts")
    return found if found is not None else []


def _move_files(document: TOMLDocument, before: Path, after: Path) -> None:
    """Have lists and a probe that lie beside the old file be found from the new one's folder."""
    probe: Any = document.get("probe")
    if isinstance(probe, dict):
        probe["file"] = os.path.relpath(before / str(probe["file"]), after)
    elif probe is not None:
        document["probe"] = os.path.relpath(before / str(probe), after)
    lists: Any = document.get("blocklists", [])
    for at, name in enumerate(lists):
        if str(name).endswith(".txt"):
            lists[at] = os.path.relpath(before / str(name), after)
