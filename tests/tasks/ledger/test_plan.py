"""The plan holds every row, and a shard for exactly those that are still to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.kinds.generate.prompt_rows import PromptRows
from tasks.ledger.plan import COLUMNS, KeptRow, Known, Plan, PlanCounts, Unread, bad_rows, write_plan
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.key import Maker, reseed, seed_of
from tasks.manifests.manifest import open_manifest
from tasks.manifests.manifest_file import ManifestError
from tasks.manifests.row import BadRow, Row
from tasks.outcome import RENAMED
from tests.tasks.conftest import Write, defaults, planner

MUG = {"id": "a", "prompt": "a mug"}
MAKER = Maker("checkpoint", "float32", ("png", None))


def key(seed: int | None = None, maker: Maker = MAKER, **values: Any) -> str:
    whole = {"prompt": "a mug", "negative_prompt": " ", "width": 256, "height": 256, "steps": 8, "guidance": 2.0}
    seed = seed_of(0, "a") if seed is None else seed
    return maker.key(Row(id="a", seed=seed, profile="none", **{**whole, **values}), seed)


def planned(file: Path, limit: int | None = None, **values: Any) -> tuple[Plan, PlanCounts]:
    manifest = open_manifest(str(file), fetch_manifest(str(file), file.parent), template_columns=None)
    to = file.with_suffix(".plan")
    return Plan(to), write_plan(planner(**values), manifest, to, limit=limit)


def known(status: str = "done", **values: Any) -> dict[str, Known]:
    whole = {"status": status, "key": key(), "policy_fingerprint": "judges of none", "attempt": 1, "retryable": False}
    return {"a": Known(**{**whole, **values})}


def test_a_shard_holds_rows_of_one_shape_in_manifest_order(write_manifest: Write) -> None:
    rows = [{"id": f"r{n}", "prompt": "x", "width": 512 if n % 3 == 0 else None} for n in range(12)]
    plan, plan_counts = planned(write_manifest(rows))

    shards = [[(row.id, row.width) for row in plan.shard(n)] for n in range(plan.shards)]

    assert plan_counts.to_do == plan.to_do == 12
    assert all(len({width for _, width in shard}) == 1 for shard in shards)
    assert sorted(row for shard in shards for row, _ in shard) == sorted(r["id"] for r in rows)
    assert [row for shard in shards for row, width in shard if width == 512] == ["r0", "r3", "r6", "r9"]
    assert all(len(shard) <= 4 for shard in shards)


def test_the_largest_shards_come_first_by_rows_pixels_steps_and_guidance(write_manifest: Write) -> None:
    one = {"prompt": "x", "width": 128, "height": 128, "steps": 8, "guidance": 2.0}
    rows = [{**one, "id": f"s{n}"} for n in range(6)]  # shards of four and of two
    rows += [{**one, "id": "w", "width": 1024}, {**one, "id": "l", "steps": 400}]
    rows += [{**one, "id": "p", "width": 896, "guidance": 1.0}]
    plan, _ = planned(write_manifest(rows))
    first = [plan.shard(shard)[0].id for shard in plan.largest_first()]
    assert first == ["l", "w", "s0", "p", "s4"]
    assert sorted(plan.largest_first()) == list(range(plan.shards))


def test_a_row_comes_back_from_the_plan_as_it_was_read_with_what_was_planned_of_it(write_manifest: Write) -> None:
    plan, _ = planned(write_manifest([MUG]))
    ((_, read),) = PromptRows(defaults()).read(pa.RecordBatch.from_pylist([MUG]))
    assert isinstance(read, Row)

    (row,) = plan.shard(0)

    assert row == replace(read, key=key(), policy_fingerprint="judges of none", attempt=1, shard=0)
    assert {RENAMED.get(name, name) for name in COLUMNS.names} == {
        field.name for kind in (Row, BadRow, KeptRow) for field in fields(kind)
    } - {"column", "fault", "checks_digest"}  # which count before there is a plan: of bad rows, and for who judges


@pytest.mark.parametrize("status", ["done", "rejected", "blocked", "failed"])
def test_a_settled_row_is_left_alone(write_manifest: Write, status: str) -> None:
    plan, plan_counts = planned(write_manifest([MUG]), known=known(status))
    assert (plan_counts.to_do, plan_counts.carried_over, plan.shards) == (0, 1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a cup"},
        {"seed": 7},
        {"width": 512},
        {"steps": 9},
        {"guidance": 3.0},
        {"negative_prompt": "stripes"},
    ],
)
def test_a_change_to_what_makes_the_picture_makes_the_row_again(write_manifest: Write, change: dict[str, Any]) -> None:
    _, plan_counts = planned(write_manifest([{**MUG, **change}]), known=known())
    assert plan_counts.to_do == 1


def test_a_negative_prompt_that_guidance_does_not_use_changes_nothing() -> None:
    assert key(guidance=1.0, negative_prompt="stripes") == key(guidance=1.0)
    assert key(negative_prompt="stripes") != key()


@pytest.mark.parametrize(
    "maker",
    [
        Maker("another", "float32", ("png", None)),
        Maker("checkpoint", "bfloat16", ("png", None)),
        Maker("checkpoint", "float8", ("png", None)),
        Maker("checkpoint", "float32", ("jpg", 90)),
        Maker("checkpoint", "float32", ("png", None), step_cache=0.1),
    ],
)
def test_another_checkpoint_precision_format_or_step_cache_makes_every_row_again(
    write_manifest: Write, maker: Maker
) -> None:
    _, plan_counts = planned(write_manifest([MUG]), known=known(), maker=maker)
    assert plan_counts.to_do == 1


def test_a_step_cache_decides_by_its_threshold() -> None:
    keys = [key(maker=replace(MAKER, step_cache=threshold)) for threshold in (None, 0.05, 0.1)]
    assert len(set(keys)) == 3
    assert key(maker=replace(MAKER, step_cache=None)) == key()


def test_without_loras_a_key_is_what_it_was_before_there_were_any() -> None:
    assert key(seed=1) == "db6a360b4670bf29fd36df251ef915fef3b15bc9e4c568e6ccb197b45b5140b2"


def test_loras_scales_and_the_scheduler_are_part_of_the_key() -> None:
    keys = [
        key(maker=replace(MAKER, **added))
        for added in (
            {},
            {"loras": (("enamel", 1.0),)},
            {"loras": (("enamel", 0.8),)},
            {"loras": (("glaze", 1.0),)},
            {"loras": (("enamel", 1.0), ("glaze", 1.0))},
            {"loras": (("enamel", 1.0),), "scheduler": "lightning"},
            {"scheduler": "lightning"},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert key(maker=replace(MAKER, scheduler="checkpoint")) == key()


def test_other_judges_judge_again_under_the_same_key(write_manifest: Write) -> None:
    plan, plan_counts = planned(write_manifest([MUG]), known=known(), policy_fingerprint=lambda _: "new judges")
    assert plan_counts.to_do == 1
    assert plan.shard(0)[0].key == key()


def test_a_carried_column_that_changes_starts_no_work(write_manifest: Write) -> None:
    _, plan_counts = planned(write_manifest([{**MUG, "price": 99}]), known=known())
    assert plan_counts.to_do == 0


def test_retrying_a_rejected_row_draws_another_picture_and_remembers_it(write_manifest: Write) -> None:
    file, seed = write_manifest([MUG]), seed_of(0, "a")
    plan, _ = planned(file, known=known("rejected"), retry=frozenset({"rejected"}))

    again = plan.shard(0)[0]

    assert (again.seed, again.attempt) == (reseed(seed, 2), 2)
    assert again.seed != seed
    _, plan_counts = planned(file, known=known("done", key=again.key, attempt=2))
    assert plan_counts.to_do == 0


def test_retrying_a_picture_that_could_not_be_classified_keeps_its_seed(write_manifest: Write) -> None:
    unjudged = known("rejected", retryable=True, reason="classifier_failed")
    plan, _ = planned(write_manifest([MUG]), known=unjudged, retry=frozenset({"rejected"}))
    assert plan.shard(0)[0].key == key()


@pytest.mark.parametrize(
    ("status", "reason"), [("done", None), ("rejected", "blank"), ("rejected", "review"), ("blocked", "concept")]
)
def test_a_row_that_could_not_be_judged_again_is_judged_by_the_next_run(
    write_manifest: Write, status: str, reason: str | None
) -> None:
    plan, _ = planned(write_manifest([MUG]), known=known(status, retryable=True, reason=reason))
    assert (plan.shard(0)[0].key, plan.shard(0)[0].attempt) == (key(), 1)


@pytest.mark.parametrize(("status", "reason"), [("rejected", "classifier_failed"), ("blocked", "screen_failed")])
def test_a_new_row_that_could_not_be_judged_waits_to_be_asked_for(
    write_manifest: Write, status: str, reason: str
) -> None:
    _, plan_counts = planned(write_manifest([MUG]), known=known(status, retryable=True, reason=reason))
    assert plan_counts.to_do == 0


def test_retrying_a_rejected_picture_that_could_not_be_judged_again_draws_another(write_manifest: Write) -> None:
    before = known("rejected", retryable=True, reason="blank")
    plan, _ = planned(write_manifest([MUG]), known=before, retry=frozenset({"rejected"}))
    assert plan.shard(0)[0].seed == reseed(seed_of(0, "a"), 2)


def test_retrying_a_failed_row_draws_the_same_picture(write_manifest: Write) -> None:
    plan, _ = planned(write_manifest([MUG]), known=known("failed"), retry=frozenset({"failed"}))
    assert (plan.shard(0)[0].key, plan.shard(0)[0].attempt) == (key(), 2)


def test_retry_leaves_rows_of_other_statuses_alone(write_manifest: Write) -> None:
    _, plan_counts = planned(write_manifest([MUG]), known=known("blocked"), retry=frozenset({"failed"}))
    assert plan_counts.to_do == 0


def test_bad_rows_are_planned_as_failures(write_manifest: Write) -> None:
    plan, plan_counts = planned(write_manifest([{**MUG, "width": 17}, {"id": "b", "prompt": "x", "width": None}]))
    assert (plan_counts.bad, plan_counts.to_do) == (1, 1)
    (bad,) = bad_rows(plan.table())
    assert bad.id == "a"
    assert "17" in bad.problem


class UnreadRows:
    """Rows whose source pictures can't be read for the reason that their prompt names."""

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, BadRow]]:
        for index, row in enumerate(batch.to_pylist()):
            reason, _, retryable = row["prompt"].partition(" ")
            yield index, BadRow(row["id"], "a caption", f"No answer for {row['id']}.", reason, retryable == "passing")

    def keep(self, row: Row) -> None:
        raise AssertionError(f"There is nothing to keep of {row}.")


def unread(reason: str) -> list[dict[str, Any]]:
    return [{"id": "a", "prompt": reason}, {"id": "b", "prompt": reason}]


@pytest.mark.parametrize("reason", ["source_unreachable passing", "source_unreachable", "source_too_large passing"])
@pytest.mark.parametrize("status", ["done", "rejected", "blocked"])
def test_a_row_whose_source_cannot_be_read_now_keeps_what_the_catalogue_has(
    write_manifest: Write, status: str, reason: str
) -> None:
    before = known(status, key="k", policy_fingerprint="earlier judges", attempt=3)

    plan, plan_counts = planned(write_manifest(unread(reason)), known=before, rows=UnreadRows())

    assert (plan_counts.rows, plan_counts.unread, plan_counts.bad, plan_counts.carried_over, plan_counts.to_do) == (
        2,
        1,
        1,
        0,
        0,
    )
    assert [bad.id for bad in bad_rows(plan.table())] == ["b"]
    (row,) = (row for row in plan.table().to_pylist() if row["id"] == "a")
    assert (row["key"], row["judged_by"], row["attempt"], row["shard"]) == ("k", "earlier judges", 3, None)
    assert row["kept_because"] == "No answer for a."
    assert plan.unread == Unread(1, "a", "No answer for a.")


@pytest.mark.parametrize("reason", ["source_not_found", "source_not_allowed", "source_corrupt", "bad_value"])
def test_a_row_whose_source_will_not_do_fails_whatever_it_was(write_manifest: Write, reason: str) -> None:
    plan, plan_counts = planned(write_manifest(unread(reason)), known=known(), rows=UnreadRows())
    assert (plan_counts.unread, plan_counts.bad) == (0, 2)
    assert plan.unread == Unread()


def test_a_row_that_failed_and_cannot_be_read_says_why_now(write_manifest: Write) -> None:
    rows = UnreadRows()
    _, plan_counts = planned(write_manifest(unread("source_unreachable passing")), known=known("failed"), rows=rows)
    assert (plan_counts.unread, plan_counts.bad) == (0, 2)


def test_a_plan_from_before_rows_could_be_unread_is_gone_on_with(write_manifest: Write) -> None:
    plan, _ = planned(write_manifest([MUG]))
    table = plan.table()
    pq.write_table(table.drop_columns(["kept_because"]).replace_schema_metadata(table.schema.metadata), plan.file)
    assert plan.unread == Unread()
    assert [row.id for row in plan.shard(0)] == ["a"]


def test_a_profile_that_does_not_exist_fails_the_row_that_names_it(write_manifest: Write) -> None:
    def policy_fingerprint(profile: str) -> str:
        if profile == "moon":
            raise ValueError("There is no profile moon.")
        return "judges"

    rows = [{**MUG, "profile": "moon"}, {"id": "b", "prompt": "x", "profile": None}]
    _, plan_counts = planned(write_manifest(rows), policy_fingerprint=policy_fingerprint)
    assert (plan_counts.bad, plan_counts.to_do) == (1, 1)


def test_a_limit_takes_the_first_rows(write_manifest: Write) -> None:
    plan, plan_counts = planned(write_manifest([{"id": f"r{n}", "prompt": "x"} for n in range(9)]), limit=5)
    assert plan_counts.rows == 5
    assert plan.table().column("id").to_pylist() == [f"r{n}" for n in range(5)]


def test_variants_must_not_take_the_id_of_another_row(write_manifest: Write) -> None:
    file = write_manifest([{**MUG, "variants": 2}, {"id": "a.v2", "prompt": "x", "variants": 1}])
    with pytest.raises(ManifestError, match=r"'a\.v2'"):
        planned(file, rows=PromptRows(defaults()))


def test_the_carried_columns_stand_beside_every_variant(write_manifest: Write) -> None:
    plan, _ = planned(
        write_manifest([{**MUG, "sku": "S1", "variants": 2}, {"id": "b", "prompt": "x", "sku": "S2", "variants": None}])
    )
    assert plan.table().column("carried:sku").to_pylist() == ["S1", "S1", "S2"]


FINISHES = [
    {"fixes": {"snap_white": 1}},
    {"fixes": {"pad_square": 1}},
    {"fixes": {"snap_white": 1, "pad_square": 1}},
    {"aigc": "CODE"},
    {"c2pa": True},
]


def test_what_is_done_after_the_model_is_part_of_the_key_where_it_is_done() -> None:
    keys = [key(maker=replace(MAKER, finish=finish)) for finish in ({}, *FINISHES)]
    assert keys[0] == key()
    assert len(set(keys)) == len(keys)


def test_a_visible_label_is_part_of_the_keys_of_the_rows_whose_profile_wants_it(write_manifest: Write) -> None:
    rows = [{**MUG, "profile": "china"}, {"id": "b", "prompt": "a mug", "profile": None}]
    plain, _ = planned(write_manifest(rows, "plain.parquet"))
    labelled, _ = planned(write_manifest(rows, "labelled.parquet"), label_of={"china": "AI生成", "none": None}.get)
    before, after = ([row.key for row in plan.shard(0)] for plan in (plain, labelled))
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_of_ten_thousand_rows_exactly_those_are_made_that_a_change_touches(tmp_path: Path) -> None:
    ids = [f"r{n:05}" for n in range(10_000)]
    before = pa.table({"id": ids, "prompt": [f"a mug, number {n}" for n in range(10_000)]})

    def to_do(rows: pa.Table, name: str, known: dict[str, Known], group: int = 3000) -> list[str]:
        pq.write_table(rows, tmp_path / f"{name}.parquet", row_group_size=group)
        plan, _ = planned(tmp_path / f"{name}.parquet", known=known)
        table = plan.table()
        made.update(dict(zip(*(table.column(column).to_pylist() for column in ("id", "key")), strict=True)))
        return sorted(table.filter(table.column("shard").is_valid()).column("id").to_pylist())

    made: dict[str, str] = {}
    assert to_do(before, "before", {}) == ids
    done = {one: Known("done", key, "judges of none", 1, retryable=False) for one, key in made.items()}

    changed = pa.array(["a cup" if n == 7777 else f"a mug, number {n}" for n in range(10_000)])
    added = pa.table({"id": ["new"], "prompt": ["a mug, number 12"]})
    assert to_do(before.set_column(1, "prompt", changed), "changed", done) == ["r07777"]
    assert to_do(pa.concat_tables([before.slice(0, 5000), added, before.slice(5000)]), "added", done) == ["new"]
    assert to_do(pa.concat_tables([before.slice(0, 5000), before.slice(5001)]), "removed", done) == []
    assert to_do(before.take(list(reversed(range(10_000)))), "reordered", done) == []
    assert to_do(before.select(["prompt", "id"]), "grouped", done, group=17) == []
