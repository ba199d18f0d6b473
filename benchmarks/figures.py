"""Fill in the figures of README.md and docs/*.md from the JSON files of the benchmarks.

python benchmarks/figures.py            # write the pages
python benchmarks/figures.py --check    # exit code 1, with a line for each figure that is stale

A figure stands between ``<!--figure:NAME-->`` and ``<!--/figure-->``; ``figures`` tells how each is
computed. Neither marker may begin a line: Markdown would take the line for HTML.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import ratio, spread
from loading import over_epochs
from peers import BOOK_MXNET, BOOK_PYTORCH, rates

HERE = Path(__file__).parent
ROOT = HERE.parent
MARKED = re.compile(r'(<!--figure:([\w.]+)-->)(.*?)(<!--/figure-->)', re.DOTALL)


def load_numbers(name: str) -> Any:
    """Return what the JSON file of a benchmark holds."""
    return json.loads((HERE / f'{name}.json').read_text())


def figures() -> dict[str, str]:
    """Return name -> text of every figure that a page may have."""
    return speed() | gpu_speed() | accuracy() | proof() | reliability()


def speed() -> dict[str, str]:
    """Return how many times as fast as the book and the peers training is, on the CPU."""
    peers, loading = load_numbers('performance/peers'), load_numbers('performance/loading')['runs']
    found = {
        f'peers.{key}': f'{ratio(rates(peers, name), rates(peers, book)):.1f}'
        for key, name, book in (
            ('pytorch.auto', 'd2l-ft, PyTorch, auto', BOOK_PYTORCH),
            ('pytorch.float32', 'd2l-ft, PyTorch, float32', BOOK_PYTORCH),
            ('mxnet.auto', 'd2l-ft, MXNet, resnet18_v2', BOOK_MXNET),
            ('mxnet.bfloat16', 'd2l-ft, MXNet, resnet18_v2, bfloat16', BOOK_MXNET),
            ('timm', 'timm, bfloat16', BOOK_PYTORCH),
            ('keras', 'Keras on PyTorch', BOOK_PYTORCH),
            ('fastai', 'fastai', BOOK_PYTORCH),
        )
    }
    ours, base = loading['d2l-ft with PyTorch'], [row['first'] for row in loading['torchvision']]
    machine = peers['machine']
    frozen = [run for rows in load_numbers('performance/frozen')['runs'].values() for run in rows]
    least = min(run['kept'] / run['plain'] for run in frozen)
    return found | {
        'peers.date': machine['date'],
        'peers.machine': f'{machine["cores"]} cores of {machine["cpu"]}',
        'loading.first': f'{ratio([row["first"] for row in ours], base):.1f}',
        'loading.epochs': f'{ratio(over_epochs(ours), base):.1f}',
        'frozen.least': str(math.floor(least / 10) * 10),  # "at least": never rounded up
    }


def gpu_speed() -> dict[str, str]:
    """Return the same on a GPU."""
    result = load_numbers('performance/gpu')
    images = {name: [row['images'] for row in rows] for name, rows in result['runs'].items()}
    names = {'step': 'bfloat16', 'files': 'bfloat16, from files', 'float32': 'float32'}
    return {
        'gpu.device': result['device'],
        'gpu.date': result['machine']['date'],
        **{
            f'gpu.{key}': f'{ratio(images[name], images["the book"]):.1f}'
            for key, name in names.items()
        },
    }


def accuracy() -> dict[str, str]:
    """Return the test accuracies on the built-in sample, over the seeds."""
    result = load_numbers('gap')
    found = {
        'gap.date': result['machine']['date'],
        'gap.machine': f'{result["machine"]["cores"]} cores of {result["machine"]["cpu"]}',
        'gap.seeds': str(len({run['seed'] for run in result['runs']})),
        'gap.epochs': str(len(result['runs'][0]['fine-tuned'])),
    }
    for backend in ('pytorch', 'mxnet'):
        runs = [run for run in result['runs'] if run['backend'] == backend]
        tuned, scratch = ([run[net][-1] for run in runs] for net in ('fine-tuned', 'scratch'))
        least = min(a - b for a, b in zip(tuned, scratch, strict=True))
        found |= {
            f'gap.{backend}.tuned': spread(tuned, 3),
            f'gap.{backend}.scratch': spread(scratch, 3),
            f'gap.{backend}.least': f'{least:.3f}',
        }
    return found


def proof() -> dict[str, str]:
    """Return what the proof found; of its two environments the worse value."""
    results = [load_numbers(name) for name in ('parity', 'parity-legacy')]
    values: dict[str, float] = {}
    for check in (each for result in results for each in result['checks']):
        name = re.sub(r'^forward/.*/logits-eval-float32$', 'logits', check['name'])
        values[name] = max(values.get(name, 0), check['value'] or 0)
    judged = [sum(not each.get('stated') for each in result['checks']) for result in results]
    held = [sum(each['ok'] for each in x['checks'] if not each.get('stated')) for x in results]
    faults = load_numbers('faults')
    return {
        'parity.checks': str(max(judged)),
        'parity.held': str(held[judged.index(max(judged))]),
        'parity.architectures': str(max(len(x['environment']['plan']['archs']) for x in results)),
        'parity.loss': f'{values["trajectory/resnet18-2/losses-strict"]:.0e}',
        'parity.weights': f'{values["trajectory/resnet18-2/weights-strict"]:.0e}',
        'parity.logits': f'{values["trajectory/resnet18-2/logits-strict"]:.0e}',
        'parity.float32': f'{values["logits"]:.1e}',
        'parity.faults': str(len(faults)),
        'parity.faults.found': str(sum(each['found'] for each in faults)),
    }


def reliability() -> dict[str, str]:
    """Return how many cases of the tests of reliability passed, and how many files were damaged."""
    tests = load_numbers('reliability')['tests']
    damaged = tests['loading/test_mutated_files_are_read_or_refused']['figures']
    count = sum(int(figure.partition(' ')[0]) for _, figure in damaged)
    return {
        'reliability.cases': str(sum(each['passed'] for each in tests.values())),
        'reliability.damaged': f'{count:,}'.replace(',', ' '),
    }


def pages() -> list[Path]:
    """Return the pages that may have figures."""
    return [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def fill_page(text: str, values: dict[str, str]) -> tuple[str, list[str]]:
    """Return a page with its figures filled in, and a line for each that was not as it should be.

    Args:
        text: The page.
        values: Name -> figure.
    """
    problems = [
        f'line {number}: a marker begins the line'
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r'\s*<!--/?figure', line)
    ]

    def fill(match: re.Match[str]) -> str:
        begin, name, old, end = match.groups()
        if name not in values:
            problems.append(f'there is no figure {name}')
            return match[0]
        if old != values[name]:
            problems.append(f'{name} is {old!r}, measured {values[name]!r}')
        return f'{begin}{values[name]}{end}'

    found = MARKED.sub(fill, text)
    if text.count('<!--figure:') != len(MARKED.findall(text)):
        problems.append('a marker has no end')
    return found, problems


def update(paths: Iterable[Path], values: dict[str, str], write: bool) -> list[str]:
    """Fill in the figures of pages; return a line for each that was not as it should be."""
    problems = []
    for path in paths:
        text, found = fill_page(path.read_text(encoding='utf-8'), values)
        problems += [f'{path.name}: {each}' for each in found]
        if write:
            path.write_text(text, encoding='utf-8')
    return problems


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing')
    options = parser.parse_args(arguments)
    problems = update(pages(), figures(), not options.check)
    print(*problems, sep='\n')
    if problems and options.check:
        sys.exit('figures are stale: run benchmarks/figures.py')


if __name__ == '__main__':
    main()
