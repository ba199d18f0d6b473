"""Trace one framework: the process that ``ladder`` starts for each.

    python -m d2l_ft.parity.trace BACKEND FOLDER [--again OTHER] [--source]
    python -m d2l_ft.parity.trace BACKEND FOLDER --faults NAME,NAME,... --again OTHER

FOLDER/plan.json says what to do; the trace goes to FOLDER/BACKEND, of a fault to
FOLDER/NAME/BACKEND. Each finished rung prints a line of JSON.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

from d2l_ft.backend.probe import get_probe
from d2l_ft.backend.registry import get_backend
from d2l_ft.convert.trainable import add_net
from d2l_ft.errors import D2LFTError, ParityError
from d2l_ft.parity.faults import FAULTS, plant
from d2l_ft.parity.plan import Context, Plan
from d2l_ft.parity.rungs import RUNGS, checkpoints
from d2l_ft.sources.load import load_source


def main() -> None:
    """Trace; exit with code 2 and one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('backend')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--again', type=Path, help="read this trace's checkpoints")
    parser.add_argument('--faults', default='', help='plant each of these in turn')
    parser.add_argument('--source', action='store_true', help='only make the source of whole runs')
    options = parser.parse_args()
    try:
        context = begin(options.folder, options.backend)
        if options.source:
            load_source(context.plan.source, context.plan.archs[0], context.backend)
        elif options.faults:
            trace_faults(context, options.folder, options.faults.split(','), options.again)
        elif options.again:
            checkpoints.trace_again(context, options.again)
        else:
            trace(context)
    except D2LFTError as error:
        print(f'{options.backend}: {error}', file=sys.stderr)
        sys.exit(2)


def begin(folder: Path, name: str) -> Context:
    """Return the context of a framework.

    Raises:
        ParityError: There is no valid plan.
    """
    try:
        plan = Plan.from_json((folder / 'plan.json').read_text())
    except (OSError, ValueError, TypeError) as error:
        raise ParityError(f'{folder} has no good plan.json ({error})') from error
    for record in plan.nets:
        add_net(record)
    backend = get_backend(name)
    return Context(plan, backend, get_probe(backend), folder / name)


def trace(context: Context) -> None:
    """Trace every rung of the plan."""
    for rung in context.plan.rungs:
        start_time = time.perf_counter()
        trace_rung(context, rung)
        tell(rung, time.perf_counter() - start_time)


def trace_rung(context: Context, rung: str) -> None:
    """Trace one rung, replacing an earlier trace of it."""
    shutil.rmtree(context.folder / rung, ignore_errors=True)
    RUNGS[rung].trace(context)


def trace_faults(context: Context, folder: Path, names: list[str], other: Path) -> None:
    """Trace once for each fault, with the rungs that must find it."""
    for name in names:
        start_time = time.perf_counter()
        plan = dataclasses.replace(context.plan, rungs=FAULTS[name].rungs)
        place = folder / name / context.backend.NAME
        with plant(name, dataclasses.replace(context, plan=plan, folder=place)) as faulty:
            for rung in plan.rungs:
                trace_rung(faulty, rung)
            if 'checkpoints' in plan.rungs:
                checkpoints.trace_again(faulty, other)
        tell(name, time.perf_counter() - start_time)


def tell(what: str, seconds: float) -> None:
    """Report to the parent process that something is done."""
    print(json.dumps({'done': what, 'seconds': round(seconds, 2)}), flush=True)


if __name__ == '__main__':
    main()
