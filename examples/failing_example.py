"""A test that fails on purpose, to show what kobs says then: `pytest --kobs failing_example.py`.

Its name keeps pytest from collecting it by itself.
"""

import os
import struct

from minikernel import QueueManager, ShmManager

from kobs import MessageReceived, ShmRead, ShmWritten
from kobs_pytest.asserting.fixture import Kobs


def test_the_answer_has_three_digits(kobs: Kobs) -> None:
    segment = f"minikernel-test-{os.getpid()}-failing"
    memory, queues = ShmManager(), QueueManager()
    queues.create("answers", capacity=1)
    memory.create(segment, 16)
    memory.write(segment, struct.pack("<2q", 20, 22))
    queues.send("answers", str(sum(struct.unpack("<2q", memory.read(segment)))).encode())
    queues.receive("answers")
    memory.destroy(segment)

    kobs.expect(ShmWritten.like() >> ShmRead.like(size=16) >> MessageReceived.like(size=3))
