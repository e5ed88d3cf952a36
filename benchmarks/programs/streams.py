"""Like a service on asyncio: a server and clients over streams, tasks, queues.

python benchmarks/programs/streams.py [REQUESTS]
"""

import asyncio
import json
import sys

CLIENTS = 10
WORKERS = 4

Job = tuple[dict[str, int], "asyncio.Future[dict[str, int]]"]


def answer(question: dict[str, int]) -> dict[str, int]:
    """Something to compute."""
    number = question["number"]
    return {"number": number, "sum": sum(i * i % 7 for i in range(number % 200))}


async def work(jobs: "asyncio.Queue[Job]") -> None:
    """Answer questions from the queue."""
    while True:
        question, future = await jobs.get()
        future.set_result(answer(question))
        jobs.task_done()


async def serve(
    jobs: "asyncio.Queue[Job]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Talk to one client, a line of JSON a question."""
    loop = asyncio.get_running_loop()
    while line := await reader.readline():
        future: asyncio.Future[dict[str, int]] = loop.create_future()
        await jobs.put((json.loads(line), future))
        reply = await asyncio.wait_for(future, timeout=10)
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
    writer.close()


async def ask(port: int, questions: int) -> None:
    """Be one client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(questions):
        writer.write(json.dumps({"number": number}).encode() + b"\n")
        await writer.drain()
        reply = json.loads(await reader.readline())
        assert reply["number"] == number
    writer.close()
    await writer.wait_closed()


async def main(requests: int) -> None:
    """Answer so many requests."""
    jobs: asyncio.Queue[Job] = asyncio.Queue(maxsize=100)
    workers = [asyncio.create_task(work(jobs)) for _ in range(WORKERS)]
    server = await asyncio.start_server(lambda r, w: serve(jobs, r, w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port, requests // CLIENTS) for _ in range(CLIENTS)))
    server.close()
    await server.wait_closed()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
