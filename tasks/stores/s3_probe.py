"""What a bucket is found to be before any work: readable, writable, true to its promises, and of which dialect.

Every conditional operation is tried in the form in which it is used, with a condition that holds and with one that
doesn't.
"""

import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tasks.stores.dialect import Dialect
from tasks.stores.s3_error import NoConditions, Unreplaceable
from tasks.stores.store import (
    Changed,
    Conflict,
    Damaged,
    Missing,
    Step,
    Store,
    StoreError,
    StoreUnreachable,
    at_once,
    sha256_of,
)

WRITERS = 4  # that write one object at the same moment
FIRST, SECOND, THIRD = b"first", b"second", b"third"
NAMES = ("object", "contested", "copy", "nothing", "copy of nothing")

Opened = Callable[[Dialect], Store]


def learn(opened: Opened, passed: Callable[[Step], object], *, unsafe: bool = False) -> Dialect:
    """Learn the dialect of a bucket, of which `opened` gives a store that speaks the one it is given. Leave no trace.

    With `unsafe`, a bucket that doesn't heed conditions has a dialect, too. `passed` is told each step that went well.

    Raises:
        StoreError: the bucket can't be reached, read or written, or has no dialect in which its promises hold.
    """
    folder = f".probe/{uuid.uuid4().hex}"
    store = opened(Dialect(conditional=not unsafe))
    try:
        store.read(f"{folder}/object")  # without permission to list, AWS says "forbidden" rather than "absent"
        passed("reach")
        store.put_once(f"{folder}/object", FIRST)
        if content_of(store, f"{folder}/object") != FIRST:
            raise StoreError(f"{store.uri} doesn't give back at once what was written to it", "use another store.")
        passed("write")
        try:
            store = heeding(opened, replace(dialect_of(store), conditional=True), folder)
        except NoConditions:
            if not unsafe:
                raise
        passed("conditional put")
        check_copies(store, folder)
        passed("copy")
        store.delete(f"{folder}/copy")
        if store.exists(f"{folder}/copy"):
            raise StoreError(f"{store.uri} still has what was deleted from it", "use another store.")
    except StoreUnreachable:
        raise  # and so is anything left there
    except BaseException:
        with contextlib.suppress(StoreError):
            clear(store, folder)
        raise
    clear(store, folder)
    passed("delete")
    return dialect_of(store)


def heeding(opened: Opened, dialect: Dialect, folder: str) -> Store:
    """Give the store in the dialect in which it heeds conditions; there is an object in the folder.

    Raises:
        NoConditions: it has none.
    """
    store, path = opened(dialect), f"{folder}/object"
    with contextlib.suppress(Conflict):
        store.put_once(path, SECOND)
        raise NoConditions(f"{store.uri} ignores the condition of a write (IfNoneMatch), {CONSEQUENCE}", REMEDY)
    first = version_of(store, path)
    for quoted in (True, False):
        store = opened(replace(dialect_of(store), quoted=quoted))
        try:
            store.replace(path, SECOND, expect=first)
        except Unreplaceable:
            continue
        break
    else:
        raise NoConditions(
            f"{store.uri} refuses to replace an object even if nobody has changed it (IfMatch), so no catalogue could "
            "be kept there",
            "use another store.",
        )
    for place in (path, f"{folder}/nothing"):
        with contextlib.suppress(Changed):
            store.replace(place, THIRD, expect=first)
            raise NoConditions(f"{store.uri} ignores the condition of a write (IfMatch), {CONSEQUENCE}", REMEDY)
    contested = f"{folder}/contested"
    compete(store, contested, None)
    compete(store, contested, version_of(store, contested))
    return store


CONSEQUENCE = "so runs could overwrite each other"
REMEDY = "use a bucket without versioning, or another store."


def compete(store: Store, path: str, expect: str | None) -> None:
    """Replace an object from several threads at once.

    Raises:
        NoConditions: not exactly one of them was told that it won, or another one's content is there.
    """

    def write(number: int) -> bytes | None:
        content = f"{number}, {expect}".encode()
        try:
            store.replace(path, content, expect=expect)
        except Changed:
            return None
        return content

    with ThreadPoolExecutor(WRITERS) as threads:
        winners = [content for content in threads.map(write, range(WRITERS)) if content]
    if winners != [content_of(store, path)]:
        raise NoConditions(
            f"{store.uri} lets a second writer win if both write at the same moment, {CONSEQUENCE}", REMEDY
        )


def check_copies(store: Store, folder: str) -> None:
    """Copy what is there, and what isn't.

    Raises:
        StoreError: the copy isn't whole, or is one of nothing.
    """
    sha256, size = sha256_of(content_of(store, f"{folder}/object") or b"")
    try:
        store.copy(f"{folder}/object", f"{folder}/copy", sha256=sha256, size=size)
        whole = sha256_of(content_of(store, f"{folder}/copy") or b"") == (sha256, size)
    except (Missing, Damaged):
        whole = False
    if not whole:
        raise StoreError(f"{store.uri} makes copies that aren't whole", "use another store.")
    with contextlib.suppress(Missing, Damaged):
        store.copy(f"{folder}/nothing", f"{folder}/copy of nothing", sha256=sha256, size=size)
        raise StoreError(f"{store.uri} says that it has copied what it doesn't have", "use another store.")


def content_of(store: Store, path: str) -> bytes | None:
    """Give an object's content."""
    found = store.read(path)
    return found[0] if found else None


def version_of(store: Store, path: str) -> str | None:
    """Give an object's version token."""
    found = store.read(path)
    return found[1] if found else None


def dialect_of(store: Store) -> Dialect:
    """Give the dialect that a store speaks by now: the first write may have taught it something."""
    assert store.dialect is not None
    return store.dialect


def clear(store: Store, folder: str) -> None:
    """Delete whatever a probe may have written."""
    for _ in at_once(lambda name: store.delete(f"{folder}/{name}"), NAMES, most=len(NAMES)):
        pass
