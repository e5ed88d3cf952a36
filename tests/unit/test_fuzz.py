"""A little of `make fuzz` in every run: the seeds, and damage that is the same each time."""

import random

import pytest

from kobs import open_recording
from tests.fuzz.damage import damaged
from tests.fuzz.look import look_at_everything, no_hang
from tests.fuzz.seeds import seeds, write

EVENTS = {"alltypes": 32, "killed": 10, "segments": 44, "session": 4}
RECIPES = 400
SHARES = 8


@pytest.mark.parametrize("number", range(len(EVENTS)), ids=EVENTS)
def test_a_seed_is_whole(tmp_path, number):
    path = write(seeds()[number], str(tmp_path))
    with no_hang():
        assert look_at_everything(path) == list(EVENTS.values())[number]
    with open_recording(path) as recording:
        assert recording.snapshot()
        assert recording.damage == []


@pytest.mark.parametrize("share", range(SHARES))
def test_damage_is_told_by_an_error_of_kobs_or_read_past(tmp_path, share):
    chance = random.Random(share)
    read = 0
    for number in range(RECIPES // SHARES):
        recipe = chance.randbytes(chance.choice((3, 6, 12, 24, 48)))
        folder = tmp_path / str(number)
        folder.mkdir()
        files = damaged(recipe)
        assert files == damaged(recipe), "a recipe makes the same each time"
        try:
            with no_hang():
                read += look_at_everything(write(files, str(folder))) > 0
        except BaseException as error:
            error.add_note(f"python -m tests.fuzz.fuzz --again {recipe.hex()}")
            raise
        for file in folder.iterdir():
            file.unlink()
    assert read > RECIPES // SHARES // 4, "most of the damage is to be read past"


def test_bytes_of_any_kind_are_no_recording(tmp_path):
    chance = random.Random(0)
    for size in (0, 1, 7, 8, 100, 4095, 4096, 5000, 300_000):
        for start in (b"", b"KOBSRING", b"KOBSRING\1\0\0\0\x0d\x0c\x0b\x0a"):
            files = {"a.kobs": start + chance.randbytes(size)}
            with no_hang():
                assert look_at_everything(write(files, str(tmp_path))) == 0
