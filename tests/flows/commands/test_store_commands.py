"""`packshot prune`, `takedown` and `rebuild`: flags, what is said, and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.catalogue.catalogue import PATH, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.doctor.store_check import check_catalogue
from tasks.outcome import CATALOGUE_SCHEMA
from tasks.reports.summary import Summary, summarise
from tasks.stores.store import Store
from tests.flows.conftest import Ended
from tests.simulation.actors import Command, lax, strict
from tests.tasks.conftest import any_store, folder, whole_runs
from tests.tasks.whole_runs import do, elsewhere, key_of, paths, rows

__all__ = ["any_store", "folder", "whole_runs"]

Packshot = Callable[..., Ended]


def told(ended: Ended) -> str:
    return " ".join((ended.out + ended.err).split())


def test_a_prune_says_what_it_deletes_and_deletes_it(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("lax", ("a", "b"), lax))
    old = {key_of(folder, name) for name in "ab"}
    do(folder, Command("other words", ("a", "b"), lax, words="a cap"))
    words = ["prune", "--store", folder.uri]

    assert "There is nothing to delete." in packshot(*words).out  # all of it is of today
    said = packshot(*words, "--older-than", "0", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert "Dry run: nothing was deleted" in said.out
    assert "masters that no row has any more" in said.out
    document = json.loads(packshot(*words, "--older-than", "0", "--dry-run", "--json").out)
    assert document["dry_run"]
    assert {path.split("/")[2].removesuffix(".json") for path in document["masters"]} == old
    assert {path.split("/")[1] for path in document["runs"]} == {"lax"}
    before = paths(folder)

    assert "Deleted" in packshot(*words, "--older-than", "0").out

    assert before - paths(folder) == {*document["masters"], *document["runs"]}


def test_masters_go_by_the_status_of_their_rows(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("strict", ("a", "b"), strict))
    words = ["prune", "--store", folder.uri, "--older-than", "0", "--json"]
    assert json.loads(packshot(*words).out)["masters"] == []
    assert len(json.loads(packshot(*words, "--status", "rejected", "--status", "failed").out)["masters"]) == 4
    assert [row["uri"] for row in rows(folder).values()] == [None, None]
    assert packshot(*words, "--status", "done").code == 2


def test_a_dead_process_of_another_machine_is_struck_as_the_sentence_says(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("lax", ("a",), lax))
    CatalogueEdit(folder, "run 0123456789ab", elsewhere()).come_in()
    refused = packshot("prune", "--store", folder.uri)
    assert refused.code == 2
    command = refused.err.split("packshot ")[1].split()
    assert command[:3] == ["prune", "--store", folder.uri]

    assert packshot(*command, "--dry-run").code == 2
    struck = packshot(*command)

    assert struck.code == 0
    assert struck.out.startswith("run 0123456789ab (process 17 on elsewhere, since ")
    assert not read_catalogue(folder).state.editors
    assert packshot(*command).code == 2
    assert packshot("prune", "--store", folder.uri).code == 0


def test_a_takedown_withdraws_for_good_or_until_somebody_approves(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("lax", ("a", "b"), lax))
    words = ["--store", folder.uri, "--by", "Dan"]
    said = packshot("takedown", "a", *words, "--note", "not ours")
    assert (said.code, told(said).split(" on ")[0]) == (0, "a rejected Dan rejected the picture")
    assert "“not ours”" in said.out
    said = packshot("takedown", "b", *words, "--until-approved")
    assert said.code == 0
    assert "b held back Dan held back the picture on" in told(said)
    assert paths(folder, "images") == set()
    assert {name: row["reason"] for name, row in rows(folder).items()} == {"a": "review_rejected", "b": "review"}

    assert "b" in packshot("review", "list", "--store", folder.uri).out
    assert packshot("review", "approve", "b", *words).code == 0
    assert rows(folder)["b"]["status"] == "done"
    assert packshot("review", "approve", "a", *words).code == 1  # a rejection is final
    assert packshot("takedown", "nobody", *words).code == 2


def test_a_rebuild_says_what_came_back(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("lax", ("a", "b"), lax))
    folder.delete(PATH)
    refused = packshot("prune", "--store", folder.uri)
    assert (refused.code, refused.err.split("packshot ")[1].split()) == (2, ["rebuild", "--store", folder.uri])
    said = packshot("rebuild", "--store", folder.uri)
    assert said.code == 0
    assert "The catalogue has 2 rows; 2 of them came back from 1 run." in said.out
    assert "2 published objects that no row named were deleted." in said.out
    assert {row["status"] for row in rows(folder).values()} == {"done"}
    assert "0 of them came back" in packshot("rebuild", "--store", folder.uri).out


@pytest.mark.parametrize("words", [["prune"], ["rebuild"], ["takedown", "a"]], ids=lambda words: words[0])
def test_a_store_that_is_none_gets_one_sentence(packshot: Packshot, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "text").write_text("no store")
    for store, code in (("ftp://x", 2), (str(tmp_path / "text"), 3)):
        ended = packshot(*words, "--store", store)
        assert ended.code == code, ended.err
        assert len(ended.err.strip().splitlines()) == 1


def test_a_dry_run_says_how_much_room_it_takes_and_what_left_the_manifest(
    packshot: Packshot, any_store: Store, manifest: str
) -> None:
    del manifest  # it has the row a
    words = ["generate", "manifest.parquet", "--store", any_store.uri, "--dry-run"]
    assert "How much room that takes isn't known" in packshot(*words).out
    do(any_store, Command("lax", ("a", "b", "c"), lax))
    before = paths(any_store)

    said = packshot(*words).out

    size = rows(any_store)["a"]["bytes"]
    assert f"At most {size} bytes of masters, at {size} bytes a row so far." in said
    assert ("takes as much room again" in said) == any_store.uri.startswith("s3://")
    assert "2  no longer in the manifest, and left as they are: --retire-missing" in said
    assert "no longer in the manifest, and withdrawn" in packshot(*words, "--retire-missing").out
    assert "no longer" not in packshot(*words, "--limit", "1").out
    assert paths(any_store) == before


def test_a_summary_says_what_left_the_manifest_and_who_may_be_dead(packshot: Packshot, folder: Store) -> None:
    do(folder, Command("lax", ("a", "b"), lax))
    CatalogueEdit(folder, "run 0123456789ab", elsewhere()).come_in()
    ((name, _),) = read_catalogue(folder).state.editors.items()

    said = packshot("report", "--store", folder.uri)

    assert "store      run 0123456789ab (process 17 on elsewhere, since " in said.out
    assert f"If it is dead: packshot prune --store {folder.uri} --strike {name}" in said.out
    page = (folder.read("report.html") or (b"",))[0].decode()
    assert "run 0123456789ab (process 17 on elsewhere" in page
    (found,) = check_catalogue(folder.uri)
    assert (found.status, found.do) == (
        "warning",
        f"Strike it, if it is dead: packshot prune --store {folder.uri} --strike {name}",
    )
    assert [str(summary_of(left=left).upkeep[0]).split(",")[0] for left in (1, 2)] == [
        "1 row left the manifest and stays as it is",
        "2 rows left the manifest and stay as they are",
    ]
    assert summary_of(left=0).upkeep == []


def summary_of(left: int) -> Summary:
    return summarise(
        CATALOGUE_SCHEMA.empty_table(),
        run=None,
        store="store",
        catalogue="",
        report="",
        rows=0,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        complete=True,
        left=left,
    )


def test_a_doctor_looks_whether_the_catalogue_can_be_read(folder: Store) -> None:
    assert check_catalogue(folder.uri) == []
    assert not Path(folder.uri).exists()
    folder.put_once(PATH, b"PAR1")
    (found,) = check_catalogue(folder.uri)
    assert (found.status, found.fault) == ("failed", "request")
    assert found.do == f"Write the catalogue anew with packshot rebuild --store {folder.uri}."
