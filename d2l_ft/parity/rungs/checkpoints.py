"""Rung 9: checkpoints written by one framework and read by the other; training continues there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from d2l_ft.backend.protocol import Placed
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name, unequal
from d2l_ft.parity.plan import Checks, Context, Plan, Trace, thin
from d2l_ft.parity.rungs.step import build_trainer, stable_recipe
from d2l_ft.parity.tolerances import check, limit

STEPS, RATE = 3, 0.001
"""Steps before the checkpoint, and after it."""


def trace(context: Context) -> None:
    """Train, write a checkpoint, train on; in float32 write one more checkpoint."""
    for arch in context.plan.archs:
        classes = context.plan.heads[0]
        for dtype in context.plan.precisions:
            placed = context.net(arch, classes, dtype)
            trainer = build_trainer(context, placed, stable_recipe(arch, RATE))
            steps(context, placed, trainer, classes, 0)
            write(context, placed, trainer, path(context.folder, arch, dtype))
            if dtype == 'float64':
                steps(context, placed, trainer, classes, STEPS)
                end = context.backend.get_state(placed)
                context.save(f'checkpoints/{arch}/went-on', thin(end))


def trace_again(context: Context, other: Path) -> None:
    """Read the other framework's checkpoints, write them again, train on from them."""
    for arch in context.plan.archs:
        classes = context.plan.heads[0]
        for dtype in context.plan.precisions:
            read = load_checkpoint(path(other, arch, dtype))
            placed = context.net(arch, classes, dtype)
            trainer = build_trainer(context, placed, stable_recipe(arch, RATE))
            context.backend.set_state(placed, read.model)
            context.backend.set_trainer_state(placed, trainer, read.trainer)
            write(context, placed, trainer, path(context.folder, arch, dtype, again=True))
            if dtype == 'float64':
                steps(context, placed, trainer, classes, STEPS)
                end = context.backend.get_state(placed)
                context.save(f'checkpoints/{arch}/resumed', thin(end))


def steps(context: Context, placed: Placed, trainer: Any, classes: int, first: int) -> None:
    """Take a few steps."""
    for number in range(first, first + STEPS):
        context.backend.train_step(placed, trainer, context.batch(classes, skip=number))


def path(folder: Path, arch: str, dtype: str, again: bool = False) -> Path:
    """Return where a checkpoint is."""
    name = 'again' if again else 'first'
    return folder / 'checkpoints' / f'{arch}-{dtype}-{name}.safetensors'


def write(context: Context, placed: Placed, trainer: Any, target: Path) -> None:
    """Write a checkpoint."""
    model = context.backend.get_state(placed)
    memory = context.backend.get_trainer_state(placed, trainer)
    save_checkpoint(target, Checkpoint(model, memory, {'trained_with': context.backend.NAME}))


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare each checkpoint with its copy by the other framework, and the states at the end."""
    for arch in plan.archs:
        for writer, reader in ((a, b), (b, a)):
            way = f'{writer.folder.name}-to-{reader.folder.name}'
            for dtype in plan.precisions:
                first = load_checkpoint(path(writer.folder, arch, dtype))
                second = load_checkpoint(path(reader.folder, arch, dtype, again=True))
                for what in ('model', 'trainer'):
                    pair = getattr(first, what), getattr(second, what)
                    wrong = names_that_differ(*pair)
                    yield check(
                        'checkpoints',
                        f'{arch}-{way}',
                        f'{what}-{dtype}',
                        len(wrong),
                        wrong[0] if wrong else '',
                    )
            ends = (
                writer.arrays(f'checkpoints/{arch}/went-on'),
                reader.arrays(f'checkpoints/{arch}/resumed'),
            )
            values = relative_by_name(*ends)
            bound = first_beyond(values, limit('checkpoints', 'resumed', arch))
            yield check('checkpoints', f'{arch}-{way}', 'resumed', largest(values.values()), bound)


def names_that_differ(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the names under which two states differ in any bit."""
    names = [*a, *(name for name in b if name not in a)]
    return [name for name in names if name not in a or name not in b or unequal(a[name], b[name])]
