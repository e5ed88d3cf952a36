"""Fuzzes the reader of recordings: `make fuzz`, or

    python -m tests.fuzz.fuzz [SECONDS]          # with atheris, which follows what is covered
    python -m tests.fuzz.fuzz --plain [SECONDS]  # without it: random recipes
    python -m tests.fuzz.fuzz --again HEX        # one recipe again, as it was reported

An input is a recipe (`tests.fuzz.damage`). Any exception that is no `KobsError`, and anything that
takes longer than five seconds, is a find: its recipe is printed, and the exit code is not 0.
`KOBS_CORE` names the core that reads.
"""

import os
import random
import sys
import tempfile
import time
from importlib.util import find_spec

SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def one(data: bytes) -> int:
    """Follow one recipe and read what it made; how many events there were."""
    from tests.fuzz.damage import damaged
    from tests.fuzz.look import look_at_everything, no_hang
    from tests.fuzz.seeds import write

    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="kobs-fuzz-") as folder:
        path = write(damaged(data), folder)
        try:
            with no_hang():
                return look_at_everything(path)
        except BaseException:
            print(f"\nfuzz: found with --again {data.hex()}", file=sys.stderr, flush=True)
            raise


def plain(seconds: float) -> None:
    """Random recipes for a time."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    runs = readable = 0
    while time.monotonic() < end:
        readable += one(chance.randbytes(chance.choice((3, 6, 12, 24, 48)))) > 0
        runs += 1
    print(f"fuzz: {runs:,} recipes (seed {seed}), {readable:,} gave events, nothing found")


def guided(seconds: int) -> None:
    """Recipes as atheris makes them of those that reached something new."""
    import atheris

    with atheris.instrument_imports(include=["kobs"]):
        import kobs.following
        import kobs.query
        import kobs.recording  # noqa: F401

        one(b"")
    with tempfile.TemporaryDirectory(prefix="kobs-fuzz-found-") as corpus:
        chance = random.Random(0)
        for number in range(200):
            with open(os.path.join(corpus, str(number)), "wb") as file:
                file.write(bytes([number]) + chance.randbytes(12))
        limits = [f"-max_total_time={seconds}", "-max_len=96", "-len_control=0", "-timeout=0"]
        limits += ["-print_final_stats=1", "-verbosity=1"]
        # What it finds is printed as a recipe; nothing is left behind.
        where = [f"-artifact_prefix={corpus}/", corpus]
        atheris.Setup([sys.argv[0], *limits, *where], lambda data: (one(data), None)[1])
        atheris.Fuzz()


def main(arguments: list[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--again"]:
        print(f"fuzz: {one(bytes.fromhex(arguments[1]))} events")
    elif arguments[:1] == ["--plain"]:
        plain(float(arguments[1]) if arguments[1:] else 60)
    else:
        seconds = float(arguments[0]) if arguments else 60
        if find_spec("atheris") is None:
            print("fuzz: no atheris here, so recipes are random, not guided by what is covered")
            plain(seconds)
        else:
            guided(int(seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
