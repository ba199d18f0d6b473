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
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

from d2l_ft.devices import usable_cores
from d2l_ft.experiment import versions

HERE = Path(__file__).parent
NUMBERS, PAGE = HERE / 'reliability.json', HERE.parent / 'docs/reliability.md'
TESTS = HERE.parent / 'tests/reliability'
ORDER = (
    'resume', 'checkpoints', 'downloads', 'archives', 'loading', 'images', 'determinism',
    'failures', 'long_runs',
)  # fmt: skip
"""Files of tests, in the order of the page."""


def measure() -> dict[str, Any]:
    """Run the tests; return what they measured.

    Raises:
        SystemExit: One failed.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.xml'
        options = ['-o', 'junit_family=xunit1', f'--junitxml={report}', '--timeout=1800']
        command = [sys.executable, '-m', 'pytest', str(TESTS), *options]
        environment = os.environ | {'D2L_FT_THOROUGH': '1'}
        if code := subprocess.run(
            command, cwd=HERE.parent, env=environment, check=False
        ).returncode:
            sys.exit(code)
        cases = list(xml.etree.ElementTree.parse(report).iter('testcase'))
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        name, _, parameter = case.attrib['name'].partition('[')
        file = case.attrib['file'].rsplit('/', 1)[-1].removeprefix('test_').removesuffix('.py')
        line = found.setdefault(f'{file}/{name}', {'passed': 0, 'skipped': 0, 'figures': []})
        line['skipped' if case.find('skipped') is not None else 'passed'] += 1
        for each in case.iter('property'):
            line['figures'].append([parameter.rstrip(']'), each.attrib['value']])
    return {
        'date': datetime.date.today().isoformat(),
        'system': f'{platform.system()} {platform.machine()}, {usable_cores()} cores',
        'versions': versions(),
        'minutes': round((time.monotonic() - begun) / 60),
        'tests': found,
    }


def names() -> set[str]:
    """Return the tests that there are, as the numbers call them."""
    found = set()
    for file in ORDER:
        for node in ast.walk(ast.parse((TESTS / f'test_{file}.py').read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
                found.add(f'{file}/{node.name}')
    return found


def shown(line: dict[str, Any]) -> str:
    """Return a cell of the table: what a test measured, or how many cases passed."""
    figures = [figure for _, figure in line['figures']]
    if not figures:
        return f'{line["passed"]} passed'
    if len(set(figures)) == 1:
        return f'{len(figures)} of {line["passed"]}: {figures[0]}' if figures[1:] else figures[0]
    if all(re.match(r'(mxnet|pytorch)\b', each) for each in figures) or not line['figures'][0][0]:
        return '<br>'.join(figures)
    return '<br>'.join(f'{case}: {figure}' for case, figure in line['figures'])


def render() -> str:
    """Return the page."""
    result = json.loads(NUMBERS.read_text())
    tests = result['tests']
    passed = sum(each['passed'] for each in tests.values())
    lines = [
        '<!-- written by benchmarks/reliability.py; do not edit -->',
        '# Nothing lost, nobody let in',
        '',
        f'**{passed} cases passed** on {result["date"]} in {result["minutes"]} minutes '
        f'({result["system"]}; '
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
                lines.append(f'| {name.partition("/test_")[2].replace("_", " ")} | {shown(line)} |')
    return '\n'.join([*lines, ''])


def main() -> None:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--page', action='store_true', help='write the page alone')
    parser.add_argument('--check', action='store_true', help='write nothing')
    options = parser.parse_args()
    if options.check:
        if gone := names() ^ set(json.loads(NUMBERS.read_text())['tests']):
            sys.exit(f'{NUMBERS} is stale ({sorted(gone)[0]}): run {Path(__file__).name}')
        fresh = PAGE.read_text() == render()
        sys.exit(0 if fresh else f'{PAGE} is stale: run {Path(__file__).name} --page')
    if not options.page:
        NUMBERS.write_text(json.dumps(measure(), indent=1) + '\n')
    PAGE.write_text(render())


if __name__ == '__main__':
    main()
