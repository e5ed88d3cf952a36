"""`--kobs-artifacts`: what each failing test leaves, and who is told of it."""

import json
import re
import xml.etree.ElementTree as xml

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from kobs.export.jsonl import read_jsonl
from kobs_pytest.artifacts.places import folder_name
from tests.plugin.pages import FAILING, SHOP, check_properties, folders, page, rows

pytest_plugins = ["pytester"]


class TestFolders:
    def test_each_failing_test_leaves_a_page_a_trace_and_its_events(self, inner):
        result = inner(
            SHOP, "--kobs-artifacts=left", "--junitxml=junit.xml", passed=2, failed=4, errors=2,
            skipped=1, xfailed=1,
        )  # fmt: skip
        left = folders(inner.pytester.path / "left")
        names = {re.sub(r"^.*-test_", "", name) for name in left}
        assert names == {
            "pay-card", "pay-a-b", "pay-script-script-alert-1-script", "setup", "teardown",
        }  # fmt: skip
        assert len(list((inner.pytester.path / "left").iterdir())) == FAILING
        assert "kobs: artifacts of 6 failing tests in left" in inner.told(result)
        for folder in (inner.pytester.path / "left").iterdir():
            assert re.fullmatch(r"[A-Za-z0-9._-]+", folder.name)
            assert {one.name for one in folder.iterdir()} == {
                "index.html", "trace.pftrace", "events.jsonl",
            }  # fmt: skip

        hostile = next(folder for name, folder in left.items() if "alert" in name)
        events = list(read_jsonl((hostile / "events.jsonl").read_text().splitlines()))
        assert {"SpanBegan", "FileOpened", "SpanEnded"} <= {event.type_name for event in events}
        trace = schema.Trace()
        trace.ParseFromString((hostile / "trace.pftrace").read_bytes())
        assert any(packet.HasField("track_event") for packet in trace.packet)
        self.check_hostile(page(hostile / "index.html"))
        check_properties(inner, left)
        assert "RuntimeError" not in inner.told(result)

        setup = page(next(one for name, one in left.items() if "setup" in name) / "index.html")
        assert "OSError: no such shop" in setup.text
        assert "errortest_each_failing" in setup.text.replace(" ", "")
        teardown = page(
            next(one for name, one in left.items() if "teardown" in name) / "index.html"
        )
        assert "OSError: the shop did not close" in teardown.text

    @staticmethod
    def check_hostile(shown):
        assert shown.tags.count("script") == 1
        assert "alert" not in shown.scripts[0].replace("\\u003cscript\\u003ealert(1)", "")
        assert "test_pay[</script><script>alert(1)</script>]" in shown.text
        assert "paying by </script><script>alert(1)</script>" in shown.text
        assert not set("\x1b\x00\u202e") & set(shown.text)
        assert shown.policy.startswith("default-src 'none'; style-src 'sha256-")
        assert all(link.startswith(("#", "trace.", "events.")) for link in shown.links)
        data = shown.data
        span = data["texts"].index("</script><script>alert(1)</script>\u2028'\"")
        assert span in data["columns"]["name"]
        assert [data["texts"][data["columns"]["type"][i]] for i in data["about"]] == ["FileOpened"]
        number = data["columns"]["number"][data["about"][0]]
        assert f"#{number}" in shown.text  # the nearest miss leads to it

    def test_an_inconclusive_test_leaves_its_reasons(self, inner):
        inner(
            """
            from kobs import FileOpened
            def test_it(kobs, tmp_path):
                for number in range(60):
                    (tmp_path / str(number)).write_text("x")
                kobs.never(FileOpened.like(mode="a"))
            """,
            "--kobs-artifacts=left", "--kobs-size=16", failed=1,
        )  # fmt: skip
        (folder,) = (inner.pytester.path / "left").iterdir()
        shown = page(folder / "index.html").text
        assert "inconclusive" in shown
        assert "Not everything may have been seen." in shown
        assert "the ring overflowed" in shown

    def test_every_attempt_has_a_folder_of_its_own(self, inner):
        inner.pytester.makeconftest(
            """
            from _pytest.runner import runtestprotocol
            def pytest_runtest_protocol(item, nextitem):  # as pytest-rerunfailures does
                for again in (True, False):
                    for report in runtestprotocol(item, log=False, nextitem=nextitem):
                        if again and report.failed:
                            report.outcome = "rerun"
                        item.ihook.pytest_runtest_logreport(report=report)
                return True
            """
        )
        inner("def test_it(): assert False", "--kobs-artifacts=left", "--kobs-report=run.html")
        assert "1 of 1 test did not pass" in page(inner.pytester.path / "run.html").text
        names = sorted(one.name for one in (inner.pytester.path / "left").iterdir())
        assert len(names) == 2
        assert names[1] == f"{names[0]}-attempt2"

    def test_what_others_say_of_it_is_on_the_page(self, inner):
        inner.pytester.makeconftest(
            """
            import pytest
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_makereport(item, call):
                report = yield
                if call.when == "call":
                    report.sections.append(("beside the run before", "it opened <one> file more"))
                return report
            """
        )
        inner("def test_it(): print('hello'); assert False", "--kobs-artifacts=left", failed=1)
        (folder,) = (inner.pytester.path / "left").iterdir()
        shown = page(folder / "index.html")
        assert "it opened <one> file more" in rows(shown, "Also known", "Timeline")
        assert "hello" in rows(shown, "Captured output", "this page")
        assert "0 events of this test" not in shown.text

    def test_names_are_never_those_of_other_tests(self):
        ids = ["a.py::t[A]", "a.py::t[a]", "a.py::t[a/]", "a.py::t[é]", f"a.py::t[{'x' * 999}]"]
        names = [folder_name(one, 1, "") for one in ids]
        assert len({name.lower() for name in names}) == len(ids)
        assert max(map(len, names)) < 140
        assert folder_name(ids[0], 2, "gw1") == f"{names[0]}-attempt2-gw1"

    def test_only_what_the_page_has_room_for_is_on_it(self, inner, monkeypatch):
        from kobs._pages import trace

        monkeypatch.setattr(trace, "MOST_EVENTS", 100)
        inner(
            """
            from kobs import ProcessCreated, ProcessTerminated
            def test_it(kobs):
                for number in range(500):
                    kobs.collector.emit(ProcessCreated(name=f"p{number}", priority=1), pid=1)
                kobs.never(ProcessCreated.like(name="p250"))
            """,
            "--kobs-artifacts=left", failed=1,
        )  # fmt: skip
        (folder,) = (inner.pytester.path / "left").iterdir()
        shown = page(folder / "index.html")
        names = [shown.data["texts"][name] for name in shown.data["columns"]["name"]]
        assert len(names) == 100
        assert {"p0", "p250", "p499"} <= set(names)
        assert "p100" not in names
        assert "events are in trace.pftrace and events.jsonl only" in shown.text
        assert len((folder / "events.jsonl").read_text().splitlines()) >= 500


class TestOptions:
    def test_environment_and_ini_ask_for_them_too(self, inner, monkeypatch):
        source = "def test_it(): assert False"
        ini = inner.pytester.path / "tox.ini"
        ini.write_text(f"{ini.read_text()}\nkobs_artifacts = from_ini\nkobs_report = out/r.html\n")
        inner(source, failed=1)
        assert list((inner.pytester.path / "from_ini").glob("*/index.html"))
        assert (inner.pytester.path / "out" / "r.html").exists()
        monkeypatch.setenv("KOBS_PYTEST_ARTIFACTS", "from_environment")
        inner(source, "--kobs-artifacts=from_line", failed=1)
        assert list((inner.pytester.path / "from_line").glob("*/index.html"))
        assert not (inner.pytester.path / "from_environment").exists()
        inner(source, failed=1)
        assert list((inner.pytester.path / "from_environment").glob("*/index.html"))
        inner(source, "--no-kobs", "--kobs-artifacts=never", failed=1)
        assert not (inner.pytester.path / "never").exists()

    def test_no_session_is_kept_for_them(self, inner, clean_environment):
        inner("def test_it(): assert False", "--kobs-artifacts=left", failed=1)
        assert not (clean_environment / "kobs").exists()

    def test_a_place_that_cannot_be_written_is_refused(self, inner):
        (inner.pytester.path / "file").write_text("")
        result = inner("def test_it(): pass", "--kobs-artifacts=file")
        result.stderr.fnmatch_lines(
            ["*--kobs-artifacts=*/file: the folder cannot be made: File exists; give one that can*"]
        )
        result = inner("def test_it(): pass", "--kobs-report=.")
        result.stderr.fnmatch_lines(["*--kobs-report=*: this is a folder; give a file's name"])

    def test_what_cannot_be_written_later_is_told_and_fails_nothing(self, inner):
        inner.pytester.makeconftest(
            """
            import shutil
            def pytest_collection_finish():
                shutil.rmtree("left")
                open("left", "w").close()
            """
        )
        result = inner("def test_it(): assert False", "--kobs-artifacts=left", failed=1)
        assert "kobs: no artifacts of " in inner.told(result)
        assert "Not a directory" in inner.told(result)


GITHUB = (
    "::error file=test_github.py,line=3,title=failed%3A test_github.py%3A%3Atest_it[a%2Cb]::"
    "AssertionError: 50%25%0Aassert 'a,b' == ''%0A  + a,b"
)


class TestServices:
    def test_github(self, inner, monkeypatch):
        summary = inner.pytester.path / "summary.md"
        summary.write_text("# before\n")
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("GITHUB_WORKSPACE", str(inner.pytester.path))
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        inner.pytester.makepyfile(
            test_github="""
            import pytest
            @pytest.mark.parametrize("x", ["a,b"])
            def test_it(x): assert x == "", "50%"
            def test_ok(): pass
            """
        )
        result = inner.pytester.runpytest_inprocess(
            "-pno:cacheprovider", "-pno:hypothesispytest", "--kobs-artifacts=left"
        )
        (line,) = [line for line in result.outlines if line.startswith("::")]
        (folder,) = (inner.pytester.path / "left").iterdir()
        assert line.startswith(f"{GITHUB}%0Akobs: left/{folder.name}/index.html%0Atrace ")
        told = summary.read_text()
        assert told.startswith("# before\n### kobs: 1 of 2 tests did not pass\n")
        assert "| failed | test\\_github.py::test\\_it\\[a,b\\] | AssertionError: 50%" in told
        assert f"| left/{folder.name}/index.html |".replace("_", "\\_") in told

    def test_gitlab(self, inner, monkeypatch):
        monkeypatch.setenv("GITLAB_CI", "true")
        monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/shop/-/jobs/7")
        monkeypatch.setenv("CI_PROJECT_DIR", str(inner.pytester.path))
        inner.pytester.makepyfile(test_gitlab="def test_it(): assert 1 == 2\ndef test_ok(): pass")
        inner.pytester.runpytest_inprocess(
            "-pno:cacheprovider", "-pno:hypothesispytest", "--kobs-artifacts=left"
        )
        left = inner.pytester.path / "left"
        (folder,) = (one for one in left.iterdir() if one.is_dir())
        assert json.loads((left / "gl-annotations.json").read_text()) == {
            "kobs": [
                {
                    "external_link": {
                        "label": "failed: test_gitlab.py::test_it",
                        "url": "https://gitlab.example/shop/-/jobs/7/artifacts/file/left/"
                        f"{folder.name}/index.html",
                    }
                }
            ]
        }
        (finding,) = json.loads((left / "gl-code-quality.json").read_text())
        assert finding["location"] == {"path": "test_gitlab.py", "lines": {"begin": 1}}
        assert finding["severity"] == "major"
        assert finding["description"].startswith("test_gitlab.py::test_it: assert 1 == 2\nkobs: ")

    def test_elsewhere_nothing_is_told_to_them(self, inner):
        result = inner("def test_it(): assert False", "--kobs-artifacts=left", failed=1)
        assert "::error" not in inner.told(result)
        assert not list((inner.pytester.path / "left").glob("gl-*"))


class TestAWorkerThatDies:
    def test_its_test_has_artifacts_too(self, inner):
        """The controller writes them, from what the worker recorded."""
        inner(
            """
            import os, subprocess, sys
            import kobs as k, pytest
            @pytest.fixture(scope="module")
            def wide(): k.global_collector().emit(k.MessageSent("wide", 1))
            def test_before(): open("before", "w").close()
            def test_dies(wide, kobs):
                with kobs.capture():
                    open("mine", "w").close()
                subprocess.run([sys.executable, "-c", "open('childs', 'w').close()"])
                with k.span_operation("doomed"): os._exit(3)
            def test_ok(): pass
            """,
            "-n1", "--kobs-report=run.html", "--kobs-artifacts=left", "--junitxml=junit.xml",
            passed=2, failed=1,
        )  # fmt: skip
        left = folders(inner.pytester.path / "left")
        (folder,) = left.values()
        properties = {
            one.get("name"): one.get("value")
            for one in xml.parse(inner.pytester.path / "junit.xml").iter("property")
        }
        assert properties["kobs.artifacts.page"] == f"left/{folder.name}/index.html"
        assert re.fullmatch(r"[0-9a-f]{32}", properties["kobs.trace_id"])
        shown = page(folder / "index.html")
        assert "crashedtest_its_test" in shown.text.replace(" ", "")
        assert "failed incall" in shown.text
        assert "exit code 3, in call" in shown.text
        assert "in flight when it ended" in shown.text
        assert {lane["command"][:10] for lane in shown.data["lanes"]} > {"pytest gw0"}
        columns, texts = shown.data["columns"], shown.data["texts"]
        names = [texts[index] for index in columns["name"]]
        assert {"mine", "childs", "doomed"} <= {name.rpartition("/")[2] for name in names}
        assert "before" not in names
        assert columns["number"][names.index("wide")] == 0  # nobody's: it has no number
        assert texts[columns["phase"][names.index("wide")]] == "?"
        mine = next(index for index, name in enumerate(names) if name.endswith("mine"))
        for index in (mine, names.index("doomed")):
            assert texts[columns["phase"][index]] == "call"
        events = list(read_jsonl((folder / "events.jsonl").read_text().splitlines()))
        assert len(events) == len(names)
        trace = schema.Trace()
        trace.ParseFromString((folder / "trace.pftrace").read_bytes())
        assert any(packet.HasField("track_event") for packet in trace.packet)

        shown = page(inner.pytester.path / "run.html")
        assert "1 of 3 tests did not pass" in shown.text
        assert "crashed" in rows(shown, "Not passed", "Slowest operations")
        assert "unknown" in rows(shown, "Not passed", "Slowest operations")  # how long it took
        assert any(link.startswith("left/") for link in shown.links)
        assert "nothing is known but the outcome" not in shown.text
        assert "test_dies" in rows(shown, "Busiest tests", "Anomalies")
