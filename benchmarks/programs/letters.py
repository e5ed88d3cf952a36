"""A queue at full speed: one thread puts, another gets.

python benchmarks/programs/letters.py [LETTERS]
"""

import queue
import sys
import threading


def main(letters: int) -> None:
    """Hand over so many."""
    box: queue.Queue[int | None] = queue.Queue(maxsize=1000)

    def read() -> None:
        while box.get() is not None:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(letters):
        box.put(number)
    box.put(None)
    reader.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
