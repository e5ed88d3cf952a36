"""A request that crosses a thread, a queue, a child process and a gRPC call to it.

Prints the ids of its spans.
"""

import json
import queue
import subprocess
import sys
import threading

import grpc

from kobs import span_operation

CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from kobs import span_operation

def take(order, context):
    with span_operation("handle") as span:
        return span.span_id.encode()

handlers = grpc.method_handlers_generic_handler(
    "shop.Orders", {"Take": grpc.unary_unary_rpc_method_handler(take)}
)
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers((handlers,))
with span_operation("in the child") as span:
    print(span.span_id)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None).wait()
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
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    ids["in the child"], port = child.stdout.readline().strip(), child.stdout.readline().strip()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ids["handle"] = channel.unary_unary("/shop.Orders/Take")(b"", timeout=30).decode()
    child.communicate()
    assert child.returncode == 0
orders.put(None)
worker.join()
json.dump(ids, sys.stdout)
