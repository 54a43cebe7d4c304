"""Where one request or reply ends and the next begins in a stream of RESP2 or RESP3.

Rules: it keeps no payload, only counts, so it may sit in the path of any amount of data; bytes that
are no RESP switch it off (`lost`), as a proxy has to carry garbage too.
"""

from __future__ import annotations

_WITH_LENGTH = b"$!="
_WITH_ELEMENTS = b"*~>%|"


class Frames:
    """Counts the frames of one direction of one connection; pushes (``>``) are not counted."""

    def __init__(self) -> None:
        self.completed = 0
        self.lost = False
        self._line = bytearray()  # the header that has begun and has no line end yet
        self._skip = 0  # bytes left of the string that is passing by
        self._open: list[int] = []  # elements that are missing, per aggregate from the outside in
        self._push = False

    def feed(self, data: bytes) -> list[int]:
        """Return the offsets in `data` just behind each frame that ends in it."""
        ends: list[int] = []
        position = 0
        while position < len(data) and not self.lost:
            if self._skip:
                step = min(self._skip, len(data) - position)
                position += step
                self._skip -= step
                whole = not self._skip
            else:
                newline = data.find(b"\n", position)
                if newline < 0:
                    self._line += data[position:]
                    break
                self._line += data[position : newline + 1]
                position = newline + 1
                line = bytes(self._line).strip()
                self._line.clear()
                whole = self._header(line)
            if whole and self._element_ends():
                ends.append(position)
        return ends

    def _header(self, line: bytes) -> bool:
        """Take one header in; True when it is an element by itself."""
        kind = line[:1]
        if not line or kind not in _WITH_LENGTH + _WITH_ELEMENTS:
            return bool(line)  # a simple value, or a command without RESP; an empty line is nothing
        if not self._open:
            self._push = kind == b">"
        try:
            count = int(line[1:])
        except ValueError:
            self.lost = True
            return False
        if kind in _WITH_LENGTH:
            self._skip = count + 2 if count >= 0 else 0
            return count < 0
        if kind in b"%|":
            count = 2 * count + (kind == b"|")  # an attribute is followed by the value it describes
        if count > 0:
            self._open.append(count)
        return count <= 0

    def _element_ends(self) -> bool:
        """Count one element off; True when a frame that counts ends with it."""
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
        push, self._push = self._push, False
        self.completed += not push
        return not push
