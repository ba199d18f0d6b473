"""What the benchmarks share: where something was measured, and how things are compared in turn."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from d2l_ft.devices import usable_cores
from d2l_ft.experiment import versions


def machine() -> dict[str, Any]:
    """Return where and when something was measured."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return {
        'date': datetime.date.today().isoformat(),
        'cpu': names[0] if names else platform.processor(),
        'cores': usable_cores(),
        'versions': versions(),
    }


def described(where: Mapping[str, Any]) -> str:
    """Return one line for what ``machine`` gave."""
    listed = ', '.join(f'{name} {version}' for name, version in where['versions'].items())
    return f'{where["date"]}, {where["cores"]} cores of {where["cpu"]}; {listed}'


def in_turn(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    environment: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Run commands A B C A B C ..., each time in a process of its own.

    A machine that is shared slows whatever runs at the moment; in turn it slows all alike.

    Args:
        commands: Name -> arguments of the Python interpreter; each prints one JSON object last.
        rounds: How often each is run.
        environment: Name -> variables of its process; an empty value removes one.

    Returns:
        Name -> what each of its runs printed.

    Raises:
        CalledProcessError: A command failed.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    names = [name for _ in range(rounds) for name in commands]
    for name in (bar := tqdm(names, unit='run', disable=None)):
        bar.set_postfix_str(name)
        variables = os.environ | dict((environment or {}).get(name, {}))
        variables = {key: value for key, value in variables.items() if value}
        done = subprocess.run(
            [sys.executable, *commands[name]],
            env=variables, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median with the smallest and the largest value."""
    middle = statistics.median(values)
    return f'{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})'


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Return the median over the rounds of a value divided by that of the same round."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))
