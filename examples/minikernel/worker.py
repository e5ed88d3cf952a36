"""The children of the example: one writes figures into shared memory, one adds them up.

`python -m minikernel.worker measure SEGMENT COUNT` and
`python -m minikernel.worker add SEGMENT COUNT QUEUE-FOLDER`. They share nothing with their parent,
or with each other, but these names.
"""

import struct
import sys

from minikernel.queues import QueueManager
from minikernel.shm import ShmManager


def measure(segment: str, count: int) -> None:
    """Write `count` figures into the segment."""
    memory = ShmManager()
    memory.write(segment, struct.pack(f"<{count}q", *range(1, count + 1)))
    memory.close()


def add(segment: str, count: int, folder: str) -> None:
    """Add up the `count` figures in the segment, and send the sum."""
    memory = ShmManager()
    queues = QueueManager()
    queues.attach("answers", folder)
    try:
        figures = struct.unpack(f"<{count}q", memory.read(segment, 8 * count))
        queues.send("answers", str(sum(figures)).encode(), timeout=10)
    finally:
        queues.close_all()
        memory.close()


if __name__ == "__main__":
    role, name, number, *rest = sys.argv[1:]
    if role == "measure":
        measure(name, int(number))
    else:
        add(name, int(number), *rest)
