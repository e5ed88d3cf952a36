"""pytest-opentelemetry: spans of the run, sent to nobody. Where it is installed, it makes them."""

import os

from benchmarks.subject import Subject, main
from benchmarks.subjects.suites import each, suite, whole

os.environ |= {
    "OTEL_TRACES_EXPORTER": "none",
    "PYTHONWARNINGS": "ignore",  # its own, of what it calls in pytest
}
OFF = ("-p", "no:kobs", "-p", "no:pytest_opentelemetry")
ON = ("-p", "no:kobs", "--export-traces")

SUBJECTS: dict[str, Subject] = {
    "pyotel_off_run": whole(*OFF),
    "pyotel_unused_run": whole("-p", "no:kobs"),
    "pyotel_off_test": each(*OFF),
    "pyotel_on_test": each(*ON),
    "pyotel_off_suite": suite(*OFF),
    "pyotel_on_suite": suite(*ON),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
