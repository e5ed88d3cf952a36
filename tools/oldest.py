"""Run the tests of spans, logs and their export with the oldest OpenTelemetry that kobs allows:
`python -m tools.oldest`.

What pyproject.toml asks for at least is installed as exactly that, into environments of their own:
once without extras, once with the extra `otlp`, which asks for more. Tests that compare with what
the newest OpenTelemetry does (marker `newest_sdk`) are left out.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = {
    "": (
        "tests/unit/test_bridge.py", "tests/unit/test_logs.py", "tests/unit/test_log_records.py",
        "tests/unit/tracing", "tests/contract/test_opentelemetry_context.py",
        "tests/contract/test_tracer_provider.py", "tests/contract/test_tracer_provider_edges.py",
    ),
    "otlp": (
        "tests/unit/test_export_otlp.py", "tests/unit/export/test_log_records.py",
        "tests/unit/export/test_otlp_delivery.py", "tests/unit/export/test_otlp_encode.py",
        "tests/unit/export/test_otlp_metrics.py", "tests/unit/export/test_otlp_transport.py",
        "tests/contract/test_opentelemetry_context.py", "tests/contract/test_tracer_provider.py",
    ),
}  # fmt: skip
"""By extra."""
TOOLS = ("pytest>=8", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "hypothesis", "structlog")


def oldest(extra: str) -> list[str]:
    """The OpenTelemetry packages that kobs asks for, with the extra, each at its least version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    if extra:
        asked += project["optional-dependencies"][extra]
    least: dict[str, tuple[tuple[int, ...], str]] = {}
    for requirement in asked:
        if found := re.fullmatch(r"(opentelemetry-[\w-]+)>=([\w.]+)(?:,<2)?", requirement):
            version = tuple(map(int, re.findall(r"\d+", found[2])))
            least[found[1]] = max(least.get(found[1], ((), "")), (version, found[2]))
    exporters = [text for name, (_, text) in least.items() if "exporter" in name]
    if exporters:  # an exporter asks for the very SDK that it came with
        least["opentelemetry-api"] = least["opentelemetry-sdk"] = ((), exporters[0])
        del least["opentelemetry-instrumentation"]
    return [f"{name}=={text if 'b' in text else text + '.*'}" for name, (_, text) in least.items()]


def check(extra: str) -> bool:
    """Install and run; whether all is well."""
    folder = ROOT / (f".venv-oldest-{extra}" if extra else ".venv-oldest")
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    kobs = f".[{extra}]" if extra else "."
    wanted = [*oldest(extra), *TOOLS]
    # Before 1.30 OpenTelemetry finds itself by pkg_resources, which setuptools had until 81.
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    print(f"oldest: {' '.join(oldest(extra))}", flush=True)
    subprocess.run([*pip, "-e", kobs, *wanted, "setuptools<81"], check=True, cwd=ROOT)
    tests = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider",
         "-m", "not e2e and not newest_sdk", *TESTS[extra]],
        cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    return tests.returncode == 0


if __name__ == "__main__":
    results = {extra: check(extra) for extra in TESTS}  # all of them, whatever the first says
    sys.exit(not all(results.values()))
