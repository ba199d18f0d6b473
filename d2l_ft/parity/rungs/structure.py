"""Rung 3: the same head, the same shapes of everything, the same groups with the same factors."""

from typing import Any

from d2l_ft.backend.protocol import Placed
from d2l_ft.models.architectures import architecture, is_head
from d2l_ft.optim.recipe import FINE_TUNED
from d2l_ft.parity.plan import Checks, Context, Plan, Trace
from d2l_ft.parity.tolerances import check

PARTS = ('head', 'shapes', 'maps', 'groups', 'frozen')


def trace(context: Context) -> None:
    """Write the structure of every net as facts."""
    for arch, classes in context.plan.cases():
        context.note(f'structure/{arch}-{classes}', structure(context, arch, classes))


def structure(context: Context, arch: str, classes: int) -> dict[str, Any]:
    """Return the structure of a net: part -> name -> fact."""
    backend, probe = context.backend, context.probe
    placed = context.net(arch, classes, 'float32')
    maps = probe.feature_maps(placed.net, context.batch(classes, 2))
    whole = groups(context, placed, arch)
    backend.freeze(placed.net)
    return {
        'head': probe.head_layout(placed.net),
        'shapes': {name: list(array.shape) for name, array in backend.get_state(placed).items()},
        'maps': {name: list(array.shape) for name, array in maps.items()},
        'groups': whole,
        'frozen': groups(context, placed, arch),
    }


def groups(context: Context, placed: Placed, arch: str) -> dict[str, Any]:
    """Return name -> [group, rate multiplier, decay multiplier] of the parameters in a trainer."""
    prefix = architecture(arch).head
    trainer = context.backend.build_trainer(placed, FINE_TUNED)
    return {
        name: ['head' if is_head(name, prefix) else 'body', *factors]
        for name, factors in context.probe.multipliers(placed.net, trainer).items()
    }


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare each part of every net's structure."""
    for arch, classes in plan.cases():
        left, right = (each.facts(f'structure/{arch}-{classes}') for each in (a, b))
        for part in PARTS:
            names = [*left[part], *(name for name in right[part] if name not in left[part])]
            wrong = [name for name in names if left[part].get(name) != right[part].get(name)]
            where = ''
            if wrong:
                first = wrong[0]
                where = f'{first}: {left[part].get(first)} and {right[part].get(first)}'
            yield check('structure', f'{arch}-{classes}', part, len(wrong), where)
