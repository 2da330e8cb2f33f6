"""How fast weights come from host memory to devices, to one alone and to several at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from threading import Barrier

import torch

from models.transformer.weight_stream import WeightStream

COPIED = 256 << 20  # bytes of a copy
ON_CPU = COPIED // 64  # from memory to memory
COPIES = 3  # of a stream, of which the first one isn't timed
SECONDS = 0.5  # in which devices are copied to at once


def bus_rate(device: torch.device) -> float:
    """Measure the bytes a second from pinned host memory to a device; on the CPU from memory to memory."""
    return _stream_to(device).rate()


def shared_bus_rate(devices: Sequence[torch.device], seconds: float = SECONDS) -> float:
    """Measure the bytes a second that come to the slowest of several devices while all of them are copied to.

    Host memory, its processors and the bus may be shared, so that each gets less than it would alone.
    """
    streams = [_stream_to(device) for device in devices]
    ready = Barrier(len(streams))

    def copy(stream: WeightStream) -> float:
        ready.wait()
        until, rates = time.perf_counter() + seconds, list[float]()
        while not rates or time.perf_counter() < until:
            rates.append(stream.rate())
        return mean(rates)

    with ThreadPoolExecutor(len(streams)) as threads:
        return min(threads.map(copy, streams))


def _stream_to(device: torch.device) -> WeightStream:
    stream = WeightStream(device, slots=1)
    for _ in range(COPIES):
        stream.add([torch.empty(COPIED if device.type == "cuda" else ON_CPU, dtype=torch.uint8)])
    return stream
