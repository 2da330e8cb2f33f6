"""A stage whose task fails before it begins, as where Prefect can't make a task run of it, keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.stores.store import Store
from tests.end_to_end.conftest import manifest, prefect_api, run, store

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

ROWS = [{"id": f"row-{number}", "prompt": "a red mug", "seed": number} for number in range(9)]


@pytest.mark.parametrize("stage", ["classify", "keep"])
def test_a_run_ends_where_a_stage_fails_before_it_begins_and_goes_on_where_it_was(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    file = manifest(ROWS)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("there is no task run")

    with monkeypatch.context() as broken:
        broken.setattr(f"tasks.runs.lane.{stage}", fails)
        with pytest.raises(RuntimeError, match="there is no task run"):
            run(file, store, batch=1)

    assert run(file, store, batch=1).complete
