"""Vocabulary of `@observe("queue")`: classes that pass messages on.

A receive is joined to its send, and continues the sender's chain: by a digest of queue and
content where that is bytes or text (across the processes of a session too), by identity for other
objects (within the process). The queue is argument queue_id, queue, channel, topic or queue_name,
else attribute queue_id or name of the instance, else the class. The message is argument body,
message, msg, data, payload, item or content.

- `send*` `put` `put_nowait` `put_message*` `post*` `enqueue*` `publish*` `push` `push_message*`
  - MessageSent when it returned, and not False
    - `queue_id`: the queue
    - `size`: of the message
  - IpcTimeout when it raised TimeoutError or queue.Full
    - `queue_id`: the queue
    - `timeout_ms`: argument timeout_ms, or timeout in seconds, else 0
- `receive*` `recv*` `get` `get_nowait` `get_message*` `dequeue*` `take*` `consume*` `pop`
  `pop_message*`
  - MessageReceived when it returned a message, not None
    - `queue_id`: the queue
    - `size`: of what was returned
    - `wait_time_us`: its attribute, else the time since the send it is joined to
  - IpcTimeout when it raised TimeoutError or queue.Empty
    - `queue_id`: the queue
    - `timeout_ms`: argument timeout_ms, or timeout in seconds, else 0
- `depth*` `*_depth` `qsize` `size` `queue_size*`
  - QueueDepth when it returned a number, or an object with a depth
    - `queue_id`: the queue
    - `depth`: what was returned
    - `capacity`: its attribute, else attribute capacity, maxsize or max_size of the instance,
      else 0
"""

import queue
from hashlib import blake2b
from typing import Any

from kobs.events import IpcTimeout, MessageReceived, MessageSent, QueueDepth
from kobs.observe import Emission, Rule, Vocabulary, returned, this
from kobs_instrumentation.vocabulary.common import (
    CONTENT,
    both,
    combine,
    content_of,
    emission,
    given,
    identifier,
    is_known,
    is_number,
    known,
    number,
    size_of,
    told,
    whole,
)

_TIMEOUTS = (TimeoutError, queue.Full, queue.Empty)


def message_key(queue_id: int | str, message: Any) -> bytes | tuple[Any, ...] | None:
    """The key under which a message is sent and received."""
    content = content_of(message)
    if isinstance(content, str):
        content = content.encode(errors="surrogatepass")
    if isinstance(content, bytes | bytearray | memoryview):
        digest = blake2b(content, digest_size=16, key=b"kobs queue").digest()
        return b"queue " + str(queue_id).encode() + b" " + digest
    return ("queue", queue_id, id(content))


def _queue_id(argument: Any, own: Any, name: Any, instance: Any) -> int | str:
    for candidate in (argument, own, name):
        found = identifier(candidate)
        if found is not None:
            return found
    cls = instance if isinstance(instance, type) else type(instance)
    return cls.__name__


def _timeout_ms(milliseconds: Any, seconds: Any) -> float:
    if is_number(milliseconds):
        return float(milliseconds)
    return seconds * 1000.0 if is_number(seconds) else 0.0


def _sent(result: Any) -> bool:
    return result is not False


_QUEUE = combine(
    _queue_id,
    given("queue_id", "queue", "channel", "topic", "queue_name"),
    this("queue_id", default=None),
    this("name", default=None),
    this(default=None),
)
_MESSAGE = given(*CONTENT)
_RECEIVED = returned(default=None)
_WAIT = returned("wait_time_us", default=None).map(number)
_DEPTH = told("depth", plain=True).map(whole)

_TIMEOUT = emission(
    IpcTimeout,
    when="raise",
    where=lambda call: isinstance(call.error, _TIMEOUTS),
    fields={
        "queue_id": _QUEUE,
        "timeout_ms": combine(_timeout_ms, given("timeout_ms"), given("timeout")),
    },
)


def _received(where: Any, **wait: Any) -> Emission:
    return emission(
        MessageReceived,
        where=both(known(_RECEIVED), where),
        receives=combine(message_key, _QUEUE, _RECEIVED),
        fields={"queue_id": _QUEUE, "size": _RECEIVED.map(size_of), **wait},
    )


def _is_unknown(value: Any) -> bool:
    return not is_known(value)


VOCABULARY = Vocabulary(
    "queue",
    classes=("*QueueManager", "*MessageQueue"),
    rules=(
        Rule(
            (
                "send*",
                "put",
                "put_nowait",
                "put_message*",
                "post*",
                "enqueue*",
                "publish*",
                "push",
                "push_message*",
            ),
            (
                emission(
                    MessageSent,
                    where=returned(default=None).map(_sent),
                    sends=combine(message_key, _QUEUE, _MESSAGE),
                    fields={"queue_id": _QUEUE, "size": _MESSAGE.map(size_of)},
                ),
                _TIMEOUT,
            ),
        ),
        Rule(
            (
                "receive*",
                "recv*",
                "get",
                "get_nowait",
                "get_message*",
                "dequeue*",
                "take*",
                "consume*",
                "pop",
                "pop_message*",
            ),
            (
                _received(known(_WAIT), wait_time_us=_WAIT),
                _received(_WAIT.map(_is_unknown)),
                _TIMEOUT,
            ),
        ),
        Rule(
            ("depth*", "*_depth", "qsize", "size", "queue_size*"),
            (
                emission(
                    QueueDepth,
                    where=known(_DEPTH),
                    fields={
                        "queue_id": _QUEUE,
                        "depth": _DEPTH,
                        "capacity": told("capacity", "maxsize", "max_size", default=0).map(whole),
                    },
                ),
            ),
        ),
    ),
)
