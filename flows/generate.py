"""The generate flow, where deployments look for it."""

from __future__ import annotations

from flows.job_flow import flow_of
from tasks.kinds.generate.generate_kind import GENERATE

generate = flow_of(GENERATE)
