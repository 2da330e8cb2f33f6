"""One Prefect server for all processes of tests that run side by side.

    with shared_prefect(home) as address:
        ...

Whoever needs it first brings it up and, at its own end, waits for those who still use it. The system takes back what a
process has locked, however that ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path

from flows.orchestration.server import own_server
from models.files.cache_file import cache_folder

EMPTY = "prefect-*.db"  # the empty database that a server's first start leaves in the cache, for later ones


@contextmanager
def shared_prefect(home: Path) -> Iterator[str]:
    """Give the address of the server whose database is in `home`; bring it up where nobody has done so yet."""
    beside = home.with_name(f"{home.name}-shared")
    beside.mkdir(parents=True, exist_ok=True)
    told = beside / "address"
    with (beside / "starting").open("w") as starting, (beside / "using").open("w") as using:
        flock(starting, LOCK_EX)
        flock(using, LOCK_SH)
        if told.exists():
            cache_folder().mkdir(parents=True, exist_ok=True)
            for empty in beside.glob(EMPTY):
                shutil.copyfile(empty, cache_folder() / empty.name)
            starting.close()
            yield told.read_text()
            return
        home.mkdir(exist_ok=True)
        with own_server(home) as address:
            for empty in cache_folder().glob(EMPTY):
                shutil.copyfile(empty, beside / empty.name)
            told.write_text(address)
            starting.close()
            yield address
            flock(using, LOCK_EX)  # when the others are through
            told.unlink()
