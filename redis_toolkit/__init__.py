"""redis_toolkit: events, requests and worker processes for Python, on one Redis or Valkey."""

from __future__ import annotations

from redis_toolkit import tracebacks
from redis_toolkit._core.flows.durable import GroupInfo
from redis_toolkit.app import App
from redis_toolkit.codecs import Codec, JSONCodec, MsgpackCodec, OrjsonCodec, SignedCodec, TextCodec
from redis_toolkit.dead_letters import DeadLetter
from redis_toolkit.errors import (
    AuthenticationFailed,
    CommandRefused,
    ConfigurationError,
    DecodeError,
    EncodeError,
    GroupUnknown,
    KeyConflict,
    NoResponders,
    OutcomeUnknown,
    PayloadMismatch,
    PayloadTooLarge,
    PermissionDenied,
    QueueFull,
    RedisToolkitError,
    Reject,
    RemoteError,
    RequestTimeout,
    Retry,
    ServerUnreachable,
    StoreFull,
    StreamFull,
    TaskCancelled,
    TaskExpired,
    TaskUnknown,
    WorkersFailed,
)
from redis_toolkit.jobs import Backoff
from redis_toolkit.message import ExactChannel, Gap, Headers, Message
from redis_toolkit.task_context import CurrentTask, current_task
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
    # durable work: how it is retried, what its handlers ask for and raise, what is left of it
    "Backoff",
    "CurrentTask",
    "DeadLetter",
    "GroupInfo",
    "Reject",
    "Retry",
    "current_task",
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
    "GroupUnknown",
    "KeyConflict",
    "NoResponders",
    "OutcomeUnknown",
    "PayloadMismatch",
    "PayloadTooLarge",
    "PermissionDenied",
    "QueueFull",
    "RedisToolkitError",
    "RemoteError",
    "RequestTimeout",
    "ServerUnreachable",
    "StoreFull",
    "StreamFull",
    "TaskCancelled",
    "TaskExpired",
    "TaskUnknown",
    "WorkersFailed",
]

tracebacks.install()
