"""Measure training end to end, from JPEG files on disk, against what else one would use.

Every worker of ``peers/`` does the same job: ResNet-18 at 224 pixels with two classes, random
weights, SGD, random crops and flips, a test after each epoch. The book runs in this environment;
each other peer in one of its own below build/peers, made at first use (5 GB each).
"""

import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import photos, ratio, run_in_turn, spread
from matplotlib.figure import Figure

HERE = Path(__file__).parent
WORKERS, ENVIRONMENTS = HERE / 'peers', HERE.parent / 'build/peers'
FIGURE = HERE.parent / 'docs/img/peers.png'

BOOK_PYTORCH, BOOK_MXNET = 'the book, PyTorch tab', 'the book, MXNet tab (resnet18_v2)'


@dataclass(frozen=True)
class Variant:
    """One way to do the job.

    Attributes:
        script: The worker in ``WORKERS``.
        book: The variant with which it is compared: the book's tab of its framework.
        options: Arguments of the worker besides folder, epochs and batch size.
        environment: Folder below ``ENVIRONMENTS``; '' is the environment that runs this script.
    """

    script: str
    book: str
    options: tuple[str, ...] = ()
    environment: str = ''


VARIANTS = {
    BOOK_PYTORCH: Variant('book_pytorch.py', BOOK_PYTORCH),
    'timm, float32': Variant('timm_step.py', BOOK_PYTORCH, environment='timm'),
    'timm, bfloat16': Variant('timm_step.py', BOOK_PYTORCH, ('amp',), 'timm'),
    'fastai': Variant('fastai_fine_tune.py', BOOK_PYTORCH, environment='fastai'),
    'Keras on PyTorch': Variant('keras_fit.py', BOOK_PYTORCH, environment='keras'),
    'd2l-ft, PyTorch, float32': Variant(
        'ours.py', BOOK_PYTORCH, ('pytorch', 'resnet18', 'float32')
    ),
    'd2l-ft, PyTorch, auto': Variant('ours.py', BOOK_PYTORCH, ('pytorch', 'resnet18', 'auto')),
    BOOK_MXNET: Variant('book_mxnet.py', BOOK_MXNET),
    'd2l-ft, MXNet, resnet18_v2': Variant('ours.py', BOOK_MXNET, ('mxnet', 'resnet18_v2', 'auto')),
    'd2l-ft, MXNet, resnet18_v2, bfloat16': Variant(
        'ours.py', BOOK_MXNET, ('mxnet', 'resnet18_v2', 'bfloat16')
    ),
    'd2l-ft, MXNet, resnet18': Variant('ours.py', BOOK_MXNET, ('mxnet', 'resnet18', 'auto')),
}


def interpreter(environment: str) -> str:
    """Return the Python of an environment, which is made if its requirements are not installed."""
    if not environment:
        return sys.executable
    wanted, folder = WORKERS / f'{environment}.txt', ENVIRONMENTS / environment
    python, installed = folder / 'bin/python', folder / 'installed.txt'
    if not installed.is_file() or installed.read_text() != wanted.read_text():
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
        subprocess.run(
            [python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '-r', wanted],
            check=True,
        )
        installed.write_text(wanted.read_text())
    return str(python)


def measure(quick: bool) -> dict[str, Any]:
    """Run every variant in turn; draw the figure unless it is only tried."""
    files, epochs, batch, rounds = (20, 2, 8, 1) if quick else (80, 3, 32, 3)
    with tempfile.TemporaryDirectory() as place:
        folder = photos(Path(place) / 'photos', files)
        runs = run_in_turn(
            {
                name: [
                    str(WORKERS / each.script),
                    str(folder),
                    str(epochs),
                    str(batch),
                    *each.options,
                ]
                for name, each in VARIANTS.items()
            },
            rounds,
            # d2l_ft, which this process imports, sets it; the book's reader does not
            {BOOK_MXNET: {'MXNET_OMP_MAX_THREADS': ''}},
            {name: interpreter(each.environment) for name, each in VARIANTS.items()},
        )
    trained = {tuple(run['trained']) for each in runs.values() for run in each}
    if len(trained) > 1:
        raise RuntimeError(f'the variants trained on different numbers of examples: {trained}')
    result = {'epochs': epochs, 'batch': batch, 'examples': trained.pop()[0], 'runs': runs}
    if not quick:
        draw(result, FIGURE)
    return result


def rates(result: Mapping[str, Any], name: str) -> list[float]:
    """Return the images per second of each round."""
    return [run['images_per_second'] for run in result['runs'][name]]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw a bar for each variant, with the range over the rounds."""
    names = list(VARIANTS)
    middles = [statistics.median(rates(result, name)) for name in names]
    ranges = [
        [middle - min(rates(result, name)) for name, middle in zip(names, middles, strict=True)],
        [max(rates(result, name)) - middle for name, middle in zip(names, middles, strict=True)],
    ]
    colours = [
        'C7' if name == each.book else 'C1' if each.script == 'ours.py' else 'C0'
        for name, each in VARIANTS.items()
    ]
    figure = Figure(figsize=(8, 4), layout='constrained')
    panel = figure.subplots()
    panel.barh(names, middles, xerr=ranges, color=colours)
    panel.invert_yaxis()
    panel.set(xlabel='training images per second, from JPEG files')
    panel.grid(axis='x', alpha=0.3)
    figure.savefig(path, dpi=120)


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    runs = result['runs']
    rounds = len(runs[BOOK_PYTORCH])
    lines = [
        '## Against the peers',
        '',
        f'ResNet-18 at 224 pixels with random weights and two classes, {result["examples"]} JPEG '
        f'files of 500 x 375, batches of {result["batch"]}, {result["epochs"]} epochs with a test '
        f'after each; median (range) of {rounds} rounds. The rates are those of training with its '
        'loading, from the second epoch on; the seconds those of the whole process.',
        '',
        '![Training images per second](img/peers.png)',
        '',
        '| | times the book | images/s | peak MiB | whole process, s | threads | workers |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, each in VARIANTS.items():
        faster = ratio(rates(result, name), rates(result, each.book))
        first = runs[name][0]
        lines.append(
            f'| {name} | {faster:.2f} | {spread(rates(result, name))} '
            f'| {statistics.median(run["peak_mib"] for run in runs[name]):.0f} '
            f'| {spread([run["total_seconds"] for run in runs[name]])} '
            f'| {first["threads"]} | {first["workers"]} |'
        )
    versions: dict[str, str] = {}
    for each in runs.values():
        versions |= each[0]['versions']
    listed = ', '.join(f'{name} {version}' for name, version in versions.items())
    return [
        *lines,
        '',
        'Files, numbers of examples and epochs, kinds of crops and flips, and SGD are the same; '
        'draws and arithmetic of the images are those of each tool. "bfloat16" is '
        "timm's `--amp --amp-dtype bfloat16 --channels-last`; with PyTorch `--precision auto` "
        'takes the same where the processor has the instructions, and all else is float32.',
        '',
        "Threads and loading processes are each tool's defaults, so part of what is measured: "
        'MXNet uses half of the cores by default. The peak is that of the main '
        'process; workers come on top.',
        '',
        "fastai's head is its own, with two linear layers; its `fine_tune` runs with "
        "`freeze_epochs=0`. Its SGD has momentum, as timm's has. Keras gets a ResNet-18 built of "
        "its layers, and torchvision's images. The book's loop runs without its plot. Only d2l-ft "
        'checks every image first, writes checkpoints and ends with a report.',
        '',
        f'In the environments of the workers: {listed}.',
    ]
