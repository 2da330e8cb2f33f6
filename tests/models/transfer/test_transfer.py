"""A checkpoint from a hub into a folder, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import close_session

from models.checkpoints.checkpoint import MINIATURE, find_checkpoint
from models.checkpoints.integrity import verify_folder
from models.files import digest
from models.files.inventory import INVENTORY, Inventory, is_plain, read_inventory
from models.files.safetensors_files import CheckpointError, CheckpointUnreachable
from models.transfer import hub_client
from models.transfer.checkpoint_folder import PARTS, CheckpointFolder
from models.transfer.endpoints import Step
from models.transfer.hub import HubSource
from models.transfer.hub_client import patient_hub
from models.transfer.transfer import transfer
from tests.hub_server import Exchange, HubServer, Seen, busy, damaged, listed, stalled, torn
from tests.small_checkpoint import WEIGHTS
from tests.small_hub import COMMIT, MODEL, OTHER, hub, source

__all__ = ["hub", "source"]  # fixtures


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.expected: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.lock = threading.Lock()

    def expect(self, step: Step, size: int, done: int) -> None:
        self.expected[step], self.bytes[step] = size, done

    def moved(self, step: Step, size: int) -> None:
        with self.lock:
            self.bytes[step] += size

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def pull(hub: HubServer, heard: Heard, tmp_path: Path) -> Callable[..., Inventory]:
    """Pulls acme/shop of that hub into tmp_path/shop unless told otherwise."""
    assert hub

    def pull(revision: str = COMMIT, to: Path = tmp_path / "shop", repository: str = "acme/shop") -> Inventory:
        given_up = threading.Event()
        with patient_hub(heard, given_up):
            return transfer(HubSource(repository, revision), CheckpointFolder(to), heard, given_up=given_up)

    return pull


Pull = Callable[..., Inventory]


def stored(hub: HubServer) -> list[Seen]:
    """The requests for the contents of large files."""
    return [seen for seen in hub.contents() if seen.path.startswith("/storage/")]


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != INVENTORY
    }


def test_a_pulled_folder_is_the_repositorys_checkpoint_with_an_inventory(
    pull: Pull, heard: Heard, tmp_path: Path
) -> None:
    inventory = pull(repository="acme/miniature")

    assert content(tmp_path / "shop") == content(MODEL)
    assert inventory == read_inventory(tmp_path / "shop")
    assert (inventory.origin, inventory.revision) == ("acme/miniature", COMMIT)
    assert inventory.size == sum(map(len, content(MODEL).values())) == heard.expected["fetch"] == heard.bytes["fetch"]
    assert heard.sentences == []
    assert find_checkpoint(str(tmp_path / "shop")).revision == find_checkpoint(str(MODEL)).revision


def test_what_was_pulled_is_hashed_once_and_not_again_by_the_next_job_or_pull(
    hub: HubServer, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull()
    hashed: list[Path] = []
    real = digest._hash
    monkeypatch.setattr(digest, "_hash", lambda file: (hashed.append(file), real(file))[1])
    asked = len(hub.contents())

    find_checkpoint(str(tmp_path / "shop"))
    pull()

    assert hashed == []
    assert [seen.path.rpartition("/")[2] for seen in hub.contents()[asked:]] == ["model_index.json"]


def test_only_what_a_checkpoint_is_loaded_from_is_fetched(
    hub: HubServer, pull: Pull, tmp_path: Path, source: Path
) -> None:
    repository = Path(shutil.copytree(source, tmp_path / "repository"))
    for stranger in ("README.md", "run.py", "vae/diffusion_pytorch_model.bin", "vae/model.py", "vae/vae.safetensors"):
        (repository / stranger).write_bytes(b"not needed")
    (repository / "extras").mkdir()
    (repository / "extras" / "config.json").write_text("{}")
    hub.add("acme/shop", COMMIT, repository)

    pull()

    assert content(tmp_path / "shop") == content(source)


def test_a_torn_connection_is_gone_on_with_where_it_broke(
    hub: HubServer, pull: Pull, heard: Heard, tmp_path: Path
) -> None:
    hub.inject(torn(after=15_000_000), path=f"qwen-image/{WEIGHTS}")

    pull(repository="acme/miniature")

    assert content(tmp_path / "shop") == content(MODEL)
    [begun] = [int(seen.headers["range"].removeprefix("bytes=").rstrip("-")) for seen in stored(hub) if seen.partial]
    assert 0 < begun <= 15_000_000
    assert heard.bytes["fetch"] == heard.expected["fetch"]


def test_a_pull_that_failed_goes_on_from_its_parts(
    hub: HubServer, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "PATIENCE", {"busy": 0.0, "away": 0.0})
    hub.inject(torn(after=15_000_000), path=f"qwen-image/{WEIGHTS}")
    hub.inject(busy(status=500), path=f"qwen-image/{WEIGHTS}")
    with pytest.raises(CheckpointUnreachable, match=r"127.0.0.1 answers 500"):
        pull(repository="acme/miniature")
    [part] = [part for part in (tmp_path / "shop" / PARTS).glob("*.part") if part.stat().st_size > 10_000_000]
    kept = part.stat().st_size
    assert not (tmp_path / "shop" / "model_index.json").exists()
    with pytest.raises(CheckpointError, match=f"holds acme/miniature at {COMMIT} in part; go on with packshot models"):
        find_checkpoint(str(tmp_path / "shop"))

    pull(repository="acme/miniature")

    assert [seen.headers["range"] for seen in stored(hub) if seen.partial] == [f"bytes={kept}-"] * 2
    assert content(tmp_path / "shop") == content(MODEL)


def test_a_plea_to_wait_is_waited_out_and_told_of(
    hub: HubServer, pull: Pull, heard: Heard, tmp_path: Path, source: Path
) -> None:
    hub.inject(busy(seconds=1), path="/api/models/")
    hub.inject(busy(seconds=1), path=f"shop/{WEIGHTS}")

    pull()

    assert content(tmp_path / "shop") == content(source)
    assert heard.sentences == ["127.0.0.1 answers 429 Too Many Requests; waiting 1 s."] * 2


def test_a_hub_that_asks_for_more_patience_than_there_is_ends_the_pull(hub: HubServer, pull: Pull) -> None:
    hub.inject(busy(seconds=7200), path=f"shop/{WEIGHTS}")
    with pytest.raises(
        CheckpointUnreachable, match=r"429 .* asks to wait 120 minutes; try again later, or set HF_TOKEN"
    ):
        pull()


def test_an_overloaded_hub_is_asked_again(
    hub: HubServer, pull: Pull, heard: Heard, tmp_path: Path, source: Path
) -> None:
    hub.inject(busy(status=503), path=f"shop/{WEIGHTS}")
    pull()
    assert content(tmp_path / "shop") == content(source)
    assert heard.sentences == ["127.0.0.1 answers 503 Service Unavailable; waiting 1 s."]


@pytest.mark.parametrize("path", [WEIGHTS, "vae/config.json", "model_index.json"])
def test_a_wrong_byte_is_found_and_its_file_alone_fetched_again(
    hub: HubServer, pull: Pull, heard: Heard, tmp_path: Path, path: str, source: Path
) -> None:
    hub.inject(damaged, path=path)

    pull()

    assert content(tmp_path / "shop") == content(source)
    assert heard.sentences == [f"{path} arrived damaged; fetching it again."]
    large = sum(file.stat().st_size >= 64 << 10 for file in source.rglob("*") if file.is_file())
    assert len(stored(hub)) == large + (path == WEIGHTS)


def test_a_byte_that_stays_wrong_ends_the_pull_and_is_never_seen_as_whole(
    hub: HubServer, pull: Pull, tmp_path: Path
) -> None:
    hub.inject(damaged, path=f"shop/{WEIGHTS}", times=2)

    with pytest.raises(CheckpointUnreachable, match=f"{WEIGHTS} of acme/shop arrived damaged 2 times; try again later"):
        pull()

    assert not (tmp_path / "shop" / WEIGHTS).exists()
    assert not (tmp_path / "shop" / "model_index.json").exists()


def test_a_damaged_file_of_a_pulled_folder_is_fetched_again_and_nothing_else(
    hub: HubServer, pull: Pull, tmp_path: Path, source: Path
) -> None:
    pull()
    weights = tmp_path / "shop" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    asked = len(hub.contents())

    pull()

    assert content(tmp_path / "shop") == content(source)
    assert len(hub.contents()[asked:]) == 3  # the entry, where the weights are, the weights


def test_a_pull_that_is_interrupted_as_its_threads_begin_is_given_up(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub
    submit, given_up, begun = ThreadPoolExecutor.submit, threading.Event(), list[Any]()

    def interrupted(pool: ThreadPoolExecutor, *step: Any) -> Any:
        if begun:
            raise KeyboardInterrupt
        begun.append(submit(pool, *step))
        return begun[0]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with patient_hub(given_up=given_up), pytest.raises(KeyboardInterrupt):
        transfer(HubSource("acme/shop", COMMIT), CheckpointFolder(tmp_path / "shop"), given_up=given_up)
    assert given_up.is_set()


def test_two_pulls_at_once_fetch_everything_once(hub: HubServer, heard: Heard, tmp_path: Path, source: Path) -> None:
    def pull() -> Inventory:
        return transfer(HubSource("acme/shop", COMMIT), CheckpointFolder(tmp_path / "shop"), heard)

    def once_the_other_pull_waits(exchange: Exchange) -> None:
        while not heard.sentences and not hub.closing.wait(0.01):
            pass
        exchange.serve()

    hub.inject(once_the_other_pull_waits, path=f"shop/{WEIGHTS}")
    with patient_hub(), ThreadPoolExecutor(2) as threads:
        one, other = (threads.submit(pull) for _ in range(2))
        assert one.result() == other.result()

    assert content(tmp_path / "shop") == content(source)
    assert heard.sentences == [f"{tmp_path / 'shop'} is being filled by another pull; waiting for it."]
    asked = [seen.path for seen in stored(hub)]
    assert len(asked) == len(set(asked))


def test_a_folder_is_never_a_mixture(hub: HubServer, pull: Pull, tmp_path: Path, source: Path) -> None:
    hub.add("acme/shop", OTHER, source)
    pull()
    with pytest.raises(CheckpointError, match=f"holds acme/shop at {COMMIT}; give another place"):
        pull(OTHER)

    begun = Path(shutil.copytree(source, tmp_path / "begun"))
    (begun / WEIGHTS).write_bytes(b"somebody's own")
    with pytest.raises(CheckpointError, match=f"holds another {WEIGHTS} than acme/shop at {COMMIT}"):
        pull(to=begun)
    assert (begun / WEIGHTS).read_bytes() == b"somebody's own"
    assert not (begun / PARTS).exists()


def test_of_two_commits_pulled_at_once_into_one_folder_one_is_refused(
    hub: HubServer, source: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(source, tmp_path / "other"))
    edited(other, "scheduler/scheduler_config.json", shift=2.0)
    hub.add("acme/shop", OTHER, other)

    def pull(revision: str) -> str:
        try:
            transfer(HubSource("acme/shop", revision), CheckpointFolder(tmp_path / "shop"))
        except CheckpointError as error:
            return str(error)
        return revision

    with patient_hub(), ThreadPoolExecutor(2) as threads:
        ended = sorted(threads.map(pull, (COMMIT, OTHER)), key=len)

    assert "; give another place" in ended[1]
    assert content(tmp_path / "shop") == content(other if ended[0] == OTHER else source)


def test_a_listing_that_leads_out_of_the_folder_is_not_followed(hub: HubServer, pull: Pull, tmp_path: Path) -> None:
    evil = {"type": "file", "path": "vae/../../evil.json", "size": 2, "oid": "0" * 40}

    def listing(exchange: Exchange) -> None:
        exchange.reply(200, json.dumps([evil, *listed(hub.repositories["acme/shop", COMMIT])]).encode())

    hub.inject(listing, path="/api/")
    pull()
    assert [seen.path for seen in hub.seen if "evil" in seen.path] == []
    assert not list(tmp_path.rglob("evil.json"))


def test_a_hub_that_falls_silent_is_given_up(hub: HubServer, pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "PATIENCE", {"busy": 0.0, "away": 0.0})
    monkeypatch.setattr(hub_client, "SILENCE", 0.2)
    hub.inject(stalled(after=10), path="/api/")
    with pytest.raises(CheckpointUnreachable, match=r"127.0.0.1 can't be reached \(.*; try again later"):
        pull()


def test_a_folder_that_holds_the_same_files_already_gets_its_inventory(
    hub: HubServer, pull: Pull, tmp_path: Path, source: Path
) -> None:
    there = Path(shutil.copytree(source, tmp_path / "there"))
    pull(to=there)
    assert read_inventory(there) is not None
    assert stored(hub) == []


def test_links_in_a_folder_are_followed_and_what_is_fetched_takes_the_place_of_the_link_alone(
    hub: HubServer, pull: Pull, tmp_path: Path, source: Path
) -> None:
    there, vae = Path(shutil.copytree(source, tmp_path / "there")), "vae/diffusion_pytorch_model.safetensors"
    shared = [(there / path).rename(tmp_path / path.replace("/", "-")) for path in (WEIGHTS, vae)]
    for path, file in zip((WEIGHTS, vae), shared, strict=True):
        (there / path).symlink_to(Path("../..") / file.name)

    pull(to=there)
    assert stored(hub) == []
    assert verify_folder(there).faults == ()
    assert all((there / path).is_symlink() for path in (WEIGHTS, vae))

    shared[0].write_bytes(damage := shared[0].read_bytes()[:-1] + b"x")
    assert verify_folder(there).faults == (f"{WEIGHTS} has another content than it should have.",)
    pull(to=there)
    assert content(there) == content(source)
    assert shared[0].read_bytes() == damage  # whoever else links to it decides what becomes of it
    assert [(there / path).is_symlink() for path in (WEIGHTS, vae)] == [False, True]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda hub: hub.repositories.clear(), "There is no acme/shop at http://127.0.0.1:.*set HF_TOKEN"),
        (lambda hub: hub.gated.add("acme/shop"), "acme/shop is gated: accept its terms at http.*/acme/shop"),
        (lambda hub: setattr(hub, "token", "secret"), "There is no acme/shop at .*, or not for us.*set HF_TOKEN"),
        (lambda hub: hub.inject(busy(status=418)), "answers 418 for acme/shop"),
    ],
    ids=["no repository", "gated", "private", "no hub"],
)
def test_what_the_hub_refuses_is_said_with_what_to_do_and_leaves_nothing(
    hub: HubServer, pull: Pull, tmp_path: Path, spoil: Callable[[HubServer], object], sentence: str
) -> None:
    spoil(hub)
    with pytest.raises((CheckpointError, CheckpointUnreachable), match=sentence) as refused:
        pull()
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "shop").exists()


def test_a_revision_that_does_not_exist_is_refused(pull: Pull, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"acme/shop has no commit {OTHER} at http.*; give one of its history"):
        pull(OTHER)
    assert not (tmp_path / "shop").exists()


def test_a_token_is_shown_to_the_hub_and_to_nobody_else(
    hub: HubServer, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    pull()
    of_shop = [seen for seen in hub.seen if "acme/shop" in seen.path]  # huggingface_hub asks for other things once, too
    assert {seen.headers.get("authorization") for seen in of_shop if seen not in stored(hub)} == {"Bearer secret"}
    assert {seen.headers.get("authorization") for seen in stored(hub)} == {None}
    assert content(tmp_path / "shop") == content(source)


def edited(folder: Path, path: str, **changes: object) -> None:
    (folder / path).write_text(json.dumps(json.loads((folder / path).read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: (folder / "model_index.json").unlink(),
            "no checkpoint of diffusers, for it has no model_index",
        ),
        (
            lambda folder: edited(folder, "model_index.json", _class_name="FluxPipeline"),
            "is a FluxPipeline, which packshot doesn't use",
        ),
        (
            lambda folder: edited(folder, "model_index.json", vae=["vae_of_ours", "Vae"]),
            "loads vae from vae_of_ours, code that would come with the checkpoint",
        ),
        (
            lambda folder: (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin")),
            "only pickles, which can run code",
        ),
        (lambda folder: (folder / WEIGHTS).unlink(), f"has no weights where {WEIGHTS} should be"),
        (
            lambda folder: (folder / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
            "lacks transformer/gone.safetensors, which .* names",
        ),
    ],
    ids=["no entry", "another pipeline", "its own code", "pickles", "no weights", "no shard"],
)
def test_a_repository_that_is_no_checkpoint_is_refused_before_weights_are_fetched(
    hub: HubServer, pull: Pull, tmp_path: Path, spoil: Callable[[Path], object], sentence: str, source: Path
) -> None:
    repository = Path(shutil.copytree(source, tmp_path / "repository"))
    spoil(repository)
    hub.add("acme/shop", COMMIT, repository)

    with pytest.raises(CheckpointError, match=sentence):
        pull()

    assert not (tmp_path / "shop").exists()
    assert stored(hub) == []


def test_a_clip_is_pulled_too(hub: HubServer, pull: Pull, tmp_path: Path) -> None:
    hub.add("acme/clip", COMMIT, MINIATURE / "clip")
    pull(repository="acme/clip")
    assert content(tmp_path / "shop") == content(MINIATURE / "clip")


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: HubServer, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointUnreachable, match=r"0.0 GB free, and 0.0 GB are still to come; free some space"):
        pull()
    assert stored(hub) == []


def test_a_folder_that_cannot_be_made_is_named(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointUnreachable, match=r"file/shop.* can't be written"):
        pull(to=tmp_path / "file" / "shop")


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", "./a", "a\\b", "a\nb", "", "a/"])
def test_a_path_that_leaves_its_folder_is_not_plain(path: str) -> None:
    assert not is_plain(path)


def test_an_inventory_that_leaves_its_folder_is_refused() -> None:
    files = {"../x": {"size": 1, "sha256": "0" * 64}}
    content = json.dumps({"origin": "acme/shop", "revision": COMMIT, "files": files}).encode()
    with pytest.raises(CheckpointError, match="outside its own folder"):
        Inventory.decode(content, "inventory.json")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "foo://bar", "http://127.0.0.1:port"])
def test_a_hub_beyond_a_proxy_that_is_none_is_a_sentence(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    del hub_server  # which closes the client that the proxy is meant for
    close_session()
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(CheckpointUnreachable, match=r"through the proxies .*\): mend HTTP_PROXY"), patient_hub():
        pass
