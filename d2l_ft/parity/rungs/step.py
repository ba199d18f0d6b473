"""Rungs 5 and 6: the gradient of every parameter, and what one step does with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.protocol import Placed
from d2l_ft.models.architectures import architecture, is_head
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe
from d2l_ft.parity.plan import Context, thin

PLAIN = Recipe(0.01, head_lr_mult=10, weight_decay=0.02)
MOMENTUM = Recipe(0.001, head_lr_mult=10, weight_decay=0.02, momentum=0.9)
LATER_RATE = 0.0003

RATES = {'resnet34': 2e-5, 'resnet50': 1e-8, 'mobilenet_v2': 1e-6}
"""Highest rates of deep nets where several steps are compared. Their random weights make gradients
so large that training oscillates at more, and then any rounding grows to 1 within some steps."""

KINDS = ('plain', 'momentum', 'short', 'frozen', 'stock')
"""One step; three with momentum and a rate that falls in between; one with a short batch; one
with a frozen body; one with the framework's own BatchNorm."""


def trace_gradients(context: Context) -> None:
    """Write gradients in every precision, and the step of every kind in float64."""
    for arch, classes in context.plan.cases():
        batch = context.batch(classes)
        for dtype in context.plan.precisions:
            trace_step(context, arch, classes, dtype, batch)


def trace_step(context: Context, arch: str, classes: int, dtype: str, batch: Any) -> None:
    """Take one step; write loss, gradients, changes, and the factors estimated from them."""
    placed = context.net(arch, classes, dtype)
    trainer = build_trainer(context, placed, PLAIN)
    before = context.backend.get_state(placed)
    sums = context.backend.train_step(placed, trainer, batch)
    gradients = context.probe.gradients(placed.net, trainer)
    case = f'step/{arch}-{classes}/{dtype}'
    context.save(f'{case}/gradients', thin(gradients))
    context.save(f'{case}/loss', {'loss': np.array(float(sums.loss))})
    if dtype == 'float64':
        after = context.backend.get_state(placed)
        context.save(f'{case}/plain', thin(difference(after, before)))
        context.note(f'{case}/observed', estimate_factors(before, after, gradients))


def trace_updates(context: Context) -> None:
    """Write what each kind of step changed, in float64."""
    for arch, classes in context.plan.cases():
        kinds = KINDS[1:] if classes == context.plan.heads[0] else ()
        for kind in kinds:
            trace_kind(context, arch, classes, kind)


def trace_kind(context: Context, arch: str, classes: int, kind: str) -> None:
    """Take the steps of a kind; write the changes, and what the comparison of ``stock`` needs."""
    placed = context.net(arch, classes, 'float64', strict=kind != 'stock')
    if kind == 'frozen':
        context.backend.freeze(placed.net)
    before = context.backend.get_state(placed)
    take_steps(context, placed, kind, classes)
    changes = difference(context.backend.get_state(placed), before)
    if kind == 'stock':
        changes |= {
            name.replace('running_var', 'before'): array
            for name, array in before.items()
            if name.endswith('running_var')
        }
        maps = context.probe.feature_maps(placed.net, context.batch(classes), train=True)
        counts = {name: int(array[:, 0].size) for name, array in maps.items()}
        context.note(f'step/{arch}-{classes}/counts', counts)
    context.save(f'step/{arch}-{classes}/float64/{kind}', thin(changes))


def stable_recipe(arch: str, rate: float) -> Recipe:
    """Return the recipe with momentum, at a rate or at that of ``RATES`` if it is lower."""
    return MOMENTUM.at_rate(min(rate, RATES.get(arch, rate)))


def build_trainer(context: Context, placed: Placed, recipe: Recipe) -> Any:
    """Return a trainer whose hyper-parameters are float32 numbers in every framework."""
    trainer = context.backend.build_trainer(placed, recipe)
    context.probe.round_rates(trainer)
    return trainer


def take_steps(context: Context, placed: Placed, kind: str, classes: int) -> None:
    """Take the steps of a kind."""
    backend, size = context.backend, context.plan.batch_size
    if kind != 'momentum':
        trainer = build_trainer(context, placed, PLAIN)
        batch = context.batch(classes, size - 3 if kind == 'short' else size)
        backend.train_step(placed, trainer, batch)
        return
    memory: Mapping[str, NDArray[Any]] = {}
    for number, rate in enumerate((PLAIN.learning_rate, PLAIN.learning_rate, LATER_RATE)):
        trainer = build_trainer(context, placed, MOMENTUM.at_rate(rate))
        backend.set_trainer_state(placed, trainer, memory)
        backend.train_step(placed, trainer, context.batch(classes, size, skip=number))
        memory = backend.get_trainer_state(placed, trainer)


def difference(after: State, before: State) -> State:
    """Return the change of each array of a state."""
    return {name: after[name] - array for name, array in before.items()}


def estimate_factors(before: State, after: State, gradients: State) -> dict[str, list[float]]:
    """Return name -> [rate multiplier, decay / rate multiplier], estimated from one step.

    The change of a weight is -(a g + b w); a and b are found by least squares over its elements
    and divided by the recipe's rate. ``b / a`` must be the recipe's decay. Tensors from which the
    two can't be estimated (too small, or parallel) are left out.
    """
    found = {}
    for name, gradient in gradients.items():
        g, w = gradient.reshape(-1), before[name].reshape(-1)
        size = np.sqrt([g @ g, w @ w])
        if g.size < 2 or not size.all() or size[0] < 1e-9 * size[1]:
            continue
        cosine = (g @ w) / size[0] / size[1]
        if abs(cosine) > 0.999:
            continue
        change = before[name].reshape(-1) - after[name].reshape(-1)
        normal = np.array([[1, cosine], [cosine, 1]])  # of g and w at length one
        a, b = np.linalg.solve(normal, [g @ change, w @ change] / size) / size
        found[name] = [float(a / PLAIN.learning_rate), float(b / a)]
    return found


def recipe_factors(name: str, arch: str) -> tuple[float, float]:
    """Return the multiplier and the decay that ``estimate_factors`` must give."""
    top = is_head(name, architecture(arch).head)
    return (PLAIN.head_lr_mult if top else 1.0), PLAIN.weight_decay
