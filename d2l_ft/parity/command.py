"""What ``d2l-ft parity`` does."""

import json
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d2l_ft.backend.registry import check_installed
from d2l_ft.convert.trainable import add_folder
from d2l_ft.data.datasets import load_data
from d2l_ft.data.hub import DATA_HUB
from d2l_ft.data.image_folder import scan
from d2l_ft.data.validation import check_images
from d2l_ft.errors import ParityError
from d2l_ft.models.architectures import ARCHITECTURES, architecture
from d2l_ft.parity.ladder import PAIR, Result, run_ladder
from d2l_ft.parity.plan import Check, Plan, is_too_small
from d2l_ft.parity.proof import Finding, prove
from d2l_ft.parity.report import page
from d2l_ft.parity.rungs import RUNGS
from d2l_ft.parity.tolerances import TABLE
from d2l_ft.runs.settings import full_path, is_folder
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.system.hardware import usable_cores

HEADS = (2, 10, 1000)
"""Heads of the full ladder; the first is that of the quick one."""

BOOK = 'book'
"""The rung that runs the book's own code, with the book's own net."""

Say = Callable[[str], object]


def make_plan(
    data: str = 'sample',
    arch: str = 'resnet18',
    steps: int = 50,
    precision: str | None = None,
    rungs: str | None = None,
    heads: str | None = None,
) -> Plan:
    """Return the plan for the command's options.

    Raises:
        D2LFTError: A framework is not installed, the data set is bad, or an option can't be read.
    """
    for name in PAIR:
        check_installed(name)
    names = list(RUNGS) if rungs is None else rungs.replace(' ', '').split(',')
    if unknown := [name for name in names if name not in RUNGS]:
        raise ParityError(f'no rung is named {unknown[0]!r}: choose of {", ".join(RUNGS)}')
    if 'update' in names:
        names.append('backward')  # it takes the step whose changes are compared
    default = HEADS if arch == 'all' else HEADS[:1]
    try:
        classes = default if heads is None else tuple(int(each) for each in heads.split(','))
    except ValueError:
        raise ParityError(f'cannot read the heads {heads!r}: write 2,10,1000') from None
    if min(classes) < 2:
        raise ParityError('a head needs at least 2 classes')
    if is_folder(arch) and arch != 'all':
        net = add_folder(arch)
        assert net.definition is not None
        names = [name for name in names if name != BOOK or rungs is not None]
        own: dict[str, Any] = {
            'archs': (net.name,),
            'nets': (net.definition.record,),
            'image_size': net.image_size,
            'source': full_path(arch),
        }
    else:
        archs = tuple(ARCHITECTURES) if arch == 'all' else (architecture(arch).name,)
        own = {'archs': archs, 'source': 'sample'}
    return Plan(
        root=find_root(data),
        **own,
        heads=classes,
        steps=steps,
        rungs=tuple(name for name in RUNGS if name in names),
        # float32 is judged by its distance from float64, so it never goes alone
        precisions=('float64',) if precision == 'float64' else ('float64', 'float32'),
        threads=max(1, usable_cores() // len(PAIR)),
    )


def find_root(data: str) -> str:
    """Return the folder of a data set, after checking its images.

    Raises:
        DataError: As ``load_data``.
    """
    folder = Path(data).expanduser().resolve()
    if data not in ('sample', *DATA_HUB) and folder.is_dir() and is_too_small(str(folder)):
        check_images(scan(folder).samples)  # too few for a split, which is not needed here
        return str(folder)
    return load_data(data).root


def compare_frameworks(
    plan: Plan, precision: str | None, report: Path | None, json_file: Path | None, say: Say
) -> int:
    """Run the ladder, print the result of each check, write the report; return the exit code.

    Raises:
        D2LFTError: The frameworks could not be compared.
    """

    def tell(check: Check) -> None:
        if has_precision(check, precision):
            say(line(check))

    with tempfile.TemporaryDirectory(prefix='d2l-ft-parity-') as folder:
        result = run_ladder(plan, Path(folder), tell)
        result = replace(
            result, checks=[each for each in result.checks if has_precision(each, precision)]
        )
        if report:
            write_atomic(report, page(plan, result, Path(folder)).encode())
    if json_file:
        write_atomic(json_file, (result.to_json() + '\n').encode())
        say(f'numbers: {json_file}')
    if report:
        say(f'report: {report}')
    return verdict(result, say)


def has_precision(check: Check, precision: str | None) -> bool:
    """Tell whether a check is of the precision that was asked for, or of none."""
    if precision != 'float32':
        return True  # in float64 alone, float32 was not traced
    rung, _, what = check.name.split('/')
    exact = 'float64' in what or rung in ('update', 'devices', 'book') or what == 'resumed'
    return not exact and (rung != 'trajectory' or 'float32' in what)


def line(check: Check) -> str:
    """Return a check as a line: measured value, tolerance, verdict; then place and cause.

    A figure that is only stated has neither tolerance nor verdict.
    """
    if check.stated:
        where = f'; {check.where}' if check.where else ''
        return f'     {check.name:52} {check.value:8.1e}  (stated, {check.unit}{where})'
    least = f'{check.low:.0e} to ' if check.low else ''
    text = (
        f'{"ok  " if check.ok else "DIFF"} {check.name:52} {check.value:8.1e}  '
        f'(at most {least}{check.tolerance:.0e} {check.unit})'
    )
    return text if check.ok else f'{text}\n     at {check.where}; likely cause: {check.cause}'


def verdict(result: Result, say: Say) -> int:
    """Print the result of the ladder; return the exit code.

    Raises:
        ParityError: Nothing was compared.
    """
    if not result.judged_checks:
        raise ParityError('; '.join(result.notes) or 'nothing was compared')
    for note in result.notes:
        say(note)
    if failures := result.failures:
        say(f'different: {len(failures)} of {result.count}; the first is {failures[0].name}')
        return 1
    say(f'equal: {result.count}')
    return 0


def find_faults(plan: Plan, json_file: Path | None, say: Say) -> int:
    """Plant the faults and print which were found; return the exit code.

    Raises:
        ParityError: The plan has a converted net: the faults are planted in one architecture.
    """
    if plan.nets:
        raise ParityError(
            'the faults are planted in ResNet-18: leave out `arch`; in a converted net  '
            'd2l-ft verify  plants its own'
        )
    with tempfile.TemporaryDirectory(prefix='d2l-ft-parity-') as folder:
        findings = prove(plan, Path(folder))
    if json_file:
        rows = [asdict(each) for each in findings]
        write_atomic(json_file, (json.dumps(rows, indent=1) + '\n').encode())
    say('\n'.join(findings_table(findings)))
    found = sum(each.found for each in findings)
    say(f'\n{found} of {len(findings)} planted faults found')
    return 0 if found == len(findings) else 1


def findings_table(findings: Iterable[Finding]) -> list[str]:
    """Return a Markdown table of faults."""
    rows = ['| planted fault | found by | at |', '|---|---|---|']
    for each in findings:
        check = each.check if each.found else f'NOT FOUND ({each.check or "no check failed"})'
        rows.append(f'| {each.text} | {check} | {each.where} |')
    return rows


def tolerance_table() -> list[str]:
    """Return the Markdown table of all tolerances."""
    rows = ['| check | at most | worst seen | unit | why not less |', '|---|---|---|---|---|']
    for each in TABLE:
        least = f'{each.least:g} to ' if each.least else ''
        most, seen = f'{least}{each.limit:g}', f'{each.seen:g}'
        if math.isinf(each.limit):
            most, seen = 'stated', ''
        rows.append(f'| {each.rung}: {each.what} | {most} | {seen} | {each.unit} | {each.reason} |')
    return rows
