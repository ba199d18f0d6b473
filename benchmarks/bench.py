"""What the scripts of ``performance.py`` share: the machine, runs in turn, a folder of photos.

Each of these scripts measures one claim. ``measure(quick)`` returns what its JSON file holds, and
``section(result)`` the lines of its part of docs/performance.md.
"""

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

import cv2
import numpy as np
from tqdm import tqdm

from d2l_ft.backend.versions import versions
from d2l_ft.system.hardware import usable_cores


def machine() -> dict[str, Any]:
    """Return where and when something was measured."""
    return {
        'date': datetime.date.today().isoformat(),
        'cpu': processor(),
        'cores': usable_cores(),
        'versions': versions(),
    }


def processor() -> str:
    """Return the processor's name, with its family and model where Linux tells them."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(':') for x in lines)}
    name = fields.get('model name', platform.processor())
    if 'cpu family' not in fields:  # not of the x86 kind
        return name
    # on rented machines the name alone is that of processors one of which is twice as fast
    return f'{name} (family {fields["cpu family"]}, model {fields["model"]})'


def describe(where: Mapping[str, Any]) -> str:
    """Return one line for what ``machine`` gave."""
    packages = ', '.join(f'{name} {version}' for name, version in where['versions'].items())
    return f'{where["date"]}, {where["cores"]} cores of {where["cpu"]}; {packages}'


def run_in_turn(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    interpreters: Mapping[str, str] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Run commands A B C A B C ..., each time in a process of its own.

    On a shared machine the speed varies with time; running in turn spreads that over all commands.

    Args:
        commands: Name -> arguments of the Python interpreter; each prints one JSON object last.
        rounds: How often each is run.
        environment: Name -> variables of its process; an empty value removes one.
        interpreters: Name -> its Python, where that is not the one that runs this.

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
        process = subprocess.run(
            [(interpreters or {}).get(name, sys.executable), *commands[name]],
            env=variables,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found[name].append(json.loads(process.stdout.splitlines()[-1]))
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median with the smallest and the largest value."""
    middle = statistics.median(values)
    return f'{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})'


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Return the median over the rounds of a value divided by that of the same round."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def photos(folder: Path, count: int, height: int = 375, width: int = 500) -> Path:
    """Write JPEG files like ImageNet's photographs (82 KB each), half of them to a class.

    Args:
        folder: A new folder; it gets train/ and test/, with the folders ``a`` and ``b`` in each. A
            fifth of the files, at least two, is in test/.
        count: Number of files in all.
        height: Their height, in pixels.
        width: Their width.
    """
    draws = np.random.default_rng(0)
    tests = max(2, count // 5)
    for number in range(count):
        place = folder / ('test' if number < tests else 'train') / 'ab'[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image = np.zeros((height, width, 3), np.float32)
        for side in (4, 16, 64, 256):  # rough and fine structure, as photographs have both
            coarse = draws.normal(size=(side, side, 3)).astype(np.float32)
            image += (
                cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 96 / side**0.5
            )
        pixels = np.clip(image + 128, 0, 255).astype(np.uint8)
        cv2.imwrite(str(place / f'{number:05d}.jpg'), pixels, [cv2.IMWRITE_JPEG_QUALITY, 96])
    return folder
