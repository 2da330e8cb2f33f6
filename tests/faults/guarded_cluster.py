"""A Ray cluster that asks for a token, in a process of its own: Ray reads once whether it is to (2.60).

RAY_AUTH_MODE=token RAY_AUTH_TOKEN=… python -m tests.faults.guarded_cluster    # until its input ends
python -m tests.faults.guarded_cluster HOST:PORT                               # joins one
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

from flows.lanes.ray_cluster import joined_cluster
from tasks.errors import RequestError
from tasks.job_sections import HardwareSection

if __name__ == "__main__":
    if sys.argv[1:]:
        try:
            with joined_cluster(HardwareSection(ray=sys.argv[1], lanes="1", device="cpu")):
                sys.stdout.write("joined\n")
        except RequestError as error:
            sys.stdout.write(f"{error}\n")
    else:
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        sys.stdout.write(f"{cluster.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
        cluster.shutdown()
