"""Generated pages, and the figures of the README, are what the measured numbers give."""

import json
import statistics
import subprocess
import sys
from operator import truediv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('script', ['parity_page.py', 'reliability.py', 'performance.py'])
def test_a_generated_page_is_fresh(script):
    script = ROOT / 'benchmarks' / script
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def measured(claim):
    """Return what a script of the benchmarks wrote."""
    return json.loads((ROOT / f'benchmarks/performance/{claim}.json').read_text())


def test_the_readme_says_what_was_measured():
    """Its figures are the ratios of the page, in fewer digits."""
    peers, loading = measured('peers'), measured('loading')
    text = ' '.join((ROOT / 'README.md').read_text().split())

    def times(name, base):
        ours, theirs = (
            [each['images_per_second'] for each in peers['runs'][key]] for key in (name, base)
        )
        return f'{statistics.median(map(truediv, ours, theirs)):.1f}'

    torch, gluon = 'the book, PyTorch tab', 'the book, MXNet tab (resnet18_v2)'
    rounds = loading['runs']['d2l-ft with PyTorch'], loading['runs']['torchvision']
    pairs = [(a['first'], a['later'], b['first']) for a, b in zip(*rounds, strict=True)]
    first = statistics.median(decoded / theirs for decoded, _, theirs in pairs)
    five = statistics.median(
        5 / (1 / decoded + 4 / kept) / theirs for decoded, kept, theirs in pairs
    )
    for words in (
        f'**{times("d2l-ft, PyTorch, auto", torch)} times** as many images',
        f'({times("d2l-ft, PyTorch, float32", torch)} times in float32)',
        f'**{times("d2l-ft, MXNet, resnet18_v2", gluon)} times** as many as its MXNet tab',
        f'({times("d2l-ft, MXNet, resnet18_v2, bfloat16", gluon)} times with `--precision',
        f'timm with its bfloat16 options gets to {times("timm, bfloat16", torch)} times',
        f'Keras to {times("Keras on PyTorch", torch)}, fastai to {times("fastai", torch)}.',
        f'{first:.1f} times as fast as torchvision',
        f'{five:.1f} times over five epochs',
        f'on {peers["machine"]["date"]}, on two cores of',
    ):
        assert words in text
    assert 'takes less than a hundredth' in text
    for rows in measured('frozen')['runs'].values():
        assert all(each['kept'] > 100 * each['plain'] for each in rows)
