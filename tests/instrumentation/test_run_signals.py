"""What a shell, a terminal or another process sees of a program is the same under `kobs run`."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_S = 30

PROBES = {
    "closes all descriptors": """
        import os
        os.closerange(3, 1000)
        with open("file", "w") as file: file.write("x")
        print(os.listdir("."), open("file").read())
        """,
    "closes all descriptors and forks": """
        import os
        os.closerange(3, 1000)
        if os.fork() == 0:
            open("file", "w").close()
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
    "closes the standard streams": """
        import os, sys
        sys.stdout.flush()
        os.closerange(0, 1000)
        descriptor = os.open("file", os.O_CREAT | os.O_WRONLY)
        assert descriptor == 0, descriptor
        os._exit(descriptor + 5)
        """,
    "daemonises": """
        import os, sys, time
        read, write = os.pipe()
        if os.fork():
            os.close(write)
            print(os.read(read, 99).decode())
            sys.exit(4)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.closerange(0, 3)
        for _ in range(3): os.open(os.devnull, os.O_RDWR)
        open("/dev/null").close()
        os.write(write, f"{os.getpgrp() != os.getpid()} {os.getcwd()}".encode())
        os._exit(0)
        """,
    "changes its folder": """
        import os, subprocess, sys
        os.mkdir("below")
        os.chdir("below")
        open("file", "w").close()
        print(os.listdir("."), os.path.basename(os.getcwd()))
        subprocess.run([sys.executable, "-c", "import os; print(os.listdir('.'))"])
        """,
    "deletes its folder": """
        import os, subprocess, sys
        os.mkdir("below"); os.chdir("below"); os.rmdir("../below")
        open("/dev/null").close()
        try: open("file", "w")
        except OSError as error: print(error)
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True)
        print(done.stdout, done.returncode)
        try: os.getcwd()
        except OSError as error: print(error)
        """,
    "deletes the folder for temporary files": """
        import os, shutil, tempfile
        shutil.rmtree(os.environ["TMPDIR"])
        for number in range(10): open("/dev/null").close()
        if os.fork() == 0:
            open("/dev/null").close(); os._exit(0)
        os.wait()
        print(os.path.exists(os.environ["TMPDIR"]))
        print(os.path.basename(tempfile.gettempdir()) != "tmpdir")
        """,
    "clears its environment": """
        import os, subprocess, sys
        os.environ.clear()
        print(dict(os.environ), dict(os.environb), os.getenv("PATH"))
        done = subprocess.run([sys.executable, "-c", "import os; print(sorted(os.environ))"])
        print(done.returncode)
        os.environ["ONE"] = "1"
        sys.stdout.flush()
        os.system("echo $ONE $TWO")
        """,
    "replaces its environment": """
        import os, subprocess, sys
        os.environ = {"A": "b"}
        print(os.environ)
        open("file", "w").close()
        print(subprocess.run([sys.executable, "-c", "print(1)"]).returncode)
        """,
    "has few descriptors": """
        import os, resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        try:
            files = [open("/dev/null") for _ in range(9)]
        except OSError as error: print(error)
        with open("/dev/null") as file: print(file.fileno())
        if os.fork() == 0:
            with open("/dev/null") as file: print(file.fileno(), flush=True)
            os._exit(2)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
    "has no descriptor left": """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try: open("/dev/null")
        except OSError as error: print(error)
        pid = os.fork()
        if pid == 0: os._exit(6)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    "has little memory": """
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20),) * 2)
        try: bytearray(64 << 20)
        except MemoryError: print("too much")
        for _ in range(100): open("/dev/null").close()
        """,
    "may write small files only": """
        import os, resource, signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        for _ in range(50): open("/dev/null").close()
        try:
            with open("file", "wb", buffering=0) as file:
                print(file.write(bytes(100)), file.write(b"x"))
        except OSError as error: print(error)
        if os.fork() == 0:
            open("/dev/null").close(); os._exit(3)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
    "forks in a thread": """
        import os, threading
        def work():
            pid = os.fork()
            if pid == 0:
                open("file", "w").close()
                print(threading.active_count(), threading.current_thread().name, flush=True)
                os._exit(9)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        thread = threading.Thread(target=work, name="worker")
        thread.start(); thread.join()
        """,
    "forks while another thread records": """
        import os, threading
        stop = threading.Event()
        def flood():
            while not stop.is_set(): open("/dev/null").close()
        threads = [threading.Thread(target=flood) for _ in range(3)]
        for thread in threads: thread.start()
        codes = []
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                open("/dev/null").close()
                os._exit(number)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
        for thread in threads: thread.join()
        print(codes)
        """,
    "leaves a child behind": """
        import os, subprocess, sys
        child = "import time; open('up', 'w').close(); time.sleep(0.5)"
        out = subprocess.DEVNULL
        subprocess.Popen([sys.executable, "-c", child], stdout=out, stderr=out)
        os._exit(3)
        """,
    "gives away its rights": """
        import os
        if os.getuid() == 0:
            os.setgid(65534); os.setuid(65534)
        open("/dev/null").close()
        if os.fork() == 0:
            open("/dev/null").close(); os._exit(1)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
    "forks within forks": """
        import os
        for depth in range(5):
            if os.fork():
                print(depth, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
                os._exit(depth)
            open("/dev/null").close()
        """,
    "blocks signals": """
        import signal
        print(signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)))
        print(signal.pthread_sigmask(signal.SIG_SETMASK, []) == signal.valid_signals() - {9, 19})
        """,
    "waits for any child": """
        import os
        try: os.wait()
        except ChildProcessError as error: print(error)
        """,
    "has no streams": """
        import subprocess, sys
        code = "import os, sys; os._exit(10 + (sys.stdin is None) + (sys.stdout is None) * 2)"
        for closed in ("<&-", ">&-", "<&- >&- 2>&-"):
            words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
            print(subprocess.call(words))
        """,
    "imports nothing again": """
        import importlib, subprocess, threading, queue, os
        for module in subprocess, threading, queue: importlib.reload(module)
        q = queue.Queue(); q.put(1); print(q.get())
        print(subprocess.run(["true"]).returncode)
        """,
}


class Watched:
    """Runs a command in a folder of its own, bare or under `kobs run`."""

    def __init__(self, folder: Path, watched: bool) -> None:
        self.folder = folder / ("watched" if watched else "bare")
        self.work = self.folder / "work"
        self.work.mkdir(parents=True)
        (self.folder / "tmpdir").mkdir()
        self.prefix = (
            [sys.executable, "-m", "kobs", "run", "-q", "-o", str(self.folder / "session-1"), "--"]
            if watched
            else []
        )

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("KOBS", "PYTEST", "COV"))}
        return env | {"TMPDIR": str(self.folder / "tmpdir")}

    def run(self, *command: str | bytes, **options: object) -> tuple[int, bytes, bytes]:
        given = {"capture_output": True, "stdin": subprocess.DEVNULL} | options
        if "input" in given:
            del given["stdin"]
        done = subprocess.run(
            [*self.prefix, *command], cwd=self.work, env=self.environment(), timeout=WAIT_S,
            **given,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Watched, Watched]:
    """The same place bare and watched."""
    return Watched(tmp_path, False), Watched(tmp_path, True)


Pair = tuple[Watched, Watched]


@pytest.mark.parametrize("source", PROBES.values(), ids=PROBES.keys())
def test_a_program_that_does_odd_things_does_the_same(pair: Pair, source: str) -> None:
    bare, watched = (side.run(sys.executable, "-c", textwrap.dedent(source)) for side in pair)
    assert _without_pid(watched) == _without_pid(bare)
    assert b"Traceback" not in bare[2], "the probe itself is wrong"


def _without_pid(done: tuple[int, bytes, bytes]) -> tuple[int, bytes, bytes]:
    """From Python 3.12 on, a warning of `os.fork` says which process it is of."""
    code, out, err = done
    return code, out, re.sub(rb"(?<=: This process \(pid=)\d+(?=\) is multi-threaded)", b"", err)


def test_a_program_that_deletes_its_session_goes_on(pair: Pair) -> None:
    source = """
        import glob, os, shutil, subprocess, sys
        for folder in glob.glob("../session-*"): shutil.rmtree(folder)
        for _ in range(10): open("/dev/null").close()
        if os.fork() == 0:
            open("/dev/null").close(); os._exit(4)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        sys.exit(subprocess.call([sys.executable, "-c", "raise SystemExit(5)"]))
        """
    bare, watched = (side.run(sys.executable, "-c", textwrap.dedent(source)) for side in pair)
    assert watched[:2] == bare[:2] == (5, b"4\n")
    (line,) = watched[2].splitlines()
    assert line.startswith(b"kobs run: ")
    assert line.endswith(b"session-1: cannot be written: No such file or directory")


def test_ten_megabytes_go_through_both_ways(pair: Pair) -> None:
    data = os.urandom(10 << 20)
    copy = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
    for command in (["cat"], [sys.executable, "-c", copy]):
        code, out, err = pair[1].run(*command, input=data)
        assert (code, err) == (0, b"")
        assert out == data, command
        shutil.rmtree(pair[1].folder / "session-1")


ENDS = """
    import os, resource, shutil, sys
    from kobs.cli.run import run
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for end in sys.argv[1:]:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(run(["-q", "-o", "session", "--", "sh", "-c", end]))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        shutil.rmtree("session")
    """


def test_exit_codes_and_each_deadly_signal_are_passed_on(pair: Pair) -> None:
    bare = pair[0]
    harmless = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    stopping = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    of_glibc = {32, 33}  # posix_spawn has them ignored
    by_nohup = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    deadly = sorted({*range(1, 32), 34, 64} - harmless - stopping - of_glibc - by_nohup)
    codes = [*range(4), *range(124, 132), 137, 143, 160, *range(252, 256)]
    ends = [*(f"exit {code}" for code in codes), *(f"kill -{n} $$" for n in deadly)]
    code, out, err = bare.run(sys.executable, "-c", textwrap.dedent(ENDS), *ends)
    assert (code, err) == (0, b"")
    assert [int(line) for line in out.split()] == [*codes, *(-int(n) for n in deadly)]


WAYS = {
    "a package": ["-m", "package", "--only", "x"],
    "a module of a package": ["-m", "package.part"],
    "a script in a folder with spaces": ["a folder/a script.py", "a b", ""],
    "a script with a name that is no UTF-8": [b"caf\xe9.py", b"\xff\xfe"],
    "a script that begins with a dash": ["./-m.py", "-q"],
    "code": ["-c", "import sys; print(sys.argv, __name__)", "-o", "x"],
    "a script on stdin": ["-", "a"],
    "nothing but stdin": [],
    "an option of Python": ["-X", "utf8", "-W", "error", "a folder/a script.py"],
}


BY_PYTHON = ([], ["-"], ["-c"], ["-X"])
"""Where the command line begins so, only Python can be asked to run it."""


@pytest.mark.parametrize(
    ("words", "by_name"),
    [
        pytest.param(words, by_name, id=f"{way}, by {'kobs' if by_name else 'python'}")
        for way, words in WAYS.items()
        for by_name in (False, True)
        if not (by_name and words[:1] in BY_PYTHON)
    ],
)
def test_every_way_to_name_a_program(pair: Pair, words: list[str | bytes], by_name: bool) -> None:
    source = b"import os, sys; print(sys.argv, __name__, os.path.basename(__file__), sys.path[0])\n"
    plain = b"import sys; print(sys.argv, __name__, sys.stdin.read())\n"
    done = []
    for side in pair:
        for name in (b"package/__main__.py", b"package/part.py", b"a folder/a script.py",
                     b"caf\xe9.py", b"-m.py", b"package/__init__.py"):  # fmt: skip
            path = os.path.join(os.fsencode(side.work), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"" if b"__init__" in name else source)
        command: list[str | bytes] = [sys.executable, *words]
        if by_name and side.prefix:
            side.prefix.pop()  # the --
            command = words
        done.append(side.run(*command, input=plain))
    bare, watched = done
    folders = [os.fsencode(side.folder) for side in pair]
    assert watched[1].replace(folders[1], b"") == bare[1].replace(folders[0], b"")
    assert watched[::2] == bare[::2] == (0, b"")


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, *command: str, folder: Path, env: dict[str, str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], list(command), env)
        self.shown = ""

    def see(self, words: str) -> str:
        """Wait for words; what was shown up to their end."""
        end = time.monotonic() + WAIT_S
        while words not in self.shown:
            left = end - time.monotonic()
            assert left > 0, f"{words!r} did not come: {self.shown!r}"
            if select.select([self.descriptor], [], [], left)[0]:
                self.shown += os.read(self.descriptor, 4096).decode()
        seen, _, self.shown = self.shown.partition(words)
        return seen + words

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())


@pytest.fixture
def shell(pair: Pair) -> Iterator[Terminal]:
    """A shell with job control on a terminal; `$K` is how to record."""
    watched = pair[1]
    env = watched.environment() | {"K": " ".join(watched.prefix), "PS1": "@", "TERM": "dumb"}
    terminal = Terminal("bash", "--norc", "--noprofile", "-i", folder=watched.work, env=env)
    terminal.see("@")
    yield terminal
    os.close(terminal.descriptor)
    os.kill(terminal.pid, signal.SIGKILL)
    os.waitpid(terminal.pid, 0)


TALKS = """
import os, signal, sys
seen = b""
came, comes = os.pipe()  # each signal has its byte, where Python may make one call of two
os.set_blocking(came, False)
os.set_blocking(comes, False)
signal.set_wakeup_fd(comes)
for name in ("SIGINT", "SIGCONT", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda number, frame: None)
print("u" + "p", os.getpgrp() == os.tcgetpgrp(0), flush=True)
while True:
    line = sys.stdin.readline().strip()
    if line == "seen":
        try: seen += os.read(came, 99)
        except BlockingIOError: pass
        print("seen:", list(seen), flush=True)
    if line == "end": sys.exit(7)
"""


def test_job_control_of_a_shell_acts_on_the_program(shell: Terminal, pair: Pair) -> None:
    (pair[1].work / "talks.py").write_text(TALKS)
    shell.type(f"$K {sys.executable} talks.py\n")
    shell.see("up True")
    for _ in range(3):
        shell.type("\x1a")
        shell.see("Stopped")
        shell.see("@")
        shell.type("jobs\n")
        shell.see("talks.py")
        shell.see("@")
        shell.type("fg\n")
        shell.see("talks.py")
        shell.type("seen\n")
        shell.see("seen: [")
    assert shell.see("]") == "18, 18, 18]"
    shell.type("\x1a")
    shell.see("Stopped")
    shell.type("bg\n")  # it reads, so the terminal stops it again
    shell.see("@")
    shell.type("while jobs | grep -q Running; do sleep 0.05; done; jobs; echo se''ttled\n")
    assert "Stopped" in shell.see("settled")
    shell.see("@")
    shell.type("fg; echo co''de=$?\n")
    shell.type("seen\n")
    shell.see("seen: [")
    assert shell.see("]") == "18, 18, 18, 18, 18]"
    shell.type("end\n")
    shell.see("code=7")


def test_ctrl_c_reaches_the_program_once_and_the_shell_sees_its_death(
    shell: Terminal, pair: Pair
) -> None:
    (pair[1].work / "talks.py").write_text(TALKS)
    shell.type(f"$K {sys.executable} talks.py\n")
    shell.see("up True")
    shell.type("\x03")
    shell.type("seen\n")
    shell.see("seen: [2]")
    shell.type("end\n")
    shell.see("@")
    shutil.rmtree(pair[1].folder / "session-1")
    # Many short sleeps: before a long one Python may have seen no signal that has come already.
    waits = "print('u' + 'p', flush=True); import time; [time.sleep(0.05) for _ in range(1200)]"
    shell.type(f'for i in 1 2; do $K {sys.executable} -c "{waits}"; done; echo "n"ot reached\n')
    shell.see("up\r\n")
    shell.type("\x03")
    assert "not reached" not in shell.see("KeyboardInterrupt")
    assert "not reached" not in shell.see("@")
    shell.type("echo code=$?\n")
    shell.see("code=130")
