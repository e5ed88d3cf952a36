"""How much gets through, and what is lost: `python -m benchmarks.scaling threads|processes ...`.

`threads`: producers and subscribers in one process, every producer as fast as it can.
`processes`: several processes that together make a million events a second (or as many as they
can), each a recording of one session, and a reader that follows the session live from outside.

Prints one JSON object. `unaccounted` is what was neither read nor told as lost: it has to be 0.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from typing import Any

BATCH = 100
TICK_S = 0.001
SETTLE_S = 0.05
"""Longer than an unfinished slot stops a reader: one that finds nothing for so long is done."""


def threads(producers: int, readers: int, seconds: float) -> dict[str, Any]:
    """Producers and subscribers, all threads of this process."""
    from kobs import Collector, ContextSwitch

    collector = Collector()
    emit = collector.emitter(ContextSwitch)
    subscribers = [collector.subscribe() for _ in range(readers)]
    begin, producing, reading = threading.Event(), threading.Event(), threading.Event()
    producing.set()
    reading.set()
    kept = [0] * producers

    def produce(index: int) -> None:
        begin.wait()
        mine = 0
        while producing.is_set():
            for number in range(BATCH):
                mine += emit(index, number, "await") != 0
        kept[index] = mine

    def read(subscriber: Any) -> None:
        begin.wait()
        while reading.is_set():
            if subscriber.next() is None:
                time.sleep(TICK_S)

    makers = [threading.Thread(target=produce, args=(index,)) for index in range(producers)]
    lookers = [threading.Thread(target=read, args=(one,)) for one in subscribers]
    for thread in makers + lookers:
        thread.start()
    began = time.perf_counter()
    begin.set()
    time.sleep(seconds)
    producing.clear()
    for thread in makers:
        thread.join()
    took = time.perf_counter() - began
    consumed = sum(one.consumed for one in subscribers)
    reading.clear()
    for thread in lookers:
        thread.join()
    for one in subscribers:
        drain(one)
    produced = collector.stream_stats().events_produced
    losses = collector.losses()
    return {
        "producers": producers,
        "readers": readers,
        "produced_per_s": produced / took,
        "read_per_s": consumed / took,
        "not_kept": produced - sum(kept),
        "contended": losses.contended,
        "lost": sum(one.lost for one in subscribers) / max(1, readers) / max(1, produced),
        "unaccounted": sum(abs(produced - one.consumed - one.lost) for one in subscribers),
    }


def drain(subscriber: Any) -> int:
    """Read what is left; how much that was."""
    read = 0
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < SETTLE_S:
        if subscriber.next() is None:
            time.sleep(TICK_S)
        else:
            read += 1
            quiet_since = time.monotonic()
    return read


def processes(number: int, rate: float, seconds: float) -> dict[str, Any]:
    """Processes that record into one session, and a reader that follows it."""
    from kobs import open_recording
    from kobs.session import Session

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as root:
        session = Session.create("bench", ["bench"], root=root)
        ready, results = context.Barrier(number + 1), context.Queue()
        workers = [
            context.Process(
                target=_work, args=(session.path, rate / number, seconds, ready, results)
            )
            for _ in range(number)
        ]
        for worker in workers:
            worker.start()
        ready.wait(60)
        read = 0
        with open_recording(session) as recording:
            subscriber = recording.subscribe(oldest=True)
            began = time.perf_counter()
            while any(worker.is_alive() for worker in workers):
                for _ in range(10_000):
                    if subscriber.next() is None:
                        time.sleep(TICK_S)
                        break
                    read += 1
            took = time.perf_counter() - began
            live = read
            read += drain(subscriber)
            made = [results.get(timeout=10) for _ in workers]
            lost = subscriber.lost
        for worker in workers:
            worker.join()
    produced = sum(one["produced"] for one in made)
    return {
        "processes": number,
        "asked_per_s": rate,
        "produced_per_s": sum(one["produced"] / one["took"] for one in made),
        "read_per_s": live / took,
        "produced": produced,
        "not_kept": sum(one["not_kept"] for one in made),
        "read": read,
        "lost": lost / max(1, produced),
        "unaccounted": abs(produced - read - lost),
    }


def _work(session: str, rate: float, seconds: float, ready: Any, results: Any) -> None:
    """A process that makes events at a rate, in ticks of a millisecond."""
    from kobs import Collector, ContextSwitch

    with Collector(session=session) as collector:
        emit = collector.emitter(ContextSwitch)
        ready.wait(60)
        kept = made = 0
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            due = int(now * rate) - made
            for number in range(min(due, int(rate * TICK_S) + 1)):
                kept += emit(1, number, "await") != 0
                made += 1
            if due <= rate * TICK_S:
                time.sleep(TICK_S)
        took = time.perf_counter() - began
        produced = collector.stream_stats().events_produced
    results.put({"produced": produced, "took": took, "not_kept": produced - kept})


def main() -> None:
    """Measure one and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("threads", "processes"))
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    if given.what == "threads":
        print(json.dumps(threads(given.producers, given.readers, given.seconds)))
    else:
        print(json.dumps(processes(given.producers, given.rate, given.seconds)))


if __name__ == "__main__":
    main()
