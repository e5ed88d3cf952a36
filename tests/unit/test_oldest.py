"""`tools.oldest` installs the least versions that the project asks for, of packages whose range is
bounded at both ends where they have a major version."""

import re
import tomllib
from pathlib import Path

from tools import oldest

PROJECT = tomllib.loads((oldest.ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def asked_for(*requirements: str) -> dict[str, str]:
    """What of OpenTelemetry is asked for: package and range."""
    found = (re.fullmatch(r"(opentelemetry-[\w-]+)([<>=].*)", one) for one in requirements)
    return {one[1]: one[2] for one in found if one}


def test_the_least_version_of_each_is_installed() -> None:
    names = [re.split("==", one)[0] for one in oldest.oldest("")]
    assert sorted(names) == sorted(asked_for(*PROJECT["dependencies"]))
    with_otlp = oldest.oldest("otlp")
    for package, versions in asked_for(*EXTRAS["otlp"]).items():
        least = re.match(r">=([\d.]+)", versions)
        assert least is not None
        assert f"{package}=={least[1]}.*" in with_otlp


def test_what_has_a_major_version_is_bounded_by_the_next() -> None:
    asked = asked_for(*PROJECT["dependencies"], *EXTRAS["otlp"])
    assert {package for package, versions in asked.items() if not versions.endswith(",<2")} == {
        "opentelemetry-instrumentation"  # it has none yet
    }


def test_the_tests_that_it_runs_are_there() -> None:
    paths = [Path(oldest.ROOT / path) for tests in oldest.TESTS.values() for path in tests]
    assert [path for path in paths if not path.exists()] == []
