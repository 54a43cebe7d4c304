"""redis_toolkit: events, requests and worker processes for Python, on one Redis or Valkey."""

from __future__ import annotations

from redis_toolkit import tracebacks
from redis_toolkit.app import App
from redis_toolkit.codecs import Codec, JSONCodec, MsgpackCodec, OrjsonCodec, SignedCodec, TextCodec
from redis_toolkit.errors import (
    AuthenticationFailed,
    CommandRefused,
    ConfigurationError,
    DecodeError,
    EncodeError,
    KeyConflict,
    NoResponders,
    OutcomeUnknown,
    PayloadMismatch,
    PayloadTooLarge,
    PermissionDenied,
    RedisToolkitError,
    RemoteError,
    RequestTimeout,
    ServerUnreachable,
    StoreFull,
    WorkersFailed,
)
from redis_toolkit.message import ExactChannel, Gap, Headers, Message
from redis_toolkit.toolkit import RedisOptions, RedisToolkit

__version__ = "0.1.0"

__all__ = [
    # the two front doors
    "App",
    "RedisOptions",
    "RedisToolkit",
    # what handlers ask for
    "ExactChannel",
    "Gap",
    "Headers",
    "Message",
    # codecs
    "Codec",
    "JSONCodec",
    "MsgpackCodec",
    "OrjsonCodec",
    "SignedCodec",
    "TextCodec",
    # errors
    "AuthenticationFailed",
    "CommandRefused",
    "ConfigurationError",
    "DecodeError",
    "EncodeError",
    "KeyConflict",
    "NoResponders",
    "OutcomeUnknown",
    "PayloadMismatch",
    "PayloadTooLarge",
    "PermissionDenied",
    "RedisToolkitError",
    "RemoteError",
    "RequestTimeout",
    "ServerUnreachable",
    "StoreFull",
    "WorkersFailed",
]

tracebacks.install()
