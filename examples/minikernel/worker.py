"""A child of the example: reads figures from shared memory, posts their sum to a queue.

`python -m minikernel.worker SEGMENT COUNT QUEUE-FOLDER`; it shares nothing with its parent but
these names.
"""

import struct
import sys

from minikernel.queues import QueueManager
from minikernel.shm import ShmManager


def main(segment: str, count: int, folder: str) -> None:
    """Add up `count` numbers of the segment, and send the sum."""
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
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
