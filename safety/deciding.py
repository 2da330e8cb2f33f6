"""What of a policy, a profile or a job goes into its digest, such that a field more changes the digest of none.

    class Profile(BaseModel):
        FIRST_FIELDS: ClassVar = ("min_width", "min_height")
        min_width: int | None = None
        min_height: int | None = None
        min_depth: int | None = None  # came later: profiles that don't give it keep their digests

What is stored was judged by a digest. If it changed with every release that knows a field more, all that is stored
would be judged again for nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def deciding(values: BaseModel, *, exclude: Collection[str] = ()) -> dict[str, Any]:
    """Return what a digest of `values` is made of, as JSON values in the order of the fields, all but `exclude`.

    Fields that a class names in `FIRST_FIELDS` are always in it; any other is left out where it has its default. When
    such a default becomes another one, name the field in `FIRST_FIELDS`: then all digests change, as they have to.
    """
    kept: dict[str, Any] = _deciding(
        values, values.model_dump(mode="json", exclude=set(exclude), serialize_as_any=True)
    )
    return kept


def _deciding(value: Any, dumped: Any) -> Any:
    """Return the part of a dumped value that decides, with the models inside of it treated likewise."""
    match value:
        case BaseModel():
            fields = type(value).model_fields
            return {
                name: _deciding(getattr(value, name), dumped[name])
                for name, field in fields.items()
                if name in dumped and not _is_left_out(value, name, field)
            }
        case list() | tuple():
            return [_deciding(*pair) for pair in zip(value, dumped, strict=True)]
        case dict():
            return {name: _deciding(one, dumped[name]) for name, one in value.items()}
        case _:
            return dumped


def _is_left_out(value: BaseModel, name: str, field: FieldInfo) -> bool:
    came_later = name not in getattr(type(value), "FIRST_FIELDS", ())
    return came_later and bool(getattr(value, name) == field.get_default(call_default_factory=True, validated_data={}))
