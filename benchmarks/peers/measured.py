"""What every worker prints at its end: the speed, time, memory and threads of its process."""

import json
import os
import re
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def report(
    epochs: Sequence[tuple[int, float]], threads: int, workers: int, packages: Sequence[str]
) -> None:
    """Print one line of JSON.

    Args:
        epochs: Examples and seconds of each epoch's training, data loading included. The first
            epoch is left out, as the frameworks choose and build their kernels in it.
        threads: Threads on which the framework computes.
        workers: Processes that load the images.
        packages: Those whose versions matter.
    """
    examples, seconds = map(sum, zip(*epochs[1:], strict=True))
    (peak,) = re.findall(r'VmHWM:\s*(\d+) kB', Path('/proc/self/status').read_text())
    # the 22nd field is when the process began, in ticks since the machine did
    ticks = int(Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19])
    begun = ticks / os.sysconf('SC_CLK_TCK')
    line = {
        'images_per_second': round(examples / seconds, 2),
        'total_seconds': round(time.clock_gettime(time.CLOCK_BOOTTIME) - begun, 2),
        'peak_mib': int(peak) // 1024,
        'threads': threads,
        'workers': workers,
        'trained': [count for count, _ in epochs],
        'versions': {name: version(name) for name in packages},
    }
    print(json.dumps(line), flush=True)
