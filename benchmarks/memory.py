"""How much memory a collector takes: `python -m benchmarks.memory` prints bytes.

Measured as what is resident more once every slot was written and every part was used; what Python
itself takes for imports is there before.
"""

from kobs import Collector, SyscallExit, SyscallResult
from kobs.payloads import PermissionDenied


def resident() -> int:
    """Bytes of this process that are in memory, its share of what is shared."""
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/smaps_rollup says no Pss")


def use(collector: Collector, events: int) -> None:
    """Fill both lanes, read, let durations be looked at."""
    emit = collector.emitter(SyscallExit)
    denied = collector.emitter(PermissionDenied)
    subscriber = collector.subscribe()
    for number in range(events):
        emit("read", float(number % 7), SyscallResult.SUCCESS, 0)
        if number % 16 == 0:
            denied("open", "read")
            while subscriber.next() is not None:
                pass


def main() -> None:
    """Print the bytes."""
    with Collector(size=1024) as warm:
        use(warm, 2000)
    before = resident()
    collector = Collector()
    use(collector, 70_000)
    print(resident() - before)


if __name__ == "__main__":
    main()
