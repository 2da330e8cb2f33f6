"""A Ray cluster that asks for a token, in a process of its own: Ray reads once whether it is to (2.60).

RAY_AUTH_MODE=token RAY_AUTH_TOKEN=… python -m tests.faults.guarded_cluster    # until its input ends
RAY_AUTH_TOKEN=… python -m tests.faults.guarded_cluster HOST:PORT              # joins one
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

from flows.lanes.ray_cluster import joined_cluster
from tasks.errors import RequestError
from tasks.job_sections import HardwareSection

HEAD = {
    "num_cpus": 1,
    "include_dashboard": False,
    "include_log_monitor": False,  # nobody reads what lanes log
    "no_monitor": True,  # nor is there an autoscaler
    "object_store_memory": 80 << 20,
}


if __name__ == "__main__":
    if sys.argv[1:]:
        try:
            with joined_cluster(HardwareSection(ray=sys.argv[1], lanes="1", device="cpu")):
                sys.stdout.write("joined\n")
        except RequestError as error:
            sys.stdout.write(f"{error}\n")
    else:
        cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        sys.stdout.write(f"{cluster.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
        cluster.shutdown()
