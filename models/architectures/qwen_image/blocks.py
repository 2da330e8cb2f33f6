"""The blocks of a transformer, one at a time: on the device all the time, or streamed from host memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from models.architectures.qwen_image.double_stream import Block
from models.transformer.weight_stream import WeightStream

Thing = TypeVar("Thing")


class Blocks:
    """The blocks of one transformer."""

    def __init__(
        self,
        makers: Iterable[Callable[[], Block]],
        device: torch.device,
        resident: Collection[int] | None = None,
        homes: Sequence[torch.device] = (),
    ) -> None:
        """Make them one after another, so that at most one that is to be streamed is on the device.

        Args:
            makers: each makes the next block, on whatever device.
            device: where they are used.
            resident: which of them stay there; None for all.
            homes: where each of them stays and is used, if not all on `device`.
        """
        self.homes = list(homes)
        self.device = device
        self.stream = WeightStream(device)
        self._forms: list[Block] = []  # their tensors are only places for those of a turn
        self._whole: dict[int, Block] = {}  # by the tensors of a turn, which are the same objects every time
        for index, make in enumerate(makers):
            block = make()
            stays = resident is None or index in resident
            self.stream.add([*tensors_in(block)], resident=stays, device=self.home(index))
            self._forms.append(replaced(block, lambda tensor: tensor.new_empty(0)))
        self.eps = self._forms[0].eps
        self.quantizes = self._forms[0].image.qkv.quantizes  # whether they take the image's tokens in float8

    def __len__(self) -> int:
        return len(self._forms)

    def home(self, index: int) -> torch.device:
        """Return the device that a block is used on."""
        return self.homes[index] if self.homes else self.device

    @contextmanager
    def turn(self, index: int) -> Iterator[Block]:
        """Give a block on the device, for as long as it is used."""
        with self.stream.turn(index) as tensors:
            yield self._block(index, tensors)

    def offload(self) -> bool:
        """Have half of the blocks that stay on the device wait in host memory from now on; whether there were any."""
        self._whole.clear()  # it holds their tensors
        return self.stream.offload()

    def reload(self) -> None:
        """Have those that were offloaded stay on the device again, as many as it has room for."""
        self._whole.clear()
        self.stream.reload()

    def repeated(self, count: int) -> Blocks:
        """Return the first block, which must be on the device, so many times."""
        with self.turn(0) as block:
            return Blocks([lambda: block] * count, self.stream.device)

    def _block(self, index: int, tensors: list[torch.Tensor]) -> Block:
        known = self._whole.get(index)
        first = next(tensors_in(known)) if known else None
        if known is None or first is not tensors[0]:
            coming = iter(tensors)
            known = self._whole[index] = replaced(self._forms[index], lambda _: next(coming))
        return known


def tensors_in(thing: Any) -> Iterator[torch.Tensor]:
    """Give the tensors in the fields of a dataclass, and in those of dataclasses and in tuples in them."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, tuple):
        for part in thing:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            yield from tensors_in(getattr(thing, field.name))


def replaced(thing: Thing, other: Callable[[torch.Tensor], torch.Tensor]) -> Thing:
    """Return a copy of a dataclass with other tensors, asked for in the order of `tensors_in`."""
    if isinstance(thing, torch.Tensor):
        return other(thing)  # type: ignore[return-value]
    if isinstance(thing, tuple):
        return tuple(replaced(part, other) for part in thing)  # type: ignore[return-value]
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    fields = {field.name: replaced(getattr(thing, field.name), other) for field in dataclasses.fields(thing)}
    return dataclasses.replace(thing, **fields)
