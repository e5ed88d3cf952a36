"""One tree over every way that Python starts processes, threads and tasks, with cause."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kobs
from kobs import (
    FileChanged,
    MessageReceived,
    MessageSent,
    ProcessCreated,
    ProcessStateChanged,
    ProcessTerminated,
    ResourceLeaked,
)

pytestmark = pytest.mark.shows("process")

PRELUDE = """
    import asyncio, multiprocessing, os, queue, subprocess, sys, threading, time
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    def touch(name):
        open(name, "w").close()
        return name

    def take(incoming, outgoing):
        outgoing.put(touch(incoming.get()))

    TOUCH = "import sys; open(sys.argv[1], 'w').close()"
    """


@pytest.fixture
def tree(runner) -> Callable[[str], "Tree"]:
    def record(body: str) -> Tree:
        lines = "\n".join("        " + line for line in body.strip("\n").splitlines())
        source = f"{PRELUDE}\n    if __name__ == '__main__':\n{lines}\n"
        return Tree(runner.script(source, name="program.py"))

    return record


class Tree:
    """The events of a recorded program, and what led to what."""

    def __init__(self, ran) -> None:
        self.ran = ran
        self.events = ran.events()
        self.by_id = {event.id: event for event in self.events}
        self.root_pid = min(self.events, key=lambda e: e.id).pid

    def of(self, *types: type) -> list[kobs.Event]:
        return [event for event in self.events if isinstance(event.payload, types)]

    def touched(self, name: str) -> kobs.Event:
        """The one event that tells of the file."""
        (found,) = [e for e in self.of(FileChanged) if Path(e.payload.path).name == name]
        return found

    def led_to(self, event: kobs.Event) -> list[kobs.Event]:
        """What caused an event, nearest first, over parents and links."""
        found = []
        seen = {event.id}
        waiting = [event]
        while waiting:
            event = waiting.pop(0)
            causes = [self.by_id[event.parent]] if event.parent in self.by_id else []
            if event.link:
                causes += [
                    other
                    for other in self.of(MessageSent, ProcessCreated, ProcessStateChanged)
                    if other.link == event.link
                    and getattr(other.payload, "to_state", "exec") == "exec"
                ]
            for cause in causes:
                if cause.id not in seen:
                    seen.add(cause.id)
                    found.append(cause)
                    waiting.append(cause)
        return found


STARTS = {
    "subprocess": "subprocess.run([sys.executable, '-c', TOUCH, 'made'], check=True)",
    "subprocess with an environment": """
subprocess.run([sys.executable, '-c', TOUCH, 'made'], check=True, env={})
""",
    "subprocess without closing descriptors": """
subprocess.run([sys.executable, '-c', TOUCH, 'made'], check=True, close_fds=False)
""",
    "subprocess with a function before": """
subprocess.run([sys.executable, '-c', TOUCH, 'made'], check=True, preexec_fn=os.getpid)
""",
    "shell": """
subprocess.run(f'{sys.executable} -c "{TOUCH}" made', shell=True, check=True)
""",
    "asyncio": """
async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, '-c', TOUCH, 'made')
    await process.wait()
asyncio.run(main())
""",
    "os.posix_spawn": """
pid = os.posix_spawn(sys.executable, [sys.executable, '-c', TOUCH, 'made'], os.environ)
os.waitpid(pid, 0)
""",
    "os.spawnv": "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', TOUCH, 'made'])",
    "os.fork": """
pid = os.fork()
if pid == 0:
    touch('made')
    os._exit(0)
os.waitpid(pid, 0)
""",
    "os.fork and exec": """
pid = os.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, '-c', TOUCH, 'made'])
os.wait()
""",
    "pty": """
import pty
pid, fd = pty.fork()
if pid == 0:
    touch('made')
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED)
""",
    "multiprocessing, fork": """
process = multiprocessing.get_context('fork').Process(target=touch, args=('made',))
process.start(); process.join()
""",
    "multiprocessing, spawn": """
process = multiprocessing.get_context('spawn').Process(target=touch, args=('made',))
process.start(); process.join()
""",
    "multiprocessing, forkserver": """
process = multiprocessing.get_context('forkserver').Process(target=touch, args=('made',))
process.start(); process.join()
""",
}


@pytest.mark.parametrize("body", STARTS.values(), ids=STARTS.keys())
def test_a_child_is_caused_by_what_started_it(tree, body: str) -> None:
    found = tree(body)
    made = found.touched("made")
    assert made.pid != found.ran.events()[0].tid
    causes = found.led_to(made)
    created = next(e for e in causes if isinstance(e.payload, ProcessCreated))
    begun = [e for e in causes if isinstance(e.payload, ProcessStateChanged)]
    assert created.link in {event.link for event in begun}
    ended = [e for e in found.of(ProcessTerminated) if e.parent == created.id]
    assert [(e.pid, e.payload.exit_code) for e in ended] == [(created.pid, 0)]
    if "shell" not in body:
        assert created.pid == made.pid


def test_a_child_of_os_system_is_caused_by_it_though_its_pid_is_not_known(tree) -> None:
    found = tree("""os.system(f'{sys.executable} -c "{TOUCH}" made')""")
    created = next(
        e for e in found.led_to(found.touched("made")) if isinstance(e.payload, ProcessCreated)
    )
    assert (created.pid, created.payload.name) == (0, "sh")


def test_exec_goes_on_in_the_same_process(tree) -> None:
    found = tree("os.execv(sys.executable, [sys.executable, '-c', TOUCH, 'made'])")
    states = [e.payload.to_state for e in found.of(ProcessStateChanged)]
    assert states == ["exec", "running"]
    exec_event, running = found.of(ProcessStateChanged)
    assert exec_event.link == running.link
    assert exec_event.pid == running.pid == found.touched("made").pid


def test_exec_ends_the_recording_of_the_program_before(tree) -> None:
    found = tree("os.execvp(sys.executable, [sys.executable, '-c', TOUCH, 'made'])")
    with kobs.open_recording(found.ran.session) as recording:
        assert [p.state for p in recording.processes] == ["exited", "exited"]


@pytest.mark.says("state changes")
def test_an_exec_that_fails_is_recorded_on(tree) -> None:
    found = tree("""
for program in ('no-such-program', 'data'):
    open('data', 'w').close(); os.chmod('data', 0o755)
    try: os.execvp(os.path.abspath(program), ['x'])
    except OSError as error: print(type(error).__name__)
touch('made')
""")
    assert found.ran.out.split() == ["FileNotFoundError", "OSError"]
    states = [e.payload.to_state for e in found.of(ProcessStateChanged)]
    assert states == ["exec", "running"]
    assert found.touched("made").pid == found.root_pid
    with kobs.open_recording(found.ran.session) as recording:
        assert [p.state for p in recording.processes] == ["exited", "exited"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("subprocess.run([sys.executable, '-c', 'raise SystemExit(3)'])", 3),
        ("subprocess.run([sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)'])", -9),
        ("p = subprocess.Popen(['sleep', '60']); p.terminate(); p.communicate()", -15),
        ("p = subprocess.Popen(['true'])\nwhile p.poll() is None: pass\np.poll(); p.wait()", 0),
        ("os.popen('exit 4').close()", 4),
        (
            "p = multiprocessing.get_context('fork').Process(target=sys.exit, args=(5,))\n"
            "p.start(); p.join(); p.exitcode; p.close()",
            5,
        ),
        (
            "p = multiprocessing.get_context('forkserver').Process(target=sys.exit, args=(6,))\n"
            "p.start(); p.join()",
            6,
        ),
    ],
)
@pytest.mark.says("exit codes and signals of children")
def test_an_end_is_told_once_with_its_code(tree, body: str, code: int) -> None:
    ended = tree(body).of(ProcessTerminated)
    assert [event.payload.exit_code for event in ended if event.payload.exit_code == code] == [code]
    assert len({event.pid for event in ended}) == len(ended)


JOINED = """
    multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True).start()
"""


@pytest.mark.parametrize("leave", [JOINED, "os._exit(0)"], ids=["exit", "_exit"])
@pytest.mark.says("zombies and orphans")
def test_children_that_are_left_are_zombies_and_orphans(tree, leave: str) -> None:
    found = tree(f"""
    ended = os.posix_spawn('/bin/true', ['true'], {{}})
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    waited = subprocess.run(['true'])
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    lives = os.posix_spawn('/bin/sleep', ['sleep', '60'], {{}}, file_actions=quiet)
    print(ended, lives, flush=True)
    {leave.strip()}
""")
    ended, lives = map(int, found.ran.out.split())
    os.kill(lives, signal.SIGKILL)
    left = {event.pid: event for event in found.of(ResourceLeaked)}
    assert {pid: event.payload for pid, event in left.items()} == {
        ended: ResourceLeaked("zombie", 1),
        lives: ResourceLeaked("orphan", 1),
    }
    created = {event.pid: event.id for event in found.of(ProcessCreated)}
    assert all(event.parent == created[pid] for pid, event in left.items())


MESSAGES = {
    "queue.Queue": """
incoming, outgoing = queue.Queue(), queue.Queue()
thread = threading.Thread(target=take, args=(incoming, outgoing))
thread.start(); incoming.put('made'); outgoing.get(); thread.join()
""",
    "asyncio.Queue": """
async def main():
    incoming, outgoing = asyncio.Queue(), asyncio.Queue()
    async def worker():
        await outgoing.put(touch(await incoming.get()))
    task = asyncio.create_task(worker())
    await incoming.put('made')
    await outgoing.get()
    await task
asyncio.run(main())
""",
    **{
        f"multiprocessing.{kind}, {method}": f"""
context = multiprocessing.get_context({method!r})
incoming, outgoing = context.{kind}(), context.{kind}()
process = context.Process(target=take, args=(incoming, outgoing))
process.start(); incoming.put('made'); outgoing.get(); process.join()
"""
        for kind in ("Queue", "SimpleQueue", "JoinableQueue")
        for method in ("fork", "spawn")
    },
    **{
        f"multiprocessing.Pipe, {duplex}": f"""
ours, theirs = multiprocessing.Pipe({duplex})
if not {duplex}: ours, theirs = theirs, ours
pid = os.fork()
if pid == 0:
    touch(theirs.recv())
    os._exit(0)
ours.send('made')
os.waitpid(pid, 0)
"""
        for duplex in (True, False)
    },
}


@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES.keys())
def test_what_is_done_with_a_message_is_caused_by_its_send(tree, body: str) -> None:
    found = tree(body)
    made = found.touched("made")
    received = found.by_id[made.parent]
    assert isinstance(received.payload, MessageReceived)
    (sent,) = [e for e in found.of(MessageSent) if e.link == received.link]
    assert sent.causality_id == received.causality_id == made.causality_id != 0
    assert sent.payload.queue_id == received.payload.queue_id
    assert sent.payload.size == received.payload.size
    assert 0 < received.payload.wait_time_us < 60e6
    assert sent.tid != received.tid or sent.pid != received.pid or "asyncio" in body


WORK = {
    "thread": "own = threading.Thread(target=touch, args=('made',)); own.start(); own.join()",
    "subclass of thread": """
class Own(threading.Thread):
    def run(self): touch('made')
own = Own(); own.start(); own.join()
""",
    "timer": "timer = threading.Timer(0, touch, ('made',))\ntimer.start()\ntimer.join()",
    "executor": "with ThreadPoolExecutor(1) as pool: pool.submit(touch, 'made').result()",
    "executor with old workers": """
pool = ThreadPoolExecutor(1)
SCOPE[1].run(pool.submit, int).result()
pool.submit(touch, 'made').result()
""",
    "task": "asyncio.run(asyncio.to_thread(touch, 'made'))",
    "loop's executor": """
async def main():
    await asyncio.get_running_loop().run_in_executor(None, touch, 'made')
asyncio.run(main())
""",
    "executor of processes": """
with ProcessPoolExecutor(1) as pool: pool.submit(touch, 'made').result()
""",
    "executor of old processes": """
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('fork'))
SCOPE[1].run(pool.submit, int).result()
pool.submit(touch, 'made').result()
pool.shutdown()
""",
    "pool": "with multiprocessing.Pool(1) as pool: pool.apply(touch, ('made',))",
    "pool of old workers": """
pool = multiprocessing.Pool(1)
SCOPE[1].run(pool.apply, int)
pool.map(touch, ['made'])
pool.terminate()
""",
}


@pytest.mark.parametrize("body", WORK.values(), ids=WORK.keys())
def test_work_is_done_in_the_chain_and_on_behalf_of_who_gave_it(tree, body: str) -> None:
    scoped = f"""
import contextvars
import kobs.context as ambient
SCOPE = []
for chain, scope in ((77, 'test one'), (88, 'another')):
    SCOPE.append(contextvars.copy_context())
    SCOPE[-1].run(ambient.cause.set, ambient.Cause(chain, 0))
    SCOPE[-1].run(ambient.origin.set, scope)
def work():
{chr(10).join("    " + line for line in body.strip(chr(10)).splitlines())}
SCOPE[0].run(work)
"""
    made = tree(scoped).touched("made")
    assert (made.causality_id, made.origin) == (77, "test one")


def test_a_child_process_continues_chain_and_origin(tree) -> None:
    found = tree("""
import kobs.context as ambient
ambient.origin.set('test one')
with ambient.causal_context(77):
    subprocess.run([sys.executable, '-c', TOUCH, 'made'], check=True)
    ready = multiprocessing.get_context('forkserver')
    process = ready.Process(target=touch, args=('served',)); process.start(); process.join()
    code = "import os; print(os.environ.get('TRACEPARENT'))"
    subprocess.run(['sh', '-c', 'echo $TRACEPARENT; ' + f'{sys.executable} -c "{code}"'])
""")
    for name in ("made", "served"):
        event = found.touched(name)
        assert (event.causality_id, event.origin) == (77, "test one")
    shell, python = found.ran.out.splitlines()
    with kobs.open_recording(found.ran.session) as recording:
        trace_high = recording.session_info["trace_high"]
    assert shell.startswith(f"00-{trace_high}{77:016x}-")
    assert python == "None"


def test_a_chain_from_outside_is_adopted(runner) -> None:
    path = str(runner.write("open('made', 'w')"))
    high, low = "0af7651916cd43dd", "8448eb211c80319c"
    ran = runner.kobs(path, env={"TRACEPARENT": f"00-{high}{low}-b7ad6b7169203331-00"})
    (event,) = ran.events(FileChanged)
    assert event.causality_id == int(low, 16)


def test_a_receive_inside_a_scope_is_linked_and_does_not_move_the_parent(tree) -> None:
    found = tree("""
import kobs.context as ambient
q = queue.Queue()
q.put(1)
ambient.cause.set(ambient.Cause(77, 0, in_scope=True))
q.get()
touch('made')
""")
    (received,) = found.of(MessageReceived)
    (sent,) = found.of(MessageSent)
    assert received.link == sent.link
    assert (received.causality_id, found.touched("made").causality_id) == (77, 77)
    assert found.touched("made").parent == 0


def test_processes_and_what_could_not_be_watched_are_listed(runner) -> None:
    ran = runner.script(f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "pass"])
        subprocess.run([sys.executable, "-S", "-c", "pass"])
        subprocess.run([sys.executable, "-IBc", "pass"])
        subprocess.run(["true"])
        subprocess.run(["env", "-u", "PYTHONPATH", {sys.executable!r}, "-c", "pass"])
        """)
    with kobs.open_recording(ran.session) as recording:
        assert [p.exit_code for p in recording.processes] == [0, 0]
        assert all(p.closed for p in recording.processes)
        reasons = [entry["reason"] for entry in recording.unobserved]
    assert [reason.split(":")[0] for reason in reasons] == [
        "Python started with -S", "Python started with -I", "not Python", "not Python",
    ]  # fmt: skip


def test_a_python_child_that_did_not_record_itself_is_listed_when_it_ends(runner) -> None:
    ran = runner.script("""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "pass"], env={"PYTHONPATH": ""})
        subprocess.run([sys.executable, "--version"])
        """)
    with kobs.open_recording(ran.session) as recording:
        (entry,) = recording.unobserved
    assert entry["argv"][1:] == ["--version"]
    assert "did not run" in entry["reason"]
