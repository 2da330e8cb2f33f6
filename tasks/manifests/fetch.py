"""Manifest files onto this machine's disk: a path, a folder of Parquet files, or an s3:// address."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from tasks.manifests.manifest_file import ManifestError, ManifestFile, what_it_is
from tasks.stores.opening import is_store_address, open_store, store_around, store_scheme
from tasks.stores.store import Store, is_plain

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
PARQUET = re.compile(r"\.(parquet|parq|pq)(\.(gz|gzip|snappy|zst|zstd|lz4|br|brotli|lzo))?$", re.IGNORECASE)
PICTURE = re.compile(r"\.(png|jpe?g|webp|tiff?|gif|bmp|avif|heic|psd)$", re.IGNORECASE)  # lie beside manifests by right
PATTERN = re.compile(r"[*?\[]")
MAGIC = b"PAR1"
TABLES = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}  # by a folder in theirs
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
SHOWN = 3  # names that a sentence gives


@dataclass(frozen=True)
class Fetched:
    """The files of a manifest on this machine, in order of name, and what lies among them and isn't read."""

    files: tuple[ManifestFile, ...]
    left_out: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the files that aren't read."""
        if not self.left_out:
            return ()
        which = _some(self.left_out)
        if len(self.left_out) == 1:
            return (f"1 file in the manifest's folder is no Parquet file by its name, and isn't read: {which}.",)
        files = f"{len(self.left_out)} files in the manifest's folder"
        return (f"{files} are no Parquet files by their names, and aren't read: {which}.",)


def plain_address(address: str) -> str:
    """Return a manifest's address as it is read: `s3://…` or a path.

    Raises:
        ManifestError: if it is of a kind that isn't read; the message says what to write.
    """
    scheme = SCHEME.match(address)
    rest = address[scheme.end() :].lstrip("/") if scheme else ""
    if scheme is None:
        return address
    if (of_store := store_scheme(scheme[1])) is not None:
        return f"{of_store}://{rest}"
    match scheme[1].lower():
        case "file":
            return "/" + unquote(rest.removeprefix("localhost/"))
        case "http" | "https":
            raise ManifestError(
                f"Manifests aren't fetched from the web: download {address}, and give the file's path or s3:// address."
            )
        case other:
            raise ManifestError(
                f"Manifests aren't read from {other}:// addresses such as {address}: copy it into a folder or a "
                "bucket, and give its path or s3:// address."
            )


def is_parquet_name(name: str) -> bool:
    """Say whether a file is called as Parquet files are."""
    return PARQUET.search(name) is not None


def fetch_manifest(address: str, folder: Path) -> Fetched:
    """Return the manifest's files; those of a bucket are downloaded into `folder`.

    In a folder, what is called as Parquet files are is read, and what has no suffix and begins as they do. Names that
    begin with a dot or an underscore belong to nobody: whoever writes the others puts its own notes there.

    Raises:
        ManifestError: if there is no Parquet file at the address; the message says what there is.
        StoreError: if the bucket is out of reach.
    """
    plain = plain_address(address)
    return _of_store(address, plain, folder) if is_store_address(plain) else _of_disk(address, plain)


def _of_disk(address: str, plain: str) -> Fetched:
    try:
        path = Path(plain).expanduser()
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _absent(address, plain) from None
    except (OSError, RuntimeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ManifestError(f"The manifest {address} can't be read: {why}.") from error
    if stat.S_ISDIR(kind):
        _refuse_tables(address, lambda name: (path / name).is_dir())
        return _whole_folder(
            address,
            _walked(address, path),
            lambda name: _head(path / name),
            lambda name: path / name,
            lambda name: (path / name).is_file(),
        )
    if not stat.S_ISREG(kind):
        raise ManifestError(f"The manifest {address} isn't a regular file, which it should be: it is read twice.")
    return Fetched((ManifestFile(path, path.name),))


def _walked(address: str, path: Path) -> list[str]:
    """Return the names of all files below a folder, relative to it, but for nobody's; links aren't followed."""

    def refuse(error: OSError) -> None:
        raise ManifestError(f"The manifest {address} can't be read: {error.filename}: {error.strerror}.") from error

    names = []
    for root, folders, files in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not _is_nobodys(name)]
        links = [f"{name}/" for name in folders if (Path(root) / name).is_symlink()]
        within = Path(root).relative_to(path).as_posix()
        names += [name if within == "." else f"{within}/{name}" for name in (*files, *links)]
    return names


def _head(file: Path) -> bytes:
    if not file.is_file():
        return b""
    try:
        with file.open("rb") as stream:
            return stream.read(len(MAGIC))
    except OSError:
        return b""  # nobody says that it is a manifest's


def _of_store(address: str, plain: str, folder: Path) -> Fetched:
    if (around := store_around(plain)) is not None:
        beside, name = around
        if is_plain(name) and beside.exists(name):
            file = _downloaded(beside, name, folder / "00000.parquet", address)
            return Fetched((ManifestFile(file, name, address=address),))
    store = open_store(plain.rstrip("/"))
    names = sorted(one.path for one in store.listing(""))
    if not names:
        raise _absent(address, plain)

    _refuse_tables(address, lambda folder: any(name.startswith(f"{folder}/") for name in names))

    def head(name: str) -> bytes:
        return (store.read_at_most(name, len(MAGIC)) or b"")[: len(MAGIC)]

    numbers = {name: number for number, name in enumerate(names)}
    return _whole_folder(
        address,
        names,
        head,
        lambda name: _downloaded(store, name, folder / f"{numbers[name]:05}.parquet", address),
        named_by=f"{address.rstrip('/')}/",
    )


def _refuse_tables(address: str, has: Callable[[str], bool]) -> None:
    """Refuse folders of which some files are no longer part of the table."""
    for name, kind in TABLES.items():
        if has(name):
            raise ManifestError(
                f"The manifest {address} is {kind}, among whose files are those of older versions: write the version "
                "that is meant as Parquet, into a folder of its own."
            )


def _downloaded(store: Store, name: str, file: Path, address: str) -> Path:
    if store.download(name, file) is None:
        raise ManifestError(f"The manifest {address} changes while it is read: {name} has gone.")
    return file


def _whole_folder(
    address: str,
    names: Iterable[str],
    head: Callable[[str], bytes],
    place: Callable[[str], Path],
    is_file: Callable[[str], bool] = lambda _: True,
    *,
    named_by: str = "",
) -> Fetched:
    """Return the Parquet files among these names, each where `place` has it; `head` gives the first bytes of one.

    `named_by` stands before their names where sentences speak of them; without it they are named by their paths.
    """
    ours = [name for name in names if not any(map(_is_nobodys, name.split("/")))]
    ours.sort(key=lambda name: name.split("/"))
    read = [
        name
        for name in ours
        if (is_parquet_name(name) and is_file(name)) or ("." not in name.rpartition("/")[2] and head(name) == MAGIC)
    ]
    known = set(read)
    left_out = [name for name in ours if name not in known and not PICTURE.search(name)]
    if not read:
        nothing = ": there is nothing in it, or nothing but names that begin with '.' or '_'"
        there = f"; it holds {_some(left_out or ours)}{_advice(left_out)}" if ours else nothing
        raise ManifestError(f"The manifest {address} holds no Parquet file{there}.")
    partitions = _partitions(read)
    files = tuple(
        ManifestFile(place(name), name, values, f"{named_by}{name}" if named_by else "")
        for name, values in zip(read, partitions, strict=True)
    )
    return Fetched(files, tuple(left_out))


def _is_nobodys(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _partitions(names: Sequence[str]) -> list[dict[str, pa.Scalar]]:
    """Return what the folders `brand=nike/` in each name say, as pyarrow infers types: numbers where all are."""
    said = [
        {unquote(key): unquote(value) for key, _, value in (part.partition("=") for part in folders if "=" in part)}
        for folders in (name.split("/")[:-1] for name in names)
    ]
    kinds = {}
    for key in {key for one in said for key in one}:
        values = [one[key] for one in said if one.get(key, HIVE_NULL) != HIVE_NULL]
        numbers = all(re.fullmatch(r"-?\d+", value) and -(2**31) <= int(value) < 2**31 for value in values)
        kinds[key] = pa.int32() if numbers and values else pa.string()

    def scalar(key: str, value: str) -> pa.Scalar:
        kind = kinds[key]
        if value == HIVE_NULL:
            return pa.scalar(None, kind)
        return pa.scalar(int(value) if pa.types.is_integer(kind) else value, kind)

    return [{key: scalar(key, value) for key, value in one.items()} for one in said]


def _absent(address: str, plain: str) -> ManifestError:
    parent, _, name = plain.rstrip("/").rpartition("/")
    if PATTERN.search(plain):
        folder = plain[: PATTERN.search(plain).start()].rpartition("/")[0] or "."  # type: ignore[union-attr]
        return ManifestError(
            f"The manifest {address} is a pattern, which isn't read: give one file, or the folder {folder}, of which "
            "every Parquet file is read."
        )
    near: list[str] = []
    if not is_store_address(plain):
        beside = Path(parent or ("/" if plain.startswith("/") else "."))
        if not beside.is_dir():
            return ManifestError(f"There is no manifest {address}: its folder isn't there.")
        near = difflib.get_close_matches(name, [file.name for file in beside.iterdir()], cutoff=0.75)
    return ManifestError(f"There is no manifest {address}{f'; there is {_some(near)}' if near else ''}.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name)[1:-1] for name in names[:SHOWN]) + more


def _advice(names: Sequence[str]) -> str:
    """Return what the first of these files may be, which could be made a manifest."""
    kinds = [kind for name in names if (kind := what_it_is(name, b""))]
    return f" ({kinds[0]}: write it as Parquet)" if kinds else ""
