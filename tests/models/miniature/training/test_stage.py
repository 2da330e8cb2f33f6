"""A stretch of training goes on from what was saved last, wherever it ended."""

from pathlib import Path

import pytest
import torch

from models.miniature.training import stage
from models.miniature.training.stage import Stage


def test_a_command_that_dies_takes_no_more_with_it_than_came_after_the_last_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(stage.time, "monotonic", lambda: now)
    part = torch.nn.Linear(1, 1)
    first = Stage("edit", 100.0, tmp_path, float("inf"), part=part)
    for count in first.iterations():
        now += 10.0
        torch.nn.init.constant_(part.weight, count)
        if count == 3:
            first.save()
        if count == 5:
            break

    part = torch.nn.Linear(1, 1)
    again = Stage("edit", 100.0, tmp_path, float("inf"), part=part)
    assert (again.count, again.elapsed, part.weight.item()) == (3, 40.0, 3.0)
