"""How much the tests that try many cases try: `KOBS_THOROUGH` times as much as in every run.

`make test-all` says 5.
"""

import os

TIMES = float(os.environ.get("KOBS_THOROUGH", "1"))


def many(few: int) -> int:
    """Examples of a property, kills of a process: `few` in every run."""
    return max(1, round(few * TIMES))
