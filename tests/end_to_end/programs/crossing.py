"""A request that crosses a thread, a queue and a child process. Prints the ids of its spans."""

import json
import queue
import subprocess
import sys
import threading

from kobs import span_operation

CHILD = """
from kobs import span_operation
with span_operation("in the child") as span:
    print(span.span_id)
"""
ids: dict[str, str] = {}
orders: "queue.Queue[str | None]" = queue.Queue()


def work() -> None:
    """Has been there before the request: what it does of it, it knows by what it receives."""
    with span_operation("batch") as batch:
        ids["batch"] = batch.span_id
        order = orders.get()
        ids["batch's trace"] = batch.trace_id
        assert order == "first"
    while orders.get() is not None:
        with span_operation("deliver") as deliver:
            ids["deliver"] = deliver.span_id


def ship() -> None:
    """In a thread of the request."""
    with span_operation("ship") as span:
        ids["ship"] = span.span_id


worker = threading.Thread(target=work)
worker.start()
with span_operation("request", kind="server") as request:
    ids["request"], ids["trace"] = request.span_id, request.trace_id
    orders.put("first")
    orders.put("second")
    thread = threading.Thread(target=ship)
    thread.start()
    thread.join()
    done = subprocess.run(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=True
    )
    ids["in the child"] = done.stdout.strip()
orders.put(None)
worker.join()
json.dump(ids, sys.stdout)
