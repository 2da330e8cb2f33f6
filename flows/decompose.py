"""The decompose flow, where deployments look for it."""

from __future__ import annotations

from flows.job_flow import flow_of
from tasks.kinds.decompose.decompose_kind import DECOMPOSE

decompose = flow_of(DECOMPOSE)
