"""Rung 1: the same files in the same order with the same labels, on each device too."""

import hashlib
from typing import Any

import numpy as np

from d2l_ft.data.transforms import Pipeline
from d2l_ft.parity.compare import first_unequal
from d2l_ft.parity.plan import Check, Checks, Context, Plan, Trace
from d2l_ft.parity.tolerances import check

SIDE, DEVICES = 32, (1, 2, 3)


def trace(context: Context) -> None:
    """List the files, then what the loader yields for each epoch and what each device gets."""
    plan = context.plan
    for number, part in enumerate(plan.parts):
        files = [[plan.name(each.path), each.label] for each in part.samples]
        context.note(f'samples/files-{number}', {'classes': part.classes, 'files': files})
    samples = plan.samples()
    loader = context.backend.loader(
        samples, Pipeline(SIDE, train=True), plan.batch_size - 1, shuffle=True, seed=plan.seed
    )
    epochs = []
    for epoch in range(plan.epochs):
        loader.set_epoch(epoch)
        epochs.append([[digests(images), labels_of(labels)] for images, labels in loader])
    context.note('samples/epochs', epochs)
    net = context.backend.build_net('squeezenet1_1', 2)
    shards = []
    for count in DEVICES:
        placed = context.backend.place(net, context.backend.devices(f'cpu:{count}'))
        batches = [context.batch(2, size) for size in (plan.batch_size, 7, 2)]
        shards.append(
            [[digests(each) for each in context.probe.split(placed, batch)] for batch in batches]
        )
    context.note('samples/shards', shards)


def digests(images: Any) -> list[str]:
    """Return a short hash of each image of a batch."""
    array = np.ascontiguousarray(to_numpy(images), dtype=np.float32)
    return [hashlib.sha256(each.tobytes()).hexdigest()[:12] for each in array]


def labels_of(labels: Any) -> list[int]:
    """Return the labels of a batch."""
    return [int(label) for label in to_numpy(labels)]


def to_numpy(tensor: Any) -> Any:
    """Return a tensor of any framework as an array."""
    return tensor.asnumpy() if hasattr(tensor, 'asnumpy') else np.asarray(tensor)


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare files, classes, labels, order and shards."""
    left, right = files(a), files(b)
    yield check_lists('files', left, right, [str(entry) for entry in left])
    left, right = (flat_epochs(each.facts('samples/epochs')) for each in (a, b))
    places = [f'epoch {e}, batch {batch}, example {i}' for e, batch, i, _, _ in left]
    labels = [[row[:3] + row[4:] for row in rows] for rows in (left, right)]
    yield check_lists('labels', labels[0], labels[1], places)
    yield check_lists('order', [row[:4] for row in left], [row[:4] for row in right], places)
    left, right = (flat_shards(each.facts('samples/shards')) for each in (a, b))
    places = [f'{n} devices, device {d}, example {i}' for n, _, d, i, _ in left]
    yield check_lists('shards', left, right, places)


def files(trace: Trace) -> list[list[Any]]:
    """Return the classes and [file, label] rows of both parts."""
    rows: list[list[Any]] = []
    for number in range(2):
        facts = trace.facts(f'samples/files-{number}')
        rows += [['classes', facts['classes']], *facts['files']]
    return rows


def flat_epochs(epochs: Any) -> list[list[Any]]:
    """Return [epoch, batch, example, digest, label] rows."""
    return [
        [e, b, i, digest, label]
        for e, batches in enumerate(epochs)
        for b, batch in enumerate(batches)
        for i, (digest, label) in enumerate(zip(*batch, strict=True))
    ]


def flat_shards(counts: Any) -> list[list[Any]]:
    """Return [devices, batch, device, example, digest] rows."""
    return [
        [DEVICES[n], b, d, i, digest]
        for n, batches in enumerate(counts)
        for b, devices in enumerate(batches)
        for d, share in enumerate(devices)
        for i, digest in enumerate(share)
    ]


def check_lists(what: str, a: list[Any], b: list[Any], places: list[str]) -> Check:
    """Return the check that two lists are the same."""
    first = first_unequal(a, b)
    if first is None:
        return check('samples', 'data', what, 0)
    wrong = sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    where = places[first] if first < len(places) else f'entry {first}, which one side has not'
    return check('samples', 'data', what, wrong, where)
