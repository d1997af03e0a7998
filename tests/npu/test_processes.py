"""Engines when the interpreter ends, after fork, when they are copied or forgotten during a run, on one CPU."""

import os
import subprocess
import sys
import textwrap

import pytest

SETUP = """
import copy, gc, os, signal, sys, threading, time
import numpy as np
from amlrealtimeai import npu
from tests.npu.random_programs import random_image, random_program
rng = np.random.default_rng(5)
program = random_program(rng)
image = random_image(rng, program)[:1]
many = np.repeat(image, 3000, 0)
expected = npu.reference.run(program, image)

def right(found):
    return all(found[name][:1].tobytes() == expected[name].tobytes() for name in expected)

def busy(*engines):
    inside = threading.Barrier(len(engines) + 1)
    def work(engine):
        engine.run(image)
        inside.wait()
        while True:
            engine.run(many)
    for engine in engines:
        threading.Thread(target=work, args=(engine,), daemon=True).start()
    inside.wait()
    time.sleep(0.02)

def threads():
    return len(os.listdir("/proc/self/task"))

def in_a_child(work):
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if work() else 3)
        finally:
            os._exit(4)
    assert os.waitpid(pid, 0)[1] == 0
"""


def python(script: str) -> str:
    """What a script prints that begins with SETUP; it must end well, within a minute."""
    command = [sys.executable, "-c", SETUP + textwrap.dedent(script)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # NumPy's own threads would be counted
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


@pytest.mark.parametrize("number", [1, 3])
def test_the_interpreter_ends_while_daemon_threads_run(number):
    python(f"""
        engines = [npu.Native(program, 2) for _ in range({number})]
        busy(*engines, *engines)
    """)


def test_a_child_has_threads_of_its_own_and_the_same_bits():
    assert python("""
        native = npu.Native(program, 3)
        native.run(image)
        def child():
            before = threads()
            good = right(native.run(image)) and right(native.run(image))
            return good and (before, threads()) == (1, 3)
        in_a_child(child)
        in_a_child(lambda: (in_a_child(child), right(native.run(image)))[1])
        print(right(native.run(image)), threads())
    """).split() == ["True", "3"]


def test_a_child_born_during_runs_can_run():
    python("""
        engines = [npu.Native(program, 2) for _ in range(3)]
        busy(*engines, *engines)
        for _ in range(5):
            in_a_child(lambda: all(right(engine.run(image)) for engine in engines))
    """)


def test_a_child_may_forget_its_engines_and_make_others():
    python("""
        engines = [npu.Native(program, 2) for _ in range(2)]
        def child():
            engines.clear()
            gc.collect()
            return right(npu.Native(program, 2).run(image)) and threads() == 1
        in_a_child(child)
        print(right(engines[0].run(image)))
    """)


def test_multiprocessing_by_fork():
    assert (
        python("""
        import multiprocessing
        native = npu.Native(program, 2)
        native.run(image)
        def judged(x):
            return right(native.run(x))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(*pool.map(judged, [image] * 4))
    """).split()
        == ["True"] * 4
    )


def test_an_engine_lives_as_long_as_its_last_copy_and_run():
    assert python("""
        native = npu.Native(program, 2)
        other = copy.copy(native)
        found = []
        worker = threading.Thread(target=lambda run: found.append(right(run(many))), args=(native.run,))
        worker.start()
        del native
        gc.collect()
        found.append(right(other.run(image)))
        worker.join()
        del other, worker
        gc.collect()
        deadline = time.monotonic() + 20
        while threads() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        print(*found, threads())
    """).split() == ["True", "True", "1"]


def test_more_threads_than_cpus():
    python("""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert right(npu.Native(program, 8).run(image))
    """)


def test_signals_are_left_to_the_programs_own_threads():
    """A server may wait for the signal that ends it; delivered to one of the kernel's threads it would kill at once."""
    python("""
        native = npu.Native(program, 3)
        native.run(image)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.sigwait({signal.SIGTERM}) == signal.SIGTERM
    """)


def test_a_long_batch_is_interrupted_and_the_engine_goes_on():
    python("""
        class Interrupted(Exception): pass
        def interrupt(*_):
            raise Interrupted
        signal.signal(signal.SIGALRM, interrupt)
        native = npu.Native(program, 2)
        begin = time.monotonic()
        native.run(many)
        whole = time.monotonic() - begin
        longer = np.repeat(many, 10, 0)
        signal.setitimer(signal.ITIMER_REAL, whole / 10)
        try:
            native.run(longer)
        except Interrupted:
            pass
        else:
            assert False, "ran to its end"
        assert right(native.run(image))
    """)
