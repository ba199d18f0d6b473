"""Generated pages, and the figures of the README, are what the measured numbers give."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'script', ['parity_page.py', 'reliability.py', 'performance.py', 'mxnet_today.py']
)
def test_a_generated_page_is_fresh(script):
    script = ROOT / 'benchmarks' / script
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def measured(claim):
    """Return what a script of the benchmarks wrote."""
    return json.loads((ROOT / f'benchmarks/performance/{claim}.json').read_text())


def test_the_readme_says_what_was_measured(monkeypatch):
    """Its figures are the ratios of the page, in fewer digits."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    from bench import ratio
    from loading import over_epochs
    from peers import BOOK_MXNET, BOOK_PYTORCH

    peers, loading = measured('peers'), measured('loading')['runs']
    text = ' '.join((ROOT / 'README.md').read_text().split())

    def times(name, base):
        ours, book = (
            [each['images_per_second'] for each in peers['runs'][x]] for x in (name, base)
        )
        return f'{ratio(ours, book):.1f}'

    def on_gpu(name):
        runs = measured('gpu')['runs']
        ours, book = ([each['images'] for each in runs[x]] for x in (name, 'the book'))
        return f'{ratio(ours, book):.1f}'

    rows, base = loading['d2l-ft with PyTorch'], [x['first'] for x in loading['torchvision']]
    first, five = ratio([each['first'] for each in rows], base), ratio(over_epochs(rows), base)
    for words in (
        f'**{times("d2l-ft, PyTorch, auto", BOOK_PYTORCH)} times** as many images',
        f'({times("d2l-ft, PyTorch, float32", BOOK_PYTORCH)} times in float32)',
        f'**{times("d2l-ft, MXNet, resnet18_v2", BOOK_MXNET)} times** as many as its MXNet tab',
        f'({times("d2l-ft, MXNet, resnet18_v2, bfloat16", BOOK_MXNET)} times with `--precision',
        f'timm with its bfloat16 options gets to {times("timm, bfloat16", BOOK_PYTORCH)} times',
        f'Keras to {times("Keras on PyTorch", BOOK_PYTORCH)}, ',
        f'fastai to {times("fastai", BOOK_PYTORCH)}.',
        f'{first:.1f} times as fast as torchvision',
        f'{five:.1f} times over five epochs',
        f'on {peers["machine"]["date"]}, on two cores of',
        f'{on_gpu("bfloat16")} times as many images a second as the book',
        f'training from files {on_gpu("bfloat16, from files")} times; '
        f'strict float32 {on_gpu("float32")} times',
    ):
        assert words in text
    assert 'takes less than a hundredth' in text
    for rows in measured('frozen')['runs'].values():
        assert all(each['kept'] > 100 * each['plain'] for each in rows)
