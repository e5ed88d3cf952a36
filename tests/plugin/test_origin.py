"""Only what the test caused, in whatever thread, task or process it happened, and all of it."""

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import asyncio, os, subprocess, sys, threading
import pytest
import kobs as k
from kobs import MessageSent, MessageReceived, ProcessCreated, ShmWritten, FileOpened

def emit(queue, size=1):
    k.global_collector().emit(MessageSent(queue, size))

def queues(kobs):
    found = [event.payload.queue_id for event in kobs.events.of(MessageSent)]
    return sorted(n for n in found if isinstance(n, int))
"""


def test_threads_of_the_test_are_the_test(inner):
    inner(
        HEAD
        + """
from concurrent.futures import ThreadPoolExecutor

def test_it(kobs):
    def outer():
        emit(1)
        inner = threading.Thread(target=emit, args=(2,))
        inner.start()
        inner.join()
    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(emit, [3, 4]))
    timer = threading.Timer(0, emit, args=(5,))
    timer.start()
    timer.join()
    assert queues(kobs) == [1, 2, 3, 4, 5]
""",
        passed=1,
    )


def test_an_executor_of_a_wider_fixture_works_for_who_submits(inner):
    inner(
        HEAD
        + """
from concurrent.futures import ThreadPoolExecutor

@pytest.fixture(scope="module")
def pool(request):
    with ThreadPoolExecutor(1) as made:
        yield made

@pytest.mark.parametrize("queue", [1, 2])
def test_it(kobs, pool, queue):
    pool.submit(emit, queue).result()
    assert queues(kobs) == [queue]
""",
        "--kobs",
        passed=2,
    )


def test_tasks_of_an_async_test_are_the_test(inner):
    inner(
        HEAD
        + """
async def both():
    async def work(queue):
        await asyncio.sleep(0)
        emit(queue)
    await asyncio.gather(work(1), work(2))
    await asyncio.to_thread(emit, 3)
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(lambda: (emit(4), done.set_result(None)))
    await done

@pytest.mark.asyncio
async def test_own_loop(kobs):
    await both()
    assert queues(kobs) == [1, 2, 3, 4]

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("n", range(2))
async def test_shared_loop(kobs, n):
    await both()
    assert queues(kobs) == [1, 2, 3, 4]

def test_plain(kobs):
    asyncio.run(both())
    assert queues(kobs) == [1, 2, 3, 4]
""",
        passed=4,
    )


def test_async_fixtures_are_the_test_that_needs_them_or_none(inner):
    inner(
        HEAD
        + """
import pytest_asyncio

@pytest_asyncio.fixture
async def own(kobs):
    emit(1)
    yield
    emit(9)

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wider():
    emit(5)
    yield

@pytest.mark.asyncio
async def test_own(own, kobs):
    emit(2)
    assert queues(kobs) == [1, 2]

@pytest.mark.asyncio(loop_scope="module")
async def test_wider(wider, kobs):
    emit(2)
    assert queues(kobs) == [2]
""",
        "--kobs",
        passed=2,
    )


def test_anyio_tests_are_the_test(inner):
    inner(
        HEAD
        + """
import anyio

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module")
async def shared(anyio_backend):
    emit(5)
    yield

@pytest.mark.anyio
@pytest.mark.parametrize("n", range(2))
async def test_it(shared, kobs, n):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, emit, 1)
    emit(2)
    assert queues(kobs) == [1, 2]
""",
        "--kobs",
        passed=2,
    )


def test_setup_and_teardown_of_its_own_fixtures_are_the_test(inner):
    inner(
        HEAD
        + """
@pytest.fixture
def own(kobs):
    emit(1)
    yield
    emit(3)
    assert queues(kobs) == [1, 2, 3]

def test_it(own, kobs):
    emit(2)
    assert queues(kobs) == [1, 2]
""",
        passed=1,
    )


def test_fixtures_of_wider_scope_are_not(inner):
    inner(
        HEAD
        + """
@pytest.fixture(scope="module")
def inner_module():
    emit(10)
    yield
    emit(11)

@pytest.fixture(scope="module")
def outer_module(inner_module):
    emit(20)
    yield
    emit(21)

class TestIt:
    @classmethod
    def setup_class(cls):
        emit(30)

    @classmethod
    def teardown_class(cls):
        emit(31)

    def setup_method(self):
        emit(1)

    def test_one(self, kobs, outer_module):
        emit(2)
        assert queues(kobs) == [1, 2]

    def test_two(self, kobs, outer_module, request):
        emit(2)
        assert queues(kobs) == [1, 2]
        request.getfixturevalue("late")
        assert queues(kobs) == [1, 2]

@pytest.fixture(scope="session")
def late():
    emit(40)
    yield
    emit(41)

def test_last(kobs, request):
    request.addfinalizer(lambda: None)
    emit(2)
    assert queues(kobs) == [2]
""",
        "--kobs",
        passed=3,
    )
    # What the wider fixtures did is in the recording, under an origin of their own.
    import kobs

    with kobs.open_recording(kobs.session.latest_session().path) as recording:
        sent = [e for e in recording.events() if e.type is kobs.MessageSent]
    by_queue = {event.payload.queue_id: event.origin for event in sent}
    assert set(by_queue) == {1, 2, 10, 11, 20, 21, 30, 31, 40, 41}
    assert len({by_queue[n] for n in (10, 11)}) == 1
    assert len({by_queue[n] for n in (10, 20, 30, 40)}) == 4
    assert by_queue[20] == by_queue[21]
    assert by_queue[30] != by_queue[1]


def test_child_processes_are_the_test(inner):
    inner(
        HEAD
        + """
CHILD = '''
import kobs, subprocess, sys
kobs.global_collector().emit(kobs.MessageSent({queue}, 1))
{more}
'''

def test_run(kobs):
    grandchild = CHILD.format(queue=2, more="")
    more = f"subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    subprocess.run([sys.executable, "-c", CHILD.format(queue=1, more=more)], check=True)
    assert queues(kobs) == [1, 2]
    assert kobs.events.of(MessageSent)[0].pid != os.getpid()
    made = ProcessCreated.like()
    assert made >> MessageSent.like(queue_id=1) in kobs.events
    assert made >> made >> MessageSent.like(queue_id=2) in kobs.events
    assert kobs.lost == 0

def test_next(kobs):
    assert queues(kobs) == []
    subprocess.run([sys.executable, "-c", CHILD.format(queue=3, more="")], check=True)
    assert queues(kobs) == [3]
""",
        subprocess=True,
        passed=2,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_are_the_test(inner, method):
    inner(
        HEAD
        + f"""
import multiprocessing

@pytest.mark.parametrize("n", range(2))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it(kobs, n):
    context = multiprocessing.get_context({method!r})
    process = context.Process(target=emit, args=(n,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert queues(kobs) == [n]
    assert ProcessCreated.like() >> MessageSent.like(queue_id=n) in kobs.events
    assert FileOpened.like(path="never") not in kobs.events
""",
        subprocess=True,
        passed=2,
    )


def test_a_child_that_runs_on_into_the_next_test_is_still_of_its_own(inner):
    inner(
        HEAD
        + """
CHILD = '''
import kobs, sys
for line in sys.stdin:
    kobs.global_collector().emit(kobs.MessageSent(int(line), 1))
    print("done", flush=True)
'''

@pytest.fixture(scope="module")
def child():
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        def ask(number):
            process.stdin.write(f"{number}\\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\\n"
        yield ask
        process.stdin.close()

def test_one(kobs, child):
    child(1)
    assert queues(kobs) == []

def test_two(kobs, child):
    child(2)
    assert queues(kobs) == []
""",
        "--kobs",
        subprocess=True,
        passed=2,
    )


def test_each_child_is_the_tests_that_started_it(inner):
    inner(
        HEAD
        + """
CHILD = '''
import kobs, sys
sys.stdin.read()
kobs.global_collector().emit(kobs.MessageSent(7, 1))
'''
left = []

def test_one(kobs):
    left.append(subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE))

def test_two(kobs):
    (process,) = left
    process.stdin.close()
    assert process.wait() == 0
    assert queues(kobs) == []
""",
        "--kobs",
        subprocess=True,
        passed=2,
    )


def test_a_pool_of_processes_works_for_the_test(inner):
    inner(
        HEAD
        + """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing

def test_it(kobs):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(emit, [1, 2]))
    assert queues(kobs) == [1, 2]
""",
        subprocess=True,
        passed=1,
    )


def test_a_flood_from_elsewhere_hides_nothing_that_was_seen(inner):
    inner(
        HEAD
        + """
@pytest.fixture(scope="session")
def flood():
    stop, running = threading.Event(), threading.Event()
    def work():
        while not stop.wait(0.0005):  # less at a time than the ring holds
            collector = k.global_collector()
            for number in range(200 if collector is not None else 0):
                collector.emit(ShmWritten("noise", number))
            running.set()
    thread = threading.Thread(target=work)
    thread.start()
    yield running
    stop.set()
    thread.join()

@pytest.mark.parametrize("n", range(5))
def test_it(kobs, flood, n):
    flood.clear()
    emit(n)
    flood.wait()
    assert MessageSent.like(queue_id=n) in kobs.events
    assert {event.type for event in kobs.events} == {MessageSent}
    assert queues(kobs) == [n]
""",
        passed=5,
    )


def test_a_long_suite_goes_on_in_further_recordings(inner, monkeypatch, clean_environment):
    """Each test leaves strings in its recording, and the room for strings is bounded."""
    monkeypatch.setattr("kobs_pytest.capture.recorder.TESTS_A_RECORDING", 3)
    inner(
        HEAD
        + """
stop, again, running = threading.Event(), threading.Event(), []

@pytest.mark.parametrize("n", range(8))
def test_it(kobs, n, tmp_path):
    collector = kobs.collector
    assert k.global_collector() is collector
    if n == 0:  # goes on in the first recording
        def work():
            while not stop.wait(0.0005):
                collector.emit(MessageSent(99, 1))
                again.set()
        running.append(threading.Thread(target=work))
        running[0].start()
    (tmp_path / "file").write_text("x")
    emit(n)
    assert [q for q in queues(kobs) if q != 99] == [n]
    assert FileOpened.like(path=str(tmp_path / "file")) in kobs.events
    if n == 7:
        mark = kobs.mark()
        again.clear()
        again.wait()
        with pytest.raises(kobs.Inconclusive):
            kobs.never(MessageSent.like(queue_id=99))
        stop.set()
        running[0].join()
""",
        "--kobs",
        passed=8,
    )
    import kobs

    with kobs.open_recording(kobs.session.latest_session().path) as recording:
        sent = [e for e in recording.events() if e.type is kobs.MessageSent]
    numbers = [e.payload.queue_id for e in sent if e.payload.queue_id != 99]
    assert numbers == list(range(8))
    assert len({event.recording for event in sent}) == 3
