"""Worker processes that were killed are told from those that their own loader ended."""

import gc
import multiprocessing
import time

import pytest

from d2l_ft.backend.common import check_workers, watch_workers
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
