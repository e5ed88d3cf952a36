"""Settings from keyword arguments, then the environment, then defaults."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from kobs._core.layout import DEFAULT_SLOTS, MAX_SLOTS, MIN_SLOTS
from kobs.errors import ConfigError
from kobs.hiding import Rule, parse
from kobs.levels import Category

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")


class Settings(NamedTuple):
    """What the environment variables of kobs say."""

    sampling_rate: float = 100.0
    """`KERNEL_SAMPLING_RATE`: share of chains that are kept, 0 to 100."""
    stream_size: int = DEFAULT_SLOTS
    """`KERNEL_STREAM_SIZE`: slots of the main lane, a power of two."""
    anomaly_threshold: float = 3.0
    """`KERNEL_ANOMALY_THRESHOLD`: standard deviations, above 0."""
    trace_json: bool = False
    """`KERNEL_TRACE_JSON`: logs as JSON."""
    log_filter: str = ""
    """`KERNEL_LOG`, else `RUST_LOG`: level filter of logs."""
    core: str = ""
    """`KOBS_CORE`: `python` or `c`; empty picks the best there is."""
    session: str = ""
    """`KOBS_SESSION`: folder that recordings are written to."""
    category_rates: tuple[tuple[Category, float], ...] = ()
    """`KERNEL_CATEGORY_RATES`: sampling rates by category, `ipc=10,filesystem=1`."""
    hide: tuple[Rule, ...] = ()
    """`KOBS_HIDE`: what is not recorded, `syscall:read;file:/tmp/*`."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment. Raises `ConfigError` naming a variable with a bad value."""
        env = os.environ if environ is None else environ
        return cls(
            sampling_rate=sampling_rate(env.get("KERNEL_SAMPLING_RATE"), "KERNEL_SAMPLING_RATE"),
            stream_size=stream_size(env.get("KERNEL_STREAM_SIZE"), "KERNEL_STREAM_SIZE"),
            anomaly_threshold=anomaly_threshold(
                env.get("KERNEL_ANOMALY_THRESHOLD"), "KERNEL_ANOMALY_THRESHOLD"
            ),
            trace_json=_flag(env.get("KERNEL_TRACE_JSON"), "KERNEL_TRACE_JSON"),
            log_filter=env.get("KERNEL_LOG") or env.get("RUST_LOG", ""),
            core=_one_of(env.get("KOBS_CORE", ""), ("", "python", "c"), "KOBS_CORE"),
            session=env.get("KOBS_SESSION", ""),
            category_rates=tuple(
                category_rates(env.get("KERNEL_CATEGORY_RATES"), "KERNEL_CATEGORY_RATES").items()
            ),
            hide=parse(env.get("KOBS_HIDE", ""), "KOBS_HIDE"),
        )


def sampling_rate(value: object, where: str = "sampling", default: float = 100.0) -> float:
    """A share of chains in percent. Raises `ConfigError`."""
    if value is None:
        return default
    number = _number(value, where, "a number from 0 to 100")
    if not 0 <= number <= 100:
        raise ConfigError(f"{where}={value}: expected a number from 0 to 100")
    return number


def category_rates(
    value: str | Mapping[Category, float] | None, where: str = "category_rates"
) -> dict[Category, float]:
    """Sampling rates by category, from text (`ipc=10,filesystem=1`) or a mapping. Raises
    `ConfigError`."""
    if not value:
        return {}
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return dict(_category_rate(part, where) for part in parts)
    made = {}
    for category, rate in value.items():
        if category not in tuple(Category):
            allowed = ", ".join(f"Category.{name}" for name in Category.__members__)
            raise ConfigError(f"{where}[{category!r}]: expected one of {allowed}")
        name = Category(category).name
        made[Category(category)] = sampling_rate(rate, f"{where}[{name}]")
    return made


def _category_rate(text: str, where: str) -> tuple[Category, float]:
    name, equals, rate = text.partition("=")
    name = name.strip().upper()
    if not equals:
        raise ConfigError(f"{where}={text}: expected CATEGORY=PERCENT, for instance ipc=10")
    if name not in Category.__members__:
        there_are = ", ".join(one.lower() for one in Category.__members__)
        raise ConfigError(
            f"{where}={text}: there is no category {name.lower()!r}; there are {there_are}"
        )
    return Category[name], sampling_rate(rate.strip(), f"{where}: {name.lower()}")


def anomaly_threshold(value: object, where: str = "threshold", default: float = 3.0) -> float:
    """A distance in standard deviations. Raises `ConfigError`."""
    if value is None:
        return default
    number = _number(value, where, "a number above 0")
    if not 0 < number < float("inf"):
        raise ConfigError(f"{where}={value}: expected a number above 0")
    return number


def stream_size(value: object, where: str = "size", default: int = DEFAULT_SLOTS) -> int:
    """A number of slots. Raises `ConfigError`."""
    if value is None:
        return default
    allowed = f"a power of two from {MIN_SLOTS} to {MAX_SLOTS}"
    number = _number(value, where, allowed)
    slots = int(number) if number == number and abs(number) < 1 << 53 else 0
    if slots != number or not MIN_SLOTS <= slots <= MAX_SLOTS or slots & (slots - 1):
        raise ConfigError(f"{where}={value}: expected {allowed}")
    return slots


def _number(value: object, where: str, allowed: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"{where}={value}: expected {allowed}") from None


def _flag(value: str | None, where: str) -> bool:
    text = (value or "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ConfigError(f"{where}={value}: expected true or false")


def _one_of(value: str, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise ConfigError(f"{where}={value}: expected {' or '.join(a for a in allowed if a)}")
    return value
