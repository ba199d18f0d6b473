"""Write docs/parity.md from the numbers of the last proof in each environment.

    python benchmarks/parity_page.py [--check]
    python benchmarks/parity_page.py --merge TARGET PART [PART ...]

With --check nothing is written; the exit code is 1 if the page is not what the numbers give. With
--merge the numbers of several partial runs become one file: TARGET.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2l_ft.errors import ParityError
from d2l_ft.parity.command import findings_table, tolerance_table
from d2l_ft.parity.proof import Finding
from d2l_ft.parity.rungs import RUNGS
from d2l_ft.parity.tolerances import row

HERE = Path(__file__).parent
PAGE = HERE.parent / 'docs/parity.md'


FILES = ('parity.json', 'parity-legacy.json')
"""The proof on today's Python and NumPy, and on those of MXNet's time."""

Numbers = dict[str, Any]
"""What ``d2l-ft parity --json`` writes."""


def group(name: str) -> str:
    """Return rung and case of a check: what a run measures together."""
    return name.rpartition('/')[0]


def merge(parts: Sequence[Numbers]) -> Numbers:
    """Return the union of several partial runs; what is measured again replaces what was before.

    Raises:
        ParityError: They are of other versions or of other plans than their extent.
    """
    extent = ('archs', 'heads', 'rungs')
    first = parts[0]['environment']
    fixed = {name: value for name, value in first['plan'].items() if name not in extent}
    checks: dict[str, Numbers] = {}
    plan = dict(first['plan'])
    for part in parts:
        other = part['environment']
        for name in sorted(first['versions'].keys() | other['versions'].keys()):
            pair = first['versions'].get(name), other['versions'].get(name)
            if pair[0] != pair[1]:
                raise ParityError(f'cannot merge runs of {name} {pair[0]} and {pair[1]}')
        for name, value in fixed.items():
            if other['plan'].get(name) != value:
                raise ParityError(f'cannot merge runs whose plans have another {name}')
        again = {group(each['name']) for each in part['checks']}
        checks = {name: each for name, each in checks.items() if group(name) not in again}
        checks |= {each['name']: each for each in part['checks']}
        plan |= {name: list(dict.fromkeys([*plan[name], *other['plan'][name]])) for name in extent}
    rungs = list(RUNGS)
    plan['rungs'] = sorted(plan['rungs'], key=rungs.index)
    plan['heads'] = sorted(plan['heads'])
    sorted_checks = sorted(
        checks.values(), key=lambda each: rungs.index(each['name'].split('/')[0])
    )
    return {
        'equal': all(each['ok'] or is_stated(each) for each in sorted_checks),
        'checks': sorted_checks,
        'environment': {**first, 'plan': plan},
        'notes': list(dict.fromkeys(note for part in parts for note in part['notes'])),
        'seconds': round(sum(part['seconds'] for part in parts), 1),
    }


def is_stated(check: Numbers) -> bool:
    """Tell whether a check is a figure that is only stated."""
    return bool(check.get('stated'))


def kinds(checks: list[Numbers], rung: str) -> dict[str, list[Numbers]]:
    """Return the checks of a rung by the row of the table of tolerances that they belong to."""
    found: dict[str, list[Numbers]] = {}
    for each in checks:
        name, case, what = each['name'].split('/')
        if name == rung:
            key = f'{case}/{what}' if case in ('own', 'draws') else what
            found.setdefault(row(rung, key).what, []).append(each)
    return found


def number(check: Numbers) -> float:
    """Return the value of a check; infinity is null in JSON."""
    return math.inf if check['value'] is None else float(check['value'])


def worst(results: Sequence[Numbers], rung: str) -> list[str]:
    """Return a row for each kind of check of a rung: the worst value in each environment."""
    found = [kinds(result['checks'], rung) for result in results]
    rows = []
    for what in dict.fromkeys(name for each in found for name in each):
        tops = [max(each[what], key=number) if what in each else None for each in found]
        values = ' | '.join('-' if top is None else f'{number(top):.3g}' for top in tops)
        known = [top for top in tops if top is not None]
        top = max(known, key=number)
        most, margin = 'stated', ''
        if not is_stated(top):
            most = f'{top["tolerance"]:g}'
            margin = f'{top["tolerance"] / number(top):.1f}' if number(top) else ''
        times = max(len(each.get(what, ())) for each in found)
        rows.append(
            f'| {rung}: {what} | {times} | {values} | {most} | {margin} | {top["unit"]} '
            f'| {group(top["name"]).partition("/")[2]} |'
        )
    return rows


def header(result: Numbers) -> list[str]:
    """Return what was compared in an environment, and where."""
    plan, versions = result['environment']['plan'], result['environment']['versions']
    verdict = 'equal' if result['equal'] else 'DIFFERENT'
    judged = sum(not is_stated(each) for each in result['checks'])
    figures = len(result['checks']) - judged
    more = f' (and {figures} stated figures)' if figures else ''
    return [
        f'**Python {versions["python"]}, {verdict}: {judged} checks**{more}, {len(plan["archs"])} '
        f'architectures, heads of {", ".join(map(str, plan["heads"]))} classes, {plan["steps"]} '
        f'steps, in {result["seconds"] / 60:.0f} minutes. '
        + ', '.join(f'{name} {version}' for name, version in versions.items() if name != 'python')
        + f'; {result["environment"]["system"]}.',
        '',
    ]


def render() -> str:
    """Return the page."""
    results = [json.loads((HERE / name).read_text()) for name in FILES]
    findings = [Finding(**each) for each in json.loads((HERE / 'faults.json').read_text())]
    names = [f'Python {each["environment"]["versions"]["python"]}' for each in results]
    lines = [
        '<!-- written by benchmarks/parity_page.py; do not edit -->',
        '# The proof',
        '',
        *(line for result in results for line in header(result)),
        'What is compared, how, and why in float64: see the module docstrings of `d2l_ft/parity`.',
        '',
        '## Worst value of each check',
        '',
        f'| check | times | {" | ".join(names)} | at most | margin | unit | in |',
        '|---|---' + '|---' * len(names) + '|---|---|---|---|',
        *(line for rung in RUNGS for line in worst(results, rung)),
        '',
        'Margin and place are those of the larger value. A figure that is *stated* depends on the '
        'pictures, so it has no limit and nothing is judged by it.',
        '',
        '## Planted faults',
        '',
        f'{sum(each.found for each in findings)} of {len(findings)} are found, each by the check '
        'that ought to find it, at the place where it was planted.',
        '',
        *findings_table(findings),
        '',
        '## Tolerances',
        '',
        *tolerance_table(),
        '',
    ]
    return '\n'.join(lines)


def main() -> None:
    """Write, check or merge."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true')
    parser.add_argument('--merge', nargs='+', type=Path, metavar='FILE')
    options = parser.parse_args()
    if options.merge:
        target, *parts = options.merge
        if not parts:
            parser.error('--merge takes a target and at least one part')
        merged = merge([json.loads(part.read_text()) for part in parts])
        target.write_text(json.dumps(merged, indent=1) + '\n')
        return
    text = render()
    if options.check:
        sys.exit(0 if PAGE.read_text() == text else f'{PAGE} is stale: run {Path(__file__).name}')
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text)


if __name__ == '__main__':
    main()
