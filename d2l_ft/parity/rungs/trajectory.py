"""Rung 7: many steps from the same start: losses, weights, velocities, test logits."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.protocol import Placed
from d2l_ft.models.compare import relative
from d2l_ft.models.state import State
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name, relative_norm
from d2l_ft.parity.plan import Checks, Context, Plan, Trace, thin
from d2l_ft.parity.rungs.samples import to_numpy
from d2l_ft.parity.rungs.step import build_trainer, stable_recipe
from d2l_ft.parity.tolerances import check, limit

ONE_BRANCH = 1e-5
"""Distances below this count as equal: a rounding may flip one ReLU in one framework only.
"""

TESTED = 24
"""Test images whose logits are compared at the end."""

RATE = 1e-4
"""Rate of the body: with the momentum and the head's multiplier, the highest that trains without
oscillation."""

DIGESTS = 10
"""How often the weights are compared during the run."""

PROOF, KNOWN, ROUNDED = ('strict', 'short'), ('stock',), ('float32', 'float32-other')
"""Runs that must agree; that differ in a known way; whose distance from float64 is compared."""


def trace(context: Context) -> None:
    """Write the course of every run of every net."""
    for arch, classes in context.plan.cases():
        for run in runs(context.plan, classes):
            case = f'trajectory/{arch}-{classes}/{run}'
            dtype = 'float32' if run in ROUNDED else 'float64'
            placed = context.net(arch, classes, dtype, strict=run != 'stock')
            other = context.probe.round_differently() if run == 'float32-other' else nullcontext()
            with other:
                follow(context, placed, arch, classes, run == 'short', case)


def runs(plan: Plan, classes: int) -> list[str]:
    """Return the runs of a head: all for the first one, the proof for the others."""
    if classes != plan.heads[0]:
        return ['strict']
    found = [*PROOF, *KNOWN]
    return found + (list(ROUNDED) if 'float32' in plan.precisions else [])


def follow(
    context: Context, placed: Placed, arch: str, classes: int, short: bool, case: str
) -> None:
    """Train, and write losses, digests of the weights, the last state and the test logits."""
    backend, plan = context.backend, context.plan
    trainer = build_trainer(context, placed, stable_recipe(arch, RATE))
    losses: list[float] = []
    digests: dict[str, NDArray[Any]] = {}
    for step, (batch, examples) in enumerate(batches(context, classes, short)):
        losses.append(float(backend.train_step(placed, trainer, batch).loss) / examples)
        if step % max(1, plan.steps // DIGESTS) == 0 or step == plan.steps - 1:
            digests |= digest(backend.get_state(placed), step)
    velocity = backend.get_trainer_state(placed, trainer)
    context.save(f'{case}/course', {'losses': np.array(losses), **digests})
    context.save(f'{case}/state', thin(backend.get_state(placed)))
    context.save(f'{case}/velocity', thin(velocity))
    test = plan.samples(TESTED, part=1)
    loader = backend.loader(test, plan.pipeline(), plan.batch_size)
    scores = [backend.logits(placed, batch) for batch in loader]
    labels = np.array([each.label for each in test])
    context.save(f'{case}/test', {'logits': np.concatenate(scores), 'labels': labels})


def batches(context: Context, classes: int, short: bool) -> Iterator[tuple[Any, int]]:
    """Yield (batch, examples) for the plan's steps; ``short``: each epoch ends with less."""
    plan = context.plan
    count = max(1, len(plan.samples()) // plan.batch_size) * plan.batch_size - (3 if short else 0)
    loader = context.backend.loader(
        # a file that comes twice has two indices, so two crops
        [sample for sample, _ in plan.cycle(count)],
        plan.pipeline(train=True),
        plan.batch_size,
        shuffle=True,
        seed=plan.seed,
    )
    for step in range(plan.steps):
        if step % len(loader) == 0:
            loader.set_epoch(step // len(loader))
            iterator = iter(loader)
        images, labels = next(iterator)
        spread = (to_numpy(labels) + 2 * np.arange(len(labels))) % classes
        if classes == 2:  # the data set may have more than two classes
            spread = to_numpy(labels) % 2
        yield context.backend.to_batch(to_numpy(images), spread), len(labels)


def digest(state: State, step: int) -> dict[str, NDArray[Any]]:
    """Return a few numbers of every array, to see where and when two runs diverge."""
    return {
        f'{step:03d}/{name}': np.array([array.sum(), np.square(array).sum(), array.flat[0]])
        for name, array in state.items()
    }


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare every run."""
    for arch, classes in plan.cases():
        case = f'{arch}-{classes}'
        for run in runs(plan, classes):
            if run not in ROUNDED:
                yield from compare_float64(a, b, case, run, arch)
        if 'float32' in runs(plan, classes):
            yield from compare_float32(a, b, case)


def compare_float64(a: Trace, b: Trace, case: str, run: str, arch: str) -> Checks:
    """Compare a run in float64."""
    base = f'trajectory/{case}/{run}'
    left, right = (t.arrays(f'{base}/course') for t in (a, b))
    losses = {
        f'step {step}': relative(*pair)
        for step, pair in enumerate(zip(left.pop('losses'), right.pop('losses'), strict=True))
    }
    bound = limit('trajectory', f'losses-{run}', arch)
    yield check(
        'trajectory', case, f'losses-{run}', largest(losses.values()), first_beyond(losses, bound)
    )
    if run == 'stock' and not any('running_' in name for name in left):
        return  # no BatchNorm, so no difference to expect
    bound = limit('trajectory', f'weights-{run}', arch)
    courses = relative_by_name(left, right)
    left, right = (t.arrays(f'{base}/state') for t in (a, b))
    ends = relative_by_name(left, right)
    first = first_beyond(courses, bound)
    step, _, name = first.partition('/')
    where = f'step {int(step)}, {name}' if first else first_beyond(ends, bound)
    yield check('trajectory', case, f'weights-{run}', largest(ends.values()), where)
    if run == 'strict':
        left, right = (t.arrays(f'{base}/velocity') for t in (a, b))
        speeds = relative_by_name(left, right)
        first = first_beyond(speeds, bound)
        yield check('trajectory', case, f'velocities-{run}', largest(speeds.values()), first)
    ours, theirs = (t.arrays(f'{base}/test')['logits'] for t in (a, b))
    yield check('trajectory', case, f'logits-{run}', relative(ours, theirs), 'the test logits')
    wrong = (ours.argmax(1) != theirs.argmax(1)).sum()
    if run != 'stock':
        yield check('trajectory', case, f'classes-{run}', int(wrong), 'the test images')


def compare_float32(a: Trace, b: Trace, case: str) -> Checks:
    """Judge MXNet's float32 run by those of PyTorch, which differ among themselves by rounding.

    All runs start from the same bits. Two runs of PyTorch, with and without oneDNN, end so far
    from the float64 run; MXNet's may end no further than a few times that.
    """
    base = f'trajectory/{case}'
    end = b.arrays(f'{base}/strict/state')
    own = [relative_norm(b.arrays(f'{base}/{run}/state'), end) for run in ROUNDED]
    far = relative_norm(a.arrays(f'{base}/float32/state'), end)
    where = f'mxnet ends {far:.1e} from float64, pytorch {own[0]:.1e} and {own[1]:.1e}'
    yield check('trajectory', case, 'float32', far / max(*own, ONE_BRANCH), where)
    yield check('trajectory', case, 'distance-float32', far, 'mxnet')
