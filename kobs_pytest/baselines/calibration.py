"""The unit of durations in a baseline: what a fixed piece of Python takes on this machine now.

PYTEST_DONT_REWRITE
"""

from time import perf_counter

_ROUNDS = 9


def unit_us() -> float:
    """The median of a few rounds, in microseconds; some tens of them."""
    taken = []
    for _ in range(_ROUNDS):
        start = perf_counter()
        numbers = {}
        for number in range(400):
            numbers[number & 63] = str(number)
        taken.append(perf_counter() - start)
    return sorted(taken)[_ROUNDS // 2] * 1e6
