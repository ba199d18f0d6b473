"""Write docs/parity.md from the numbers of the last ``make parity``.

    python benchmarks/parity_page.py [--check]

With --check nothing is written; the exit code is 1 if the page is not what the numbers give.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from d2l_ft.parity.command import findings_table, tolerance_table
from d2l_ft.parity.proof import Finding
from d2l_ft.parity.rungs import RUNGS
from d2l_ft.parity.tolerances import row

HERE = Path(__file__).parent
PAGE = HERE.parent / 'docs/parity.md'


def worst(checks: list[dict[str, Any]], rung: str) -> list[str]:
    """Return a table row for each kind of check of a rung: the worst value and its margin."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in checks:
        name, case, what = each['name'].split('/')
        if name == rung:
            key = f'{case}/{what}' if case in ('own', 'draws') else what
            kinds.setdefault(row(rung, key).what, []).append(each)
    rows = []
    for what, group in kinds.items():
        top = max(group, key=lambda each: each['value'])
        margin = f'{top["tolerance"] / top["value"]:.1f}' if top['value'] else ''
        rows.append(
            f'| {rung}: {what} | {len(group)} | {top["value"]:.2g} | {top["tolerance"]:g} '
            f'| {margin} | {top["unit"]} | {top["name"].split("/")[1]} |'
        )
    return rows


def render() -> str:
    """Return the page."""
    result = json.loads((HERE / 'parity.json').read_text())
    findings = [Finding(**each) for each in json.loads((HERE / 'faults.json').read_text())]
    plan, versions = result['environment']['plan'], result['environment']['versions']
    verdict = 'equal' if result['equal'] else 'DIFFERENT'
    lines = [
        '<!-- written by benchmarks/parity_page.py; do not edit -->',
        '# The proof',
        '',
        f'**{verdict}: {len(result["checks"])} checks**, {len(plan["archs"])} architectures, heads '
        f'of {", ".join(map(str, plan["heads"]))} classes, {plan["steps"]} steps, in '
        f'{result["seconds"] / 60:.0f} minutes. '
        + ', '.join(f'{name} {version}' for name, version in versions.items())
        + f'; {result["environment"]["system"]}.',
        '',
        'What is compared, how, and why in float64: see the module docstrings of `d2l_ft/parity`.',
        '',
        '## Worst value of each check',
        '',
        '| check | times | worst | at most | margin | unit | in |',
        '|---|---|---|---|---|---|---|',
        *(line for rung in RUNGS for line in worst(result['checks'], rung)),
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
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true')
    text = render()
    if parser.parse_args().check:
        sys.exit(0 if PAGE.read_text() == text else f'{PAGE} is stale: run {Path(__file__).name}')
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text)


if __name__ == '__main__':
    main()
