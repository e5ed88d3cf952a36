"""The program that `kobs demo` records. It uses the standard library alone, and no kobs."""

import os
import queue
import subprocess
import sys
import tempfile
import threading


def worker(jobs: "queue.Queue[str | None]", folder: str) -> None:
    """Write a file for each job, until there is none."""
    while (job := jobs.get()) is not None:
        path = os.path.join(folder, job)
        with open(path, "w") as file:
            file.write(job * 1000)
        os.rename(path, path + ".done")


def main() -> None:
    """Give jobs to workers, then let a child process count what they made."""
    with tempfile.TemporaryDirectory(prefix="kobs-example-") as folder:
        jobs: queue.Queue[str | None] = queue.Queue()
        workers = [threading.Thread(target=worker, args=(jobs, folder)) for _ in range(3)]
        for thread in workers:
            thread.start()
        for number in range(12):
            jobs.put(f"job-{number}")
        for _ in workers:
            jobs.put(None)
        for thread in workers:
            thread.join()
        program = "import os, sys; print(len(os.listdir(sys.argv[1])), 'jobs done')"
        subprocess.run([sys.executable, "-c", program, folder], check=True)
        try:
            open(os.path.join(folder, "missing")).close()
        except FileNotFoundError:
            print("one file was missing, as expected")


if __name__ == "__main__":
    main()
