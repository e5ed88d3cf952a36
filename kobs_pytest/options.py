"""What an option was given: marker over command line over environment over ini file.

PYTEST_DONT_REWRITE
"""

import os

import pytest

from kobs_pytest.plugin import OPTIONS

_OPTIONS = {option.name: option for option in OPTIONS}
YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off", "")


def given(config: pytest.Config, name: str, *variables: str) -> tuple[object, str]:
    """What the option `name` (`kobs_size`) was given and where: on the command line, in the
    environment (its own variable, then `variables`), or in the ini file. `(None, ...)` if
    nowhere."""
    option = _OPTIONS[name]
    value = config.getoption(name)
    if value is not None and value is not False:
        return value, option.flag
    if option.ini:
        for variable in (option.variable, *variables):
            if os.environ.get(variable):
                return os.environ[variable], variable
        return config.getini(name) or None, name
    return None, option.flag


def flag(config: pytest.Config, name: str) -> bool:
    """Whether an option without a value is on.

    Raises `pytest.UsageError` for a value in the environment that is neither yes nor no.
    """
    value, where = given(config, name)
    if isinstance(value, str):
        word = value.strip().lower()
        if word not in YES and word not in NO:
            raise pytest.UsageError(
                f"{where}={value!r}: expected one of {', '.join(YES + NO[:-1])}"
            )
        return word in YES
    return bool(value)
