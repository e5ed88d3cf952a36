"""Whole processes: starting Python, importing kobs."""

from benchmarks.subject import Command, main

SUBJECTS = {
    "start": Command(lambda: ["-c", "pass"]),
    "import_kobs": Command(lambda: ["-c", "import kobs"]),
    "import_collector": Command(lambda: ["-c", "import kobs; kobs.Collector()"]),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
