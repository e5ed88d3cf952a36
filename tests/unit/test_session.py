"""Session folders: made, found, refused; numbers and links between processes."""

import json
import os
import re

import pytest

from kobs.context import Cause
from kobs.errors import SessionError
from kobs.links import ENTRIES, LinksTable
from kobs.session import Session, latest_session, sessions_root


@pytest.fixture
def session(tmp_path):
    return Session.create("some/app.py", ["app.py", "--x"], root=tmp_path)


def refused(call):
    with pytest.raises(SessionError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_session_says_what_was_run(session):
    name = os.path.basename(session.path)
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-app\.py-[0-9a-f]{6}", name)
    found = Session.open(session.path)
    assert found.info == session.info
    assert (found.id, found.trace_high) == (session.id, session.trace_high)
    assert found.info["argv"] == ["app.py", "--x"]
    assert found.info["cwd"] == os.getcwd()
    assert re.fullmatch(r"[0-9a-f]{32}", found.id)
    assert 0 < found.trace_high < 1 << 64


def test_only_its_owner_may_look(session):
    assert os.stat(session.path).st_mode & 0o777 == 0o700
    for name in os.listdir(session.path):
        assert os.stat(os.path.join(session.path, name)).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["", "/", "a b/c d\n\x00é", "x" * 500, "../..", "-m"])
def test_any_command_makes_a_folder(tmp_path, command):
    path = Session.create(command, [command], root=tmp_path).path
    assert os.path.dirname(path) == str(tmp_path)
    assert Session.open(path).info["command"] == command


def test_the_root_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert sessions_root() == f"{tmp_path}/kobs"
    monkeypatch.setenv("HOME", "/home/someone")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert sessions_root() == "/home/someone/.local/state/kobs"


def test_the_latest_session_is_the_one_begun_last(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert latest_session() is None
    made = [Session.create(name, []) for name in ("z", "a", "m")]
    (tmp_path / "kobs" / "99999999T000000.000Z-not-whole").mkdir()
    found = latest_session()
    assert found is not None
    assert found.path == made[-1].path or found.path > made[-1].path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "damaged: not JSON"),
        (b"[]", "damaged: an object was expected, found list"),
        (b"{}", "session version None; this kobs reads version 1"),
        (b'{"version": 1}', "damaged: session is None, a str was expected"),
        (b"\xff\xfe", "damaged: not JSON"),
        (b"[" * 100_000, "damaged: not JSON"),
    ],
)
def test_a_damaged_session_is_refused(session, content, message):
    with open(os.path.join(session.path, "session.json"), "wb") as file:
        file.write(content)
    assert message in refused(lambda: Session.open(session.path))


def test_json_nested_too_deep_is_no_exit_and_no_child(session):
    for name in ("exit.json", "unobserved.jsonl"):
        with open(os.path.join(session.path, name), "wb") as file:
            file.write(b'{"a":' * 20_000)
    assert session.exit is None
    assert session.unobserved() == []


def test_a_wrong_trace_half_is_refused(session):
    info = {**session.info, "trace_high": "xyz"}
    with open(os.path.join(session.path, "session.json"), "w") as file:
        json.dump(info, file)
    assert "trace_high is 'xyz', hex digits" in refused(lambda: Session.open(session.path))


def test_what_is_no_session_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "no such session; sessions lie in" in refused(lambda: Session.open(tmp_path / "none"))
    assert "it has no session.json" in refused(lambda: Session.open(tmp_path))
    assert "it is a file, not a folder" in refused(lambda: Session.open(tmp_path / "file"))


def test_where_no_folder_can_be_made_it_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    message = refused(lambda: Session.create("x", [], root=tmp_path / "file" / "deep"))
    assert "no session can be made there: Not a directory; set XDG_STATE_HOME" in message


def test_a_folder_that_cannot_be_written_is_told(session):
    os.unlink(os.path.join(session.path, "numbers"))
    os.mkdir(os.path.join(session.path, "numbers"))
    assert "cannot add a recording: Is a directory" in refused(session.next_recording)


def test_it_knows_how_many_recordings_were_begun(session):
    assert session.recordings_begun() == 0
    session.next_recording(), session.next_recording()
    assert session.recordings_begun() == 2
    os.unlink(os.path.join(session.path, "numbers"))
    assert "cannot be read: No such file" in refused(session.recordings_begun)


def test_numbers_are_unique_between_processes(session):
    first = session.next_recording()
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            own = Session.open(session.path)
            numbers = [own.next_recording() for _ in range(50)]
            with open(os.path.join(session.path, f"got-{os.getpid()}"), "w") as file:
                json.dump(numbers, file)
            os._exit(0)
        children.append(pid)
    found = []
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
        with open(os.path.join(session.path, f"got-{pid}")) as file:
            found += json.load(file)
    assert first == 1
    assert sorted(found) == list(range(2, 202))


def test_recordings_are_listed_by_number_without_their_segments(session):
    for name in ("00002-7.kobs", "00001-9.kobs", "00001-9.1.kobs", "00003-1.kobs.new", "x.kobs"):
        with open(os.path.join(session.path, name), "w"):
            pass
    assert [os.path.basename(path) for path in session.recordings()] == [
        "00001-9.kobs",
        "00002-7.kobs",
    ]
    assert os.path.basename(session.recording_path(12, 345)) == "00012-345.kobs"


def test_unobserved_children_and_the_exit_are_kept(session):
    assert session.exit is None
    session.add_unobserved(5, ["python", "-S"], "-S")
    session.add_unobserved(6, ["ls"], "not Python")
    with open(os.path.join(session.path, "unobserved.jsonl"), "a") as file:
        file.write('{"pid": 7, "ar')
    assert session.unobserved() == [
        {"pid": 5, "argv": ["python", "-S"], "reason": "-S"},
        {"pid": 6, "argv": ["ls"], "reason": "not Python"},
    ]
    session.write_exit(None, 9)
    assert session.exit is not None
    assert (session.exit["exit_code"], session.exit["signal"]) == (None, 9)


def test_a_cause_travels_to_another_process(session):
    cause = Cause(2**64 - 1, 2, 3, False, 5)
    session.put_link(b"key", cause, 77, "tests/a.py::test|1|call")
    pid = os.fork()
    if pid == 0:
        found = Session.open(session.path).take_link(b"key")
        good = found is not None and (found.cause, found.link) == (cause, 77)
        os._exit(0 if good and found.origin == "tests/a.py::test|1|call" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert session.take_link(b"key") is None


def test_links_under_one_key_go_out_in_order_and_the_newest_can_be_looked_at(session):
    for number in range(3):
        session.put_link(b"key", Cause(number, 0), number)
    newest = session.peek_link(b"key")
    assert newest is not None
    assert newest.link == 2
    taken = [session.take_link(b"key") for _ in range(4)]
    assert [record.link if record else None for record in taken] == [0, 1, 2, None]
    assert session.take_link(b"other") is None


def test_a_full_table_loses_the_oldest_and_never_mixes_keys_up(session):
    for number in range(ENTRIES * 2):
        session.put_link(b"%d" % number, Cause(number, number), number, str(number))
    found = 0
    for number in range(ENTRIES * 2):
        record = session.take_link(b"%d" % number)
        if record is not None:
            assert (record.link, record.origin) == (number, str(number))
            found += 1
    assert found > ENTRIES * 0.9


def test_an_origin_that_is_too_long_is_left_out(session):
    session.put_link(b"a", Cause(1, 2), 3, "x" * 400)
    session.put_link(b"b", Cause(1, 2), 3, "x" * 4000)
    long, longer = session.take_link(b"a"), session.take_link(b"b")
    assert long is not None
    assert longer is not None
    assert (long.origin, longer.origin) == ("x" * 400, "")


def test_a_half_written_link_is_not_taken(session):
    session.put_link(b"key", Cause(1, 2), 3, "origin")
    path = os.path.join(session.path, "links")
    with open(path, "r+b") as file:
        raw = file.read()
        at = raw.index(b"origin")
        file.seek(at)
        file.write(b"O")
    assert session.take_link(b"key") is None


def test_a_damaged_links_table_is_told(session):
    path = os.path.join(session.path, "links")
    with open(path, "r+b") as file:
        file.write(b"nonsense")
    assert "does not begin with" in refused(lambda: LinksTable.open(path))
    os.truncate(path, 100)
    assert "damaged: 100 bytes" in refused(lambda: LinksTable.open(path))
    os.unlink(path)
    assert "cannot be opened: No such file" in refused(lambda: LinksTable.open(path))
