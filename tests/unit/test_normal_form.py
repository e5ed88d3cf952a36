"""The normal form of an event: nothing in it depends on when, where and by whom it happened."""

from tempfile import gettempdir

import pytest
from hypothesis import given, settings, strategies as st

from kobs._analysis.normal import Normalizer
from kobs.collector import Collector
from kobs.events import Event
from kobs.levels import SyscallResult
from kobs.payloads import (
    ConnectionEstablished,
    FileOpened,
    MessageSent,
    ProcessCreated,
    ProcessTerminated,
    SpanEnded,
    SyscallExit,
)
from tests.thorough import many

NORMAL = Normalizer(cwd="/work/shop", basetemp="/scratch/base")


def recorded(*payloads) -> list[Event]:
    with Collector(size=64) as collector:
        for payload in payloads:
            collector.emit(payload)
        events = collector.snapshot()
        for event in events:
            _ = event.payload
        return events


class TestText:
    @pytest.mark.parametrize(
        ("text", "normal"),
        [
            ("/work/shop/receipt", "<cwd>/receipt"),
            ("/work/shopping", "/work/shopping"),
            ("x/work/shop", "x/work/shop"),
            ("/tmp/pytest-of-ann/pytest-7/test_sold0/receipt", "<tmp>/receipt"),
            ("/tmp/pytest-of-ann/pytest-7/popen-gw3/test_sold0/receipt", "<tmp>/receipt"),
            ("/scratch/base/test_sold0/receipt", "<tmp>/receipt"),
            ("/scratch/base/popen-gw3/test_sold0/receipt", "<tmp>/receipt"),
            ("/home/ann/.cache", "<home>/.cache"),
            ("/usr/lib/python3.12/json/decoder.py", "<python>/json/decoder.py"),
            ("/usr/bin/python3.12 -c", "<python> -c"),
            ("python3.11", "python"),
            ("Queue-12", "Queue-<n>"),
            ("127.0.0.1:45123", "<n>.<n>.<n>.<n>:<n>"),
            ("tmp3qemjsk3/z", "tmp<random>/z"),
            (f"{gettempdir()}/editor-lvmdrabc.txt", "<tempdir>/editor-<random>.txt"),
            (f"{gettempdir()}/receipts", "<tempdir>/receipts"),
            ("psm_deadbeef", "psm_<hex>"),
            ("<Job at 0x7f3a>", "<Job at <hex>>"),
            ("6f1c0f6e-8a0f-4f5c-9d7e-0123456789ab", "<uuid>"),
            ("build 3f2a9bc", "build <hex>"),
            ("sha256", "sha256"),
            ("step1", "step1"),
            ("decade", "decade"),
            ("", ""),
        ],
    )
    def test_replaces_what_differs_between_runs(self, text, normal):
        assert NORMAL.text(text) == normal

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    ["/work/shop", "/scratch/base", "/root", "/home/ann", "/tmp", "/", "-", "_",
                     "pytest-of-x", "pytest-1", "popen-gw1", "/lib/python3.12", "/bin/python",
                     "0x", "tmp", "psm_", "<tmp>", "<n>", "deadbeef1", " ", "python3"]
                ),
                st.text(max_size=6),
                st.integers(0, 10**9).map(str),
                st.uuids().map(str),
            ),
            max_size=8,
        ).map("".join)
    )  # fmt: skip
    @settings(max_examples=many(120))
    def test_twice_is_once(self, text):
        once = NORMAL.text(text)
        assert NORMAL.text(once) == once

    @given(st.integers(0, 10**12), st.integers(0, 10**12))
    def test_counters_are_the_same_whatever_they_count(self, one, other):
        assert NORMAL.text(f"Thread-{one} (work)") == NORMAL.text(f"Thread-{other} (work)")

    def test_is_the_same_in_another_folder(self):
        other = Normalizer(cwd="/elsewhere/checkout")
        assert other.text("/elsewhere/checkout/a") == NORMAL.text("/work/shop/a")

    def test_the_root_is_no_folder_to_replace(self):
        assert Normalizer(cwd="/").text("/etc/passwd") == "/etc/passwd"


class TestEvent:
    def test_keeps_texts_codes_and_states(self):
        events = recorded(
            FileOpened("/work/shop/a", "w", 17.0),
            SyscallExit("read", 3.5, SyscallResult.ERROR, 13),
            ProcessTerminated(-9),
            ProcessCreated("sh", 20),
            MessageSent(4711, 80),
            ConnectionEstablished("tcp", 40123, "127.0.0.1:8000"),
            SpanEnded("parse", 5.0, "ok", {"b": "x", "a": 12, "ok": True}),
        )
        assert [NORMAL.event(event) for event in events] == [
            "FileOpened(path='<cwd>/a', mode='w')",
            "SyscallExit(name='read', result=ERROR, errno=13)",
            "ProcessTerminated(exit_code=-9)",
            "ProcessCreated(name='sh')",
            "MessageSent()",
            "ConnectionEstablished(protocol='tcp', remote_addr='<n>.<n>.<n>.<n>:<n>')",
            "SpanEnded(name='parse', status='ok', attributes={a, b='x', ok=True})",
        ]

    def test_leaves_out_what_has_its_default_value(self):
        (event,) = recorded(SpanEnded("parse", 1.0))
        assert NORMAL.event(event) == "SpanEnded(name='parse')"

    @pytest.mark.parametrize(
        ("folder", "file", "normal"),
        [
            ("/tmp/pytest-of-ann/pytest-7/test_sold0", "a", "<tmp>/a"),
            ("/tmp/pytest-of-ann/pytest-7/test_sold0", "shop/receipts/a", "<tmp>/shop/receipts/a"),
            ("/tmp/pytest-of-ann/pytest-7/test_sold0", "folder/" * 4 + "a", ".../a"),
            ("/scratch/base/test_sold0", "a", "<tmp>/a"),
            ("/work/shop", "src/shop/receipts/printing.py", "<cwd>/src/shop/receipts/printing.py"),
            ("/work/shop", "src/" * 11 + "printing.py", ".../printing.py"),
        ],
    )
    @pytest.mark.parametrize("worker", ["", "/popen-gw11"])
    @pytest.mark.parametrize("above", ["", "/a-long-name/of-a-folder" * 4])
    def test_of_a_path_is_the_same_where_it_was_cut(self, folder, file, normal, worker, above):
        normalizer = Normalizer(cwd=f"{above}/work/shop", basetemp=f"{above}/scratch/base")
        if "/test_sold0" in folder:
            folder = folder.replace("/test_sold0", f"{worker}/test_sold0")
        (event,) = recorded(FileOpened(f"{above}{folder}/{file}", "w"))
        assert event.truncated == (len(f"{above}{folder}/{file}") > 100)
        assert normalizer.event(event) == f"FileOpened(path='{normal}', mode='w')"

    def test_keeps_a_path_below_no_folder_that_differs(self):
        (event,) = recorded(FileOpened("/etc/" + "folder/" * 8 + "a", "w"))
        assert NORMAL.event(event) == f"FileOpened(path='/etc/{'folder/' * 8}a', mode='w')"

    def test_of_another_text_that_was_cut_the_beginning_stays(self):
        text = "make the receipt for customer number "
        one, other = recorded(
            ProcessCreated(text + "1" * 90), ProcessCreated(text + "22" + "3" * 110)
        )
        assert NORMAL.event(one) == NORMAL.event(other)
        assert NORMAL.event(one) == "ProcessCreated(name='make the receipt for customer<cut>')"

    def test_is_one_line_whatever_the_text(self):
        events = recorded(*(FileOpened(f"a{odd}b", "w") for odd in "\n\r\x00\x85\u2028\udc80 \t"))
        for event in events:
            assert len(NORMAL.event(event).splitlines()) == 1
            assert NORMAL.event(event).encode()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=8),
    st.permutations([11, 12, 13, 14]),
    st.integers(1, 10**9),
)
@settings(max_examples=many(50))
def test_does_not_depend_on_pids_and_times(spec, pids, later):
    def forms(number_of, delay):
        with Collector(size=64) as collector:
            for at, (name, process) in enumerate(spec, 1):
                collector.emit(
                    MessageSent(f"{name}-{number_of(process)}", at * delay),
                    pid=number_of(process), timestamp_ns=at * delay, link=at * delay,
                )  # fmt: skip
            return [NORMAL.event(event) for event in collector.snapshot()]

    assert forms(lambda n: n + 1, 1) == forms(pids.__getitem__, later)
