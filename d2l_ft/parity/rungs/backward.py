"""Rung 5: the gradient of every parameter; float32 is judged by its distance from float64."""

from d2l_ft.models.compare import relative
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name, relative_norm
from d2l_ft.parity.plan import Checks, Plan, Trace
from d2l_ft.parity.rungs.step import trace_gradients as trace
from d2l_ft.parity.tolerances import check, limit

__all__ = ['compare', 'trace']

FLOOR = 1e-4
"""Share of the largest gradient below which a tensor's gradient counts as zero. The gradient of a
bias before a BatchNorm is zero in exact arithmetic, so what is computed is rounding only."""

ONE_BRANCH = 5e-3
"""How far a single ReLU that a rounding turned may move the gradient, as a share of its length.
Distances below this count as equal, as it may have happened in one framework and not in the other.
"""


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the summed loss and the gradients of one step."""
    for arch, classes in plan.cases():
        case = f'{arch}-{classes}'
        for dtype in plan.precisions:
            left, right = (t.arrays(f'step/{case}/{dtype}/loss')['loss'] for t in (a, b))
            yield check('backward', case, f'loss-{dtype}', relative(left, right), 'the loss')
        exact = [t.arrays(f'step/{case}/float64/gradients') for t in (a, b)]
        values = relative_by_name(exact[0], exact[1], FLOOR)
        first = first_beyond(values, limit('backward', 'gradients-float64', arch))
        yield check('backward', case, 'gradients-float64', largest(values.values()), first)
        if 'float32' in plan.precisions:
            far = [
                relative_norm(t.arrays(f'step/{case}/float32/gradients'), reference)
                for t, reference in zip((a, b), exact, strict=True)
            ]
            ratio = max(far) / max(min(far), ONE_BRANCH)
            where = f'{(a, b)[far.index(max(far))].folder.name} is further from float64'
            yield check('backward', case, 'gradients-float32', ratio, where)
            yield check('backward', case, 'distance-float32', max(far), where)
