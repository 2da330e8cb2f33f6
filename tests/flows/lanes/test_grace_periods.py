"""What a run waits for that is asked to stop: by its constants, it ends in the time that is promised."""

from __future__ import annotations

import pytest

from flows.orchestration.telling import SECONDS_BETWEEN_HEARINGS
from tasks.processes.stopping import PATIENCE, WITHIN

pytest.importorskip("ray", reason="Ray isn't installed: pip install 'packshot[ray]'")

from flows.lanes.ray_lanes import SECONDS_BETWEEN_BEATS, SECONDS_BETWEEN_LOOKS, SECONDS_TO_END
from flows.lanes.task_runs import SECONDS_TO_HEAR_STOPPING

OWN_PROCESSES = 5  # of Ray, for a cluster of the command's own: raylet, GCS, dashboard, monitor, log monitor
SECONDS_A_PROCESS = 1.0  # that Ray gives each to end by itself, one after another (2.60)


def test_a_lane_that_is_told_to_stop_has_time_for_its_batch_and_to_publish_it() -> None:
    assert SECONDS_BETWEEN_BEATS + PATIENCE + 4 <= SECONDS_TO_END


def test_a_run_on_ray_ends_in_time_after_a_signal_or_a_cancel_whatever_its_lanes_are_at() -> None:
    heard = SECONDS_BETWEEN_HEARINGS + SECONDS_BETWEEN_LOOKS
    ended = SECONDS_TO_END + OWN_PROCESSES * SECONDS_A_PROCESS + SECONDS_TO_HEAR_STOPPING
    assert heard + ended + 2 <= WITHIN  # two for the catalogue
