"""A third kind of job goes all the way that the project's own go, and nothing outside of its own file knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.job_flow import flow_of
from safety.marks.provenance import read_marks
from tasks.kinds.registry import registered
from tasks.results.encoding import decode
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import catalogue, prefect_api
from tests.flows.conftest import Ended, packshot
from tests.kinds.mugs import ASKS, LETS_PASS, MUGS, POLICY, parquet
from tests.kinds.tint import TINT, Tinter

__all__ = ["packshot", "prefect_api"]  # fixtures


@pytest.fixture(autouse=True)
def third_kind() -> Iterator[None]:
    Tinter.made.clear()
    with registered(TINT):
        yield


@pytest.fixture
def tint(packshot: Callable[..., Ended], s3_store_uri: str) -> Callable[..., Ended]:
    """Gives the command for rows, judged by a policy."""

    def run(rows: dict[str, dict[str, Any]], *words: str, threshold: str = LETS_PASS) -> Ended:
        Path("manifest.parquet").write_bytes(parquet(rows))
        Path("policy.toml").write_text(POLICY.format(threshold=threshold))
        flags = ["--policy", "policy.toml", "--device", "cpu", "--precision", "float32", "--shard-rows", "2"]
        return packshot("tint", "manifest.parquet", "--store", s3_store_uri, *flags, *words)

    return run


def published(store: Store, row: dict[str, Any]) -> bytes:
    found = store.read(row["uri"].removeprefix(f"{store.uri}/"))
    assert found is not None
    return found[0]


def measured(store: Store) -> dict[str, float]:
    """How much is left of each picture's source: the kind's own score."""
    return {name: dict(row["scores"])["left"] for name, row in catalogue(store).items() if row["uri"]}


def ends(store: Store) -> dict[str, str]:
    return {name: row["reason"] or row["status"] for name, row in catalogue(store).items()}


def test_a_third_kind_goes_all_the_way_without_a_change_outside_of_its_own_file(
    tint: Callable[..., Ended], packshot: Callable[..., Ended], s3_store_uri: str
) -> None:
    told = tint(MUGS, "--dry-run")
    assert "3 × 64×64" in told.out
    assert not Tinter.made

    first = tint(MUGS)
    assert first.code == 1, first.err
    store = open_store(s3_store_uri)
    assert Tinter.made == {"blue": 1, "red": 2}
    assert ends(store) == {**dict.fromkeys(("blue", "red", "large"), "done"), "armed": "blocklist", "bare": "bad_value"}
    row = catalogue(store)["red"]
    assert (row["prompt"], row["caption"], row["price"], row["model"][:5]) == ("red", None, 2, "paint")
    data = published(store, row)
    assert decode(data)[0, 0].tolist() == [255, 127, 127]
    assert (row["marks"], read_marks(data).source_type) == (["digital_source_type"], TINT.source_type)
    assert catalogue(store)["bare"]["message"] == "The colour is empty."

    shown = packshot("report", "--store", s3_store_uri)
    page = store.read("report.html")
    assert page is not None
    assert (shown.code, all(name in page[0].decode() for name in MUGS)) == (0, True)

    changed = {**MUGS, "blue": {**MUGS["blue"], "colour": "green"}}
    tint(changed)  # a changed row alone is made again
    assert Tinter.made == {"blue": 1, "red": 2, "green": 1}
    assert decode(published(store, catalogue(store)["blue"]))[0, 0].tolist() == [127, 191, 127]

    scores = measured(store)
    assert all(0 < left < 1 for left in scores.values())
    keys = {name: row["key"] for name, row in catalogue(store).items()}
    judged = tint(changed, threshold=ASKS)  # another policy judges again, and nothing is made
    assert "nothing to render" in judged.out, judged.err
    assert ends(store) == {
        **dict.fromkeys(("blue", "red", "large"), "review"),
        "armed": "blocklist",
        "bare": "bad_value",
    }
    assert measured(store) == pytest.approx(scores)  # what is stored is compared with its source again
    waits = json.loads(packshot("review", "list", "--store", s3_store_uri, "--json").out)
    assert "blue" in str(waits)
    packshot("review", "approve", "blue", "--store", s3_store_uri, "--by", "Ann")
    tint(changed, threshold=ASKS)
    assert (ends(store)["blue"], ends(store)["red"]) == ("done", "review")
    assert {name: row["key"] for name, row in catalogue(store).items()} == keys
    assert Tinter.made == {"blue": 1, "red": 2, "green": 1}


def test_a_manifest_of_a_third_kind_is_told_by_its_columns_and_checked(packshot: Callable[..., Ended]) -> None:
    Path("manifest.parquet").write_bytes(parquet(MUGS))
    ended = packshot("manifest", "check", "manifest.parquet", "--json")
    said = json.loads(ended.out)
    assert (ended.code, said["kind"]) == (1, "tint")
    assert "The colour is empty." in ended.out
    refused = packshot("manifest", "check", "manifest.parquet", "--kind", "paint")
    assert (refused.code, "'tint'" in refused.err) == (2, True)


def test_the_form_of_a_flow_is_made_of_the_job_of_its_kind() -> None:
    form = flow_of(TINT).parameters.model_dump()
    assert "How much of the colour" in str(form["definitions"]["TintJob"]["properties"]["strength"])
    assert form["properties"]["limit"]["title"] == "limit"
    assert "first rows" in str(form["properties"]["limit"])
