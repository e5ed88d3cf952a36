"""Settings come from arguments, then the environment, then defaults; bad ones are refused."""

import pytest

from kobs import Collector
from kobs.config import Settings
from kobs.errors import ConfigError, KobsError


def test_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings.sampling_rate == 100
    assert settings.stream_size == 65_536
    assert settings.anomaly_threshold == 3.0
    assert settings.trace_json is False


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("KERNEL_SAMPLING_RATE", "101", "a number from 0 to 100"),
        ("KERNEL_SAMPLING_RATE", "-1", "a number from 0 to 100"),
        ("KERNEL_SAMPLING_RATE", "nan", "a number from 0 to 100"),
        ("KERNEL_SAMPLING_RATE", "often", "a number from 0 to 100"),
        ("KERNEL_STREAM_SIZE", "1000", "a power of two from 16 to 16777216"),
        ("KERNEL_STREAM_SIZE", "8", "a power of two from 16 to 16777216"),
        ("KERNEL_STREAM_SIZE", "1024.5", "a power of two from 16 to 16777216"),
        ("KERNEL_STREAM_SIZE", "inf", "a power of two from 16 to 16777216"),
        ("KERNEL_ANOMALY_THRESHOLD", "0", "a number above 0"),
        ("KERNEL_ANOMALY_THRESHOLD", "inf", "a number above 0"),
        ("KERNEL_TRACE_JSON", "perhaps", "true or false"),
        ("KOBS_CORE", "rust", "python or c"),
    ],
)
def test_a_bad_variable_is_refused_by_name_with_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment({variable: value})
    assert str(caught.value) == f"{variable}={value}: expected {allowed}"
    assert isinstance(caught.value, KobsError)


def test_the_environment_sets_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEL_STREAM_SIZE", "128")
    monkeypatch.setenv("KERNEL_SAMPLING_RATE", "25")
    with Collector() as collector:
        assert collector.ring.slots == 128
        assert collector.sampling_rate() == 25


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEL_STREAM_SIZE", "128")
    monkeypatch.setenv("KERNEL_SAMPLING_RATE", "25")
    with Collector(size=64, sampling=50) as collector:
        assert collector.ring.slots == 64
        assert collector.sampling_rate() == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 100}, "size=100: expected a power of two"),
        ({"sampling": 200}, "sampling=200: expected a number from 0 to 100"),
        ({"threshold": -1}, "threshold=-1: expected a number above 0"),
        ({"overflow": "grow"}, 'overflow=\'grow\': expected "overwrite" or "discard"'),
        ({"path": "x", "session": "y"}, "path and session were both given"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Collector(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
