"""Threads and processes: many callers at once, forks, the settings, threadpoolctl, and the GIL."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xent

Z = np.random.default_rng(0).normal(0, 3, (300, 1000)).astype(np.float32)
Y = np.arange(300) % 1000
LIMIT = 60  # seconds; far beyond what anything here takes: only a hang reaches it
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def result(z=Z, y=Y):
    loss, grad = xent.cross_entropy_with_grad(z, y)
    return loss.tobytes(), grad.tobytes()


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_many_callers(tier, threads, n_threads):
    """Eight Python threads at once, small and large problems mixed; each gets the bits it would get alone."""
    xent.set_num_threads(n_threads)
    problems = [(Z[k : k + rows], Y[k : k + rows]) for k, rows in enumerate((1, 3, 50, 299, 100, 2, 200, 250))]
    expected = [result(*problem) for problem in problems]
    together = threading.Barrier(8)

    def caller(k):
        together.wait(LIMIT)
        return [result(*problems[(k + i) % 8]) == expected[(k + i) % 8] for i in range(16)]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(right) for right in pool.map(caller, range(8)))


def test_callers_while_threads_are_set(threads):
    expected = result()
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            xent.set_num_threads(1 + n % 8)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        assert all(result() == expected for _ in range(100))
    finally:
        stop.set()
        changer.join(LIMIT)


def child_status(body):
    """The exit status of a forked child that runs the body; a child that hangs is killed, and None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is what is tested
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if body() else 2
        finally:
            os._exit(status)
    waiter = []
    thread = threading.Thread(target=lambda: waiter.append(os.waitpid(pid, 0)[1]))
    thread.start()
    thread.join(LIMIT)
    if thread.is_alive():
        os.kill(pid, 9)
        thread.join()
        return None
    return os.waitstatus_to_exitcode(waiter[0])


SEES_WORKERS = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


@pytest.mark.skipif(not SEES_WORKERS, reason="no CPUs to keep apart, or no way to see where threads may run")
def test_workers_are_kept_from_their_caller_only_between_products():
    """In a process of its own, whose one other thread is the worker: it may run anywhere; between products not on its
    caller's CPU, wherever that is; then anywhere again. Errors and forks undo it too."""
    script = """
import os, numpy as np, xent
from xent import _kernels
z, y = np.ones((300, 1000), np.float32), np.arange(300)
before = set(os.listdir("/proc/self/task"))
mine = os.sched_getaffinity(0)
def loop():
    xent.cross_entropy_with_grad(z, y)
xent.set_num_threads(2)
loop()
(worker,) = map(int, set(os.listdir("/proc/self/task")) - before)
anywhere = os.sched_getaffinity(worker)
_kernels.between_products(True)
for cpu in sorted(mine)[:2] * 2:
    os.sched_setaffinity(0, {cpu})
    loop()
    assert os.sched_getaffinity(worker) == anywhere - {cpu}, cpu
os.sched_setaffinity(0, mine)
if os.fork() == 0:
    loop()  # with a worker of its own
    _kernels.between_products(False)
    loop()
    os._exit(0)
assert os.wait()[1] == 0
_kernels.between_products(False)
loop()
assert os.sched_getaffinity(worker) == anywhere
def targets(first, last):  # asked for between two products
    loop()
    assert os.sched_getaffinity(worker) == anywhere - mine
    return 1 / 0
mine = {min(mine)}
os.sched_setaffinity(0, mine)
try:
    xent.linear_cross_entropy(z[:, :8], z[:, :8], targets, reduction="sum")
except ZeroDivisionError:
    loop()
    assert os.sched_getaffinity(worker) == anywhere
    print("right")
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, env=environment
    )
    assert done.stdout == "right\n", done.stderr


@posix
@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_fork(threads, n_threads):
    """A child forked after the pool has been used computes with a pool of its own; so does its child."""
    xent.set_num_threads(n_threads)
    expected = result()
    assert child_status(lambda: result() == expected) == 0
    assert child_status(lambda: result() == expected and child_status(lambda: result() == expected) == 0) == 0
    assert result() == expected


@posix
def test_fork_while_others_compute(threads):
    """The pool may be busy, its lock held, at the moment of the fork."""
    xent.set_num_threads(4)
    expected = result()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            result()

    callers = [threading.Thread(target=busy) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        assert [child_status(lambda: result() == expected) for _ in range(10)] == [0] * 10
    finally:
        stop.set()
        for caller in callers:
            caller.join(LIMIT)


@posix
def test_multiprocessing_fork(threads):
    xent.set_num_threads(2)
    expected = result()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(_worker, range(4)).get(LIMIT) == [expected] * 4


def _worker(_):
    return result()


def test_set_and_get(threads):
    for n in (1, 2, 7, np.int64(3), 256):
        xent.set_num_threads(n)
        assert xent.get_num_threads() == n
    xent.set_num_threads(10**9)
    assert xent.get_num_threads() == 256


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XENT_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"XENT_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"XENT_NUM_THREADS": "0", "OMP_NUM_THREADS": "5"}, 5),
        ({"XENT_NUM_THREADS": "many"}, None),
        ({"XENT_NUM_THREADS": "-2"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_environment(variables, expected):
    clean = {k: v for k, v in os.environ.items() if k not in ("XENT_NUM_THREADS", "OMP_NUM_THREADS")}
    code = (
        "import os, xent; cpus = getattr(os, 'sched_getaffinity', lambda _: ())(0);"
        "print(xent.get_num_threads(), len(cpus))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    got, cpus = map(int, done.stdout.split())
    if expected is None:
        assert 1 <= got <= (cpus or 256)  # a quota may allow fewer than the mask
    else:
        assert got == expected


def test_threadpoolctl(threads):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    xent.set_num_threads(4)
    (found,) = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "xent"]
    assert found["num_threads"] == 4
    assert found["version"] == xent.__version__
    assert found["tier"] == xent._kernels.tier()
    for limits in (2, {"xent": 2}):
        with threadpoolctl.threadpool_limits(limits):
            assert xent.get_num_threads() == 2
        assert xent.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert xent.get_num_threads() == 4


def test_the_gil_is_released(threads):
    """No thread is made to give up the GIL, for the switch interval is minutes: another one can only have
    counted between two lines here if the call between them let it.
    """
    xent.set_num_threads(1)
    large = np.zeros((2000, 2000), np.float32)
    before, progress, stop = sys.getswitchinterval(), [0], threading.Event()

    def count():
        while not stop.is_set():
            progress[0] += 1
            time.sleep(0)  # gives the GIL up by itself

    counter = threading.Thread(target=count)
    sys.setswitchinterval(300.0)
    try:
        counter.start()
        for call in (
            lambda: xent.logsumexp(large, axis=1),
            lambda: xent.softmax(large, axis=1),
            lambda: xent.cross_entropy(large, np.zeros(2000, int)),
            lambda: xent.sigmoid_cross_entropy(large, large),
        ):
            seen = 0
            for _ in range(50):  # the other thread may not be given a CPU each time
                start = progress[0]
                call()
                seen += progress[0] > start
                if seen:
                    break
            assert seen
    finally:
        stop.set()
        sys.setswitchinterval(before)
        counter.join(LIMIT)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 40_000), (3, 70_001), (7, 33_000), (2, 4_400_000)])
def test_few_long_rows(tier, dtype, shape, threads):
    """Fewer rows than threads: the blocks of each are shared out, some at a time, with the bits of one thread."""
    plain = np.random.default_rng(0).normal(0, 3, shape).astype(dtype)
    middle = shape[1] // 2
    for odd in (None, np.nan, np.inf, 9e4, -np.inf):
        z = plain.copy()
        if odd is not None:
            z[0, middle] = odd
        if odd == -np.inf:
            z[-1] = odd
        results = []
        for n in (1, 2, 3, 8):
            xent.set_num_threads(n)
            results.append([xent.logsumexp(z, axis=1).tobytes(), xent.logsumexp(z).tobytes()])
        assert results == results[:1] * 4
        if shape[1] > 10**6:
            break
