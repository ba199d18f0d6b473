"""Measure how fast this is, and write docs/performance.md.

python benchmarks/performance.py                 # up to an hour on two cores; writes JSON and page
python benchmarks/performance.py --only steps    # one claim again; the rest of the page stays
python benchmarks/performance.py --only steps --beside   # with other versions, shown beside
python benchmarks/performance.py --only gpu      # where there is one
python benchmarks/performance.py --page          # the page again, from the JSON files
python benchmarks/performance.py --check         # exit code 1 if the page is not what they give
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NUMBERS, PAGE = HERE / 'performance', HERE.parent / 'docs/performance.md'
CLAIMS = ('steps', 'accuracy', 'peers', 'loading', 'frozen', 'start', 'growth', 'gpu')
"""Scripts, in the order of the page; each has a JSON file in ``NUMBERS`` once it was measured."""


def render() -> str:
    """Return the page."""
    from bench import describe

    lines = ['<!-- written by benchmarks/performance.py; do not edit -->', '# Performance', '']
    lines += [
        'What is compared runs in turn, each time in a process of its own, on a machine that '
        'others use too: believe the ratios, which are medians over the rounds, before the rates. '
        '`make bench` measures all of it; `benchmarks/` has a script for each part.',
    ]
    for claim in CLAIMS:
        if (file := NUMBERS / f'{claim}.json').is_file():
            result = json.loads(file.read_text())
            lines += ['', *importlib.import_module(claim).section(result), '']
            lines.append(f'Measured on {describe(result["machine"])}.')
            if (other := NUMBERS / f'{claim}-beside.json').is_file():
                lines += ['', *importlib.import_module(claim).beside(json.loads(other.read_text()))]
        else:
            script = f'`python benchmarks/performance.py --only {claim}`'
            lines += ['', f'Not measured so far: {claim}. Where it can be, {script} does it.']
    return '\n'.join([*lines, ''])


def main() -> None:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition('\n')[0])
    parser.add_argument('--page', action='store_true', help='write the page alone')
    parser.add_argument('--check', action='store_true', help='write nothing')
    parser.add_argument('--only', action='append', choices=CLAIMS, help='measure this alone')
    parser.add_argument(
        '--beside',
        action='store_true',
        help='measure what is compared, without what was tried, and show it beside: for the '
        'steps, with the versions of another lock',
    )
    parser.add_argument(
        '--quick', action='store_true', help='small numbers, printed and not written: does it run?'
    )
    options = parser.parse_args()
    if options.beside and options.only != ['steps']:
        parser.error('--beside is for --only steps')
    if options.check:
        fresh = PAGE.read_text() == render()
        sys.exit(0 if fresh else f'{PAGE} is stale: run {Path(__file__).name} --page')
    claims = options.only or [claim for claim in CLAIMS if claim != 'gpu']
    for claim in () if options.page else claims:
        from bench import machine

        module = importlib.import_module(claim)
        more = {'tried': False} if options.beside else {}
        result: dict[str, Any] = {'machine': machine()} | module.measure(options.quick, **more)
        if options.quick:
            print('\n'.join(module.section(result)))
            continue
        NUMBERS.mkdir(exist_ok=True)
        name = f'{claim}-beside' if options.beside else claim
        (NUMBERS / f'{name}.json').write_text(json.dumps(result, indent=1) + '\n')
    if not options.quick:
        PAGE.write_text(render())


if __name__ == '__main__':
    main()
