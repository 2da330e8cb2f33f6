"""The same promises, kept by a folder and by a bucket."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.stores.opening import open_store
from tasks.stores.store import Changed, Conflict, Damaged, Missing, Store, StoreAddressError, StoredObject
from tests.faults.dialects import SURVIVED
from tests.faults.fault_proxy import FaultProxy

ROOT = Path(__file__).parents[3]
PATH = "images/ab/ab12.png"


@pytest.fixture(params=["folder", "bucket", "odd bucket", "radosgw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A folder, a bucket as Amazon's are, one that differs in all that may differ, and one of a real server."""
    match request.param:
        case "folder":
            yield open_store(str(tmp_path / "store"))
        case "bucket":
            yield open_store(request.getfixturevalue("s3_store_uri"))
        case "odd bucket":
            uri, server = request.getfixturevalue("s3_store_uri"), request.getfixturevalue("s3_server")
            with FaultProxy(server, *SURVIVED["everything at once"]) as proxy, pytest.MonkeyPatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", proxy.address)
                yield open_store(uri)
        case _:
            yield open_store(request.getfixturevalue("radosgw_store_uri"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_object_comes_back_as_it_was_written(store: Store) -> None:
    assert store.put_once(PATH, b"picture") == StoredObject(PATH, 7, sha256(b"picture"), adopted=False)
    content, token = store.read(PATH) or pytest.fail("absent")
    assert content == b"picture"
    assert token
    assert store.exists(PATH)


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put_once(PATH, b"")
    assert store.exists(PATH)
    assert (store.read(PATH) or pytest.fail("absent"))[0] == b""


def test_an_absent_object_is_none_and_may_be_deleted(store: Store, tmp_path: Path) -> None:
    assert store.read(PATH) is None
    assert store.download(PATH, tmp_path / "copy") is None
    assert not (tmp_path / "copy").exists()
    assert not store.exists(PATH)
    store.delete(PATH)


def test_a_deleted_object_is_gone_and_may_be_written_again(store: Store) -> None:
    store.put_once(PATH, b"one")
    store.delete(PATH)
    assert store.read(PATH) is None
    assert not store.put_once(PATH, b"two").adopted


def test_a_file_is_written_like_bytes_and_downloads_whole(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "layers.psd").write_bytes(content)
    stored = store.put_once("layers/ab/ab12/layers.psd", tmp_path / "layers.psd")
    assert (stored.size, stored.sha256) == (len(content), sha256(content))
    token = store.download("layers/ab/ab12/layers.psd", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert token == (store.read("layers/ab/ab12/layers.psd") or pytest.fail("absent"))[1]


def test_writing_the_same_again_adopts_it(store: Store) -> None:
    first = store.put_once(PATH, b"picture")
    assert store.put_once(PATH, b"picture") == StoredObject(PATH, first.size, first.sha256, adopted=True)


def test_writing_something_else_is_a_conflict_and_changes_nothing(store: Store) -> None:
    store.put_once(PATH, b"first")
    with pytest.raises(Conflict, match=sha256(b"first")) as conflict:
        store.put_once(PATH, b"second")
    assert (conflict.value.ours, conflict.value.theirs) == (sha256(b"second"), sha256(b"first"))
    assert (store.read(PATH) or pytest.fail("absent"))[0] == b"first"


def test_adopting_tells_what_is_there_not_what_was_offered(store: Store) -> None:
    assert not store.adopt_or_put(PATH, b"first").adopted
    assert store.adopt_or_put(PATH, b"the second one") == StoredObject(PATH, 5, sha256(b"first"), adopted=True)


def test_of_eight_writers_of_different_content_one_wins_and_seven_learn_of_it(store: Store) -> None:
    for number in range(5):
        path = f"images/{number}.png"

        def write(content: bytes, path: str = path) -> bytes | None:
            try:
                return None if store.put_once(path, content).adopted else content
            except Conflict:
                return None

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(write, [bytes([letter]) * 100_000 for letter in b"abcdefgh"]))
        (winner,) = [content for content in outcomes if content]
        assert (store.read(path) or pytest.fail("absent"))[0] == winner


def test_of_eight_writers_of_the_same_content_one_writes_and_seven_adopt(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(lambda _: store.put_once(PATH, b"picture" * 10_000), range(8)))
    assert sorted(one.adopted for one in stored) == [False] + 7 * [True]


def test_a_reader_sees_an_old_or_a_new_object_and_never_a_part(store: Store) -> None:
    versions = [bytes([letter]) * 500_000 for letter in b"ab"]
    store.overwrite("report.html", versions[0])

    def write() -> None:
        for turn in range(15):
            store.overwrite("report.html", versions[turn % 2])

    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(write)
        while not writing.done():
            assert (store.read("report.html") or pytest.fail("absent"))[0] in versions
        writing.result()


def test_a_version_is_replaced_only_by_who_has_seen_it(store: Store) -> None:
    store.replace("catalog.parquet", b"one", expect=None)
    _, one = store.read("catalog.parquet") or pytest.fail("absent")
    two = store.replace("catalog.parquet", b"two", expect=one)
    assert store.replace("catalog.parquet", b"two", expect=one) == two  # as after a lost reply
    for stale in (one, None):
        with pytest.raises(Changed, match=r"catalog\.parquet was changed"):
            store.replace("catalog.parquet", b"three", expect=stale)
    assert (store.read("catalog.parquet") or pytest.fail("absent"))[0] == b"two"


def test_a_version_that_is_gone_is_not_replaced(store: Store) -> None:
    store.replace("catalog.parquet", b"one", expect=None)
    _, one = store.read("catalog.parquet") or pytest.fail("absent")
    store.delete("catalog.parquet")
    with pytest.raises(Changed):
        store.replace("catalog.parquet", b"two", expect=one)


def test_replacing_with_what_is_there_already_is_no_change(store: Store) -> None:
    store.replace("catalog.parquet", b"one", expect=None)
    store.replace("catalog.parquet", b"one", expect=None)


def test_eight_threads_signing_by_compare_and_swap_lose_no_signature(store: Store) -> None:
    def sign(number: int) -> None:
        while True:
            content, token = store.read("summary.json") or (b"", None)
            try:
                return store.replace("summary.json", content + f"{number} ".encode(), expect=token)
            except Changed:
                continue

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(sign, range(24)))
    content, _ = store.read("summary.json") or pytest.fail("absent")
    assert sorted(map(int, content.split())) == list(range(24))


MASTER, COPY = "masters/ab/ab12.png", "images/ab/ab12-p1.png"


def test_a_copy_is_an_object_of_its_own(store: Store) -> None:
    master = store.put_once(MASTER, b"picture")
    for _ in range(2):  # a repeat finds its own copy
        store.copy(MASTER, COPY, sha256=master.sha256, size=master.size)
        assert (store.read(COPY) or pytest.fail("absent"))[0] == b"picture"
    store.delete(COPY)
    assert (store.read(MASTER) or pytest.fail("absent"))[0] == b"picture"
    store.copy(MASTER, COPY, sha256=master.sha256, size=master.size)
    store.delete(MASTER)
    assert (store.read(COPY) or pytest.fail("absent"))[0] == b"picture"


def test_a_copy_outlives_whatever_is_written_to_its_origin(store: Store) -> None:
    store.put_once("a", b"first")
    store.copy("a", "b", sha256=sha256(b"first"), size=5)
    store.overwrite("a", b"second")
    _, version = store.read("a") or pytest.fail("absent")
    store.replace("a", b"third", expect=version)
    assert (store.read("b") or pytest.fail("absent"))[0] == b"first"


def test_a_repeat_of_a_copy_finds_its_own_after_its_origin_is_gone(store: Store) -> None:
    master = store.put_once(MASTER, b"picture")
    store.copy(MASTER, COPY, sha256=master.sha256, size=master.size)
    store.delete(MASTER)
    store.copy(MASTER, COPY, sha256=master.sha256, size=master.size)
    assert store.exists(COPY)


def test_what_isnt_there_cant_be_copied(store: Store) -> None:
    with pytest.raises(Missing) as missing:
        store.copy(MASTER, COPY, sha256=sha256(b"picture"), size=7)
    assert missing.value.uri == store.uri_of(MASTER)
    assert not store.exists(COPY)


@pytest.mark.parametrize("found", [b"another", b"a longer one"])
def test_a_damaged_object_leaves_no_copy(store: Store, found: bytes) -> None:
    store.put_once(MASTER, found)
    with pytest.raises(Damaged) as damaged:
        store.copy(MASTER, COPY, sha256=sha256(b"picture"), size=7)
    assert damaged.value.uri == store.uri_of(MASTER)
    assert not store.exists(COPY)
    assert store.exists(MASTER)


def test_of_a_strangers_object_no_more_is_read_than_was_asked_for(store: Store) -> None:
    store.put_once(PATH, b"picture")
    assert store.read_at_most(PATH, 3) == b"pict"  # one more, which tells that it is larger
    assert store.read_at_most(PATH, 7) == store.read_at_most(PATH, 8) == b"picture"
    assert store.read_at_most("images/none.png", 3) is None


def test_an_object_is_read_through_without_being_kept(store: Store) -> None:
    store.put_once(PATH, b"picture")
    assert store.read_through(PATH, lambda content: content.read(3) + content.read()) == b"picture"
    assert store.read_through("images/none.png", lambda content: content.read()) is None


def test_a_download_goes_on_from_what_came_before(store: Store, tmp_path: Path) -> None:
    store.put_once("models/weights", b"weights")
    (listed,) = store.listing("models")
    part, moved = tmp_path / "part", list[int]()
    part.write_bytes(b"wei")
    store.go_on("models/weights", part, size=7, version=listed.version, moved=moved.append)
    store.go_on("models/weights", part, size=7, version=listed.version, moved=moved.append)
    assert (part.read_bytes(), sum(moved)) == (b"weights", 4)
    with pytest.raises(Changed):
        store.go_on("models/none", tmp_path / "other", size=7, version=None, moved=moved.append)


def test_a_download_does_not_go_on_with_another_version(store: Store, tmp_path: Path) -> None:
    store.put_once("models/weights", b"weights")
    version = store.version("models/weights")
    store.overwrite("models/weights", b"WEIGHTS")
    (tmp_path / "part").write_bytes(b"wei")
    with pytest.raises(Changed):
        store.go_on("models/weights", tmp_path / "part", size=7, version=version, moved=lambda _: None)
    assert (tmp_path / "part").read_bytes() == b"wei"
    assert store.version("models/none") is None


def test_an_upload_is_an_object_whatever_was_there(store: Store, tmp_path: Path) -> None:
    moved = list[int]()
    for content in (b"one", b"another"):
        (tmp_path / "file").write_bytes(content)
        store.upload("models/weights", tmp_path / "file", sha256=sha256(content), moved=moved.append)
    assert (store.read("models/weights") or pytest.fail("absent"))[0] == b"another"
    assert sum(moved) == 10
    noted = store.look("models/weights") or pytest.fail("absent")
    assert (noted.size, noted.sha256 in (None, sha256(b"another"))) == (7, True)
    assert store.look("models/none") is None


def test_a_listing_has_what_lies_below_a_prefix(store: Store) -> None:
    assert list(store.listing("masters")) == []
    for path in ("masters/ab/1.png", "masters/2.json", "masters2/3.png", "catalog.parquet"):
        store.put_once(path, path.encode())
    listed = {one.path: one for one in store.listing("masters")}
    assert sorted(listed) == ["masters/2.json", "masters/ab/1.png"]
    assert listed["masters/2.json"].size == len("masters/2.json")
    assert abs((datetime.now(UTC) - listed["masters/2.json"].modified).total_seconds()) < 60
    assert len(list(store.listing(""))) == 4


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../catalog.parquet", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb"]
)
def test_a_path_that_is_not_plain_and_relative_is_a_bug(store: Store, path: str) -> None:
    for use in (store.read, store.exists, store.delete, store.uri_of):
        with pytest.raises(ValueError, match="isn't a plain relative path"):
            use(path)
    with pytest.raises(ValueError, match="isn't a plain relative path"):
        store.put_once(path, b"")


def test_a_name_with_spaces_and_signs_survives(store: Store) -> None:
    store.put_once("images/ab/a b+c%20ü?#&.png", b"picture")
    assert (store.read("images/ab/a b+c%20ü?#&.png") or pytest.fail("absent"))[0] == b"picture"
    store.copy("images/ab/a b+c%20ü?#&.png", "a b+ü?#&.png", sha256=sha256(b"picture"), size=7)
    assert sorted(one.path for one in store.listing("")) == ["a b+ü?#&.png", "images/ab/a b+c%20ü?#&.png"]


def test_the_probe_passes_and_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    store.probe()
    if store.uri.startswith("s3://"):
        import boto3

        bucket = store.uri.removeprefix("s3://").split("/")[0]
        assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=bucket)
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gs://bucket/prefix", "gs:// stores aren't supported"),
        ("https://shop.example/catalogue", "AWS_ENDPOINT_URL"),
        ("s3:/bucket", "lacks a slash"),
        ("s3://", "isn't the name of a bucket"),
        ("s3://b", "isn't the name of a bucket"),
        ("s3://bucket/a/../b", "isn't a plain prefix"),
        ("s3://bucket/a//b", "isn't a plain prefix"),
        ("file://server/folder", "another machine"),
        ("  ", "is empty"),
    ],
)
def test_an_address_of_another_kind_is_refused_with_a_sentence(uri: str, says: str) -> None:
    with pytest.raises(StoreAddressError, match=says):
        open_store(uri)


def test_a_secret_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreAddressError) as refused:
        open_store("s3://AKIA:hunter2@bucket/prefix")
    assert "hunter2" not in str(refused.value)


def test_addresses_are_understood_and_given_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("out").uri == str(tmp_path / "out")
    assert open_store(f"file://{tmp_path}/my%20shop").uri == str(tmp_path / "my shop")
    assert open_store("s3://bucket").uri == open_store("S3://bucket/").uri == "s3://bucket"
    assert open_store("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert open_store("s3://bucket").uri_of(PATH) == f"s3://bucket/{PATH}"
    assert open_store("out").uri_of(PATH) == str(tmp_path / "out" / PATH)


def test_a_run_into_a_folder_loads_neither_boto3_nor_prefect() -> None:
    code = (
        "import sys; from tasks.stores.opening import open_store; open_store('.').exists('a')\n"
        "sys.exit(' '.join({'boto3', 'botocore', 'prefect'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
