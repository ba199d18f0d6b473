"""How much memory a process has taken; no import of d2l_ft, which some measurements do without."""

import re
from pathlib import Path


def peak() -> float:
    """Return the most memory that this process has had, in MiB.

    Not ru_maxrss, which begins with that of the process which started this one.
    """
    (line,) = re.findall(r'VmHWM:\s*(\d+) kB', Path('/proc/self/status').read_text())
    return int(line) / 1024
