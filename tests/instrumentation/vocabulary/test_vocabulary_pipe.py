"""Each event of the vocabulary `pipe`, each field held against what really happened."""

import os
from typing import Any

from minikernel import (
    PipeManager,
)

from kobs import (
    MetricUpdate,
    PipeRead,
    PipeWritten,
)

SUBSYSTEM = "pipe"


def test_PipeWritten__what_the_pipe_took(stage: Any) -> None:
    pipes = stage.watch(PipeManager())
    pipe = pipes.create()
    os.set_blocking(pipes.write_end(pipe), False)
    taken = pipes.write(pipe, bytes(10 << 20))
    assert 0 < taken < 10 << 20  # as much as the system's buffer holds
    pipes.close_all()
    assert stage.one(PipeWritten).payload == PipeWritten(pipe, taken)


def test_PipeRead__what_came_out_of_it(stage: Any) -> None:
    pipes = stage.watch(PipeManager())
    pipes.create()
    pipe = pipes.create()
    pipes.write(pipe, b"hello world")
    pipes.close_writer(pipe)
    assert [pipes.read(pipe, 5), pipes.read(pipe), pipes.read(pipe)] == [b"hello", b" world", b""]
    pipes.close_all()
    assert [event.payload for event in stage.all(PipeRead)] == [
        PipeRead(pipe, 5),
        PipeRead(pipe, 6),
        PipeRead(pipe, 0),
    ]


def test_MetricUpdate__bytes_a_second(stage: Any) -> None:
    pipes = stage.watch(PipeManager())
    pipe = pipes.create()
    pipes.write(pipe, b"x" * 1000)
    pipes.read(pipe)
    rate = pipes.throughput(pipe)
    pipes.close_all()
    event = stage.one(MetricUpdate).payload
    assert event == MetricUpdate("pipe.throughput", rate, {"pipe_id": pipe})


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
