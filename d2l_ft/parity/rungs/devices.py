"""Rung 10: one, two and three CPU devices, with batches that do not divide evenly."""

from d2l_ft.models.state import State
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name
from d2l_ft.parity.plan import Checks, Context, Plan, Trace, thin
from d2l_ft.parity.rungs.step import build_trainer, stable_recipe
from d2l_ft.parity.tolerances import check, limit

COUNTS, RATE = (1, 2, 3), 0.001
SIZES = (8, 7, 2)
"""Examples of the batches: uneven shares, and fewer examples than devices."""

PLAIN_ARCH = 'squeezenet1_1'
"""Has no BatchNorm, so that several devices must give the step of one."""

HEAVY = ('vgg11',)
"""Left out: three replicas with gradients and velocities in float64 take 10 GB per framework."""


def trace(context: Context) -> None:
    """Train on several devices of one process."""
    for arch in architectures(context.plan):
        for count in COUNTS:
            context.save(f'devices/{arch}/{count}', thin(train(context, arch, count)))


def architectures(plan: Plan) -> list[str]:
    """Return the plan's architectures that fit, and one without BatchNorm.

    With converted nets, which may take other images, there are they alone.
    """
    light = [arch for arch in plan.archs if arch not in HEAVY]
    return light if plan.nets else list(dict.fromkeys((*light, PLAIN_ARCH)))


def train(context: Context, arch: str, count: int) -> State:
    """Return the state after a few uneven steps, in float64."""
    placed = context.net(arch, 2, 'float64', devices=f'cpu:{count}')
    trainer = build_trainer(context, placed, stable_recipe(arch, RATE))
    for number, size in enumerate(SIZES):
        if arch != PLAIN_ARCH:  # BatchNorm amplifies any rounding over too few values
            size = 4 * count + size % 3
        context.backend.train_step(placed, trainer, context.batch(2, size, skip=number))
    return context.backend.get_state(placed)


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the frameworks at each count, and without BatchNorm each count with one device."""
    for arch in architectures(plan):
        for count in COUNTS:
            left, right = (t.arrays(f'devices/{arch}/{count}') for t in (a, b))
            values = relative_by_name(left, right)
            bound = first_beyond(values, limit('devices', 'frameworks', arch))
            yield check('devices', arch, f'frameworks-{count}', largest(values.values()), bound)
    if PLAIN_ARCH not in architectures(plan):
        return
    for trace_ in (a, b):
        single = trace_.arrays(f'devices/{PLAIN_ARCH}/1')
        for count in COUNTS[1:]:
            values = relative_by_name(trace_.arrays(f'devices/{PLAIN_ARCH}/{count}'), single)
            bound = first_beyond(values, limit('devices', 'one', PLAIN_ARCH))
            what = f'one-{count}-{trace_.folder.name}'
            yield check('devices', PLAIN_ARCH, what, largest(values.values()), bound)
