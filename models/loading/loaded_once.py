"""Loading models one after the other: while one is made, diffusers and accelerate change torch for every thread.

A model that another thread makes meanwhile gets weights without data. Imports no torch.
"""

from functools import cached_property
from threading import RLock
from typing import Any, TypeVar

Loaded = TypeVar("Loaded")
one_at_a_time = RLock()  # held by whoever loads a model


class loaded_once(cached_property[Loaded]):  # noqa: N801 - read as the decorator that it is
    """A cached property that is a model: threads that ask for it at once get one, where `cached_property` makes two."""

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Loaded:  # type: ignore[override]
        """The model, loaded by whoever asks first; once it is there, nothing is waited for."""
        with one_at_a_time:
            return super().__get__(instance, owner)


def loaded(instance: object, name: str) -> Any:
    """Return the model in a `loaded_once` of this name; None as long as nobody has asked for it."""
    return instance.__dict__.get(name)
