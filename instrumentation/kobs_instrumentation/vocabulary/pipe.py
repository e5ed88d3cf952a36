"""Vocabulary of `@observe("pipe")`: classes that write to and read from pipes.

The pipe is argument pipe_id, pipe, fd or name, else attribute pipe_id or name of the instance,
else the class.

- `write` `write_all*` `write_bytes*` `write_pipe*` `write_to*` `send` `send_bytes*`
  - PipeWritten when it returned
    - `pipe_id`: the pipe
    - `size`: the number returned, else of the data
- `read` `read_all*` `read_bytes*` `read_pipe*` `read_from*` `recv` `recv_bytes*`
  - PipeRead when it returned data, or how much; 0 at the end of the stream
    - `pipe_id`: the pipe
    - `size`: of what was returned
- `throughput*`
  - MetricUpdate when it returned a number
    - `name`: "pipe.throughput"
    - `value`: what was returned, bytes a second
    - `labels`: the pipe
"""

from typing import Any

from kobs.events import MetricUpdate, PipeRead, PipeWritten
from kobs.observe import Rule, Vocabulary, returned, this
from kobs_instrumentation.vocabulary.common import (
    CONTENT,
    combine,
    emission,
    given,
    identifier,
    is_number,
    known,
    number,
    size_of,
)


def _pipe_id(argument: Any, own: Any, name: Any, instance: Any) -> int | str:
    for candidate in (argument, own, name):
        found = identifier(candidate)
        if found is not None:
            return found
    cls = instance if isinstance(instance, type) else type(instance)
    return cls.__name__


def _written(result: Any, data: Any) -> int:
    return size_of(result if is_number(result) else data)


def _labels(pipe_id: int | str) -> dict[str, object]:
    return {"pipe_id": pipe_id}


_PIPE = combine(
    _pipe_id,
    given("pipe_id", "pipe", "fd", "name"),
    this("pipe_id", default=None),
    this("name", default=None),
    this(default=None),
)
_RESULT = returned(default=None)

VOCABULARY = Vocabulary(
    "pipe",
    classes=("*PipeManager",),
    rules=(
        Rule(
            (
                "write",
                "write_all*",
                "write_bytes*",
                "write_pipe*",
                "write_to*",
                "send",
                "send_bytes*",
            ),
            (
                emission(
                    PipeWritten,
                    fields={
                        "pipe_id": _PIPE,
                        "size": combine(_written, _RESULT, given(*CONTENT, "buffer")),
                    },
                ),
            ),
        ),
        Rule(
            ("read", "read_all*", "read_bytes*", "read_pipe*", "read_from*", "recv", "recv_bytes*"),
            (
                emission(
                    PipeRead,
                    where=known(_RESULT),
                    fields={"pipe_id": _PIPE, "size": _RESULT.map(size_of)},
                ),
            ),
        ),
        Rule(
            ("throughput*",),
            (
                emission(
                    MetricUpdate,
                    where=known(_RESULT.map(number)),
                    fields={
                        "name": "pipe.throughput",
                        "value": _RESULT,
                        "labels": _PIPE.map(_labels),
                    },
                ),
            ),
        ),
    ),
)
