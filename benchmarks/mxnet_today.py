"""Try MXNet and GluonCV on pairs of Python and NumPy, and write docs/mxnet-today.md's table.

python benchmarks/mxnet_today.py            # an environment per pair below build/mxnet-today
python benchmarks/mxnet_today.py --page     # the table again, from mxnet_today.json
python benchmarks/mxnet_today.py --check    # exit code 1 if the table is not what the JSON gives

Pairs whose CPython is not found on this machine are left as they were measured before.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NUMBERS, PAGE = HERE / 'mxnet_today.json', HERE.parent / 'docs/mxnet-today.md'
ENVIRONMENTS = HERE.parent / 'build/mxnet-today'
CHECKS = HERE / 'mxnet_today_checks.py'
BEGIN, END = '<!-- table: written by benchmarks/mxnet_today.py -->', '<!-- end of the table -->'
PAIRS = (
    ('3.10', '1.23.5'),
    ('3.13', '2.5.*'),
    ('3.10', '2.2.*'),
    ('3.12', '1.26.*'),
    ('3.12', '2.5.*'),
    ('3.11', '1.26.*'),
    ('3.11', '2.4.*'),
    ('3.13', '2.1.*'),
)
"""(Python, NumPy); the first is what MXNet was made for, and what the others are compared with."""

MXNET = ('mxnet==1.9.1', 'gluoncv==0.10.5.post0')
NEEDS = (
    'requests', 'graphviz', 'scipy', 'pandas', 'matplotlib', 'pillow', 'tqdm', 'portalocker',
    'pyyaml', 'autocfg', 'opencv-python-headless',
)  # fmt: skip
"""What the two import; --no-deps leaves it out."""


def interpreter(version: str) -> str | None:
    """Return the CPython of a version, from the path or from pyenv."""
    root = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
    found = sorted(root.glob(f'{version}.*/bin/python'))
    return str(found[-1]) if found else shutil.which(f'python{version}')


def environment(python: str, version: str, numpy: str) -> Path:
    """Return the Python of the environment of a pair, which is made at first use."""
    folder = ENVIRONMENTS / f'{version}-{numpy.rstrip(".*")}'
    inner = folder / 'bin/python'
    if not (folder / 'installed').is_file():
        subprocess.run([python, '-m', 'venv', '--clear', folder], check=True)
        pip = [inner, '-m', 'pip', 'install', '-q', '--disable-pip-version-check']
        subprocess.run([*pip, '--prefer-binary', f'numpy=={numpy}', *NEEDS], check=True)
        subprocess.run([*pip, '--no-deps', *MXNET], check=True)
        (folder / 'installed').touch()
    return inner


def measure() -> None:
    """Run the checks in each pair, and write the JSON after each."""
    kept = json.loads(NUMBERS.read_text())['rows'] if NUMBERS.is_file() else []
    rows = {tuple(row['pair']): row for row in kept if tuple(row['pair']) in PAIRS}
    for version, numpy in PAIRS:
        python = interpreter(version)
        if python is None:
            print(f'no CPython {version} here', file=sys.stderr)
            continue
        print(f'CPython {version}, NumPy {numpy}', file=sys.stderr)
        paths = [str(HERE.parent), str(HERE.parent / 'backends')]
        done = subprocess.run(
            [environment(python, version, numpy), '-W', 'ignore', CHECKS],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {'PYTHONPATH': os.pathsep.join(paths), 'OMP_NUM_THREADS': '1'},
        )
        row = json.loads(done.stdout.splitlines()[-1])
        rows[version, numpy] = {'pair': [version, numpy], **row}
        store([rows[pair] for pair in PAIRS if pair in rows])


def store(rows: list[dict[str, Any]]) -> None:
    """Write what is measured so far."""
    result = {'date': datetime.date.today().isoformat(), 'rows': rows}
    NUMBERS.write_text(json.dumps(result, indent=1) + '\n')


def table(result: dict[str, Any]) -> str:
    """Return the generated part of the page."""
    rows = result['rows']
    first = rows[0]
    lines = [
        BEGIN,
        f'Measured on {result["date"]}. "Equal" is bit by bit the result of the first column.',
        '',
        '| | ' + ' | '.join(f'{row["python"]}, NumPy {row["numpy"]}' for row in rows) + ' |',
        '|---' * (len(rows) + 1) + '|',
        '| names given | ' + ' | '.join(str(row['given']) for row in rows) + ' |',
    ]
    for name, wanted in first['checks'].items():
        cells = [cell(row['checks'].get(name, 'not run'), wanted) for row in rows[1:]]
        begin = wanted if wanted.startswith('failed') else 'reference'
        lines.append(f'| {name} | ' + ' | '.join([begin, *cells]) + ' |')
    versions = '; '.join(
        f'{row["python"]} with ' + ', '.join(f'{n} {v}' for n, v in row['others'].items())
        for row in rows
    )
    return '\n'.join([*lines, '', f'Beside them: {versions}.', END])


def cell(found: str, reference: str) -> str:
    """Return what a pair's result is beside the reference's."""
    if found.startswith(('failed', 'not')):
        return found
    return 'equal' if found == reference else 'differs'


def render() -> str:
    """Return the page with a new table."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    return before + table(json.loads(NUMBERS.read_text())) + rest.partition(END)[2]


def main() -> None:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--page', action='store_true', help='write the table alone')
    parser.add_argument('--check', action='store_true', help='write nothing')
    options = parser.parse_args()
    if options.check:
        fresh = PAGE.read_text() == render()
        sys.exit(0 if fresh else f'{PAGE} is stale: run {Path(__file__).name} --page')
    if not options.page:
        measure()
    PAGE.write_text(render())


if __name__ == '__main__':
    main()
