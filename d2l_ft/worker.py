"""What a loader's worker process does first, in either framework."""

import os
import signal
import threading
import time

WATCH_SECONDS = 1.0


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended.

    A terminal sends Ctrl-C to every process: without this the workers would die under the step
    that the parent still finishes. A parent that is killed tells nobody.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """Wait until this process has another parent."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
