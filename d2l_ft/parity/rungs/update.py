"""Rung 6: what one step adds to every parameter and statistic, and that it is the recipe."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.parity.compare import Arrays, each, first_beyond, largest, relative
from d2l_ft.parity.plan import Checks, Plan, Trace
from d2l_ft.parity.rungs.step import KINDS, expected
from d2l_ft.parity.rungs.step import trace_updates as trace
from d2l_ft.parity.tolerances import check, limit

__all__ = ['compare', 'trace']

STEP = 0.1
"""How far a step moves the running statistics: 1 - MXNet's momentum, PyTorch's momentum."""


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
            values = each(left, right)
            first = first_beyond(values, limit('update', kind, arch))
            yield check('update', case, kind, largest(values.values()), first)
        for each_ in (a, b):
            yield from recipe(each_, case, arch)


def recipe(trace: Trace, case: str, arch: str) -> Checks:
    """Check that the observed step is the recipe's, for one framework."""
    rates, decays = {}, {}
    for name, (rate, decay) in trace.facts(f'step/{case}/float64/observed').items():
        wanted = expected(name, arch)
        rates[name] = abs(rate / wanted[0] - 1)
        decays[name] = abs(decay / wanted[1] - 1)
    for what, values in (('rates', rates), ('decay', decays)):
        first = first_beyond(values, limit('update', f'{what}-', arch))
        yield check('update', case, f'{what}-{trace.folder.name}', largest(values.values()), first)


def stock(left: Arrays, right: Arrays, counts: dict[str, int], case: str, arch: str) -> Checks:
    """Compare running statistics under each framework's own rule.

    The variance is biased in MXNet and unbiased in PyTorch: n / (n - 1) times as large, n being
    the values a channel, known from the feature maps. With the factor removed, what is left is
    the rounding of MXNet's momentum to float32.
    """
    kept: dict[str, float] = {}
    apart: dict[str, float] = {}
    unreached = []
    for name in left:
        layer, _, kind = name.partition('.running_')
        if kind not in ('mean', 'var'):
            continue
        ours, theirs = left[name], right[name]
        if not ours.any():  # MXNet moves statistics in backward, which does not come here
            unreached.append(name)
            continue
        if kind == 'var':
            old = left[f'{layer}.before']
            apart[name] = relative(old + theirs, old + ours)
            theirs = biased(theirs, old, counts[layer])
        kept[name] = relative(theirs, ours)
    first = first_beyond(kept, limit('update', 'statistics-corrected', arch))
    yield check('update', case, 'statistics-corrected', largest(kept.values() or [0.0]), first)
    where = unreached[0] if unreached else ''
    yield check('update', case, 'statistics-unreached', len(unreached), where)
    if apart:
        worst = max(apart, key=lambda name: apart[name])
        yield check('update', case, 'statistics-stock', apart[worst], worst)


def biased(change: NDArray[Any], old: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the change of a running variance, had it taken the biased variance of the batch."""
    unbiased = change / STEP + old
    return np.asarray(STEP * (unbiased * (count - 1) / count - old))
