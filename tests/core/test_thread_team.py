"""Teams of threads: errors, interrupts, forks and concurrent use do not hang, and change no bit.

Programs that could hang run in their own processes, with a time limit.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from conftest import require_backend

import fastrnn
from fastrnn import Network, Trainer
from fastrnn.core.plan import ALONE, Split
from fastrnn.core.thread_team import Team, usable_cores
from fastrnn.network.execution import MIN_COLUMNS, MIN_ROWS, MIN_STEP_WORK, MIN_WORK

#: After so many seconds a process counts as hanging; Numba's compilation takes most of the time.
LIMIT = 120

#: The common part of the programs below. In them, small windows use several threads.
PRELUDE = """
import hashlib, os, signal, sys, threading, time
import numpy as np
from fastrnn import Network, Trainer
from fastrnn.network import execution, network
from fastrnn.network.drawing import Rows, Rules
from fastrnn.core.thread_team import ABORT, Team
execution.MIN_WORK = execution.MIN_ROWS = 1
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def make(seed=0, threads=2, **settings):
    H = 17 + seed
    made = Network(11, H, backend=BACKEND, threads=threads, rng=seed, **settings)
    assert made.split(8, 6).parts == min(threads, 6)
    return Trainer(made)

def train(trainer, passes=20):
    streams = np.random.default_rng(5).integers(0, 11, (41, 6))
    losses = trainer.steps(streams, 8, passes=passes)
    return digest(losses, trainer.network.flat)

def score(trainer):
    ids = np.random.default_rng(6).integers(0, 11, (30, 6))
    return digest(trainer.network.losses(ids, ids)[0], trainer.network.forward(ids)[0])

def digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

def wait_for(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(program: str, backend: str = "c") -> str:
    """Return what a program prints; fail if it does not end in time."""
    require_backend(backend)
    source = f"BACKEND = {backend!r}\n{PRELUDE}\n{textwrap.dedent(program)}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- The team ----------------------------------------------------------------------------------------


def test_each_part_is_done_once():
    done: list[int] = []
    team = Team()
    for parts in (1, 3, 2, 5, 5):
        done.clear()
        team.run(parts, done.append)
        assert sorted(done) == list(range(parts))


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_a_part_ends_the_others_and_is_raised(failing: int):
    run(f"""
    def work(part):
        if part == {failing}:
            raise LookupError(f"of part {{part}}")
        while not team.barrier[ABORT]:
            time.sleep(0.001)
        raise RuntimeError("aborted")

    team = Team()
    for _ in range(20):
        try:
            team.run(3, work)
        except LookupError as error:
            assert str(error) == "of part {failing}"
        else:
            raise AssertionError("no error")
    done = []
    team.run(3, done.append)
    assert sorted(done) == [0, 1, 2]
    """)


@pytest.mark.parametrize("backend", ["numba", "c"])
def test_an_error_ends_every_call_whose_threads_share_columns(backend: str):
    """The other thread waits in the kernel for the one that fails."""
    run(
        """
    execution.MIN_ROWS, execution.MIN_STEP_WORK, execution.MIN_COLUMNS = 1000, 1, 1
    network = Network(11, 33, cell="gru", num_layers=2, backend=BACKEND, threads=2, rng=0)
    ids, prepared, state = np.zeros((50, 3), int), network.prepare_steps(), network.checked_state(None, 1)
    rng = np.random.default_rng(0)
    rows = Rows(np.zeros(1, np.int32), np.zeros(1, np.int32), state, np.empty((0, 1), np.int32))
    trainer, run = Trainer(network), Team.run
    calls = [
        lambda: trainer.step(ids, ids), lambda: network.loss_and_gradients(ids, ids),
        lambda: network.losses(ids, ids), lambda: network.forward(ids),
        lambda: network.draw(rows, rng.random((50, 1)), Rules(1.0), room=50, prepared=prepared),
    ]

    def fail(team, parts, work, **options):
        assert parts == 2

        def part_of(part):
            if part == 1:
                time.sleep(0.05)
                raise LookupError
            work(part)

        run(team, parts, part_of, **options)

    expected = trainer.network.losses(ids, ids)[0]
    Team.run = fail
    for call in calls:
        try:
            call()
        except LookupError:
            pass
        else:
            raise AssertionError("no error")
    Team.run = run
    assert (network.losses(ids, ids)[0] == expected).all()
    """,
        backend,
    )


def test_threads_end_with_their_team():
    team = Team()
    team.run(3, set().add)
    ours = [thread for thread in threading.enumerate() if thread.name == "fastrnn"]
    assert len(ours) >= 2
    del team
    gc.collect()
    for thread in ours:
        thread.join(10)
        assert not thread.is_alive()


def test_an_interrupt_comes_before_an_error():
    team = Team()

    def work(part: int) -> None:
        if part == 0:
            while not team.barrier[32]:
                pass
            raise KeyboardInterrupt
        raise LookupError

    with pytest.raises(KeyboardInterrupt):
        team.run(2, work)


@pytest.mark.parametrize("where", ["before the second is told", "all are told", "waiting"])
def test_an_interrupt_of_the_caller_leaves_no_thread_at_work(where: str):
    run(f"""
    from queue import SimpleQueue
    at_work = threading.Semaphore(0)
    ended = []

    class Struck(SimpleQueue):
        def put(self, task):
            count[0] += 1
            if "{where}" == "before the second is told" and count[0] == 2:
                raise KeyboardInterrupt
            super().put(task)
            if "{where}" == "all are told" and count[0] == 2:
                raise KeyboardInterrupt

    def work(part):
        if part == 0:
            at_work.acquire(); at_work.acquire()  # the others are inside
            if "{where}" == "waiting":
                threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
            return
        at_work.release()
        while not team.barrier[ABORT]:
            time.sleep(0.001)
        time.sleep(0.05)
        ended.append(part)

    from fastrnn.core import thread_team
    thread_team.SimpleQueue = Struck
    team = Team()
    count = [0]
    try:
        team.run(3, work)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("no interrupt")
    before = len(ended)
    time.sleep(0.2)
    assert len(ended) == before, "a thread went on with its work"
    assert "{where}" != "waiting" or before == 2
    count[0] = 10
    done = []
    team.run(3, done.append)
    assert sorted(done) == [0, 1, 2]
    """)


def test_interrupts_at_any_time_do_not_hang():
    """Ctrl-C comes two hundred times, at the start, in the middle and at the end of a call."""
    run("""
    trainer = make(threads=3)
    expected = train(make(threads=1))
    train(make(threads=3))
    struck = 0
    for i in range(200):
        timer = threading.Timer(i * 2e-5, os.kill, [os.getpid(), signal.SIGINT])
        try:
            timer.start()
            for _ in range(10):
                trainer.step([[1] * 6] * 4, [[2] * 6] * 4)
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            struck += 1
        while timer.is_alive():
            try:
                timer.join()
            except KeyboardInterrupt:
                pass
    assert struck > 100, struck
    assert np.isfinite(trainer.network.flat).all()
    assert train(make(threads=3)) == expected
    """)


# ---- Interrupted training ----------------------------------------------------------------------------


def test_an_interrupted_training_counts_what_it_did_and_goes_on(compiled: str):
    """Ctrl-C is raised when the native call returns; the updates of the call count."""
    streams = np.random.default_rng(0).integers(0, 5, (9, 3))
    whole, interrupted = (
        Trainer(Network(5, 8, backend=compiled, threads=1, rng=0), learning_rate=0.01) for _ in range(2)
    )
    whole.step(streams[:-1], streams[1:])
    kernel = interrupted.network.backend.train_windows

    def struck(**arguments: object) -> None:
        kernel(**arguments)
        raise KeyboardInterrupt

    vars(interrupted.network.backend)["train_windows"] = struck
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted.step(streams[:-1], streams[1:])
    finally:
        del vars(interrupted.network.backend)["train_windows"]
    assert interrupted.updates == 1
    assert whole.step(streams[:-1], streams[1:]) == interrupted.step(streams[:-1], streams[1:])
    np.testing.assert_array_equal(whole.network.flat, interrupted.network.flat)


def test_ctrl_c_during_a_long_training_leaves_a_usable_network(compiled: str):
    printed = run(
        """
        trainer = make()
        train(trainer)
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            train(trainer, passes=10_000_000)
        except KeyboardInterrupt:
            print("interrupted")
        again = make()
        again.network.flat[:] = trainer.network.flat
        assert np.isfinite(trainer.network.flat).all()
        assert trainer.updates > 100
        assert score(again) == score(trainer)
        train(trainer)
        """,
        compiled,
    )
    assert printed == "interrupted"


# ---- Concurrent models -------------------------------------------------------------------------------


def test_two_threads_that_train_and_score_different_models_get_the_bits_of_each(compiled: str):
    run(
        """
        def both(seed):
            trainer = make(seed)
            return [found for _ in range(15) for found in (train(trainer), score(trainer))]

        alone = {seed: both(seed) for seed in (0, 1)}
        for _ in range(3):
            together = {}
            workers = [
                threading.Thread(target=lambda seed=seed: together.update({seed: both(seed)}))
                for seed in alone
            ]
            for worker in workers: worker.start()
            for worker in workers: worker.join()
            assert together == alone
        """,
        compiled,
    )


def test_more_threads_than_cores_give_the_same_bits(compiled: str):
    run(
        """
        assert train(make(threads=6)) == train(make(threads=1))
        assert score(make(threads=6)) == score(make(threads=1))
        """,
        compiled,
    )


# ---- Forks -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_after_training_trains_like_its_parent(compiled: str):
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forks of processes with threads
        expected = [train(trainer := make()), train(trainer), score(trainer)]
        for _ in range(5):
            trainer = make()
            assert train(trainer) == expected[0]
            pid = os.fork()
            found = [train(trainer), score(trainer)]
            if pid == 0:
                os._exit(found != expected[1:])
            assert found == expected[1:]
            assert wait_for(pid) == 0
        """,
        compiled,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_makes_threads_of_its_own():
    run("""
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    def threads_of(team):
        found = set()
        meeting = threading.Barrier(3)
        team.run(3, lambda part: (meeting.wait(), found.add(threading.get_native_id())))
        return found

    team = Team()
    before = threads_of(team)
    assert threads_of(team) == before
    if (pid := os.fork()) == 0:
        os._exit(bool(threads_of(team) & before))
    assert wait_for(pid) == 0
    assert threads_of(team) == before
    """)


def test_processes_of_multiprocessing_train_alike(compiled: str):
    """Processes are started with every start method, from a process that has trained with threads."""
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        expected = train(make())
        for method in multiprocessing.get_all_start_methods():
            trainer = make()
            with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
                # a network travels by pickle; NumPy draws the same streams in each process
                scores = pool.map(trainer.network.losses, *[[[[1, 2, 3]] * 4] * 2] * 2)
                alone = trainer.network.losses(*[[[1, 2, 3]] * 4] * 2)[0]
                for losses, _ in scores:
                    np.testing.assert_array_equal(losses, alone)
            assert train(trainer) == expected
        """,
        compiled,
    )


# ---- The argument ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "threads=0 must be at least 1"),
        (-2, ValueError, "threads=-2 must be at least 1"),
        ("two", TypeError, "threads='two' must be a whole number"),
        (1.5, TypeError, "threads=1.5 must be a whole number"),
        (True, TypeError, "threads=True must be a whole number"),
    ],
)
def test_a_wrong_number_of_threads_is_refused(value: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Network(3, 2, threads=value)
    with pytest.raises(error, match=message):
        fastrnn.train("a text to learn", threads=value, steps=1)


def test_a_window_takes_the_threads_that_its_work_is_worth():
    network = Network(64, 128, threads=4)
    row = 6 * 128 * (128 + 64)  # operations of a step of one batch row
    assert network.split(1, 1) == ALONE
    assert network.split(2 * MIN_WORK // row, 2 * MIN_ROWS - 1) == ALONE  # too few rows for two
    assert network.split(2 * MIN_WORK // (row * 2 * MIN_ROWS) + 1, 2 * MIN_ROWS) == Split(2)
    assert network.split(2 * MIN_WORK // (row * 2 * MIN_ROWS) - 1, 2 * MIN_ROWS) == ALONE
    assert network.split(1000, 1000) == Split(4)
    assert Network(64, 128).split(1000, 1000).parts == usable_cores()


def test_a_few_rows_of_a_large_network_are_shared_by_columns():
    large = Network(64, 256, cell="lstm", threads=8, initialization="zeros")
    assert 2 * MIN_STEP_WORK == 2 * 4 * 256**2  # operations of a row's step
    assert large.split(100, 1) == Split(2, by_columns=True)
    assert large.split(100, 2) == Split(4, by_columns=True)
    assert large.split(100, 4) == Split(8, by_columns=True)
    assert large.split(100, 8 * MIN_ROWS) == Split(8)
    assert large.split(1, 1) == ALONE
    small = Network(64, 128, cell="lstm", threads=8, initialization="zeros")
    assert small.split(1000, 3) == ALONE
    large.threads = 1
    assert large.split(1000, 1) == ALONE
    assert Network(4, 2 * MIN_COLUMNS - 1, threads=8).split(10_000, MIN_ROWS) == ALONE
