"""Like a web shop: Flask's test client, SQLite, a file an order, a queue to a thread.

python benchmarks/programs/web.py [REQUESTS]
"""

import queue
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path

from flask import Flask, jsonify, render_template_string, request

PAGE = """<h1>Orders</h1>
<ul>{% for number, what, how_many in orders %}
<li>{{ number }}: {{ what }}, {{ how_many }}</li>
{% endfor %}</ul>
"""


def make_app(folder: Path, outgoing: "queue.Queue[int | None]") -> Flask:
    """The shop; it keeps its data in `folder` and hands orders on to `outgoing`."""
    app = Flask(__name__)
    database = str(folder / "shop.db")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT, how_many INT)")

    @app.post("/orders")
    def add_order():  # type: ignore[no-untyped-def]
        order = request.get_json()
        with sqlite3.connect(database) as connection:
            cursor = connection.execute(
                "INSERT INTO orders (what, how_many) VALUES (?, ?)",
                (order["what"], order["how_many"]),
            )
        number = cursor.lastrowid or 0
        (folder / f"order-{number % 50}.txt").write_text(f"{order['how_many']} {order['what']}\n")
        outgoing.put(number)
        return jsonify(id=number), 201

    @app.get("/orders")
    def list_orders():  # type: ignore[no-untyped-def]
        with sqlite3.connect(database) as connection:
            orders = connection.execute(
                "SELECT id, what, how_many FROM orders ORDER BY id DESC LIMIT 20"
            ).fetchall()
        return render_template_string(PAGE, orders=orders)

    return app


def send(folder: Path, outgoing: "queue.Queue[int | None]") -> None:
    """Read what was ordered, until there is no more."""
    while (number := outgoing.get()) is not None:
        with open(folder / f"order-{number % 50}.txt") as file:
            file.read()


def main(requests: int) -> None:
    """Serve so many requests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outgoing: queue.Queue[int | None] = queue.Queue()
        sender = threading.Thread(target=send, args=(folder, outgoing))
        sender.start()
        client = make_app(folder, outgoing).test_client()
        for number in range(requests):
            if number % 2:
                answer = client.get("/orders")
            else:
                answer = client.post("/orders", json={"what": "tea", "how_many": number})
            assert answer.status_code in (200, 201), answer.status
        outgoing.put(None)
        sender.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
