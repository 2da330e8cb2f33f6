"""The edit flow, where deployments look for it."""

from __future__ import annotations

from flows.job_flow import flow_of
from tasks.kinds.edit.edit_kind import EDIT

edit = flow_of(EDIT)
