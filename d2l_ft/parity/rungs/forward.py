"""Rung 4: the same logits and losses, layer by layer, in eval and in train mode.

In train mode BatchNorm divides by the standard deviations of the batch, which are tiny where all
images are uniform. There float32 is compared by its distance from float64.
"""

from d2l_ft.models.compare import relative
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name
from d2l_ft.parity.plan import Check, Checks, Context, Plan, Trace
from d2l_ft.parity.tolerances import check, limit

MODES = ('eval', 'train')

ROUNDED = 1e-4
"""Distances of float32 from float64, relative to the largest value of a layer, count as equal below
this."""


def trace(context: Context) -> None:
    """Write the output of every layer, the logits and the losses of every net."""
    for arch, classes in context.plan.cases():
        for dtype in context.plan.precisions:
            trace_net(context, arch, classes, dtype)


def trace_net(context: Context, arch: str, classes: int, dtype: str) -> None:
    """Write what one net computes."""
    placed, batch = context.net(arch, classes, dtype), context.batch(classes)
    case = f'forward/{arch}-{classes}/{dtype}'
    scores, losses = context.backend.logits(placed, batch), context.probe.losses(placed.net, batch)
    context.save(f'{case}/outputs', {'logits': scores, 'losses': losses})
    for mode in MODES:
        maps = context.probe.feature_maps(placed.net, batch, train=mode == 'train')
        context.save(f'{case}/{mode}', maps)


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare logits, losses and the output of every layer."""
    for arch, classes in plan.cases():
        case = f'{arch}-{classes}'
        for dtype in plan.precisions:
            for mode in MODES:
                if (mode, dtype) == ('train', 'float32'):
                    yield check_rounding(a, b, case)
                    continue
                values = layers(a, b, case, dtype, mode)
                what = f'layers-{mode}-{dtype}'
                first = first_beyond(values, limit('forward', what, arch))
                yield check('forward', case, what, largest(values.values()), first)
            left, right = (each.arrays(f'forward/{case}/{dtype}/outputs') for each in (a, b))
            beyond = relative(left['logits'], right['logits'])
            yield check('forward', case, f'logits-eval-{dtype}', beyond, 'the logits')
            value = largest(
                (
                    relative(left['losses'], right['losses']),
                    relative(left['losses'].mean(), right['losses'].mean()),
                )
            )
            yield check('forward', case, f'losses-{dtype}', value, 'the losses')


def layers(a: Trace, b: Trace, case: str, dtype: str, mode: str) -> dict[str, float]:
    """Return layer -> how far apart its outputs are, in the order of execution."""
    left, right = (trace.arrays(f'forward/{case}/{dtype}/{mode}') for trace in (a, b))
    return relative_by_name(left, right)


def check_rounding(a: Trace, b: Trace, case: str) -> Check:
    """Return the check of the ratio of the frameworks' distances from float64, over all layers."""
    far = []
    for trace_ in (a, b):
        single = trace_.arrays(f'forward/{case}/float32/train')
        double = trace_.arrays(f'forward/{case}/float64/train')
        far.append(largest(relative_by_name(single, double).values()))
    where = f'{(a, b)[far.index(max(far))].folder.name} is further from float64'
    value = max(far) / max(min(far), ROUNDED)
    return check('forward', case, 'layers-train-float32', value, where)
