"""Weights that wait in host memory and come to the device in turn, each while the ones before are at work.

A part of a model (a block, a layer) is all its tensors, end to end in one pinned buffer of host memory: a transfer is
one copy at the bus's own rate. The device has room for a few parts, the slots. Parts are used in their order, over and
over; as soon as one has been used, the next one that isn't there yet is copied over it, on a stream of its own.

Bits are copied, so what a part computes doesn't depend on where its weights wait.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

SLOTS = 2  # one part at work, the next one on its way
ALIGNMENT = 256  # bytes, as CUDA's own allocator aligns: kernels may ask for 16

logger = logging.getLogger(__name__)


class WeightStream:
    """Parts of a model in their order, some of them resident on the device and the others streamed.

    stream = WeightStream(device)
    for part in parts:
        stream.add(part)
    with stream.turn(0) as tensors:
        ...
    """

    def __init__(self, device: torch.device, *, slots: int = SLOTS) -> None:
        """Nothing to stream yet."""
        self.device, self.slot_count = device, slots
        self._resident: dict[int, list[torch.Tensor]] = {}
        self._waiting: dict[int, _Buffer] = {}
        self._offloaded: list[int] = []  # of those that wait, the ones that stayed on the device before
        self._slots: list[_Slot] = []
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._resident) + len(self._waiting)

    @property
    def streamed(self) -> int:
        """How many parts wait in host memory."""
        return len(self._waiting)

    def add(
        self, tensors: Sequence[torch.Tensor], *, resident: bool = False, device: torch.device | None = None
    ) -> None:
        """Take the next part; a streamed one is copied, and its own tensors aren't needed any more.

        Args:
            tensors: contiguous ones.
            resident: whether it stays on the device, where it is brought if it isn't there.
            device: another device that a resident one stays on.
        """
        if resident:
            self._resident[len(self)] = [tensor.to(device or self.device) for tensor in tensors]
        else:
            self._waiting[len(self)] = _Buffer.of(tensors, pinned=self._copies is not None)

    def every(self) -> Iterator[torch.Tensor]:
        """Give the tensors of all parts, where they wait or stay."""
        for index in range(len(self)):
            yield from self._resident[index] if index in self._resident else self._waiting[index].tensors()

    def on_device(self) -> Iterator[torch.Tensor]:
        """Give what takes the device's memory now."""
        for tensors in self._resident.values():
            yield from tensors
        for slot in self._slots:
            yield slot.bytes

    @contextmanager
    def turn(self, index: int) -> Iterator[list[torch.Tensor]]:
        """Give the tensors of a part on the device, for as long as the block uses them."""
        tensors = self.begin(index)
        try:
            yield tensors
        finally:
            self.end(index)

    def begin(self, index: int) -> list[torch.Tensor]:
        """Begin a part's turn; `end` ends it."""
        if index in self._resident:
            return self._resident[index]
        slot = next((slot for slot in self._slots if slot.part == index), None) or self._fetch(index)
        if slot.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.arrived)
        return slot.tensors(self._waiting[index])

    def end(self, index: int) -> None:
        """End a part's turn: the next one that isn't on the device yet takes its slot."""
        if index in self._resident:
            return
        slot = next(slot for slot in self._slots if slot.part == index)
        if self._copies is not None:
            slot.used = torch.cuda.current_stream(self.device).record_event()
        parts = self._from(index)
        if len(self._slots) < len(parts):
            self._copy(slot, parts[len(self._slots)])

    def rate(self) -> float:
        """Bytes a second that come to the device, of its parts but the first one."""
        parts = list(self._waiting)
        self._copy(self._fetch(parts[0]), parts[0])
        self._wait()
        began = time.perf_counter()
        for part in parts[1:]:
            self._copy(self._slots[0], part)
        self._wait()
        return sum(self._waiting[part].bytes.nbytes for part in parts[1:]) / (time.perf_counter() - began)

    def _wait(self) -> None:
        if self._copies is not None:
            self._copies.synchronize()

    def offload(self) -> bool:
        """Have every second part that stays on the device wait in host memory from now on; whether there was one.

        The first part stays, and so do those on other devices.
        """
        here = torch.empty(0, device=self.device).device
        staying = [index for index, tensors in self._resident.items() if index and tensors[0].device == here]
        for index in staying[::2]:
            self._waiting[index] = _Buffer.of(self._resident.pop(index), pinned=self._copies is not None)
            self._offloaded.append(index)
        self._waiting = dict(sorted(self._waiting.items()))
        self.release()  # one that comes now may be larger than the slots
        return bool(staying)

    def reload(self) -> None:
        """Have the parts that were offloaded stay on the device again, as many as it has room for."""
        self.release()
        try:
            while self._offloaded:
                index = self._offloaded[-1]
                self._resident[index] = [tensor.to(self.device) for tensor in self._waiting[index].tensors()]
                del self._waiting[index], self._offloaded[-1]
        except torch.OutOfMemoryError:
            logger.warning("There is no room for %d parts of the model that made room before.", len(self._offloaded))

    def release(self) -> None:
        """Give the slots' memory back, until the next turn."""
        if self._copies is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._copies)
        self._slots = []

    def _from(self, index: int) -> list[int]:
        """The streamed parts in the order of their turns, beginning with one of them."""
        parts = list(self._waiting)
        place = parts.index(index)
        return parts[place:] + parts[:place]

    def _fetch(self, index: int) -> _Slot:
        """Begin anew with a part that no slot holds, and those that follow it."""
        if not self._slots:
            size = max(buffer.bytes.nbytes for buffer in self._waiting.values())
            count = min(self.slot_count, len(self._waiting))
            self._slots = [_Slot(torch.empty(size, dtype=torch.uint8, device=self.device)) for _ in range(count)]
            if self._copies is not None:  # the memory may have been another tensor's until now
                self._copies.wait_stream(torch.cuda.current_stream(self.device))
        for slot, part in zip(self._slots, self._from(index), strict=False):
            self._copy(slot, part)
        return self._slots[0]

    def _copy(self, slot: _Slot, part: int) -> None:
        source = self._waiting[part].bytes
        target = slot.bytes[: source.nbytes]
        slot.part = part
        if self._copies is None:
            target.copy_(source)
            return
        with torch.cuda.stream(self._copies):
            if slot.used is not None:
                self._copies.wait_event(slot.used)
            target.copy_(source, non_blocking=True)
            slot.arrived = self._copies.record_event()


@dataclass(frozen=True)
class _Layout:
    """Where one tensor lies in a buffer."""

    start: int  # in bytes
    shape: torch.Size
    dtype: torch.dtype

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        return whole[self.start : self.start + size].view(self.dtype).view(self.shape)


@dataclass(frozen=True, eq=False)
class _Buffer:
    """A part's tensors in host memory."""

    bytes: torch.Tensor  # uint8
    layout: tuple[_Layout, ...]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor], *, pinned: bool) -> _Buffer:
        layout, end = [], 0
        for tensor in tensors:
            layout.append(_Layout(end, tensor.shape, tensor.dtype))
            end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        buffer = cls(torch.empty(end, dtype=torch.uint8), tuple(layout))
        if pinned:
            buffer.pin()
        for tensor, place in zip(tensors, buffer.tensors(), strict=True):
            place.copy_(tensor)
        return buffer

    def tensors(self) -> list[torch.Tensor]:
        return [place.of(self.bytes) for place in self.layout]

    def pin(self) -> None:
        """Pin the memory where it is.

        torch's own pinned memory is allocated in powers of two, which for a block of 453 MB wastes 84 MB (2.11).
        """
        runtime = torch.cuda.cudart()
        address = self.bytes.data_ptr()
        failed = int(runtime.cudaHostRegister(address, self.bytes.nbytes, 0))
        if failed:
            logger.warning("Host memory couldn't be pinned (CUDA error %d), so weights are streamed slowly.", failed)
            return
        weakref.finalize(self, runtime.cudaHostUnregister, address)


class _Slot:
    """Room for one part on the device."""

    def __init__(self, whole: torch.Tensor) -> None:
        self.bytes = whole
        self.part: int | None = None  # that is in it, or on its way into it
        self.arrived: torch.cuda.Event | None = None  # when it is there
        self.used: torch.cuda.Event | None = None  # when the part before it has been used
        self._views: dict[tuple[_Layout, ...], list[torch.Tensor]] = {}

    def tensors(self, buffer: _Buffer) -> list[torch.Tensor]:
        if buffer.layout not in self._views:
            self._views[buffer.layout] = [place.of(self.bytes) for place in buffer.layout]
        return self._views[buffer.layout]
