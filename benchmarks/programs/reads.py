"""A flood of small system calls.

python benchmarks/programs/reads.py [READS]
"""

import os
import sys


def main(reads: int) -> None:
    """Read a byte so many times."""
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    for _ in range(reads):
        os.read(descriptor, 1)
    os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
