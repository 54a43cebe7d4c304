"""The name of a user, in rooms and of notifications: the same users are in both."""

from __future__ import annotations

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.routing import checked_channel

__all__ = ["checked_name", "checked_user"]

MAX_NAME = 1000
"""Characters of the name of a room, and of a user."""


def checked_user(user: object) -> str:
    """Return the name of a user: text, or a whole number, which is its digits.

    Raises:
        ConfigurationError: it is neither, is empty, has no UTF-8 form, or is too long.
    """
    if type(user) is not int and not isinstance(user, str):
        raise ConfigurationError(
            f"a user is named by text or a whole number, not by {type(user).__name__}: {ascii(user)[:80]}"
        )
    return checked_name(str(user) if type(user) is int else user, "user")


def checked_name(name: object, kind: str) -> str:
    """Return the name of a room or of a user.

    Raises:
        ConfigurationError: no text, empty, or too long.
    """
    found = checked_channel(name, kind)
    if len(found) > MAX_NAME:
        raise ConfigurationError(f"the {kind} name {ascii(found)[:80]} has over {MAX_NAME:,} characters")
    return found
