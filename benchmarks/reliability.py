"""Run the tests of reliability with their full numbers, and write docs/reliability.md.

python benchmarks/reliability.py            # twenty minutes on two cores; writes both files
python benchmarks/reliability.py --page     # the page again, from reliability.json
python benchmarks/reliability.py --check    # exit code 1 if the page is not what the JSON gives
"""

import argparse
import ast
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2l_ft.backend.versions import versions
from d2l_ft.system.hardware import usable_cores

HERE = Path(__file__).parent
NUMBERS, PAGE = HERE / 'reliability.json', HERE.parent / 'docs/reliability.md'
TESTS = HERE.parent / 'tests/reliability'
ORDER = (
    'resume', 'contents', 'checkpoints', 'downloads', 'archives', 'loading', 'images',
    'hostile', 'determinism', 'failures', 'signals', 'long_runs', 'streams',
)  # fmt: skip
"""Files of tests, in the order of the page."""


def measure(files: Sequence[str]) -> dict[str, Any]:
    """Run some files of tests; return what they measured.

    Raises:
        SystemExit: One failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.xml'
        options = ['-o', 'junit_family=xunit1', f'--junitxml={report}', '--timeout=1800']
        paths = [str(TESTS / f'test_{file}.py') for file in files]
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', *paths, *options],
            cwd=HERE.parent,
            env=os.environ | {'D2L_FT_THOROUGH': '1'},
            check=False,
        )
        if done.returncode:
            sys.exit(done.returncode)
        tests = collect(report)
    return {
        'date': datetime.date.today().isoformat(),
        'system': f'{platform.system()} {platform.machine()}, {usable_cores()} cores',
        'versions': versions(),
        'tests': tests,
    }


def collect(report: Path) -> dict[str, dict[str, Any]]:
    """Return what the tests of a report in JUnit's format measured."""
    found: dict[str, dict[str, Any]] = {}
    for case in xml.etree.ElementTree.parse(report).iter('testcase'):
        name, _, parameter = case.attrib['name'].partition('[')
        file = case.attrib['file'].rsplit('/', 1)[-1].removeprefix('test_').removesuffix('.py')
        line = found.setdefault(f'{file}/{name}', {'passed': 0, 'figures': []})
        line['passed'] += 1
        for each in case.iter('property'):
            line['figures'].append([parameter.rstrip(']'), each.attrib['value']])
    return found


def counts() -> Counter[str]:
    """Return file -> number of tests; their names do not matter, so that they can be changed."""
    return Counter(
        file
        for file in ORDER
        for node in ast.walk(ast.parse((TESTS / f'test_{file}.py').read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
    )


def table_cell(line: dict[str, Any]) -> str:
    """Return a cell of the table: what a test measured, or how many cases passed."""
    cases = line['figures']
    if not cases:
        return f'{line["passed"]} passed'
    if len({figure for _, figure in cases}) == 1:
        return f'{len(cases)} of {line["passed"]}: {cases[0][1]}' if cases[1:] else cases[0][1]
    return '<br>'.join(
        figure
        if figure.startswith((case, f'{case.partition("-")[0]}, '))  # it names its case itself
        else f'{case}: {re.sub("^(mxnet|pytorch): ", "", figure)}'
        for case, figure in ((case.strip('-'), figure) for case, figure in cases)
    )


def render() -> str:
    """Return the page."""
    result = json.loads(NUMBERS.read_text())
    tests = result['tests']
    passed = sum(each['passed'] for each in tests.values())
    lines = [
        '<!-- written by benchmarks/reliability.py; do not edit -->',
        '# Reliability',
        '',
        f'**{passed} cases passed** on {result["date"]} ({result["system"]}; '
        + ', '.join(f'{name} {version}' for name, version in result['versions'].items())
        + ').',
        '',
        'Each line is a test in `tests/reliability`; `make reliability` runs them with the numbers '
        'shown here, `make test` with fewer repetitions.',
    ]
    for file in ORDER:
        document = ast.get_docstring(ast.parse((TESTS / f'test_{file}.py').read_text()))
        title = file.replace('_', ' ').capitalize()
        lines += ['', f'## {title}', '', str(document).partition('\n')[0], '']
        lines += ['| test | measured |', '|---|---|']
        for name, line in tests.items():
            if name.startswith(f'{file}/'):
                lines.append(
                    f'| {name.partition("/test_")[2].replace("_", " ")} | {table_cell(line)} |'
                )
    return '\n'.join([*lines, ''])


def main() -> None:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--page', action='store_true', help='write the page alone')
    parser.add_argument('--check', action='store_true', help='write nothing')
    parser.add_argument(
        '--only', action='append', choices=ORDER, help='measure a file again; keep the others'
    )
    options = parser.parse_args()
    if options.check:
        measured = Counter(
            name.partition('/')[0] for name in json.loads(NUMBERS.read_text())['tests']
        )
        if other := [file for file in ORDER if counts()[file] != measured[file]]:
            sys.exit(
                f'{NUMBERS} is stale: test_{other[0]}.py has {counts()[other[0]]} tests, of which '
                f'{measured[other[0]]} were measured: run {Path(__file__).name} --only {other[0]}'
            )
        fresh = PAGE.read_text() == render()
        sys.exit(0 if fresh else f'{PAGE} is stale: run {Path(__file__).name} --page')
    if not options.page:
        result = measure(options.only or ORDER)
        if options.only:
            before = json.loads(NUMBERS.read_text())
            kept = {
                name: line
                for name, line in before['tests'].items()
                if name.partition('/')[0] not in options.only
            }
            result['tests'] = kept | result['tests']
        NUMBERS.write_text(json.dumps(result, indent=1) + '\n')
    PAGE.write_text(render())


if __name__ == '__main__':
    main()
