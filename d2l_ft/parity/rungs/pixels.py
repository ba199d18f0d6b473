"""Rung 2: the same pixels, and how far each framework's own transforms are from them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.augment import AREA, RESIZE_RATIO, Pipeline, decode, generator, random_box
from d2l_ft.parity.compare import kolmogorov_smirnov, ulps, unequal
from d2l_ft.parity.plan import Check, Checks, Context, Plan, Trace
from d2l_ft.parity.rungs.samples import to_numpy
from d2l_ft.parity.tolerances import check

DRAWS, HEIGHT, WIDTH = 3000, 90, 140
"""Boxes drawn for the statistical test, and the size of the image that they are drawn for."""

ORACLES = 12
"""Files that go through the frameworks' own transforms."""

WORKERS = 2

SIDES = range(32, 48)
"""Sides of squares whose central crop of 32 is looked for: margins of 0 to 15 pixels."""


def trace(context: Context) -> None:
    """Write crops and floats of every epoch, and what the framework's own transforms give."""
    plan = context.plan
    crops, floats = epochs(context, 0)
    context.save('pixels/epochs', {'crops': crops, 'floats': floats})
    context.save('pixels/workers', {'crops': epochs(context, WORKERS)[0]})
    pipeline = Pipeline(plan.image_size, train=True, seed=plan.seed)
    side = round(plan.image_size * RESIZE_RATIO)
    for stack in context.probe.STACKS:
        found: dict[str, NDArray[Any]] = {}
        for index, sample in enumerate(plan.samples(ORACLES)):
            height, width = decode(sample.path).shape[:2]
            box, flip = pipeline.draw(height, width, 0, index)
            own = context.probe.transformed(sample.path, box, flip, plan.image_size, stack)
            test = context.probe.tested(sample.path, side, plan.image_size, stack)
            found |= {f'train/{name}/{index:02d}': array for name, array in own.items()}
            found |= {f'test/{name}/{index:02d}': array for name, array in test.items()}
        context.save(f'pixels/own-{stack}', found)
    context.note('pixels/stacks', list(context.probe.STACKS))
    context.note('pixels/edges', context.probe.center_edges(SIDES, SIDES[0]))
    boxes, flips = context.probe.own_draws(HEIGHT, WIDTH, DRAWS, plan.seed + 1)
    context.save('pixels/draws', {'boxes': boxes, 'flips': np.array(flips)})


def epochs(context: Context, workers: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (epochs, images, ...) uint8 crops and float32 inputs as the loader yields them."""
    plan = context.plan
    pipeline = Pipeline(plan.image_size, train=True, seed=plan.seed)
    loader = context.backend.loader(
        plan.samples(), pipeline, plan.batch_size, workers=workers, seed=plan.seed
    )
    rows = []
    for epoch in range(plan.epochs):
        loader.set_epoch(epoch)
        rows.append(np.concatenate([to_numpy(images) for images, _ in loader]))
    floats = np.stack(rows)
    return np.stack([Pipeline(plan.image_size).to_uint8(each) for each in floats]), floats


def expected(plan: Plan) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the crops and the inputs of the core's pipeline, named as in the traces."""
    pipelines = {
        'train': Pipeline(plan.image_size, train=True, seed=plan.seed),
        'test': Pipeline(plan.image_size),
    }
    crops, floats = {}, {}
    for part, pipeline in pipelines.items():
        for index, sample in enumerate(plan.samples(ORACLES)):
            crop = pipeline.crop(sample.path, 0, index)
            crops[f'{part}/crop/{index:02d}'] = crop
            floats[f'{part}/float/{index:02d}'] = pipeline.to_float(crop[None])[0]
    return crops, floats


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare both frameworks' pixels, then each with its own transforms."""
    left, right = a.arrays('pixels/epochs'), b.arrays('pixels/epochs')
    yield apart('crops', left['crops'], right['crops'], plan)
    yield check(
        'pixels', 'data', 'floats', ulps(left['floats'], right['floats']),
        'the standardised inputs' if unequal(left['floats'], right['floats']) else '',
    )  # fmt: skip
    for each, kept in ((a, left), (b, right)):
        workers = each.arrays('pixels/workers')['crops']
        yield apart(f'workers-{each.folder.name}', kept['crops'], workers, plan)
    crops, floats = expected(plan)
    for each in (a, b):
        for stack in each.facts('pixels/stacks'):
            yield from oracle(each, stack, crops, floats, plan)
        edges = zip(each.facts('pixels/edges'), SIDES, strict=True)
        off = [abs(edge - (side - SIDES[0]) // 2) for edge, side in edges]
        yield check('pixels', 'own', f'edges-{each.folder.name}', max(off), 'a central crop')
    yield from statistics(a, b, plan)


def apart(what: str, a: NDArray[Any], b: NDArray[Any], plan: Plan) -> Check:
    """Return the check that two (epochs, images, h, w, 3) arrays have the same bytes."""
    wrong, where = unequal(a, b), ''
    if wrong and a.shape == b.shape:
        epoch, index = np.argwhere((a != b).any(axis=(2, 3, 4)))[0]
        y, x, channel = np.argwhere(a[epoch, index] != b[epoch, index])[0]
        name = plan.name(plan.samples()[index].path)
        where = f'{name}, epoch {epoch}, row {y}, column {x}, channel {"RGB"[channel]}'
    elif wrong:
        where = f'the shapes: {a.shape} and {b.shape}'
    return check('pixels', 'data', what, wrong, where)


def oracle(
    trace: Trace,
    stack: str,
    crops: dict[str, NDArray[Any]],
    floats: dict[str, NDArray[Any]],
    plan: Plan,
) -> Checks:
    """Compare the pipeline with one of a framework's own ways to transform."""
    own = trace.arrays(f'pixels/own-{stack}')
    for part in ('train', 'test'):
        far = {
            name: float(np.abs(own[name].astype(int) - crop).max())
            for name, crop in crops.items()
            if name.startswith(part)
        }
        value = max(far.values())
        where = max(far, key=lambda name: far[name]) if value else ''
        yield check('pixels', 'own', f'{part}-{stack}', value, located(where, plan))
    if stack in ('gluon', 'tensor'):  # the arithmetic behind the resize, where that is the same
        same = [name for name, crop in crops.items() if not unequal(own[name], crop)]
        names = [name.replace('crop', 'float') for name in same]
        steps = [ulps(own[name], floats[name]) for name in names]
        yield check('pixels', 'own', f'floats-{stack}', max(steps, default=0.0))


def located(name: str, plan: Plan) -> str:
    """Return the file that a name of a trace's array stands for."""
    if not name:
        return ''
    part, _, index = name.split('/')
    return f'{plan.name(plan.samples(ORACLES)[int(index)].path)} as a {part} image'


def statistics(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the distribution of the core's draws with that of each framework's own."""
    boxes = np.array([
        random_box(HEIGHT, WIDTH, generator(plan.seed, 0, 0, index), AREA)
        for index in range(DRAWS)
    ])  # fmt: skip
    for each in (a, b):
        own = each.arrays('pixels/draws')
        pairs = zip(features(boxes), features(own['boxes']), strict=True)
        values = {
            name: kolmogorov_smirnov(ours, theirs)
            for name, (ours, theirs) in zip(('area', 'ratio', 'top', 'left'), pairs, strict=True)
        }
        worst = max(values, key=lambda name: values[name])
        yield check('pixels', 'draws', f'boxes-{each.folder.name}', values[worst], worst)
        share = (int(own['flips']) - DRAWS / 2) / math.sqrt(DRAWS / 4)
        yield check('pixels', 'draws', f'flips-{each.folder.name}', abs(share), 'flips')
    ours = sum(
        Pipeline(8, train=True, seed=plan.seed).draw(HEIGHT, WIDTH, 0, index)[1]
        for index in range(DRAWS)
    )
    share = (ours - DRAWS / 2) / math.sqrt(DRAWS / 4)
    yield check('pixels', 'draws', 'flips-ours', abs(share), 'flips')


def features(boxes: NDArray[Any]) -> list[NDArray[Any]]:
    """Return area, log of the ratio, and the place of boxes, (count,) each."""
    top, left, height, width = boxes.astype(float).T
    free = np.maximum(HEIGHT - height, 1), np.maximum(WIDTH - width, 1)
    return [height * width, np.log(width / height), top / free[0], left / free[1]]
