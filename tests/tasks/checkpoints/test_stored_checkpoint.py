"""Checkpoints in buckets: pulled to, fetched from by a job, verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from flows.commands.doctor_checks import checks_of
from models.checkpoints.checkpoint import MINIATURE, CheckpointError
from models.checkpoints.checkpoint import find_checkpoint as find_folder
from models.files.cache_file import cache_folder
from models.files.inventory import INVENTORY, Inventory
from models.files.safetensors_files import CheckpointUnreachable
from tasks.checkpoints.checkpoints import find_checkpoint, find_clip
from tasks.checkpoints.pull import pull
from tasks.checkpoints.stored_checkpoint import StoredCheckpoint
from tasks.checkpoints.verify import verify
from tasks.kinds.job_to_check import load_job_to_check
from tasks.stores import s3_parts
from tasks.stores.store import StoreError
from tests.faults.fault_proxy import FaultProxy, answer, damaged_reply, lost_reply, passing, torn_reply
from tests.hub_server import HubServer, busy
from tests.small_checkpoint import FILES, WEIGHTS
from tests.small_hub import COMMIT, OTHER, hub, source

__all__ = ["hub", "source"]  # fixtures


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def address(s3_store_uri: str) -> str:
    """Of a place for a checkpoint, in a bucket of its own."""
    return f"{s3_store_uri}/models/shop"


@pytest.fixture
def pulled(hub: HubServer, address: str) -> str:
    """The address of a checkpoint that was pulled from the hub."""
    pull("acme/shop", COMMIT, address)
    assert hub.contents()
    return address


@pytest.fixture
def proxy(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A way to the bucket on which things go wrong."""
    with FaultProxy(s3_environment) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


def objects(address: str) -> dict[str, bytes]:
    found = StoredCheckpoint.at(address)
    return {path: (found.objects.read(path) or pytest.fail(path))[0] for path in found.listed()}


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def overwrite(checkpoint: str, path: str, data: bytes | None) -> None:
    """Change a file behind packshot's back; None removes it."""
    if not checkpoint.startswith("s3://"):
        file = Path(checkpoint) / path
        file.parent.mkdir(exist_ok=True)
        file.unlink() if data is None else file.write_bytes(data)
        return
    bucket, _, prefix = checkpoint.removeprefix("s3://").partition("/")
    where = {"Bucket": bucket, "Key": f"{prefix}/{path}"}
    client = boto3.client("s3")
    client.delete_object(**where) if data is None else client.put_object(**where, Body=data)


def test_a_bucket_gets_the_checkpoint_its_inventory_and_nothing_else(pulled: str, source: Path) -> None:
    found = objects(pulled)
    inventory = Inventory.decode(found.pop(INVENTORY), INVENTORY)
    assert found == content(source)
    assert (inventory.origin, inventory.revision, set(inventory.files)) == ("acme/shop", COMMIT, set(found))
    assert list((cache_folder() / "pulls").glob("*")) == []


def test_a_large_file_is_written_in_parts(
    hub_server: HubServer, address: str, monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy
) -> None:
    miniature = MINIATURE / "qwen-image"
    hub_server.add("acme/miniature", COMMIT, miniature)
    monkeypatch.setattr(s3_parts, "IN_ONE", 20 << 20)
    proxy.inject(lost_reply, method="POST", having="content-length", path=WEIGHTS + "?uploadId")

    pull("acme/miniature", COMMIT, address)

    parts = {path.partition("partNumber=")[2][:1] for _, path in proxy.seen if "partNumber=" in path}
    assert parts == {"1", "2"}
    assert find_checkpoint(address).revision == find_folder(str(miniature)).revision
    assert verify(address)[address].faults == ()


def test_a_pull_to_a_bucket_goes_on_where_it_stopped(
    hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    monkeypatch.setattr("models.transfer.hub_client.PATIENCE", {"busy": 0.0, "away": 0.0})
    hub.inject(busy(status=500), path=WEIGHTS)
    with pytest.raises(CheckpointUnreachable, match="answers 500"):
        pull("acme/shop", COMMIT, address)
    begun = StoredCheckpoint.at(address).listed()
    assert INVENTORY in begun
    assert "model_index.json" not in begun
    with pytest.raises(CheckpointError, match=r"isn't whole: \d+ of 12 files, such as .*; go on with packshot models"):
        find_checkpoint(address)

    asked = len(hub.contents())
    pull("acme/shop", COMMIT, address)

    assert {path: data for path, data in objects(address).items() if path != INVENTORY} == content(source)
    again = {seen.path.partition(f"/{COMMIT}/")[2] for seen in hub.contents()[asked:]}
    assert not again & (set(begun) - {"model_index.json"})


def test_a_prefix_is_never_a_mixture(hub: HubServer, pulled: str, source: Path) -> None:
    hub.add("acme/shop", OTHER, source)
    with pytest.raises(CheckpointError, match=f"{pulled} holds acme/shop at {COMMIT}; give another place"):
        pull("acme/shop", OTHER, pulled)


def test_a_prefix_that_another_machine_is_filling_with_another_commit_is_left_to_it(pulled: str) -> None:
    bucket = StoredCheckpoint.at(pulled)
    ours = bucket.inventory() or pytest.fail("no inventory")
    bucket.claim(ours)
    bucket.claim(replace(ours, files={}))  # of another version of packshot, say
    assert bucket.inventory() == replace(ours, files={})
    with pytest.raises(CheckpointError, match=f"is being filled with acme/shop at {COMMIT}; give another prefix"):
        bucket.claim(replace(ours, revision=OTHER))


def test_a_damaged_object_that_was_removed_is_fetched_again_alone(hub: HubServer, pulled: str, source: Path) -> None:
    overwrite(pulled, WEIGHTS, None)
    asked = len(hub.contents())
    pull("acme/shop", COMMIT, pulled)
    assert objects(pulled)[WEIGHTS] == (source / WEIGHTS).read_bytes()
    assert len(hub.contents()[asked:]) == 3  # the entry, where the weights are, the weights


def test_a_job_fetches_a_checkpoint_once_and_knows_it_by_its_content(
    pulled: str, proxy: FaultProxy, source: Path
) -> None:
    found = find_checkpoint(pulled)

    assert found.name == pulled
    assert found.revision == find_folder(str(source)).revision
    assert found.folder.is_relative_to(cache_folder().resolve())
    proxy.seen.clear()
    assert find_checkpoint(pulled, found.revision) == found
    assert [path for _, path in proxy.seen if "safetensors" in path] == []


def test_a_doctor_says_whether_a_bucket_s_checkpoint_is_on_this_machine(pulled: str, proxy: FaultProxy) -> None:
    job = load_job_to_check(None, model=pulled, clip=f"{pulled}-none")
    (looking,) = (check for check in checks_of(job) if check.name == "checkpoint")

    def found() -> dict[str, tuple[str, str]]:
        return {one.name: (one.status, one.found) for one in looking.look()}

    assert found()["checkpoint"] == ("warning", f"{pulled} isn't on this machine: the first run fetches it.")
    assert found()["CLIP"] == ("failed", f"There is nothing at {pulled}-none.")
    find_checkpoint(pulled)
    assert found()["checkpoint"][0] == "ok"
    proxy.inject(answer(403, "AccessDenied"), times=None)
    assert found()["checkpoint"][0] == "failed"


def test_another_content_at_the_same_address_gets_another_folder(pulled: str) -> None:
    found = find_checkpoint(pulled)
    for path in (INVENTORY, "scheduler/scheduler_config.json"):
        overwrite(pulled, path, None)
    overwrite(pulled, "scheduler/scheduler_config.json", b'{"_class_name": "FlowMatchEulerDiscreteScheduler"}')

    other = find_checkpoint(pulled)

    assert other.folder != found.folder
    assert other.revision != found.revision
    assert find_folder(str(found.folder)).revision == found.revision


def test_a_checkpoint_that_somebody_else_put_into_a_bucket_is_fetched_too(address: str) -> None:
    for path, data in content(MINIATURE / "clip").items():
        overwrite(address, path, data)
    overwrite(address, "README.md", b"# CLIP")
    assert find_clip(address).revision == find_clip("miniature").revision


def test_a_torn_download_is_gone_on_with(pulled: str, proxy: FaultProxy, source: Path) -> None:
    proxy.inject(torn_reply, method="GET", path=WEIGHTS)
    rest = proxy.inject(passing, method="GET", having="range", path=WEIGHTS)
    assert find_checkpoint(pulled).revision == find_folder(str(source)).revision
    assert rest.met == 1


def test_a_wrong_byte_on_the_way_is_found_and_its_file_fetched_again(
    pulled: str, proxy: FaultProxy, source: Path
) -> None:
    proxy.inject(damaged_reply, method="GET", path=WEIGHTS)
    assert find_checkpoint(pulled).revision == find_folder(str(source)).revision


def test_a_wrong_byte_in_the_bucket_is_not_used(pulled: str, source: Path) -> None:
    data = (source / WEIGHTS).read_bytes()
    overwrite(pulled, WEIGHTS, data[:-1] + b"x")
    with pytest.raises(CheckpointUnreachable, match=f"{WEIGHTS} of acme/shop arrived damaged 2 times"):
        find_checkpoint(pulled)
    with pytest.raises(CheckpointUnreachable):  # and not by the next run either
        find_checkpoint(pulled)


def test_what_is_no_checkpoint_for_the_job_is_refused_before_it_is_fetched(pulled: str, proxy: FaultProxy) -> None:
    with pytest.raises(CheckpointError, match="is a QwenImagePipeline where a QwenImageLayeredPipeline is needed"):
        find_checkpoint(pulled, pipeline="QwenImageLayeredPipeline")
    assert [path for _, path in proxy.seen if "safetensors" in path] == []

    with pytest.raises(CheckpointError, match=f"There is nothing at {pulled}/typo; check the address"):
        find_checkpoint(f"{pulled}/typo")
    with pytest.raises(CheckpointError, match=f"{pulled} has the contents .* not the revision {'0' * 64}"):
        find_checkpoint(pulled, "0" * 64)


def test_a_bucket_that_does_not_let_us_in_is_out_of_reach(pulled: str, proxy: FaultProxy) -> None:
    proxy.inject(answer(403, "AccessDenied"), times=None)
    with pytest.raises(StoreError, match="No permission to read"):
        find_checkpoint(pulled)


def test_a_pulled_bucket_can_be_pulled_on_into_a_folder(pulled: str, tmp_path: Path) -> None:
    inventory = pull(pulled, None, str(tmp_path / "shop"))
    assert (inventory.origin, inventory.revision) == ("acme/shop", COMMIT)
    assert verify(str(tmp_path / "shop"))[str(tmp_path / "shop")].inventory == inventory


@pytest.fixture(params=["folder", "bucket"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One that was pulled."""
    if request.param == "bucket":
        return str(request.getfixturevalue("pulled"))
    request.getfixturevalue("hub")
    pull("acme/shop", COMMIT, str(tmp_path / "shop"))
    return str(tmp_path / "shop")


def test_verify_names_everything_that_is_wrong_with_a_pulled_checkpoint(checkpoint: str, source: Path) -> None:
    assert verify(checkpoint)[checkpoint].faults == ()
    vae = "vae/diffusion_pytorch_model.safetensors"
    whole = (source / vae).read_bytes()
    overwrite(checkpoint, WEIGHTS, None)
    overwrite(checkpoint, "vae/config.json", b"{}")
    overwrite(checkpoint, vae, whole[:-1] + bytes([whole[-1] ^ 1]))
    overwrite(checkpoint, "vae/old.bin", b"x")
    overwrite(checkpoint, "pipeline.py", b"x")
    overwrite(checkpoint, "extra/config.json", b'{"auto_map": {}}')

    assert sorted(verify(checkpoint)[checkpoint].faults) == [
        "extra/config.json names code of its own (auto_map); use another checkpoint.",
        "pipeline.py is code, which no checkpoint needs; remove it.",
        f"{WEIGHTS} is missing.",
        "vae/config.json has 2 bytes where it should have 1005.",
        f"{vae} has another content than it should have.",
        "vae/old.bin is a pickle, which can run code when it is opened; remove it.",
    ]


def test_verify_without_an_inventory_checks_indexes_headers_and_classes(checkpoint: str, source: Path) -> None:
    overwrite(checkpoint, INVENTORY, None)
    whole = verify(checkpoint)[checkpoint]
    assert (whole.files, whole.proven, whole.faults) == (FILES, 0, ())

    cut = (source / WEIGHTS).read_bytes()[:-1]
    overwrite(checkpoint, WEIGHTS, cut)
    [fault] = verify(checkpoint)[checkpoint].faults
    assert fault.startswith(f"{checkpoint}/{WEIGHTS} has {len(cut)} bytes where its header promises")


def test_verify_compares_the_hubs_cache_with_the_names_it_gives_its_files(hub: HubServer) -> None:
    assert hub
    with pytest.raises(
        CheckpointError, match=r"acme/shop at .* isn't in the hub's cache; fetch it with packshot models"
    ):
        verify("acme/shop", COMMIT)
    found = find_checkpoint("acme/shop", COMMIT)
    assert verify("acme/shop", COMMIT)["acme/shop"].proven == FILES

    weights = (found.folder / WEIGHTS).resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    assert verify("acme/shop", COMMIT)["acme/shop"].faults == (f"{WEIGHTS} has another content than it should have.",)


def test_what_verify_found_wrong_is_pulled_again_though_size_and_time_say_nothing(
    hub: HubServer, tmp_path: Path
) -> None:
    assert hub
    folder = tmp_path / "shop"
    pull("acme/shop", COMMIT, str(folder))
    weights = folder / WEIGHTS
    stamp = weights.stat()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert verify(str(folder))[str(folder)].faults

    pull("acme/shop", COMMIT, str(folder))

    assert verify(str(folder))[str(folder)].faults == ()


@pytest.mark.parametrize("model", ["nowhere", "/no/such/folder"])
def test_verify_and_pull_say_what_they_take(model: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no hub id such as Qwen/Qwen-Image"):
        verify(model)
    with pytest.raises(CheckpointError, match="no hub id such as Qwen/Qwen-Image"):
        pull(model, COMMIT, str(tmp_path / "to"))


def test_the_miniature_is_whole() -> None:
    assert [findings.faults for findings in verify("miniature").values()] == [(), (), ()]
