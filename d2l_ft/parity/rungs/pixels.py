"""Rung 2: the same pixels, and how far each framework's own transforms are from them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import generator
from d2l_ft.data.transforms import AREA, RESIZE_RATIO, Pipeline, decode, random_box
from d2l_ft.parity.antialias import resize_as_pil, resize_as_pil_height_first, resize_as_torch
from d2l_ft.parity.compare import kolmogorov_smirnov, ulps, unequal
from d2l_ft.parity.plan import Check, Checks, Context, Plan, Trace
from d2l_ft.parity.rungs.samples import to_numpy
from d2l_ft.parity.tolerances import check

DRAWS, HEIGHT, WIDTH = 3000, 90, 140
"""Boxes drawn for the statistical test, and the size of the image that they are drawn for."""

ORACLES = 12
"""Files that go through the frameworks' own transforms."""

WORKERS = 2

Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]

RESIZES: dict[str, tuple[Resize, ...]] = {
    'tensor-antialias': (resize_as_torch,),
    'pil': (resize_as_pil, resize_as_pil_height_first),
}
"""Transforms that do not resize as the core does -> the resizes that they may equal."""

SIDES = range(32, 48)
"""Sides of squares for which the central crop of 32 is compared: margins of 0 to 15 pixels."""


def trace(context: Context) -> None:
    """Write crops and floats of every epoch, and the results of the framework's own transforms."""
    plan = context.plan
    crops, floats = epochs(context, 0)
    context.save('pixels/epochs', {'crops': crops, 'floats': floats})
    context.save('pixels/workers', {'crops': epochs(context, WORKERS)[0]})
    images = {f'{i:02d}': context.probe.decode(each.path) for i, each in transform_samples(plan)}
    context.save('pixels/decoded', images)
    pipeline = Pipeline(plan.image_size, train=True, seed=plan.seed)
    side = round(plan.image_size * RESIZE_RATIO)
    for stack in context.probe.STACKS:
        found: dict[str, NDArray[Any]] = {}
        for index, sample in transform_samples(plan):
            height, width = images[f'{index:02d}'].shape[:2]
            box, flip = pipeline.draw(height, width, 0, index)
            own = context.probe.train_transform(
                sample.path, box, flip=flip, size=plan.image_size, stack=stack
            )
            test = context.probe.eval_transform(sample.path, side, plan.image_size, stack)
            found |= {f'train/{name}/{index:02d}': array for name, array in own.items()}
            found |= {f'test/{name}/{index:02d}': array for name, array in test.items()}
        context.save(f'pixels/own-{stack}', found)
    context.note('pixels/stacks', list(context.probe.STACKS))
    context.note('pixels/edges', context.probe.center_edges(SIDES, SIDES[0]))
    boxes, flips = context.probe.draw_crops_and_flips(HEIGHT, WIDTH, DRAWS, plan.seed + 1)
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


def transform_samples(plan: Plan) -> list[tuple[int, Sample]]:
    """Return the files that go through the frameworks' own transforms, with their index."""
    return list(enumerate(plan.samples(ORACLES)))


def core_crop(
    image: NDArray[np.uint8], pipeline: Pipeline, index: int, part: str
) -> NDArray[np.uint8]:
    """Return the crop that the core's pipeline makes of a decoded train or test image."""
    return pipeline.cut(image, 0, index) if part == 'train' else pipeline.centre(image)


def reference_crop(
    image: NDArray[np.uint8], pipeline: Pipeline, index: int, part: str, resize: Resize
) -> NDArray[np.uint8]:
    """Return the same with another resize, computed without the pipeline."""
    size = pipeline.image_size
    if part == 'test':
        side = round(size * RESIZE_RATIO)
        edge = (side - size) // 2
        return resize(image, side, side)[edge : edge + size, edge : edge + size]
    (top, left, height, width), flip = pipeline.draw(image.shape[0], image.shape[1], 0, index)
    square = resize(image[top : top + height, left : left + width], size, size)
    return square[:, ::-1] if flip else square


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare both frameworks' pixels, then each with its own transforms."""
    left, right = a.arrays('pixels/epochs'), b.arrays('pixels/epochs')
    yield check_bytes('crops', left['crops'], right['crops'], plan)
    yield check(
        'pixels',
        'data',
        'floats',
        ulps(left['floats'], right['floats']),
        'the standardised inputs' if unequal(left['floats'], right['floats']) else '',
    )
    for each, epochs_ in ((a, left), (b, right)):
        workers = each.arrays('pixels/workers')['crops']
        yield check_bytes(f'workers-{each.folder.name}', epochs_['crops'], workers, plan)
    for each in (a, b):
        images = each.arrays('pixels/decoded')
        yield check_decoder(each.folder.name, images, plan)
        for stack in each.facts('pixels/stacks'):
            yield from check_transforms(each, stack, images, plan)
        edges = zip(each.facts('pixels/edges'), SIDES, strict=True)
        off = [abs(edge - (side - SIDES[0]) // 2) for edge, side in edges]
        yield check('pixels', 'own', f'edges-{each.folder.name}', max(off), 'a central crop')
    yield from statistics(a, b, plan)


def check_bytes(what: str, a: NDArray[Any], b: NDArray[Any], plan: Plan) -> Check:
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


def check_decoder(framework: str, images: dict[str, NDArray[Any]], plan: Plan) -> Check:
    """Return the stated distance of a framework's own image reader from the core's."""
    far = {
        f'train/decoded/{index:02d}': distance(images[f'{index:02d}'], decode(sample.path))
        for index, sample in transform_samples(plan)
    }
    worst = max(far, key=lambda name: far[name])
    where = image_name(worst, plan) if far[worst] else ''
    return check('pixels', 'own', f'decoded-{framework}', far[worst], where)


def distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the largest difference of two images; 255 for different shapes."""
    return float(np.abs(a.astype(int) - b).max()) if a.shape == b.shape else 255.0


def distances(
    own: NDArray[np.uint8],
    image: NDArray[np.uint8],
    pipeline: Pipeline,
    index: int,
    part: str,
    stack: str,
) -> tuple[float, float]:
    """Return the distances of a framework's crop from its reference and from the core's crop."""
    from_core = distance(own, core_crop(image, pipeline, index, part))
    ways = [reference_crop(image, pipeline, index, part, each) for each in RESIZES.get(stack, ())]
    return min([distance(own, way) for way in ways] or [from_core]), from_core


def check_transforms(
    trace: Trace, stack: str, images: dict[str, NDArray[Any]], plan: Plan
) -> Checks:
    """Compare one of a framework's own transforms with its reference.

    Both start from the image that the framework decoded, so that only the arithmetic is compared.
    If the transform resizes otherwise than the core, its distance from the core is stated too.
    """
    own = trace.arrays(f'pixels/own-{stack}')
    pipeline = Pipeline(plan.image_size, train=True, seed=plan.seed)
    for part in ('train', 'test'):
        far, from_core = {}, {}
        for index, _ in transform_samples(plan):
            name, image = f'{part}/crop/{index:02d}', images[f'{index:02d}']
            far[name], from_core[name] = distances(own[name], image, pipeline, index, part, stack)
        values = {f'{part}-{stack}': far}
        if stack in RESIZES:
            values[f'opencv-{part}-{stack}'] = from_core
        for what, group in values.items():
            worst = max(group, key=lambda name: group[name])
            where = image_name(worst, plan) if group[worst] else ''
            yield check('pixels', 'own', what, group[worst], where)
    steps = {
        name: ulps(own[name.replace('crop', 'float')], pipeline.to_float(crop[None])[0])
        for name, crop in own.items()
        if '/crop/' in name
    }
    worst = max(steps, key=lambda name: steps[name])
    yield check('pixels', 'own', f'floats-{stack}', steps[worst], image_name(worst, plan))


def image_name(name: str, plan: Plan) -> str:
    """Return the file of an array in a trace, by the name of the array."""
    part, _, index = name.split('/')
    return f'{plan.name(plan.samples(ORACLES)[int(index)].path)} as a {part} image'


def statistics(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the distribution of the core's draws with that of each framework's own."""
    boxes = np.array(
        [
            random_box(HEIGHT, WIDTH, generator(plan.seed, 0, 0, index), AREA)
            for index in range(DRAWS)
        ]
    )
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
