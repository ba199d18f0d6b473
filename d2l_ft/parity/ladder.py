"""Run the ladder: trace both frameworks, each in its own process, then compare the files."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from d2l_ft.backend.versions import versions
from d2l_ft.errors import ParityError
from d2l_ft.parity.plan import Check, Plan, Trace
from d2l_ft.parity.rungs import RUNGS
from d2l_ft.sources.pretrain import source_path
from d2l_ft.system.hardware import usable_cores

PAIR = ('mxnet', 'pytorch')
"""The frameworks that are compared, in this order."""

Process = subprocess.Popen[str]


@dataclass(frozen=True)
class Result:
    """The result of the ladder.

    Attributes:
        checks: In the order of the ladder.
        environment: Versions, machine, what was traced.
        notes: Rungs that were left out, and why; other remarks for the reader.
        seconds: Duration of all.
    """

    checks: list[Check]
    environment: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Tell whether something was judged, and every check is within its tolerance."""
        return bool(self.judged_checks) and all(check.ok for check in self.judged_checks)

    @property
    def judged_checks(self) -> list[Check]:
        """Return the checks without the figures that are only stated."""
        return [check for check in self.checks if not check.stated]

    @property
    def failures(self) -> list[Check]:
        """Return the checks that are beyond their tolerance."""
        return [check for check in self.checks if check.fails]

    @property
    def count(self) -> str:
        """Return how much was compared, in words."""
        stated = len(self.checks) - len(self.judged_checks)
        more = f' (and {stated} stated figures)' if stated else ''
        return f'{len(self.judged_checks)} checks{more} in {self.seconds:.0f} s'

    def to_json(self) -> str:
        """Return {"equal", "checks", "environment", "notes", "seconds"}; infinity is null."""
        checks = [
            {name: None if value == float('inf') else value for name, value in asdict(each).items()}
            for each in self.checks
        ]
        return json.dumps(
            {
                'equal': self.equal,
                'checks': checks,
                'environment': self.environment,
                'notes': self.notes,
                'seconds': round(self.seconds, 1),
            },
            indent=1,
        )


def run_ladder(
    plan: Plan, folder: Path, on_check: Callable[[Check], object] | None = None, bar: bool = True
) -> Result:
    """Trace both frameworks into a folder and compare them.

    Args:
        plan: What to do.
        folder: Where the traces go; earlier traces of the same rungs are replaced.
        on_check: Called with each check, as soon as it is known.
        bar: Whether to show progress; it needs a terminal too.

    Raises:
        ParityError: A process failed, or left nothing to compare.
    """
    start_time = time.perf_counter()
    plan, left_out = drop_rungs(plan)
    if not plan.rungs:
        return Result([], environment(plan), left_out)
    trace_pair(plan, folder, bar)
    a, b = (Trace(folder / name) for name in PAIR)
    checks, notes = compare(plan, a, b, on_check)
    return Result(
        checks,
        environment(plan),
        [*left_out, *plan.shortage(), *notes],
        time.perf_counter() - start_time,
    )


def drop_rungs(plan: Plan) -> tuple[Plan, list[str]]:
    """Return the plan without the rungs for which the data set is too small, and notes on these."""
    notes, rungs = [], []
    for rung in plan.rungs:
        lack = getattr(RUNGS[rung], 'lacks', lambda _plan: '')(plan)
        if lack:
            notes.append(f'{rung} was left out: {lack}')
        else:
            rungs.append(rung)
    return replace(plan, rungs=tuple(rungs)), notes


def trace_pair(plan: Plan, folder: Path, bar: bool = True) -> None:
    """Run both frameworks in parallel; then each reads the other's checkpoints.

    Raises:
        ParityError: A process failed.
    """
    (folder / 'plan.json').write_text(plan.to_json())
    if (
        'runs' in plan.rungs
        and plan.source == 'sample'
        and not source_path(plan.archs[0]).is_file()
    ):
        alone = replace(plan, threads=usable_cores())
        wait([start(alone, folder, PAIR[1], '--source')], 'pre-train', 1, bar)
    total = len(PAIR) * len(plan.rungs)
    wait([start(plan, folder, name) for name in PAIR], 'trace', total, bar)
    if 'checkpoints' in plan.rungs:
        wait(
            [
                start(plan, folder, name, '--again', folder / PAIR[1 - number])
                for number, name in enumerate(PAIR)
            ]
        )


def start(plan: Plan, folder: Path, name: str, *options: object) -> Process:
    """Start the process of one framework, with its share of the cores."""
    command = [sys.executable, '-m', 'd2l_ft.parity.trace', name, str(folder), *map(str, options)]
    variables = {'OMP_NUM_THREADS': str(plan.threads), 'MPLBACKEND': 'Agg'}
    return subprocess.Popen(
        command,
        env=os.environ | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait(processes: Sequence[Process], title: str = '', total: int = 0, bar: bool = False) -> None:
    """Wait for processes; end the others when one fails, and all on Ctrl-C.

    Raises:
        ParityError: One failed; the last line that it wrote is the cause.
    """
    with (
        tqdm(desc=title, total=total, unit='rung', disable=None if bar else True) as progress,
        ThreadPoolExecutor(2 * len(processes)) as pool,
    ):
        try:
            futures = [pool.submit(follow, each, progress, pool) for each in processes]
            for future in as_completed(futures):
                code, error = future.result()
                if code:
                    lines = [line for line in error.splitlines() if line.strip()]
                    cause = lines[-1] if lines else f'exit code {code}'
                    raise ParityError(f'a framework could not be traced: {cause}')
        finally:  # before the pool waits for its threads, which wait for the processes
            end(processes)


def follow(process: Process, progress: Any, pool: ThreadPoolExecutor) -> tuple[int, str]:
    """Read what a process writes until it ends; return its exit code and its errors."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        errors = pool.submit(process.stderr.read)
        for line in process.stdout:
            if line.startswith('{'):
                progress.update()
        text = errors.result()
    return process.returncode, text


def end(processes: Sequence[Process]) -> None:
    """Kill the processes that still run."""
    for each in processes:
        if each.poll() is None:
            each.kill()


def compare(
    plan: Plan, a: Trace, b: Trace, on_check: Callable[[Check], object] | None = None
) -> tuple[list[Check], list[str]]:
    """Compare two traces, rung by rung; return the checks, and notes on what is missing.

    Raises:
        ParityError: Something was not traced.
    """
    checks: list[Check] = []
    notes: list[str] = []
    for rung in plan.rungs:
        missing = a.folder / rung / 'missing.json'
        if missing.is_file():
            notes.append(f'{rung} was not compared: run  {json.loads(missing.read_text())}')
            continue
        for check in RUNGS[rung].compare(a, b, plan):
            checks.append(check)
            if on_check:
                on_check(check)
    return checks, notes


def environment(plan: Plan) -> dict[str, Any]:
    """Return the versions, the system and the plan, for readers of the result."""
    plain = asdict(plan) | {
        'root': Path(plan.root).name
    }  # the path means nothing on another machine
    return {'versions': versions(), 'system': platform.platform(), 'plan': plain}
