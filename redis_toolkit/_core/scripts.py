"""The Lua scripts, one file per operation in ``lua/``, loaded once.

Rules: a file opens with ``KEYS / ARGV / Returns``; comment lines are not sent; a script touches only
keys of one hash tag, uses the server's clock (TIME), and does first what is allowed under maxmemory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["PATTERNS", "REFUSE", "REQUEST", "SERVE", "WITHDRAW", "Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its name in ``lua/``, the text that is sent, and the SHA1 of that text."""

    name: str
    text: str
    sha: str


def _load(name: str) -> Script:
    source = files("redis_toolkit._core").joinpath("lua", f"{name}.lua").read_text("utf-8")
    lines = (line.strip() for line in source.splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("--"))
    return Script(name, text, hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest())


REQUEST = _load("request")
REFUSE = _load("refuse")
SERVE = _load("serve")
WITHDRAW = _load("withdraw")
PATTERNS = _load("patterns")
