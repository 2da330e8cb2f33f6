"""Whether a job's lanes can be had, and what each node of its cluster lacks, as findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.lanes.node_check import Needs, code_digest
from flows.orchestration.prefect_settings import ServerError, named_server
from models.finding import Finding
from tasks.errors import RequestError
from tasks.job import Job
from tasks.runs.lane_count import check_lanes, lanes_here

NAME = "lanes"


def check_lanes_of(job: Job, files: Sequence[Path]) -> list[Finding]:
    """Look for what a job's lanes need: GPUs, or a cluster whose nodes have those of these files that are here."""
    try:
        check_lanes(job.hardware, job.model.precision)
        if job.hardware.ray is None:
            count = lanes_here(job.hardware)
            return [Finding.ok(NAME, f"{count} {'lane' if count == 1 else 'lanes'} on this machine.")]
        return _of_cluster(job, [str(file.absolute()) for file in files if file.exists()])
    except RequestError as error:
        return [Finding.refused(NAME, error, "Give the address of another cluster.", "request")]


def _of_cluster(job: Job, files: Sequence[str]) -> list[Finding]:
    from flows.lanes.nodes import ask_nodes  # an extra
    from flows.lanes.ray_cluster import joined_cluster

    try:
        server = named_server()
    except ServerError:
        server = None  # another check says why
    findings = []
    with joined_cluster(job.hardware) as cluster:
        for node in ask_nodes(Needs(code_digest(), tuple(files), server)):
            if node.gpus == 0 and cluster.on_gpus:
                findings.append(Finding.left_out(NAME, f"{node.machine} has no GPU, and gets no lane."))
            elif node.lacks:
                findings.append(Finding.failed(NAME, f"{node.machine}: {'; '.join(node.lacks)}.", "Mend that there."))
            else:
                gpus = f", {node.gpus} {'GPU' if node.gpus == 1 else 'GPUs'}" if node.gpus else ""
                findings.append(Finding.ok(NAME, f"{node.machine}{gpus}: nothing is missing."))
    if server is None:
        do = "Set PREFECT_API_URL to the address of a server that every node reaches."
        findings.append(
            Finding.warning(NAME, "No Prefect server is named, and other machines don't reach one's own.", do)
        )
    return findings
