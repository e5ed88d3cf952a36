"""Runs a test that fails, and takes apart what it said."""

STORY = """\
from kobs import PipeWritten, PipeRead, ProcessCreated, ShmWritten, FileOpened
from kobs.pattern import between, var

def story(kobs):
    emit = kobs.collector.emit
    made = emit(ProcessCreated("worker", 5), pid=101)
    emit(PipeWritten("jobs", 10), pid=101, parent=made, link=77)
    got = emit(PipeRead("jobs", 10), pid=102, link=77)
    emit(ShmWritten("result", 64), pid=102, parent=got)
    emit(ProcessCreated("other", 1), pid=103)
    emit(ShmWritten("lonely", 8), pid=103)

"""


class Failing:
    """What a test with some lines says when it fails: (the traceback, the section)."""

    def __init__(self, inner):
        self._inner = inner

    def __call__(self, *lines, how="def"):
        """`how` is what defines the test."""
        body = "".join(f"    {line}\n" for line in lines)
        mark = "" if how == "def" else "import pytest\n@pytest.mark.asyncio\n"
        result = self._inner(
            f"{STORY}{mark}{how} test_it(kobs):\n    story(kobs)\n{body}", failed=1
        )
        for line in result.outlines:  # none of ours is wider than a terminal
            others = line.startswith((">", "asyncio:", "rootdir:", "plugins:"))
            assert len(line) <= 80 or others, line
        text = self._inner.told(result)
        start = text.index(">  ")
        middle = text.index("- Captured kobs call")
        end = text.index("= short test summary")
        trace = text[start : text.rindex("\n", start, middle)]
        section = text[text.index("\n", middle) + 1 : text.rindex("\n", middle, end)]
        assert "kobs_pytest" not in trace
        assert "pattern/" not in trace
        return [line.removeprefix("E   ") for line in trace.splitlines()[1:-2]], section
