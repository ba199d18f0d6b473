"""Worker processes that died are told with their exit codes; those that a loader ended are not."""

import gc
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from d2l_ft.backend.common import check_workers, exit_code_of, watch_workers
from d2l_ft.errors import WorkerDied


class Owner:
    """What ends a worker."""


def ended_worker(owner):
    """Return a process that was watched for its owner and ended by SIGTERM."""
    worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
    worker.start()
    watch_workers(owner, [worker])
    check_workers()
    worker.terminate()
    worker.join()
    return worker


def test_a_worker_that_ended_while_its_loader_is_used_is_told_once():
    owner = Owner()
    worker = ended_worker(owner)
    with pytest.raises(WorkerDied, match='died with exit code -15: use fewer') as caught:
        check_workers()
    assert 'memory' not in str(caught.value)  # it was no lack of memory
    check_workers()
    assert worker.exitcode == -15


def test_a_worker_that_ended_with_its_loader_is_none_that_died():
    owner = Owner()
    worker = ended_worker(owner)
    del owner
    gc.collect()
    check_workers()
    assert worker.exitcode == -15


def test_every_thread_that_asks_is_told_how_a_worker_ended():
    """The system tells it once, to one of them."""
    for _ in range(10):
        worker = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(60,))
        worker.start()
        together = threading.Barrier(8)

        def ask(worker=worker, together=together):
            together.wait()
            return exit_code_of([worker])

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask) for _ in range(8)]
            worker.kill()
            assert {each.result() for each in asked} == {-9}
