"""What a process is, by OpenTelemetry's conventions."""

import os
import platform
import sys
from pathlib import Path
from uuid import UUID

import pytest

from kobs import Collector, open_recording
from kobs.session import Session
from kobs.tracing.resource import (
    Given,
    container_id,
    process_resource,
    recorded_resource,
)

DOCKER = "a1" * 32
ALL = [
    "host.arch", "host.name", "os.type", "process.command", "process.command_args",
    "process.executable.name", "process.executable.path", "process.parent_pid", "process.pid",
    "process.runtime.description", "process.runtime.name", "process.runtime.version",
    "service.instance.id", "service.name", "telemetry.sdk.language", "telemetry.sdk.name",
    "telemetry.sdk.version",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def test_this_process() -> None:
    found = process_resource(Given.read())
    assert [key for key in ALL if key not in found] == []
    assert found["process.pid"] == os.getpid()
    assert found["process.executable.path"] == sys.executable
    assert found["process.runtime.version"] == platform.python_version()
    assert found["service.name"].startswith("unknown_service:python")
    assert UUID(found["service.instance.id"]).version == 4
    assert found["telemetry.sdk.name"] == "kobs"


def test_what_the_variables_say_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=h,team=a,service.instance.id=7")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    found = process_resource(Given.read())
    assert (found["host.name"], found["team"]) == ("h", "a")
    assert (found["service.name"], found["service.instance.id"]) == ("shop", "7")


def test_a_recorded_process_is_the_same_one_from_within_and_from_outside(tmp_path: Path) -> None:
    session = Session.create("program", ["program"], root=tmp_path)
    given = Given.read()
    with Collector(size=64, session=session) as live:
        inside = process_resource(given, session.id, live.ring.recording)
        with open_recording(session.path) as recording:
            (part,) = recording.parts.values()
            outside = recorded_resource(given, part.attached)
    for key in ("service.instance.id", "service.name", "process.pid", "host.name", "os.type"):
        assert inside[key] == outside[key]
    assert outside["kobs.session.id"] == session.id
    assert UUID(outside["service.instance.id"]).version == 5


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        (f"12:pids:/docker/{DOCKER}\n0::/\n", "", DOCKER),
        (f"0::/kubepods/besteffort/pod1/cri-containerd-{DOCKER}.scope", "", DOCKER),
        ("0::/", f"1 2 8:1 /var/lib/docker/containers/{DOCKER}/hostname /etc/hostname rw", DOCKER),
        ("0::/", f"1 2 8:1 /somewhere/{DOCKER}/else /etc/hostname rw", ""),
        ("0::/user.slice/session-1.scope", "1 2 8:1 / / rw", ""),
        ("", "", ""),
    ],
)
def test_the_container(cgroup: str, mounts: str, expected: str) -> None:
    assert container_id(cgroup, mounts) == expected
