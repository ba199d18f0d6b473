"""How fast images come from JPEG files: decode, crop, resize, flip, standardise.

Against torchvision's and Gluon's own transforms, as the chapter's tabs write them. Ours is measured
in an epoch that decodes, and in one whose decoded images are kept in memory.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE, BATCH, EPOCHS, WORKERS = 224, 32, 5, 2
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def torchvision_epochs(workers: int, folder: str) -> list[Callable[[], Any]]:
    """Return epochs of torchvision's ImageFolder and DataLoader."""
    import torch
    import torchvision
    from torchvision import transforms

    torch.set_num_threads(1)
    augs = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    data = torchvision.datasets.ImageFolder(folder, transform=augs)
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return [lambda: sum(len(images) for images, _ in loader)] * 2


def gluon_epochs(workers: int, folder: str) -> list[Callable[[], Any]]:
    """Return epochs of Gluon's ImageFolderDataset and DataLoader."""
    import plain_mxnet  # noqa: F401  # before MXNet
    # isort: split

    import mxnet as mx
    from mxnet import gluon

    vision = gluon.data.vision
    augs = vision.transforms.Compose(
        [
            vision.transforms.RandomResizedCrop(SIZE),
            vision.transforms.RandomFlipLeftRight(),
            vision.transforms.ToTensor(),
            vision.transforms.Normalize(MEAN, STD),
        ]
    )
    data = vision.ImageFolderDataset(folder).transform_first(augs)
    loader = gluon.data.DataLoader(data, BATCH, shuffle=True, num_workers=workers)

    def epoch() -> int:
        count = sum(len(images) for images, _ in loader)
        mx.nd.waitall()
        return count

    return [epoch] * 2


def our_epochs(backend: str, workers: int, folder: str) -> list[Callable[[], Any]]:
    """Return an epoch that decodes, and one that finds the images in memory."""
    from d2l_ft.backend.registry import get_backend
    from d2l_ft.data.image_cache import ImageCache
    from d2l_ft.data.image_folder import scan
    from d2l_ft.data.transforms import Pipeline

    samples = scan(folder).samples
    chosen = get_backend(backend)
    if backend == 'pytorch':
        import torch

        torch.set_num_threads(1)
    pipeline, cache = Pipeline(SIZE, train=True), ImageCache(1 << 32)
    without, kept = (
        chosen.loader(samples, pipeline, BATCH, shuffle=True, workers=workers, cache=each)
        for each in (None, cache)
    )

    def epoch(loader: Any) -> int:
        count = 0
        for images, _ in loader:
            count += len(images)
        if backend == 'mxnet':
            images.wait_to_read()
        return count

    epoch(kept)
    return [lambda: epoch(without), lambda: epoch(kept)]


VARIANTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    f'{name}{words}': (function, (*arguments, workers))
    for workers, words in ((0, ''), (WORKERS, f', {WORKERS} workers'))
    for name, function, arguments in (
        ('torchvision', torchvision_epochs, ()),
        ('d2l-ft with PyTorch', our_epochs, ('pytorch',)),
        ('Gluon', gluon_epochs, ()),
        ('d2l-ft with MXNet', our_epochs, ('mxnet',)),
    )
}


def run_one(name: str, folder: str) -> dict[str, float]:
    """Return images/s of an epoch that decodes and of a later one."""
    function, arguments = VARIANTS[name]
    rates = []
    for epoch in function(*arguments, folder):
        seconds = []
        for _ in range(3):
            start_time = time.perf_counter()
            count = epoch()
            seconds.append(time.perf_counter() - start_time)
        rates.append(count / min(seconds))
    return dict(zip(('first', 'later'), rates, strict=True))


def waits(folder: Path, backend: str, epochs: int, batch: int) -> list[float]:
    """Return the share of each epoch in which training waited for its images."""
    from d2l_ft.cli.main import main

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / 'run'
        main(
            [
                'train', '--backend', backend, '--data', str(folder), '--source', 'none',
                '--epochs', str(epochs), '--batch-size', str(batch), '--out', str(out),
            ],
            standalone_mode=False,
        )  # fmt: skip
        lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    return [1 - line['examples_per_sec'] / line['step_examples_per_sec'] for line in lines]


def measure(quick: bool) -> dict[str, Any]:
    """Run the loaders in turn on one thread a process, then train with each framework."""
    from bench import photos, run_in_turn

    count, rounds, epochs = (10, 1, 2) if quick else (80, 3, 3)
    one = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
    with tempfile.TemporaryDirectory() as place:
        folder = photos(Path(place) / 'photos', count)
        train = str(folder / 'train')
        runs = run_in_turn(
            {name: [__file__, name, train] for name in VARIANTS},
            rounds,
            dict.fromkeys(VARIANTS, one),
        )
        commands = {
            name: [__file__, '--waits', name, str(folder), str(epochs), '4' if quick else '32']
            for name in ('pytorch', 'mxnet')
        }
        found = run_in_turn(commands, 1)
    return {'rounds': rounds, 'files': count, 'runs': runs, 'waits': found}


def over_epochs(found: list[dict[str, float]]) -> list[float]:
    """Return the images/s over ``EPOCHS`` epochs, of which the first decodes, run by run."""
    return [EPOCHS / (1 / each['first'] + (EPOCHS - 1) / each['later']) for each in found]


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import ratio, spread

    runs = result['runs']
    lines = [
        '## Loading',
        '',
        f'JPEG files of 500 x 375 to batches at {SIZE} pixels, random crops and flips, on one '
        f'core, or with {WORKERS} workers, which have one each; {result["rounds"]} processes each.',
        '',
        '| | decoding: times the framework | images/s | decoded before: times | images/s | '
        f'over {EPOCHS} epochs: times |',
        '|---|---|---|---|---|---|',
    ]
    for name in VARIANTS:
        first, later = ([each[part] for each in runs[name]] for part in ('first', 'later'))
        if not name.startswith('d2l-ft'):
            base = first
            lines.append(f'| {name} | 1 | {spread(first, 0)} | 1 | | 1 |')
            continue
        whole = over_epochs(runs[name])
        lines.append(
            f'| {name} | {ratio(first, base):.2f} | {spread(first, 0)} '
            f'| {ratio(later, base):.2f} | {spread(later, 0)} | **{ratio(whole, base):.2f}** |'
        )
    shares = {name: found[0]['waits'] for name, found in result['waits'].items()}
    lines += [
        '',
        'The bytes are the same whether an image was kept or decoded, and with either framework.',
        '',
        'In training on all cores, the share of the time in which it waits for images, epoch by '
        'epoch: '
        + '; '.join(
            f'{name} ' + ', '.join(f'{share:.1%}' for share in values)
            for name, values in shares.items()
        )
        + '. MXNet computes while the loop asks for the next batch, so its wait holds steps too.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print the rates of one loader.')
    parser.add_argument('name')
    parser.add_argument('folder')
    parser.add_argument('sizes', nargs='*', type=int, help='with --waits: epochs and batch size')
    parser.add_argument('--waits', action='store_true', help="train with the name's framework")
    options = parser.parse_args()
    if options.waits:
        shares = waits(Path(options.folder), options.name, *options.sizes)
        print(json.dumps({'waits': shares}))
    else:
        print(json.dumps(run_one(options.name, options.folder)))
