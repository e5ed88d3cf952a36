"""Sandbox policies: what a rule means."""

import os
from pathlib import Path
from typing import Any

import pytest

from kobs.errors import ConfigError
from kobs_instrumentation.policy import SandboxPolicy


def forbids(policy: SandboxPolicy, event: str, *args: Any) -> str | None:
    """The rule that an event breaks."""
    found = policy.judge(event, args)
    return None if found is None else found.rule.text


@pytest.mark.parametrize(
    ("rule", "event", "args", "broken"),
    [
        ("open", "open", ("/a", "r", 0), True),
        ("open.read", "open", ("/a", "r", 0), True),
        ("open.write", "open", ("/a", "r", 0), False),
        ("open.write", "open", ("/a", "w", 0), True),
        ("open.read", "open", ("/a", "wb", 0), False),
        ("open.read", "open", ("/a", "xb+", 0), True),
        ("open.write", "open", ("/a", None, os.O_WRONLY), True),
        ("open.read", "open", ("/a", None, os.O_WRONLY), False),
        ("open.read", "open", ("/a", None, os.O_RDWR), True),
        ("open.write", "open", ("/a", None, os.O_RDONLY), False),
        ("open:/etc/*", "open", ("/etc/x/y", "r", 0), True),
        ("open:/etc/*", "open", (b"/etc/x", "r", 0), True),
        ("open:/etc/*", "open", (Path("/tmp/../etc/x"), "r", 0), True),
        ("open:/etc/*", "open", ("/tmp/x", "r", 0), False),
        ("open", "open", (3, "r", 0), False),
        ("os.*", "os.remove", ("/a", -1), True),
        ("os.rename:/etc/*", "os.rename", ("/a", "/etc/b", -1, -1), True),
        ("os.rename:/etc/*", "os.rename", ("/etc/a", "/b", -1, -1), True),
        ("os.listdir:/etc", "os.listdir", ("/etc",), True),
        ("socket.connect:*:25", "socket.connect", (None, ("mail", 25)), True),
        ("socket.connect:*:25", "socket.connect", (None, ("mail", 2525)), False),
        ("socket.connect:[[]::1]:25", "socket.connect", (None, ("::1", 25, 0, 0)), True),
        ("socket.connect:/run/*", "socket.connect", (None, "/run/x"), True),
        ("socket.getaddrinfo:evil.*", "socket.getaddrinfo", ("evil.org", 80, 0, 0, 0), True),
        ("socket.gethostbyname:evil.*", "socket.gethostbyname", ("evil.org",), True),
        ("subprocess.Popen:*/sh", "subprocess.Popen", ("sh", ["sh"], None, None), True),
        ("subprocess.Popen:sh", "subprocess.Popen", ("sh", ["sh"], None, None), True),
        ("os.exec:/bin/*", "os.exec", (b"/bin/x", [], None), True),
        ("os.system:rm *", "os.system", (b"rm -rf x",), True),
        ("import:ctypes", "import", ("ctypes", None, None, None, None), True),
        ("ctypes.*", "ctypes.dlopen", ("libc.so",), True),
        ("[!i]*", "import", ("ctypes",), False),
    ],
)
def test_rules(rule: str, event: str, args: tuple[Any, ...], broken: bool) -> None:
    policy = SandboxPolicy(deny=[rule])
    assert forbids(policy, event, *args) == (rule if broken else None)
    assert policy.concerns(event) or not broken


def test_what_is_allowed_is_an_exception_from_what_is_denied(tmp_path: Path) -> None:
    policy = SandboxPolicy(deny=["open.write"], allow=[f"open.write:{tmp_path}/*"])
    assert forbids(policy, "open", tmp_path / "x", "w", 0) is None
    assert forbids(policy, "open", tmp_path / ".." / "x", "w", 0) == "open.write"
    assert SandboxPolicy(allow=["open"]).judge("open", ("/a", "w", 0)) is None


def test_of_two_paths_both_have_to_be_allowed(tmp_path: Path) -> None:
    policy = SandboxPolicy(deny=["os.rename"], allow=[f"os.rename:{tmp_path}/*"])
    assert forbids(policy, "os.rename", tmp_path / "a", tmp_path / "b", -1, -1) is None
    assert forbids(policy, "os.rename", tmp_path / "a", "/b", -1, -1) == "os.rename"


def test_symbolic_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    allowing = SandboxPolicy(deny=["open"], allow=[f"open:{tmp_path}/*"])
    assert forbids(allowing, "open", tmp_path / "out" / "passwd", "r", 0) == "open"
    denying = SandboxPolicy(deny=["open:/etc/*"])
    assert forbids(denying, "open", tmp_path / "out" / "passwd", "r", 0) == "open:/etc/*"


def test_paths_relative_to_an_open_folder(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_PATH)
    try:
        policy = SandboxPolicy(deny=[f"os.remove:{tmp_path}/*"])
        assert forbids(policy, "os.remove", "x", folder) is not None
        assert forbids(policy, "os.remove", "x", -1) is None
        chmod = SandboxPolicy(deny=[f"os.chmod:{tmp_path}"])
        assert forbids(chmod, "os.chmod", folder, 0o600, -1) is not None
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "stop"}, "sandbox mode='stop': expected one of warn, deny"),
        ({"deny": [":x"]}, "sandbox rule ':x': expected an audit event, or event:argument"),
        ({"deny": ["open:"]}, "sandbox rule 'open:'"),
        ({"allow": "open"}, "sandbox allow='open': expected a list of rules"),
        ({"deny": [1]}, "sandbox deny=[1]: expected a list of rules"),
        ({"forbid": []}, "there is no key 'forbid'"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SandboxPolicy.from_mapping(given, "here")
    assert str(caught.value).startswith("here: ")
    assert message in str(caught.value)


def test_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('mode = "deny"\ndeny = ["open"]\nallow = ["open:/tmp/*"]\n')
    policy = SandboxPolicy.from_file(file)
    given = {"mode": "deny", "deny": ["open"], "allow": ["open:/tmp/*"]}
    assert policy.to_mapping() == given
    assert SandboxPolicy.from_mapping(given).to_mapping() == given
    with pytest.raises(ConfigError, match="cannot be read"):
        SandboxPolicy.from_file(tmp_path / "missing")
