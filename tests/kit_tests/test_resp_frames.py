"""Where frames end, however the stream is split."""

from __future__ import annotations

import pytest

from tests.kit.resp_frames import Frames


@pytest.mark.parametrize("piece", [1, 2, 5, 10_000])
def test_frames_are_found_wherever_the_stream_is_split(piece: int) -> None:
    counted = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$7\r\n*1\r\n$1\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*2\r\n:1\r\n*0\r\n$1\r\na\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n",
        b"=6\r\ntxt:ab\r\n",
        b"|1\r\n+a\r\n+b\r\n:5\r\n",
        b"PING inline\r\n",
    ]
    push = b">2\r\n+message\r\n*1\r\n$1\r\na\r\n"
    stream, expected = b"", []
    for frame in counted:
        stream += push + frame + b"\r\n"
        expected.append(len(stream) - 2)
    frames, found = Frames(), []
    for start in range(0, len(stream), piece):
        found += [start + end for end in frames.feed(stream[start : start + piece])]
    assert found == expected
    assert frames.completed == len(counted)


def test_what_is_no_resp_switches_counting_off() -> None:
    frames = Frames()
    assert frames.feed(b"+OK\r\n*garbage\r\n+OK\r\n") == [5]
    assert frames.lost
    assert frames.feed(b"+OK\r\n") == []
