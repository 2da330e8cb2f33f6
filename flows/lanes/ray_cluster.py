"""The Ray cluster that lanes run on: one that a person names, or one of the command's own on this machine."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tasks.errors import RequestError
from tasks.job_sections import HardwareSection
from tasks.runs.lane_count import gpus_here, lanes_here

GROUP = "ray.io/node-group"
REPORT = b"__autoscaling_status"
NO_GROUP = ("node_", "local.cluster.node")
# Ray's own words (2.60)
NO_NODE, VERSIONS, TOKEN = "No node info found", "Version mismatch", "InvalidAuthToken"
MODE, LOCAL = "RAY_AUTH_MODE", "local"
OBJECTS = 128 << 20  # bytes that Ray keeps for what travels: plans and counts, never pictures
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRIES = 2  # a second apart, to get past the head of a cluster that answers: Ray's own twenty help no wrong token (2.60)


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined."""

    address: str | None  # None: the command's own, on this machine
    dashboard: str | None  # the address of its page, where it has one
    wants: str  # how many lanes, as the job says
    on_gpus: bool  # each lane takes a GPU; else a core
    grows: bool  # something brings up nodes as lanes ask for them

    @property
    def room(self) -> int:
        """How many lanes the nodes take that are there now."""
        import ray

        return int(ray.cluster_resources().get("GPU" if self.on_gpus else "CPU", 0))

    @property
    def places(self) -> str:
        """How many that are, in words: "1 GPU", or "16 cores"."""
        room, name = self.room, "GPU" if self.on_gpus else "core"
        return f"{room or 'no'} {name}{'' if room == 1 else 's'}"

    def lanes(self) -> int:
        """Return how many lanes there are to be now; with `auto` that follows the cluster."""
        import ray

        if self.wants != "auto":
            return int(self.wants)
        return self.room if self.on_gpus else len([node for node in ray.nodes() if node["Alive"]])

    def check_room(self) -> None:
        """Check that the nodes have room for every lane, or that more will come.

        Raises:
            RequestError: if lanes would wait for ever.
        """
        if self.wants == "auto":
            if self.room == 0:
                raise RequestError(
                    f"The Ray cluster {self.address} has no GPU now, so --lanes auto are none",
                    "give a number, and a cluster that grows brings up so many.",
                )
        elif int(self.wants) > self.room and not self.grows:
            raise RequestError(
                f"--lanes {self.wants} are more than the {self.places} of the Ray cluster {self.address}, each lane "
                "needs one, and nothing brings up more nodes there",
                f"give --lanes {self.room or 'auto and --device cpu'}, or start nodes that have them.",
            )


@contextmanager
def joined_cluster(hardware: HardwareSection) -> Iterator[Cluster]:
    """Join the cluster that a job names, or bring up one on this machine for as long as the block runs.

    Ray takes signals for itself when it starts (2.60); they stay with who had them.

    Raises:
        RequestError: if there is no such cluster, or it doesn't fit this process, or has no GPU for `auto`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if hardware.ray is not None:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(TRIES))
    if hardware.ray is None and not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray reads it once; without one, it writes to HOME (2.60)
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # it warns of that token
    import ray

    before = {number: signal.getsignal(number) for number in SIGNALS}
    on_gpus_here = hardware.ray is None and hardware.device != "cpu" and gpus_here() > 0
    options = (
        {"address": hardware.ray}
        if hardware.ray is not None
        else {
            "address": LOCAL,
            "num_cpus": lanes_here(hardware),  # Ray begins a process for each, whether anything runs there or not
            "num_gpus": gpus_here() if on_gpus_here else 0,
            "object_store_memory": OBJECTS,
            "include_dashboard": False,
        }
    )
    try:
        context = _begun(options)
    finally:
        _give_back_signals(before)
    try:
        cluster = _cluster(hardware, context.dashboard_url or None, on_gpus_here=on_gpus_here)
        cluster.check_room()
        yield cluster
    finally:
        ray.shutdown()


def _begun(options: Mapping[str, Any]) -> Any:
    """Begin with Ray, where a cluster asks for one with this machine's token.

    To a cluster that asks for none it mustn't be shown: then its processes, which have none, aren't heard here (2.60).

    Raises:
        RequestError: if that can't be done.
    """
    import ray
    from ray.exceptions import RayError

    while True:
        try:
            return ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            ray.shutdown()  # of what it has begun
            said = " ".join(f"{error} {error.__cause__ or ''}".split())
            if TOKEN not in said or MODE in os.environ or not _takes_token():
                raise _cant_join(options["address"], said) from error


def _takes_token() -> bool:
    """Have Ray show this machine's token, if there is one: unasked, it does so only for a cluster that it finds."""
    with suppress(ImportError):  # a Ray that does it elsewhere
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        return bool(maybe_enable_token_auth_if_token_available(warn_if_disabled=False))
    return False


def _cant_join(address: str, said: str) -> RequestError:
    """Say why a cluster can't be joined, by what Ray said of it."""
    if NO_NODE in said:
        return RequestError(
            f"This machine is no node of the Ray cluster {address}",
            f"give the command on one that is, or make it one with `ray start --address={address}`.",
        )
    if TOKEN in said:
        return RequestError(
            f"The Ray cluster {address} wants another token than this machine's: copy ~/.ray/auth_token of the "
            "cluster's head to every node and here, or set RAY_AUTH_TOKEN."
        )
    if VERSIONS in said:
        return RequestError(
            f"The Ray cluster {address} has another Python or Ray than this command ({said})",
            "install the same on every node and here.",
        )
    return RequestError(f"The Ray cluster {'of this machine' if address == LOCAL else address} can't be joined: {said}")


def _cluster(hardware: HardwareSection, dashboard: str | None, *, on_gpus_here: bool) -> Cluster:
    import ray

    there = hardware.ray is not None and hardware.device != "cpu" and "GPU" in ray.cluster_resources()
    on_gpus = there or on_gpus_here or hardware.device == "cuda"
    return Cluster(hardware.ray, dashboard, hardware.lanes, on_gpus, _grows())


def _grows() -> bool:
    """Say whether an autoscaler brings up nodes: it gives each that it starts the name of its group.

    Of Ray's two (2.60), the newer one's stand in the nodes' labels; the older one reports them, and where there is
    none, a node's own id stands in the place of that name.
    """
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    if any(GROUP in (node.get("Labels") or {}) for node in ray.nodes() if node["Alive"]):
        return True
    reported = json.loads(_internal_kv_get(REPORT) or "{}").get("autoscaler_report") or {}
    return any(not name.startswith(NO_GROUP) for name in reported.get("active_nodes") or {})


def _give_back_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
