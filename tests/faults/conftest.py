"""Ways to a store that go bad, and a store that can't be written."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.stores.folder_store import FolderStore
from tests.faults.fault_proxy import FaultProxy


@pytest.fixture
def proxy(s3_store_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    del s3_store_uri  # made before the way to the server goes bad
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder that everybody may read and this process, for a while not root, may not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        FolderStore(folder).put_once("images/ab/ab12.png", b"picture")
        for one in (folder, *folder.rglob("*")):
            one.chmod(0o555 if one.is_dir() else 0o444)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
            for one in folder.rglob("*"):
                one.chmod(0o755)
