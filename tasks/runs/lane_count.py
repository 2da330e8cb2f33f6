"""How many lanes a job wants, and what stands against that, before any work. Nothing is started."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec

from models.devices.gpu_presence import surely_no_gpu
from tasks.errors import RequestError
from tasks.job_sections import HardwareSection

CONNECT_SECONDS = 5.0
HTTP2_HEADER, HTTP2_SETTINGS = 9, b"\x04"  # bytes of a frame's header, and the type of a frame
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + bytes(5)
INSTALL = "install the extra 'ray', as in: pip install 'packshot[ray]'"


def needs_ray(hardware: HardwareSection) -> bool:
    """Say whether lanes run on Ray: on a cluster, or several on this machine."""
    return hardware.ray is not None or lanes_here(hardware) > 1


def lanes_here(hardware: HardwareSection) -> int:
    """Return how many lanes a job wants on this machine; `auto` is one on each of its GPUs, and one without any."""
    if hardware.lanes != "auto":
        return int(hardware.lanes)
    return 1 if hardware.device != "auto" else max(1, gpus_here())


def wanted_lanes(hardware: HardwareSection) -> int | None:
    """Return how many lanes a job wants, wherever they run; None where that is left to a cluster."""
    if hardware.ray is None:
        return lanes_here(hardware)
    return None if hardware.lanes == "auto" else int(hardware.lanes)


def gpus_here() -> int:
    """Return how many GPUs torch finds on this machine."""
    if surely_no_gpu():
        return 0
    import torch  # takes seconds

    return torch.cuda.device_count()


def check_lanes(hardware: HardwareSection, precision: str = "auto") -> None:
    """Check that a job's lanes can be had, and that its precision means the same there as here.

    Raises:
        RequestError: if they can't.
    """
    if hardware.ray is None and hardware.lanes == "1":
        return
    if hardware.device.startswith("cuda:"):
        raise RequestError(
            f"The device is {hardware.device}, one GPU, and lanes take one each",
            "leave out --device, or --lanes and --ray.",
        )
    if hardware.placement == "balanced":
        raise RequestError(
            "The placement is balanced, over several GPUs, and lanes take one each",
            "leave out --placement, or --lanes and --ray.",
        )
    if not needs_ray(hardware):
        return
    asked = f"--ray {hardware.ray}" if hardware.ray else f"--lanes {hardware.lanes}"
    if find_spec("ray") is None:
        raise RequestError(f"{asked} needs Ray, which isn't installed", f"{INSTALL}.")
    if hardware.ray is not None:
        if precision == "auto" and hardware.device != "cpu" and surely_no_gpu():
            raise RequestError(
                "The precision is auto, which goes by the GPU, and this machine has none to go by",
                "give --precision, such as bfloat16, or --device cpu.",
            )
        _check_address(hardware.ray)
        return
    wanted, gpus = lanes_here(hardware), 0 if hardware.device == "cpu" else gpus_here()
    on_cpu = hardware.device != "cuda" and not gpus
    room = (os.cpu_count() or 1) if on_cpu else gpus
    if room == 0:
        raise RequestError(
            f"{asked} on the device cuda needs as many GPUs, and torch finds none on this machine",
            "check the driver, leave out --device, or name a cluster with --ray.",
        )
    if wanted > room:
        things = "cores" if on_cpu else "GPU" if room == 1 else "GPUs"
        raise RequestError(
            f"{asked} is more than this machine's {room} {things}, and each lane needs one",
            f"give --lanes {room} or --lanes auto, or a cluster with --ray.",
        )


def _check_address(address: str) -> None:
    """Check that a cluster's head answers at its address. Ray itself asks for minutes, and ends the process (2.60).

    Raises:
        RequestError: if it is none, or nobody does, or something else.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise RequestError(
            f"--ray {address} is the address of Ray's client, which lanes aren't driven through: give the command on a "
            "node of the cluster, with HOST:PORT as `ray start --head` shows it."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise RequestError(
            f"--ray {address} is no address of a cluster", "give HOST:PORT, as `ray start --head` shows it."
        )
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as way:
            answers = _speaks_grpc(way)
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"There is no Ray cluster at {address} ({error})",
            f"start it with `ray start --head --port={port}` there, or give the address of one.",
        ) from error
    if not answers:
        raise RequestError(
            f"What answers at {address} is no Ray cluster: give the port that `ray start --head` shows, 6379 unless "
            "another one was named, and not that of the dashboard."
        )


def _speaks_grpc(way: socket.socket) -> bool:
    """Say whether a server speaks HTTP/2, as gRPC does: its first frame is one of settings (RFC 9113, 3.4 and 4.1)."""
    way.sendall(HTTP2_PREFACE)
    try:
        header = way.recv(HTTP2_HEADER, socket.MSG_WAITALL)
    except TimeoutError:
        return False
    return header[3:4] == HTTP2_SETTINGS
