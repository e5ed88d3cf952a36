"""What the options of baselines say.

PYTEST_DONT_REWRITE
"""

import os
import re
from typing import NamedTuple

import pytest

from kobs._analysis.normal import Normalizer
from kobs_pytest.options import given

MIN_SAMPLES = 20
"""Durations of an operation in one test, fewer of which have no median worth comparing."""


class Settings(NamedTuple):
    """Where the baseline is and what is done with it."""

    path: str
    """Absolute."""
    update: bool
    tolerance: float
    """What a median may be of what it was; 0: durations are not compared."""
    samples: int
    """Durations that a median needs."""
    shown: tuple[str, ...]
    """The options that say which file, as a person would give them again."""


def settings_of(config: pytest.Config) -> Settings:
    """Command line over environment over ini. Raises `pytest.UsageError`."""
    tolerance, samples = _durations(*given(config, "kobs_baseline_durations"))
    update = bool(config.getoption("kobs_update_baseline"))
    value, where = given(config, "kobs_baseline")
    if value is None:
        what = "--kobs-update-baseline" if update else "--kobs-baseline-durations"
        raise pytest.UsageError(f"{what} needs the file: --kobs-baseline=FILE (ini: kobs_baseline)")
    sent = getattr(config, "workerinput", {}).get("kobs_baseline_file")
    path = str(value)
    folder = config.rootpath if where == "kobs_baseline" else config.invocation_params.dir
    absolute = str(sent) if sent else os.path.normpath(os.path.join(folder, path))
    if os.path.isdir(absolute):
        raise pytest.UsageError(f"{where}={path}: is a folder; expected a file")
    shown = (f"{where}={path}",) if where.startswith("--") else ()
    return Settings(absolute, update, tolerance, samples, shown)


def _durations(value: object, where: str) -> tuple[float, int]:
    """`1.5x`, or `1.5x:50` with a number of samples."""
    if value is None:
        return 0.0, MIN_SAMPLES
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)x?(?::([0-9]+))?", str(value).strip())
    factor = float(match[1]) if match else 0.0
    samples = int(match[2] or MIN_SAMPLES) if match else 0
    if factor <= 1 or samples < 2:
        raise pytest.UsageError(
            f"{where}={value}: expected a factor over 1 that medians may grow by, like 1.5x, and "
            f"perhaps the number of samples that a median needs: 1.5x:50 ({MIN_SAMPLES})"
        )
    return factor, samples


def normalizer_of(config: pytest.Config) -> Normalizer:
    """Normal forms of what this run does."""
    basetemp = getattr(config.option, "basetemp", None)
    folder = os.getcwd()
    return Normalizer(cwd=folder, basetemp=os.path.join(folder, str(basetemp)) if basetemp else "")
