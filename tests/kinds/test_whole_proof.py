"""A kind of job, a classifier and a store that the project doesn't have go all the way together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.judging.classifier import Classifier
from tasks.kinds.registry import registered
from tasks.results.encoding import decode
from tasks.stores.opening import open_store
from tests.end_to_end.conftest import catalogue, prefect_api
from tests.flows.conftest import Ended, packshot
from tests.kinds.memory_scheme import registered_scheme
from tests.kinds.mugs import LETS_PASS, MUGS, POLICY, mug, parquet
from tests.kinds.redness import Redness, registering
from tests.kinds.tint import TINT, Tinter

__all__ = ["packshot", "prefect_api"]  # fixtures

STORE = "memory://shop/out"
ROWS = {**MUGS, "scarlet": {"colour": "scarlet", "image": mug(), "price": 6}}
REFUSED = {"armed": "blocklist", "bare": "bad_value", "scarlet": "concept"}


@pytest.fixture
def objects() -> Iterator[dict[str, bytes]]:
    with registered_scheme() as stored:
        yield stored


@pytest.fixture
def policy_fingerprint() -> Iterator[Callable[[Classifier | None], None]]:
    with registering() as register:
        yield register


@pytest.fixture
def tint(packshot: Callable[..., Ended], objects: dict[str, bytes]) -> Iterator[Callable[..., Ended]]:
    """Gives the command for the manifest in the store of the other scheme."""
    objects["in/manifest.parquet"] = parquet(ROWS)
    Path("policy.toml").write_text(POLICY.format(threshold=LETS_PASS))
    flags = ["--policy", "policy.toml", "--device", "cpu", "--precision", "float32", "--shard-rows", "2"]
    Tinter.made.clear()
    with registered(TINT):
        yield lambda *words: packshot("tint", "memory://shop/in/manifest.parquet", "--store", STORE, *flags, *words)


def ends() -> dict[str, str]:
    return {name: row["reason"] or row["status"] for name, row in catalogue(open_store(STORE)).items()}


def test_a_manifest_goes_all_the_way_by_a_kind_a_classifier_and_a_store_that_the_project_does_not_have(
    tint: Callable[..., Ended],
    packshot: Callable[..., Ended],
    objects: dict[str, bytes],
    policy_fingerprint: Callable[[Classifier | None], None],
) -> None:
    before = dict(objects)
    policy_fingerprint(Redness(most=1000))
    told = tint("--dry-run")
    assert ("4 × 64×64" in told.out, objects, Tinter.made) == (True, before, {}), told.err

    first = tint()
    assert first.code == 1, first.err
    assert ends() == {**dict.fromkeys(("blue", "red", "large"), "done"), **REFUSED}
    assert Tinter.made == {"blue": 1, "red": 2}
    rows = catalogue(open_store(STORE))
    assert rows["scarlet"]["message"] == "The prompt wants scarlet."
    red = rows["red"]
    data = objects[red["uri"].removeprefix("memory://shop/")]
    assert red["uri"].startswith(f"{STORE}/images/")
    assert (hashlib.sha256(data).hexdigest(), red["price"]) == (red["sha256"], 2)
    assert decode(data)[0, 0].tolist() == [255, 127, 127]
    scores = dict(red["scores"])
    assert {"left", "redness.mean", "weapon"} <= scores.keys()  # the kind's, the classifier's, and the CLIP's
    assert scores["redness.length"] == len("red")
    run = f"out/runs/{red['run']}"
    shards = [name for name in objects if name.startswith(f"{run}/shards/")]
    assert len(shards) == 3  # a shape each, of two rows at most
    assert {f"{run}/plan.parquet", f"{run}/summary.json", f"{run}/report.html"} <= objects.keys()

    written = dict(objects)
    again = tint()
    assert ("nothing to render" in again.out, objects == written) == (True, True), again.err

    # It asks a person now: the stored pictures are judged again, and nothing is made.
    policy_fingerprint(Redness(most=0, asks=True))
    tint()
    assert ends() == {"blue": "done", "red": "review", "large": "review", **REFUSED}
    waits = json.loads(packshot("review", "list", "--store", STORE, "--json").out)
    assert "redness.red" in str(waits)
    packshot("review", "approve", "red", "--store", STORE, "--by", "Ann")
    packshot("review", "reject", "large", "--store", STORE, "--by", "Ann")
    tint()
    assert ends() == {"blue": "done", "red": "done", "large": "review_rejected", **REFUSED}
    assert Tinter.made == {"blue": 1, "red": 2}
    assert catalogue(open_store(STORE))["red"]["key"] == red["key"]

    shown = packshot("report", "--store", STORE)
    page = objects["out/report.html"].decode()
    assert (shown.code, all(name in page for name in ROWS)) == (0, True)
