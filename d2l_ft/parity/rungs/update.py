"""Rung 6: what one step adds to every parameter and statistic, and that it is the recipe."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.models.compare import relative
from d2l_ft.parity.compare import Arrays, first_beyond, largest, relative_by_name
from d2l_ft.parity.plan import Checks, Plan, Trace
from d2l_ft.parity.rungs.step import KINDS, recipe_factors
from d2l_ft.parity.rungs.step import trace_updates as trace
from d2l_ft.parity.tolerances import check, limit

__all__ = ['compare', 'trace']

STEP = 0.1
"""Share of the batch in new running statistics: 1 - MXNet's momentum, or PyTorch's momentum."""


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the changes of every kind of step, and each framework's step with the recipe."""
    for arch, classes in plan.cases():
        case = f'{arch}-{classes}'
        kinds = KINDS if classes == plan.heads[0] else KINDS[:1]
        for kind in kinds:
            left, right = (t.arrays(f'step/{case}/float64/{kind}') for t in (a, b))
            if kind == 'stock':
                yield from stock(left, right, a.facts(f'step/{case}/counts'), case, arch)
                continue
            values = relative_by_name(left, right)
            first = first_beyond(values, limit('update', kind, arch))
            yield check('update', case, kind, largest(values.values()), first)
        for each in (a, b):
            yield from recipe(each, case, arch)


def recipe(trace: Trace, case: str, arch: str) -> Checks:
    """Check that one framework's step has the factors of the recipe."""
    rates, decays = {}, {}
    for name, (rate, decay) in trace.facts(f'step/{case}/float64/observed').items():
        factors = recipe_factors(name, arch)
        rates[name] = abs(rate / factors[0] - 1)
        decays[name] = abs(decay / factors[1] - 1)
    for what, values in (('rates', rates), ('decay', decays)):
        first = first_beyond(values, limit('update', f'{what}-', arch))
        yield check('update', case, f'{what}-{trace.folder.name}', largest(values.values()), first)


def stock(left: Arrays, right: Arrays, counts: dict[str, int], case: str, arch: str) -> Checks:
    """Compare running statistics under each framework's own rule.

    The variance is biased in MXNet and unbiased in PyTorch: n / (n - 1) times as large, n being
    the values a channel, known from the feature maps. With the factor removed, what is left is
    the rounding of MXNet's momentum to float32.
    """
    corrected: dict[str, float] = {}
    variances: dict[str, float] = {}
    unreached = []
    for name in left:
        layer, _, kind = name.partition('.running_')
        if kind not in ('mean', 'var'):
            continue
        ours, theirs = left[name], right[name]
        if not ours.any():  # MXNet updates statistics in backward, which does not reach this layer
            unreached.append(name)
            continue
        if kind == 'var':
            old = left[f'{layer}.before']
            variances[name] = relative(old + theirs, old + ours)
            theirs = with_biased_variance(theirs, old, counts[layer])
        corrected[name] = relative(theirs, ours)
    first = first_beyond(corrected, limit('update', 'statistics-corrected', arch))
    yield check('update', case, 'statistics-corrected', largest(corrected.values() or [0.0]), first)
    where = unreached[0] if unreached else ''
    yield check('update', case, 'statistics-unreached', len(unreached), where)
    if variances:
        worst = max(variances, key=lambda name: variances[name])
        yield check('update', case, 'statistics-stock', variances[worst], worst)


def with_biased_variance(change: NDArray[Any], old: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the change of a running variance, had it taken the biased variance of the batch."""
    unbiased = change / STEP + old
    return np.asarray(STEP * (unbiased * (count - 1) / count - old))
