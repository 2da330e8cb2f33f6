"""What becomes of task runs in Prefect's record when no process works on them any longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from flows.lanes import task_runs
from flows.lanes.task_runs import UNTOLD, end_untold, tag_of
from flows.orchestration.telling import PrefectNotifier
from tasks.processes.stopping import stop


class Record(PrefectNotifier):
    """Prefect's record of a flow run, of which a look sees at most two task runs."""

    def __init__(self, going_on: int, *, is_away: bool = False) -> None:
        self.flow_run_id, self.is_away = uuid4(), is_away
        self.runs = [SimpleNamespace(id=uuid4(), tags=[tag_of(number), "run"]) for number in range(going_on)]
        self.others = [SimpleNamespace(id=uuid4(), tags=["run"])]  # of the flow itself
        self.sentences_told: list[str | None] = []
        self.looks, self.at_look = 0, lambda _: None

    def attempt(self, step: Callable[[Any], None]) -> None:
        if not self.is_away:
            step(self)

    def read_task_runs(self, **_: object) -> list[SimpleNamespace]:
        self.looks += 1
        self.at_look(self.looks)
        return [*self.others, *self.runs[:2]]

    def set_task_run_state(self, which: object, state: Any, *, force: bool) -> None:
        assert force
        self.runs = [run for run in self.runs if run.id != which]
        self.sentences_told.append(state.message)


@pytest.fixture(autouse=True)
def _not_stopping() -> Iterator[None]:
    yield
    stop.clear()


def test_what_ends_while_it_is_waited_for_is_left_as_it_ended() -> None:
    record = Record(2)

    def ending(look: int) -> None:
        record.runs = record.runs[:1] if look == 2 else [] if look == 3 else record.runs

    record.at_look = ending
    end_untold(record)
    assert (record.looks, record.sentences_told) == (3, [])


def test_all_that_still_seems_to_run_ends_and_nothing_of_the_flow_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runs, "SECONDS_TO_HEAR", 0.0)
    record = Record(5)
    end_untold(record)
    assert record.sentences_told == [UNTOLD] * 5


def test_a_run_that_is_asked_to_stop_as_it_waits_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runs, "SECONDS_TO_HEAR", 1000.0)
    monkeypatch.setattr(task_runs, "SECONDS_TO_HEAR_STOPPING", 0.0)
    record = Record(1)
    record.at_look = lambda look: stop.set() if look == 3 else None
    end_untold(record)
    assert (record.looks, record.sentences_told) == (4, [UNTOLD])


def test_nobody_waits_for_a_prefect_that_is_away() -> None:
    record = Record(1, is_away=True)
    end_untold(record)
    assert record.looks == 0
