"""`Record`, `Frozen`: what plain values with named fields have in common, where there are many kinds of them.

Rules: a kind names its fields in ``__slots__`` and takes them in ``__init__``. It is compared and shown by
them, as a dataclass is, whose code is generated anew in each process that imports it: 0.2 ms for each kind.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Frozen", "Record"]


class Record:
    """Compared, and shown, by its fields."""

    __slots__ = ()

    def _fields(self) -> list[tuple[str, Any]]:
        kinds = reversed(type(self).__mro__)
        names = (name for kind in kinds for name in getattr(kind, "__slots__", ()))
        return [(name, getattr(self, name)) for name in names]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._fields())
        return f"{type(self).__qualname__}({shown})"


class Frozen(Record):
    """The base of dataclasses that are frozen, and leave comparing, hashing and showing to this."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(value for _, value in self._fields()))
