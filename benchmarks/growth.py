"""Measure how time and memory grow: with images, classes, pixels, the batch and the workers.

The first argument of a process that measures is the name of its function, the others are that
function's. It prints one JSON object.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import peak

PICTURE = Path(__file__).parents[1] / 'docs/img/growth.png'
NAMES = {'pytorch': 'PyTorch', 'mxnet': 'MXNet'}

FULL: dict[str, Any] = {
    'images': (1000, 5000, 20_000, 50_000),
    'rounds': 3,  # of these, the fastest of which counts
    'classes': (2, 10, 100, 1000),
    'of': 5000,  # images in these classes
    'sizes': (64, 96, 128, 192, 224),
    'batches': (1, 2, 4, 8, 16, 32),
    'size': 64,  # where the batch grows
    'batch': 8,  # where the size grows
    'steps': 8,
    'workers': (0, 1, 2, 4),
    'photos': 240,
}
QUICK: dict[str, Any] = {
    'images': (100, 200, 400),
    'rounds': 1,
    'classes': (2, 10),
    'of': 40,
    'sizes': (64, 96),
    'batches': (1, 2),
    'size': 64,
    'batch': 2,
    'steps': 2,
    'workers': (0, 1),
    'photos': 20,
}


def check_folder(root: str) -> dict[str, float]:
    """Scan and check a folder, as ``load_data`` does."""
    from d2l_ft.data.folder_layout import load_folders
    from d2l_ft.data.validation import check_images
    from d2l_ft.data.validation_cache import open_checked

    before, start_time = peak(), time.perf_counter()
    train, test = load_folders(root)
    scanned = time.perf_counter()
    with open_checked(root) as checked:
        check_images([*train.samples, *test.samples], bar=False, checked=checked)
    done = time.perf_counter()
    return {'scan': scanned - start_time, 'check': done - scanned, 'before': before, 'peak': peak()}


def list_folder(root: str) -> dict[str, float]:
    """List a folder and split it, without a look into the files."""
    from d2l_ft.data.folder_layout import load_folders

    seconds = []
    for _ in range(5):
        start_time = time.perf_counter()
        load_folders(root)
        seconds.append(time.perf_counter() - start_time)
    return {'seconds': statistics.median(seconds)}


def step(name: str, size: str, batch: str, steps: str) -> dict[str, float]:
    """Train ResNet-18 in float32 on the CPU."""
    import numpy as np

    from d2l_ft.backend.registry import get_backend
    from d2l_ft.optim.recipe import Recipe

    backend = get_backend(name)
    net = backend.build_net('resnet18', 10)
    placed = backend.place(net, backend.devices('cpu'))
    trainer = backend.build_trainer(placed, Recipe(1e-4, momentum=0.9))
    draws = np.random.default_rng(0)
    images = draws.normal(size=(int(batch), 3, int(size), int(size))).astype(np.float32)
    data = backend.to_batch(images, np.arange(int(batch)) % 10)
    seconds = []
    for _ in range(2 + int(steps)):  # two to warm up
        start_time = time.perf_counter()
        float(backend.train_step(placed, trainer, data).loss)
        seconds.append(time.perf_counter() - start_time)
    return {'seconds': statistics.median(seconds[2:]), 'peak': peak()}


def load_images(name: str, root: str, workers: str) -> dict[str, float]:
    """Decode, crop and batch photographs for two epochs; the first starts the workers."""
    from d2l_ft.backend.registry import get_backend
    from d2l_ft.data.folder_layout import load_folders
    from d2l_ft.data.transforms import Pipeline

    samples = load_folders(root)[0].samples
    pipeline = Pipeline(224, train=True)
    loader = get_backend(name).loader(samples, pipeline, 16, shuffle=True, workers=int(workers))
    for epoch in range(2):
        loader.set_epoch(epoch)
        start_time = time.perf_counter()
        for _ in loader:
            pass
    return {'rate': len(samples) / (time.perf_counter() - start_time)}


def write(root: Path, count: int, classes: int) -> None:
    """Write small pictures, every other one a PNG; all of a kind have the same bytes."""
    import cv2
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    kinds = [(suffix, cv2.imencode(suffix, pixels)[1].tobytes()) for suffix in ('.jpg', '.png')]
    for label in range(classes):
        (root / f'{label:04d}').mkdir(parents=True)
    for number in range(count):
        suffix, data = kinds[number // classes % 2]
        (root / f'{number % classes:04d}' / f'{number:06d}{suffix}').write_bytes(data)


def measure_folders(counts: Sequence[int], rounds: int) -> list[dict[str, float]]:
    """Return seconds (the least of the rounds) and MiB of the scan, the first check, the second."""
    from bench import run_in_turn

    rows = []
    for count in counts:
        found = []
        with tempfile.TemporaryDirectory() as place:
            write(Path(place) / 'images', count, classes=10)
            time.sleep(2.5)  # younger files would not be remembered
            command = {'folder': [__file__, 'check_folder', f'{place}/images']}
            for number in range(rounds):
                variables = {'folder': {'D2L_FT_HOME': f'{place}/home{number}'}}
                found.append(run_in_turn(command, 2, variables)['folder'])
        rows.append(
            {
                'images': count,
                'scan': min(run['scan'] for pair in found for run in pair),
                'first': min(first['check'] for first, _ in found),
                'second': min(second['check'] for _, second in found),
                'before': min(first['before'] for first, _ in found),
                'first_peak': max(first['peak'] for first, _ in found),
                'second_peak': max(second['peak'] for _, second in found),
            }
        )
    return rows


def measure_classes(counts: Sequence[int], images: int) -> list[dict[str, float]]:
    """Return the seconds in which as many images are listed in more and more classes."""
    from bench import run_in_turn

    rows = []
    for classes in counts:
        with tempfile.TemporaryDirectory() as place:
            write(Path(place) / 'images', images, classes)
            command = {'listed': [__file__, 'list_folder', f'{place}/images']}
            rows.append({'classes': classes} | run_in_turn(command, 1)['listed'][0])
    return rows


def measure_steps(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return seconds and MiB of a training step, by framework, size and batch."""
    from bench import run_in_turn

    shapes = dict.fromkeys(
        [(size, plan['batch']) for size in plan['sizes']]
        + [(plan['size'], batch) for batch in plan['batches']]
    )
    rows = {
        f'{name} {size} {batch}': {'backend': name, 'size': size, 'batch': batch}
        for size, batch in shapes
        for name in NAMES
    }
    commands = {key: [__file__, 'step', *key.split(), str(plan['steps'])] for key in rows}
    found = run_in_turn(commands, 1)
    return [row | found[key][0] for key, row in rows.items()]


def measure_loading(workers: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Return the images a second of each framework's loader, by the number of workers."""
    from bench import photos, run_in_turn

    with tempfile.TemporaryDirectory() as place:
        photos(Path(place) / 'photos', count)
        rows = {f'{name} {n}': {'backend': name, 'workers': n} for n in workers for name in NAMES}
        commands = {
            key: [__file__, 'load_images', row['backend'], f'{place}/photos', str(row['workers'])]
            for key, row in rows.items()
        }
        found = run_in_turn(commands, 1)
    return [row | found[key][0] for key, row in rows.items()]


def measure(quick: bool) -> dict[str, Any]:
    """Measure all; unless quick, draw the picture too."""
    plan = QUICK if quick else FULL
    result = {
        'plan': plan,
        'folders': measure_folders(plan['images'], plan['rounds']),
        'classes': measure_classes(plan['classes'], plan['of']),
        'steps': measure_steps(plan),
        'loading': measure_loading(plan['workers'], plan['photos']),
    }
    if quick:
        with tempfile.TemporaryDirectory() as place:
            draw(result, Path(place) / PICTURE.name)
    else:
        draw(result, PICTURE)
    return result


def deviation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the most by which a value is off the straight line through all, in per cent of it.

    The line is the one whose relative errors are least, so that small values count as much.
    """
    import numpy as np

    values = np.asarray(y, float)
    line = np.polyval(np.polyfit(x, values, 1, w=1 / values), x)
    return float(100 * np.abs(line / values - 1).max())


def steps_by(result: dict[str, Any], backend: str, grows: str) -> list[dict[str, Any]]:
    """Return a framework's steps where one of size and batch grows and the other is fixed."""
    fixed = {'size': 'batch', 'batch': 'size'}[grows]
    rows = [
        row
        for row in result['steps']
        if row['backend'] == backend and row[fixed] == result['plan'][fixed]
    ]
    return sorted(rows, key=lambda row: row[grows])


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw a panel for each thing that grows with another."""
    from matplotlib.figure import Figure

    plan, folders = result['plan'], result['folders']
    figure = Figure(figsize=(14, 6), layout='constrained')
    panels = figure.subplots(2, 4)
    (seconds, memory, classes, rates), below = panels
    counts = [row['images'] for row in folders]
    for key, label in (('first', 'first check'), ('second', 'second check'), ('scan', 'scan')):
        seconds.plot(counts, [row[key] for row in folders], 'o-', label=label)
    for key, label in (('first_peak', 'first check'), ('second_peak', 'second check')):
        memory.plot(counts, [row[key] for row in folders], 'o-', label=label)
    seconds.set(title='check of a folder', xscale='log', yscale='log')
    seconds.set(xlabel='images', ylabel='seconds')
    memory.set(title='memory of the check', xlabel='images', ylabel='peak MiB', ylim=0)
    rows = result['classes']
    classes.plot([row['classes'] for row in rows], [row['seconds'] for row in rows], 'o-')
    classes.set(title=f'listing {plan["of"]} images', xscale='log', ylim=0)
    classes.set(xlabel='classes', ylabel='seconds')
    for backend, name in NAMES.items():
        rows = [row for row in result['loading'] if row['backend'] == backend]
        rates.plot(
            [row['workers'] for row in rows], [row['rate'] for row in rows], 'o-', label=name
        )
        rows = steps_by(result, backend, 'size')
        pixels = [row['size'] ** 2 for row in rows]
        each = [1000 * row['seconds'] / row['batch'] for row in rows]
        below[0].plot(pixels, each, 'o-', label=name)
        below[1].plot(pixels, [row['peak'] for row in rows], 'o-', label=name)
        rows = steps_by(result, backend, 'batch')
        batches = [row['batch'] for row in rows]
        below[2].plot(batches, [1000 * row['seconds'] for row in rows], 'o-', label=name)
        below[3].plot(batches, [row['peak'] for row in rows], 'o-', label=name)
    rates.set(title='loading photographs', xticks=plan['workers'], ylim=0)
    rates.set(xlabel='workers', ylabel='images a second')
    at_batch, at_size = f'batch {plan["batch"]}', f'{plan["size"]} x {plan["size"]}'
    below[0].set(title=f'training, {at_batch}', xlabel='pixels', ylabel='ms an image', ylim=0)
    below[1].set(title=f'memory, {at_batch}', xlabel='pixels', ylabel='peak MiB', ylim=0)
    below[2].set(title=f'training, {at_size}', xlabel='batch', ylabel='ms a step', ylim=0)
    below[3].set(title=f'memory, {at_size}', xlabel='batch', ylabel='peak MiB', ylim=0)
    for panel in panels.flat:
        panel.grid(alpha=0.3)
        if panel is not classes:
            panel.legend()
    figure.savefig(path, dpi=90)


def section(result: dict[str, Any]) -> list[str]:
    """Return the part of the page."""
    plan, folders, classes = result['plan'], result['folders'], result['classes']
    table = []

    def row(what: str, x: Sequence[float], y: Sequence[float], digits: int) -> None:
        off = deviation(x, y)
        table.append(f'| {what} | {y[0]:.{digits}f} | {y[-1]:.{digits}f} | {off:.0f} % |')

    counts = [each['images'] for each in folders]
    span = f'{counts[0]} to {counts[-1]} images of 32 x 32'
    for key, what, digits in (
        ('scan', 'listing and split, s', 2),
        ('first', 'first check, s', 2),
        ('second', 'second check, s', 2),
        ('first_peak', 'first check, peak MiB', 0),
        ('second_peak', 'second check, peak MiB', 0),
    ):
        values = [each[key] for each in folders]
        row(f'{what}; {span}', counts, values, digits)
    at_batch, at_size = plan['batch'], plan['size']
    for backend, name in NAMES.items():
        rows = steps_by(result, backend, 'size')
        pixels = [each['size'] ** 2 for each in rows]
        sides = f'{rows[0]["size"]} to {rows[-1]["size"]} pixels square, batch {at_batch}'
        times = [1000 * each['seconds'] / each['batch'] for each in rows]
        row(f'{name}, ms an image; {sides}', pixels, times, 1)
        row(f'{name}, peak MiB; {sides}', pixels, [each['peak'] for each in rows], 0)
        rows = steps_by(result, backend, 'batch')
        batches = [each['batch'] for each in rows]
        spread = f'batch {batches[0]} to {batches[-1]}, {at_size} pixels square'
        times = [1000 * each['seconds'] for each in rows]
        row(f'{name}, ms a step; {spread}', batches, times, 1)
        row(f'{name}, peak MiB; {spread}', batches, [each['peak'] for each in rows], 0)
    loaded = '; '.join(
        f'{name} '
        + ', '.join(f'{each["rate"]:.0f}' for each in result['loading'] if each['backend'] == key)
        for key, name in NAMES.items()
    )
    last = folders[-1]
    return [
        '## Growth',
        '',
        'Each value is from a process of its own: ResNet-18 in float32 on the CPU, memory as the '
        'peak of the whole process, seconds of folders as the least of '
        f'{plan["rounds"]} rounds. The last column says how far the worst of all points is off a '
        'straight line through them.',
        '',
        '| what; from where to where | first | last | off the line |',
        '|---|---|---|---|',
        *table,
        '',
        f'The images of a folder are decoded once: for {last["images"]} small ones the first check '
        f'takes {last["first"]:.1f} s, the second, which only asks whether they have changed, '
        f'{last["second"]:.1f} s. '
        f'With {classes[0]["classes"]} classes {plan["of"]} images are listed and split in '
        f'{1000 * classes[0]["seconds"]:.0f} ms, with {classes[-1]["classes"]} in '
        f'{1000 * classes[-1]["seconds"]:.0f} ms. '
        f'Photographs loaded a second with {", ".join(map(str, plan["workers"]))} workers: '
        f'{loaded}.',
        '',
        '![Time and memory against images, classes, pixels, batch and workers](img/growth.png)',
    ]


if __name__ == '__main__':
    function = {each.__name__: each for each in (check_folder, list_folder, step, load_images)}[
        sys.argv[1]
    ]
    print(json.dumps(function(*sys.argv[2:])), flush=True)
