"""Memory regions under a budget, and the collector's pauses."""

import gc
import mmap
from typing import NamedTuple

from kobs import observe

_MB = 1024 * 1024


class Pressure(NamedTuple):
    """How much of the budget is in use."""

    usage_pct: int
    available_mb: int


class OutOfMemory(MemoryError):
    """A region did not fit into what is left of the budget."""

    def __init__(self, size: int, used: int, limit: int) -> None:
        super().__init__(f"{size} bytes do not fit: {used} of {limit} bytes are in use")
        self.resource = "memory"
        self.limit = limit


@observe("memory")
class MemoryManager:
    """Anonymous mappings of the system, their pages touched, within `budget` bytes."""

    def __init__(self, *, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._regions: dict[int, mmap.mmap] = {}
        self._next_region = 1
        self._level = 0

    def allocate(self, size: int) -> int:
        """Map `size` bytes, all resident; the region's id. `OutOfMemory` past the budget."""
        if self.used + size > self.budget:
            raise OutOfMemory(size, self.used, self.budget)
        region = mmap.mmap(-1, size)
        for page in range(0, size, mmap.PAGESIZE):
            region[page] = 1
        region_id = self._next_region
        self._next_region += 1
        self._regions[region_id] = region
        self.used += size
        self._watch_level()
        return region_id

    def free(self, region_id: int) -> int:
        """Unmap a region; how many bytes that gave back."""
        try:
            region = self._regions.pop(region_id)
        except KeyError:
            raise ValueError(f"no region {region_id}; regions: {sorted(self._regions)}") from None
        size = len(region)
        region.close()
        self.used -= size
        self._watch_level()
        return size

    def free_all(self) -> None:
        """Unmap every region."""
        for region_id in list(self._regions):
            self.free(region_id)

    def regions(self) -> dict[int, int]:
        """The size of each region, by its id."""
        return {region_id: len(region) for region_id, region in self._regions.items()}

    def store(self, region_id: int, data: bytes, *, offset: int = 0) -> None:
        """Write `data` into a region."""
        self._regions[region_id][offset : offset + len(data)] = data

    def load(self, region_id: int, size: int, *, offset: int = 0) -> bytes:
        """Read `size` bytes of a region."""
        return self._regions[region_id][offset : offset + size]

    def check_pressure(self) -> Pressure:
        """How full the budget is. Made by itself whenever 75 % or 90 % is crossed, either way."""
        return Pressure(
            usage_pct=100 * self.used // self.budget,
            available_mb=(self.budget - self.used) // _MB,
        )

    def collect(self, generation: int = 2) -> int:
        """Run the interpreter's collector; how many unreachable objects it found."""
        return gc.collect(generation)

    def _watch_level(self) -> None:
        usage = 100 * self.used / self.budget
        level = (usage > 75) + (usage > 90)
        if level != self._level:
            self._level = level
            self.check_pressure()
