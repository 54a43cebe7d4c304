from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest

from redis_toolkit._core import scripts
from redis_toolkit._core.scripts import Script
from tests.kit.servers import Server

EVERY = [getattr(scripts, name) for name in scripts.__all__ if name.isupper()]
each = pytest.mark.parametrize("script", EVERY, ids=[script.name for script in EVERY])


def source(script: Script) -> str:
    return files("redis_toolkit._core").joinpath("lua", f"{script.name}.lua").read_text("utf-8")


def test_there_is_one_for_each_file() -> None:
    folder = files("redis_toolkit._core").joinpath("lua")
    assert {f"{script.name}.lua" for script in EVERY} == {file.name for file in folder.iterdir()}


@each
def test_a_file_opens_with_what_it_does_and_takes_and_returns(script: Script) -> None:
    head: list[str] = []
    for line in source(script).splitlines():
        if not line.startswith("--"):
            break
        head.append(line)
    assert len(head) >= 2
    assert head[0].endswith(".")
    assert any(line.startswith("-- KEYS 1 ") for line in head)
    assert any(line.startswith("-- Returns ") for line in head)


@each
def test_every_argument_it_uses_is_described(script: Script) -> None:
    for kind in ("KEYS", "ARGV"):
        [described] = re.findall(rf"^-- {kind} .*(?:\n--   .*)*", source(script), re.MULTILINE) or [""]
        for number in range(1, 10):
            if f"{kind}[{number}]" in script.text:
                assert re.search(rf"\b{number} ", described)


@each
def test_comments_are_not_sent(script: Script) -> None:
    assert "--" not in script.text
    assert all(line.strip() == line and line for line in script.text.splitlines())


@each
def test_its_sha_is_what_the_server_computes(script: Script, server: Server) -> None:
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()  # noqa: S324 - it is the protocol's
    assert server.execute("SCRIPT", "LOAD", script.text) == script.sha


@each
def test_it_touches_only_the_keys_it_is_given(script: Script) -> None:
    for line in script.text.splitlines():
        for name in (
            "ZADD",
            "ZREM",
            "ZCOUNT",
            "RPUSH",
            "LLEN",
            "PEXPIRE",
            "PTTL",
            "ZRANGEBYSCORE",
            "ZREMRANGEBYSCORE",
        ):
            assert f"'{name}', '" not in line
