"""The watched program cannot tell: each probe prints the same bare and under `kobs run`."""

import re
import sys
from collections.abc import Callable

import pytest

PROBES = {
    "environment": "import os; print(sorted(os.environ.items()), sorted(os.environb))",
    "environment of a child": """
        import subprocess, sys
        code = "import os; print(sorted(os.environ.items()))"
        subprocess.run([sys.executable, "-c", code], check=True)
        subprocess.run([sys.executable, "-c", code], check=True, env={"LANG": "C.UTF-8"})
        """,
    "environment of a child of a shell": """
        import os, sys
        os.environ["ADDED"] = "1"
        sys.stdout.flush()
        os.system(f"{sys.executable} -c 'import os; print(sorted(os.environ.items()))'")
        """,
    "environment changed for a child": """
        import os, subprocess, sys
        code = "import os; print(sorted(os.environ.items()))"
        def change(): os.putenv("FRUIT", "apple")
        subprocess.run([sys.executable, "-c", code], check=True, preexec_fn=change)
        os.putenv("FRUIT", "pear")
        subprocess.run([sys.executable, "-c", code], check=True)
        """,
    "environment after exec": """
        import os, sys
        code = "import os, sys; print(sorted(os.environ.items()), sys.argv)"
        os.execv(sys.executable, [sys.executable, "-c", code, "x"])
        """,
    "path": "import sys; print(sys.path, sys.path_hooks, sorted(sys.path_importer_cache))",
    "finders": "import sys; print(sys.meta_path)",
    "arguments": "import sys; print(sys.argv, sys.orig_argv, sys.executable, sys.prefix)",
    "flags": "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)",
    "descriptors": "import os; print(os.listdir('/proc/self/fd'))",
    "descriptors of a child": """
        import subprocess, sys
        code = "import os; print(os.listdir('/proc/self/fd'))"
        subprocess.run([sys.executable, "-c", code], check=True, close_fds=False)
        """,
    "threads": "import threading; print(threading.enumerate(), threading.active_count())",
    "tasks of the kernel": "import os; print(len(os.listdir('/proc/self/task')))",
    "main module": """
        import sys
        main = sys.modules["__main__"]
        print(main.__file__, main.__spec__, main.__doc__, main.__loader__.__class__, __name__)
        print(sorted(k for k in vars(main)))
        """,
    "no sitecustomize": """
        import sys
        print([name for name in sys.modules if "customize" in name])
        """,
    "warnings": """
        import sys, warnings
        print(warnings.filters, sorted(globals()))
        def f(): warnings.warn("deep", stacklevel=2)
        f()
        open("program.py")
        """,
    "warning of a fork beside threads": """
        import os, threading
        go = threading.Event()
        thread = threading.Thread(target=go.wait); thread.start()
        pid = os.fork()
        if pid == 0: os._exit(3)
        print(os.waitpid(pid, 0)[1]); go.set(); thread.join()
        """,
    "warning of a fork that is an error": """
        import os, threading, warnings
        warnings.simplefilter("error")
        go = threading.Event()
        thread = threading.Thread(target=go.wait, daemon=True); thread.start()
        pid = os.fork()
        if pid == 0: os._exit(3)
        print(os.waitpid(pid, 0)[1]); go.set()
        """,
    "warnings of what is patched": """
        import queue, subprocess, threading
        subprocess.Popen(["true"])
        threading.Thread(target=print).setDaemon(True)
        """,
    "signals": """
        import signal
        print([signal.getsignal(s) for s in range(1, 32)], signal.pthread_sigmask(0, []))
        print(signal.getitimer(signal.ITIMER_REAL))
        """,
    "process group": """
        import os
        print(os.getpgrp() == os.getpgid(os.getppid()), os.getsid(0) == os.getsid(os.getppid()))
        print(os.getcwd(), os.umask(0))
        """,
    "standard streams": """
        import sys
        for stream in sys.stdin, sys.stdout, sys.stderr:
            print(stream.fileno(), stream.isatty(), stream.encoding, stream.errors)
        print(sys.stdin.read())
        """,
    "open is open": """
        import builtins, io, _io, copy, inspect, pickle, types
        print(open, open is io.open is _io.open, open.__module__, open.__qualname__, open.__self__)
        print(isinstance(open, types.BuiltinFunctionType), inspect.signature(open))
        print(pickle.loads(pickle.dumps(open)) is open, copy.deepcopy(open) is open)
        print(pickle.dumps(open), inspect.isbuiltin(open), callable(open), len(open.__doc__))
        class Opener:
            open = open
        print(len(Opener().open("program.py").read()) > 10)
        """,
    "functions of os": """
        import os, posix, pickle, shutil
        print(os.unlink, os.unlink is posix.unlink, os.unlink in os.supports_dir_fd)
        print(pickle.loads(pickle.dumps(os.rename)) is os.rename, hash(os.rename) != 0)
        print(shutil.rmtree.avoids_symlink_attacks, os.open in os.supports_dir_fd)
        print(sorted(vars(os)) == sorted(set(dir(os))), os.fork.__name__, os.fork.__doc__)
        """,
    "patched methods": """
        import inspect, queue, subprocess, threading
        for function in queue.Queue.put, queue.Queue.get, threading.Thread.start:
            print(function.__qualname__, function.__module__, inspect.signature(function))
            print(inspect.getsource(function)[:40], function.__doc__)
        print(sorted(vars(queue.Queue)), sorted(vars(subprocess.Popen)))
        """,
    "depth of the stack": """
        import sys
        def depth(n=0):
            frame = sys._getframe()
            while frame: frame, n = frame.f_back, n + 1
            return n
        print(depth(), sys.getrecursionlimit())
        """,
    "context variables": "import contextvars; print(list(contextvars.copy_context().items()))",
    "collector of garbage": "import gc; print(gc.callbacks, gc.get_threshold(), gc.isenabled())",
    "hooks": """
        import sys, threading, builtins
        print(sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile())
        print(threading.excepthook, sys.unraisablehook, builtins.__import__)
        """,
    "logging": "import logging; print(logging.root.handlers, logging.root.level)",
    "random numbers": "import random; random.seed(1); print(random.random())",
    "exit code": "import sys; sys.exit(42)",
    "exit with words": "import sys; sys.exit('words')",
    "hard exit": "import os; os._exit(5)",
    "exit in a thread's shadow": """
        import atexit, threading, time
        atexit.register(print, "last")
        threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
        print("main")
        """,
    "killed by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "abort": """
        import os, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
        """,
    "syntax error": "def broken(:\n",
}

ERRORS = {
    "open": "open('no such file')",
    "open in a function": "def f(path):\n    return open(path)\nf('no such file')",
    "os.rename": "import os; os.rename('a', 'b')",
    "os.open": "import os; os.open('no such file', os.O_RDONLY)",
    "wrong arguments": "open()",
    "wrong arguments of a fork": "import os; os.fork(1)",
    "program that is not there": "import subprocess; subprocess.run(['no such program'])",
    "program that fails": """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)
        """,
    "empty queue": "import queue; queue.Queue().get_nowait()",
    "queue that stays empty": "import queue; queue.Queue().get(timeout=0.01)",
    "full queue": """
        import queue
        q = queue.Queue(1)
        q.put(1)
        q.put(2, timeout=0.01)
        """,
    "in a thread": """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="t")
        thread.start(); thread.join()
        thread.start()
        """,
    "in an executor": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: 1 / 0).result()
        """,
    "in a task": """
        import asyncio
        async def fails():
            await asyncio.sleep(0)
            raise ValueError("wrong")
        async def main():
            await asyncio.create_task(fails())
        asyncio.run(main())
        """,
    "in a task nobody waits for": """
        import asyncio, gc
        async def fails(): raise ValueError("wrong")
        async def main():
            asyncio.get_running_loop().create_task(fails(), name="lost")
            await asyncio.sleep(0.01)
            gc.collect()
        asyncio.run(main())
        """,
    "in a callback": """
        import asyncio
        async def main():
            asyncio.get_running_loop().call_soon(open, "no such file")
            await asyncio.sleep(0.01)
        asyncio.run(main())
        """,
    "asyncio queue": """
        import asyncio
        async def main(): asyncio.Queue().get_nowait()
        asyncio.run(main())
        """,
    "in another process": """
        import multiprocessing
        def fails(): open("no such file")
        if __name__ == "__main__":
            process = multiprocessing.Process(target=fails, name="p")
            process.start(); process.join(); print(process.exitcode)
        """,
    "import": "import no_such_module",
    "import of a package's part": "import json.no_such_part",
    "import by name": "import importlib; importlib.import_module('no_such_module')",
    "import of broken code": """
        import sys
        open("broken_module.py", "w").write("def f():\\n    1 / 0\\nf()\\n")
        sys.path.insert(0, ".")
        import broken_module
        """,
    "during handling": """
        try:
            open("no such file")
        except OSError as error:
            raise RuntimeError("wrapped") from error
        """,
    "group": """
        import os
        errors = []
        for name in "ab":
            try: os.unlink(name)
            except OSError as error: errors.append(error)
        raise ExceptionGroup("several", errors)
        """,
}


def _plain(text: str) -> str:
    """Without what differs from run to run: addresses, thread and process numbers."""
    text = re.sub(r"0x[0-9a-f]+|pid=\d+", "", text)
    return re.sub(r"(started(?: daemon)?|Thread-\d+ \(.*?\),) \d+|\b\d{15}\b", r"\1", text)


def _assert_same(both: Callable[..., tuple], source: str, **given: object) -> None:
    bare, watched = both(source, "an argument", **given)
    assert _plain(watched.out) == _plain(bare.out)
    assert _plain(watched.err) == _plain(bare.err)
    assert watched.code == bare.code


@pytest.mark.parametrize("source", PROBES.values(), ids=PROBES.keys())
def test_a_program_sees_no_difference(both: Callable[..., tuple], source: str) -> None:
    _assert_same(both, source, stdin="given")


@pytest.mark.parametrize("source", ERRORS.values(), ids=ERRORS.keys())
def test_an_uncaught_error_prints_the_same(both: Callable[..., tuple], source: str) -> None:
    _assert_same(both, source)


GARBAGE = """
    import asyncio, gc, os, queue, socket, subprocess, threading, time

    def files():
        with open("file", "w") as file: file.write("x")
        os.unlink("file")
        try: os.stat("file")
        except OSError: pass

    def children():
        subprocess.run(["true"])
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)

    def threads():
        items = queue.Queue()
        thread = threading.Thread(target=items.get)
        thread.start(); items.put(1); thread.join()

    def sockets():
        one, other = socket.socketpair()
        with one, other: one.send(b"x"); other.recv(1)

    def tasks():
        async def main(): await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(9)))
        asyncio.run(main())

    def work():
        until = time.process_time() + 0.6
        while time.process_time() < until: os.stat(".")

    gc.disable()
    for _ in range(2):
        for does in files, children, threads, sockets, tasks, work:
            gc.collect()
            does()
            print(does.__name__, gc.collect())
    """


@pytest.mark.parametrize("core", [pytest.param("c", marks=pytest.mark.c_core), "python"])
def test_the_garbage_collector_finds_what_it_finds_without(
    both: Callable[..., tuple], core: str
) -> None:
    """More than a second of CPU time: by then the overhead is measured."""
    _assert_same(both, GARBAGE, env={"KOBS_CORE": core})


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONPATH": "/nowhere:/else"},
        {"PYTHONPATH": ""},
        {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
        {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"},
        {"KOBS": "not ours", "KERNEL_SAMPLING_RATE": "50"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_the_environment_is_the_one_that_was_given(
    both: Callable[..., tuple], env: dict[str, str]
) -> None:
    code = "import os, sys; print(sorted(os.environ.items()), sys.path, sys.flags)"
    _assert_same(
        both, f"import subprocess, sys; {code}; sys.stdout.flush()\n"
        f"subprocess.run([sys.executable, '-c', {code!r}])\n", env=env,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["sitecustomize", "usercustomize"])
@pytest.mark.parametrize(
    "body",
    [
        "import sys; print('mine', __name__, sys.modules[__name__].__file__ == __file__)",
        "raise RuntimeError('mine is broken')",
        "import no_such_module",
        "raise SystemExit(4)",
    ],
    ids=["works", "raises", "imports what is not there", "exits"],
)
def test_a_sitecustomize_of_the_programs_own_runs(runner, kind: str, body: str) -> None:
    folder = runner.folder / "site"
    folder.mkdir()
    (folder / f"{kind}.py").write_text(body + "\n")
    script = str(runner.write("import sys; print([n for n in sys.modules if 'customize' in n])"))
    env = {"PYTHONPATH": str(folder)}
    bare = runner.bare(sys.executable, script, env=env)
    watched = runner.kobs(script, env=env, isolated=True)
    assert watched[:2] == bare[:2]
    # Python's own message for a start that failed lists frames of importlib, and extension modules,
    # ours among them.
    ours = "\nExtension modules: kobs._core._native (total: 1)\n"
    told = _plain(watched.err).removesuffix(ours)
    assert told.splitlines()[-1:] == _plain(bare.err).splitlines()[-1:]
    assert body.startswith("raise SystemExit") or watched.err == bare.err


def test_a_module_run_by_name_sees_no_difference(runner) -> None:
    runner.write("import sys; print(sys.argv, sys.path, __spec__.name)", "module.py")
    bare = runner.bare(sys.executable, "-m", "module", "-x", "--only")
    watched = runner.kobs("-m", "module", "-x", "--only")
    assert watched[:3] == bare[:3]
    assert watched.code == 0


def test_a_program_on_stdin_sees_no_difference(runner) -> None:
    source = "import sys\nprint(sys.path, __name__, sys.argv)\n1 / 0\n"
    bare = runner.bare(sys.executable, "-", "a", stdin=source)
    watched = runner.kobs("--", sys.executable, "-", "a", stdin=source)
    assert watched[:3] == bare[:3]
