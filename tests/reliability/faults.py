"""Make the operating system fail at a chosen call, and log what a training draws.

    python faults.py OPERATION KIND NUMBER LOG train --out ...

runs the d2l-ft command so that the NUMBER-th call of OPERATION (write, fsync or replace) fails:
KIND full raises as a full disk does, short writes a part only, kill writes a part and kills the
process. LOG gets a line for every crop and every learning rate; '-' logs nothing.
"""

import errno
import io
import os
import signal
import sys

OPERATIONS = ('write', 'fsync', 'replace')


class Faults:
    """Counts the calls of each operation, and lets one of them fail.

    Args:
        operation: One of OPERATIONS; '' lets nothing fail.
        kind: 'full', 'short' or 'kill'.
        number: Which call fails, counted from 1.
    """

    def __init__(self, operation='', kind='full', number=1):
        self.operation, self.kind, self.number = operation, kind, number
        self.calls = dict.fromkeys(OPERATIONS, 0)
        self.real = os.fdopen, os.fsync, os.replace

    def __enter__(self):
        _, fsync, replace = self.real
        faults = self

        class File(io.FileIO):
            def write(self, data):
                if faults.now('write'):
                    super().write(bytes(data)[: len(data) // 2])
                    faults.fail()
                    return len(data) // 2  # a short write
                return super().write(data)

        def checked(operation, call):
            def wrapped(*arguments):
                if faults.now(operation):
                    faults.fail()
                return call(*arguments)

            return wrapped

        os.fdopen = lambda handle, mode: io.BufferedWriter(File(handle, mode))
        os.fsync, os.replace = checked('fsync', fsync), checked('replace', replace)
        return self

    def __exit__(self, *_):
        os.fdopen, os.fsync, os.replace = self.real

    def now(self, operation):
        """Count a call; tell whether it is the one."""
        self.calls[operation] += 1
        return operation == self.operation and self.calls[operation] == self.number

    def fail(self):
        """Fail as asked."""
        if self.kind == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == 'full':
            raise OSError(errno.ENOSPC, 'No space left on device')


def log_draws(path):
    """Log every crop and every rate to a file."""
    from d2l_ft.data.transforms import Pipeline
    from d2l_ft.runs import job

    log = open(path, 'a', buffering=1)  # noqa: SIM115  (lives as long as the process)
    draw, scheduled = Pipeline.draw, job.scheduled_rate

    def draw_logged(self, height, width, epoch, index):
        drawn = draw(self, height, width, epoch, index)
        log.write(f'crop {epoch} {index} {drawn}\n')
        return drawn

    def scheduled_logged(*arguments):
        rate = scheduled(*arguments)
        log.write(f'rate {rate!r}\n')
        return rate

    Pipeline.draw, job.scheduled_rate = draw_logged, scheduled_logged


def main():
    """Run a command with a fault."""
    operation, kind, number, log, *arguments = sys.argv[1:]
    from d2l_ft.cli.main import main as command
    from d2l_ft.data import validation_cache

    # written only once the images are old enough, which would shift the numbers of what follows
    validation_cache.CheckedImages.save = lambda *_, **options: None
    if log != '-':
        log_draws(log)
    with Faults('' if operation == 'none' else operation, kind, int(number)):
        command(arguments)


if __name__ == '__main__':
    main()
