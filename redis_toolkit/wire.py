"""What travels: bare payloads, and envelopes around them. This is wire format.

Rules:

- A live event without headers is the bare payload in the sender's codec. With headers, or when the
  payload is itself a map with a field ``rt`` and so could be mistaken, it is an envelope marked
  ``"rt": 1``.
- Requests and replies are always envelopes: maps with plain field names. Unknown fields are ignored.
- The JSON codec writes JSON envelopes with the payload in place, the msgpack codec msgpack ones. Any
  other codec writes a msgpack envelope whose ``data`` holds the codec's bytes and whose ``codec``
  field names it.
- A reader tells them apart by the first byte: >= 0x80 is msgpack, any other JSON. A body of one byte
  (a small number, say) is in the reader's own codec.
- Whatever cannot be read is one `DecodeError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis_toolkit.codecs import Codec, JSONCodec, MsgpackCodec, codec_name, start_of
from redis_toolkit.codecs.json_codec import quoted
from redis_toolkit.envelope_fields import (
    checked_headers,
    is_address,
    is_sendable,
    read_headers,
    text_of,
    utf8,
)
from redis_toolkit.envelope_head import head_of
from redis_toolkit.errors import DecodeError, EncodeError, PayloadTooLarge, RemoteError
from redis_toolkit.message import Headers
from redis_toolkit.record import Record

__all__ = ["IncomingRequest", "Reply", "UnreadableEnvelope", "Wire", "reply_id"]

_JSON = JSONCodec()
_MSGPACK = MsgpackCodec()
_OPAQUE_MARK = b"\xa2rt\x01"
"""How a msgpack envelope of a live event goes on after its first byte: the field ``rt`` with 1."""
_MAP_STARTS = frozenset((b"{", b"\xde", b"\xdf", *(bytes([byte]) for byte in range(0x80, 0x90))))
"""The first bytes of maps, in JSON as we write it and in msgpack."""


class IncomingRequest(Record):
    """A request as its server reads it. ``channel`` is set when a glob's list carried it."""

    __slots__ = ("attempt", "channel", "data", "headers", "id", "reply_to", "spread")

    def __init__(
        self,
        id: str,
        reply_to: str | None,
        data: Any,
        headers: Headers,
        channel: str | None,
        spread: bool,
        attempt: int,
    ) -> None:
        self.id = id
        self.reply_to = reply_to
        self.data = data
        self.headers = headers
        self.channel = channel
        self.spread = spread
        self.attempt = attempt


class Reply(Record):
    """A reply as its caller reads it: the handler's return value, or the error it ended with."""

    __slots__ = ("data", "error", "id")

    def __init__(self, id: str, data: Any = None, error: RemoteError | None = None) -> None:
        self.id = id
        self.data = data
        self.error = error


class UnreadableEnvelope(DecodeError):
    """An envelope whose payload cannot be read, though its id can: it is known whose it is."""

    def __init__(self, reason: str, id: str, reply_to: str | None = None) -> None:
        super().__init__(reason)
        self.id = id
        self.reply_to = reply_to


class Wire:
    """Writes and reads bodies with one codec, within one size limit.

    Args:
        codec: how payloads are written, and how opaque ones are read.
        max_payload: bytes that one body may have, written or read.

    Attributes:
        joins: whether envelopes are JSON whose first fields may be given as text.
    """

    def __init__(self, codec: Codec, max_payload: int) -> None:
        self.codec = codec
        self.max_payload = max_payload
        self._native: JSONCodec | MsgpackCodec | None = (
            codec if isinstance(codec, JSONCodec | MsgpackCodec) else None
        )
        self._json = codec if isinstance(codec, JSONCodec) else _JSON
        self.joins = type(codec) is JSONCodec
        self._exclusive = getattr(codec, "exclusive", False) is True

    # -- writing ----------------------------------------------------------------------------------

    def live(self, data: Any, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the body of a live event.

        Raises:
            EncodeError: the codec cannot write the payload, or a header is not text.
            PayloadTooLarge: the body is over the limit.
        """
        if not headers:
            body = self._encode(data)
            if not self._could_be_mistaken(data, body):
                return self._within_limit(body)
        return self.envelope({"rt": 1}, data, headers)

    def bare(self, data: Any) -> bytes:
        """Return a payload by itself, whatever a reader might take it for; raises as `live` does."""
        return self._within_limit(self._encode(data))

    def _could_be_mistaken(self, data: Any, body: bytes) -> bool:
        """Return whether a bare body would be read as an envelope, or one day might be."""
        if self._native is None:
            return _is_opaque_envelope(body)
        if isinstance(data, Mapping):
            return "rt" in data
        if body[:1] not in _MAP_STARTS or b"rt" not in body:
            return False
        return "rt" in self._native.decode(body)  # a model that has such a field

    def request(
        self,
        request_id: str,
        reply_to: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        channel: str | None = None,
        spread: bool = False,
        attempt: int = 1,
    ) -> bytes:
        """Return the envelope of a request; raises as `live` does."""
        if self.joins and not headers and channel is None and attempt == 1:
            head = f'{{"id":{quoted(request_id)},"reply_to":{quoted(reply_to)},'
            return self.joined(f'{head}"spread":true,"data":' if spread else f'{head}"data":', data)
        fields: dict[str, Any] = {"id": request_id, "reply_to": reply_to}
        if channel is not None:
            fields["channel"] = channel
        if spread:
            fields["spread"] = True
        if attempt > 1:
            fields["attempt"] = attempt
        return self.envelope(fields, data, headers)

    def reply(self, request_id: str, data: Any) -> bytes:
        """Return the envelope of a handler's return value; raises as `live` does."""
        if self.joins:
            return self.joined(f'{{"id":{quoted(request_id)},"data":', data)
        return self.envelope({"id": request_id}, data, None)

    def error_reply(self, request_id: str, error: BaseException, traceback: str | None = None) -> bytes:
        """Return the envelope of a handler's exception, shortened when it would be over the limit."""
        room = max(self.max_payload // 16, 64)  # characters: each of two texts may take 7 bytes for one
        fields = {"type": type(error).__name__, "message": text_of(error)[:room]}
        if traceback:
            fields["traceback"] = utf8(traceback[-room:])
        native = self._native or _MSGPACK
        return native.encode({"id": request_id, "error": fields})

    def envelope(self, fields: dict[str, Any], data: Any, headers: Mapping[str, str] | None) -> bytes:
        """Return an envelope with these fields, to which headers and payload are added."""
        if headers:
            fields["headers"] = checked_headers(headers)
        if self._native is not None:
            fields["data"] = data
            return self._within_limit(self._encode_fields(fields))
        fields["codec"] = codec_name(self.codec)
        fields["data"] = self._encode(data)
        return self._within_limit(_MSGPACK.encode(fields))

    def _encode_fields(self, fields: dict[str, Any]) -> bytes:
        native = self._native or _MSGPACK
        try:
            return native.encode(fields)
        except EncodeError:
            native.encode(fields["data"])  # its error names the place in the payload
            raise

    def joined(self, head: str, data: Any) -> bytes:
        """Return what `envelope` does for most messages, where `joins` is true.

        Args:
            head: the JSON of the envelope up to its payload, as in ``{"id":"7","data":``.
            data: the payload.
        """
        try:
            body = self._json.encode_envelope(head, data)
        except EncodeError:
            self._json.encode(data)  # as above
            raise
        if len(body) > self.max_payload:
            self._within_limit(body)
        return body

    def _encode(self, data: Any) -> bytes:
        if self._native is not None:
            return self._native.encode(data)
        try:
            body = self.codec.encode(data)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(
                f"codec {codec_name(self.codec)!r} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(body, bytes):
            raise EncodeError(f"codec {codec_name(self.codec)!r} returned {type(body).__name__}, not bytes")
        return body

    def _within_limit(self, body: bytes) -> bytes:
        if len(body) > self.max_payload:
            raise PayloadTooLarge(
                f"this message has {len(body):,} bytes and the limit is {self.max_payload:,}: "
                "send a reference to the data instead, or raise max_payload= on both sides"
            )
        return body

    # -- reading ----------------------------------------------------------------------------------

    def read_live(self, body: bytes) -> tuple[Any, Headers]:
        """Return payload and headers of a live event.

        Raises:
            DecodeError: the body is not what the codec reads, or is over the limit.
        """
        if len(body) > self.max_payload:
            self._refuse_oversize(body)
        if self._native is None:
            if not _is_opaque_envelope(body):
                return self._decode(body), Headers()
            value: Any = _MSGPACK.decode(body)
        else:
            value = self._read_native(body)
        if isinstance(value, dict) and type(value.get("rt")) is int and "data" in value:
            if value["rt"] != 1:
                raise DecodeError(
                    f"an envelope of version {value['rt']}, this reader knows 1: update it first"
                )
            return self.payload(value), read_headers(value.get("headers"))
        if self._native is None:  # only looks like an envelope: what it holds has not been through the codec
            return self._decode(body), Headers()
        return value, Headers()

    def read_request(self, body: bytes) -> IncomingRequest:
        """Return the request in an envelope.

        Raises:
            UnreadableEnvelope: its id and address can be read and the rest cannot, so that the caller
                can be told.
            DecodeError: not even those.
        """
        fields = self.fields(body)
        if type(fields) is not dict or not is_sendable(fields.get("id")):
            raise DecodeError(f"a request is a map with a text field 'id', this starts with {start_of(body)}")
        reply_to = fields.get("reply_to")
        if reply_to is not None and not is_address(reply_to):
            shown = start_of(reply_to.encode(errors="replace")) if isinstance(reply_to, str) else "(no text)"
            raise DecodeError(f"reply_to={shown} is not a reply key")
        try:
            return self._request_of(fields, reply_to)
        except DecodeError as error:
            raise UnreadableEnvelope(str(error), fields["id"], reply_to) from error

    def fields(self, body: bytes) -> Any:
        """Return the fields of an envelope.

        Raises:
            UnreadableEnvelope: they cannot be read or are too many bytes; the start says whose it is.
            DecodeError: it does not.
        """
        try:
            if len(body) > self.max_payload:
                self._refuse_oversize(body)
            return self._read_native(body)
        except DecodeError as error:
            head = head_of(body)
            whose, reply_to = head.get("id"), head.get("reply_to")
            if not is_sendable(whose) or (reply_to is not None and not is_address(reply_to)):
                raise
            raise UnreadableEnvelope(str(error), whose, reply_to) from error  # type: ignore[arg-type]

    def _request_of(self, fields: dict[str, Any], reply_to: str | None) -> IncomingRequest:
        if "data" not in fields:
            raise DecodeError("the request has no field 'data'")
        channel, attempt = fields.get("channel"), fields.get("attempt", 1)
        if channel is not None and not isinstance(channel, str):
            raise DecodeError("the field 'channel' of the request is not text")
        if type(attempt) is not int:
            raise DecodeError("the field 'attempt' of the request is not a whole number")
        data = self.payload(fields)
        headers = read_headers(fields.get("headers"))
        spread = fields.get("spread") is True
        return IncomingRequest(fields["id"], reply_to, data, headers, channel, spread, attempt)

    def read_reply(self, body: bytes) -> Reply:
        """Return the reply in an envelope.

        Raises:
            UnreadableEnvelope: its payload cannot be read.
            DecodeError: it is none.
        """
        fields = self.fields(body)
        if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
            raise DecodeError(f"a reply is a map with a text field 'id', this starts with {start_of(body)}")
        error = fields.get("error")
        if error is None:
            try:
                return Reply(fields["id"], self.payload(fields))
            except DecodeError as failure:
                raise UnreadableEnvelope(str(failure), fields["id"]) from failure
        if not isinstance(error, dict):
            raise DecodeError("the field 'error' of the reply is not a map")
        traceback = error.get("traceback")
        remote = RemoteError(
            str(error.get("type", "Error")),
            str(error.get("message", "")),
            None if traceback is None else str(traceback),
        )
        return Reply(fields["id"], None, remote)

    def _read_native(self, body: bytes) -> Any:
        if len(body) == 1:
            return (self._native or _JSON).decode(body)
        return (self._json if body < b"\x80" else _MSGPACK).decode(body)  # the first byte decides

    def payload(self, fields: dict[str, Any]) -> Any:
        """Return the payload of an envelope; raises `DecodeError`."""
        data, name = fields.get("data"), fields.get("codec")
        if name is None:
            if self._exclusive:
                raise DecodeError(
                    f"the payload names no codec, this reader takes only {codec_name(self.codec)!r}"
                )
            return data
        if not isinstance(name, str):
            raise DecodeError("the field 'codec' is not text")
        if not isinstance(data, bytes):
            raise DecodeError(f"the payload of codec {name!r} is not binary")
        if name != codec_name(self.codec):
            raise DecodeError(f"the payload is in codec {name!r}, this reader has {codec_name(self.codec)!r}")
        return self._decode(data)

    def _decode(self, body: bytes) -> Any:
        try:
            return self.codec.decode(body)
        except DecodeError:
            raise
        except Exception as error:
            name, reason = codec_name(self.codec), f"{type(error).__name__}: {error}"
            raise DecodeError(
                f"codec {name!r} failed on {start_of(body)}: {' '.join(reason.split())}"
            ) from error

    def _refuse_oversize(self, body: bytes) -> None:
        if len(body) > self.max_payload:
            raise DecodeError(
                f"a message of {len(body):,} bytes, the limit is {self.max_payload:,} (max_payload=)"
            )


def reply_id(body: bytes) -> str | None:
    """Return the id in a reply envelope, or None when there is none.

    Replies as this module writes them begin with their id, which is found without decoding the rest.
    """
    if body.startswith(b'{"id":"'):
        found = body[7 : body.find(b'"', 7)].decode("utf-8", "replace")
        if "\\" not in found:
            return found
    elif body[1:4] == b"\xa2id" and b"\xa0" <= body[4:5] <= b"\xbf":
        return body[5 : 5 + (body[4] & 0x1F)].decode("utf-8", "replace")
    try:
        fields = (_MSGPACK if body[:1] >= b"\x80" else _JSON).decode(body)
    except DecodeError:
        return None
    found_id = fields.get("id") if isinstance(fields, dict) else None
    return found_id if isinstance(found_id, str) else None


def _is_opaque_envelope(body: bytes) -> bool:
    return b"\x80" <= body[:1] <= b"\x8f" and body[1:5] == _OPAQUE_MARK
