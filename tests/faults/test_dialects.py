"""What a store goes through, in every dialect and whatever the way to it does, ends as it does without."""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from models.files.safetensors_files import CheckpointUnreachable
from tasks.checkpoints.stored_checkpoint import StoredCheckpoint
from tasks.doctor.store_check import check_store
from tasks.stores.folder_store import FolderStore
from tasks.stores.opening import open_store
from tasks.stores.s3_store import S3Store
from tasks.stores.store import Changed, Conflict, Damaged, Missing, Store, StoreError
from tests.faults.dialects import FAULTS, REFUSED, SURVIVED
from tests.faults.fault_proxy import FaultProxy
from tests.radosgw import Radosgw

pytestmark = pytest.mark.waits  # for servers, most of its time

PICTURE = bytes(range(256)) * 600
RATE = 0.05
SEEDS = (1, 2, 3)


@contextlib.contextmanager
def bucket_beyond(proxy: FaultProxy, uri: str) -> Iterator[S3Store]:
    """A store to which the proxy is the way; a server that hangs is soon given up on."""
    with proxy, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield S3Store(*uri.removeprefix("s3://").split("/"), read_timeout=2.0)


def life(store: Store, folder: Path) -> dict[str, object]:
    """Do to a store all that runs do; give what it holds at the end, and what it said of what can't be done."""
    said: list[object] = []

    def trying(name: str, error: type[Exception]) -> contextlib.AbstractContextManager[object]:
        said.append(name)
        return pytest.raises(error)

    store.probe()
    sha256 = hashlib.sha256(PICTURE).hexdigest()

    def make(number: int) -> None:
        master = store.put_once(f"masters/{number}.png", PICTURE)
        assert (master.sha256, master.size) == (sha256, len(PICTURE))
        store.copy(f"masters/{number}.png", f"images/{number}.png", sha256=sha256, size=len(PICTURE))
        assert store.adopt_or_put(f"masters/{number}.png", b"another").sha256 == sha256

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, range(6)))
    with trying("conflict", Conflict):
        store.put_once("masters/0.png", b"another")
    with trying("missing", Missing):
        store.copy("masters/none.png", "images/none.png", sha256=sha256, size=len(PICTURE))
    with trying("damaged", Damaged):
        store.copy("masters/0.png", "images/damaged.png", sha256=hashlib.sha256(b"").hexdigest(), size=0)

    def sign(number: int) -> None:
        while True:
            content, version = store.read("catalog.parquet") or (b"", None)
            if str(number).encode() in content.split():  # after a lost answer others may have signed below ours
                return None
            with contextlib.suppress(Changed):
                return store.replace("catalog.parquet", content + f"{number} ".encode(), expect=version)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(sign, range(8)))
    _, stale = store.read("catalog.parquet") or pytest.fail("absent")
    sign(8)
    for version in (stale, None):
        with trying("changed", Changed):
            store.replace("catalog.parquet", b"lost", expect=version)
    for turn in (b"one", b"two"):
        store.overwrite("report.html", turn)
    for number in (0, 1):
        store.delete(f"images/{number}.png")
        assert not store.exists(f"images/{number}.png")

    contents = {}
    for listed in store.listing(""):
        store.download(listed.path, folder / "copy")
        contents[listed.path] = (folder / "copy").read_bytes()
        assert listed.size == len(contents[listed.path])
    signed = contents.pop("catalog.parquet").split()
    return {"contents": contents, "signed": sorted(signed), "said": said}


@pytest.fixture
def usual(tmp_path: Path) -> dict[str, object]:
    """What a life comes to without a server."""
    return life(FolderStore(tmp_path / "usual"), tmp_path)


@pytest.mark.parametrize("dialect", SURVIVED)
def test_a_dialect_is_survived(
    dialect: str, usual: dict[str, object], s3_server: str, s3_store_uri: str, tmp_path: Path
) -> None:
    with bucket_beyond(FaultProxy(s3_server, *SURVIVED[dialect]), s3_store_uri) as store:
        assert life(store, tmp_path) == usual


def test_the_real_server_is_survived(usual: dict[str, object], radosgw_store_uri: str, tmp_path: Path) -> None:
    assert life(S3Store(*radosgw_store_uri.removeprefix("s3://").split("/")), tmp_path) == usual


def test_a_download_from_the_real_server_is_gone_on_with(radosgw_store_uri: str, tmp_path: Path) -> None:
    stored, part = StoredCheckpoint.at(radosgw_store_uri), tmp_path / "part"
    stored.objects.put_once("weights.safetensors", PICTURE)
    (file,) = stored.files()
    part.write_bytes(PICTURE[:1000])
    stored.fetch(file, part, lambda _: None)
    assert part.read_bytes() == PICTURE
    part.write_bytes(PICTURE[:1000])
    stored.objects.overwrite("weights.safetensors", PICTURE[::-1])
    with pytest.raises(CheckpointUnreachable, match="was changed while it was read"):
        stored.fetch(file, part, lambda _: None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_survived(
    fault: str, usual: dict[str, object], s3_server: str, s3_store_uri: str, tmp_path: Path
) -> None:
    proxy = FaultProxy(s3_server)
    met = proxy.inject_at_random([FAULTS[fault]], rate=RATE, seed=1)
    with bucket_beyond(proxy, s3_store_uri) as store:
        assert life(store, tmp_path) == usual
    assert met


@pytest.mark.parametrize("seed", SEEDS)
def test_all_faults_together_in_the_oddest_dialect_are_survived(
    seed: int, usual: dict[str, object], s3_server: str, s3_store_uri: str, tmp_path: Path
) -> None:
    proxy = FaultProxy(s3_server, *SURVIVED["everything at once"])
    met = proxy.inject_at_random([*FAULTS.values()], rate=RATE, seed=seed)
    with bucket_beyond(proxy, s3_store_uri) as store:
        assert life(store, tmp_path) == usual
    assert met


def test_all_faults_on_the_way_to_the_real_server_are_survived(
    usual: dict[str, object], radosgw: Radosgw, radosgw_store_uri: str, tmp_path: Path
) -> None:
    proxy = FaultProxy(radosgw.address)
    met = proxy.inject_at_random([*FAULTS.values()], rate=RATE, seed=4)
    with bucket_beyond(proxy, radosgw_store_uri) as store:
        assert life(store, tmp_path) == usual
    assert met


@pytest.mark.parametrize("dialect", REFUSED)
def test_a_store_that_breaks_its_promises_is_refused_before_any_work(
    dialect: str, s3_server: str, s3_store_uri: str
) -> None:
    quirk, says = REFUSED[dialect]
    with bucket_beyond(FaultProxy(s3_server, quirk), s3_store_uri) as store:
        with pytest.raises(StoreError, match=re.escape(says)):
            store.probe()
        last = check_store(s3_store_uri)[-1]
        assert (last.status, last.fault) == ("failed", "reach")
        assert says in last.found
        assert last.do
    if dialect != "deleted and there":
        assert list(S3Store(*s3_store_uri.removeprefix("s3://").split("/")).listing("")) == []


def test_a_bucket_of_the_real_server_that_keeps_versions_is_refused(radosgw_store_uri: str) -> None:
    bucket = radosgw_store_uri.split("/")[2]
    boto3.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(StoreError, match=r"\(IfNoneMatch\), .* use a bucket without versioning"):
        open_store(radosgw_store_uri).probe()
