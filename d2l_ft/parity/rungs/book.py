"""Rung 11: our loop with the printed recipe against the book's own code, in each framework."""

import contextlib
import importlib.util
import io

import numpy as np

from d2l_ft.book_api import train_ch13
from d2l_ft.optim.recipe import as_printed
from d2l_ft.parity.compare import first_beyond, largest, relative_by_name
from d2l_ft.parity.plan import Checks, Context, Plan, Trace
from d2l_ft.parity.rungs.samples import to_numpy
from d2l_ft.parity.tolerances import check, limit

SIZES = (4, 4, 4, 4, 4, 3)
"""Examples of each batch; the book's loop divides by zero below five batches."""

EPOCHS = 2

INSTALL = 'pip install --no-deps d2l==0.17.6'
"""--no-deps, as its pins exclude the newer versions of both frameworks."""


def trace(context: Context) -> None:
    """Train once with the book's package and once with our loop, from the same start."""
    if importlib.util.find_spec('d2l') is None:
        context.note('book/missing', INSTALL)
        return
    backend, arch = context.backend, context.probe.BOOK_ARCH
    recipe = as_printed(backend.NAME)
    batches = [context.batch(2, size, skip=sum(SIZES[:i])) for i, size in enumerate(SIZES)]
    arrays = [tuple(to_numpy(each) for each in batch) for batch in batches]
    start = backend.get_state(context.net(arch, 2, 'float64', strict=False))
    placed = context.net(arch, 2, 'float64', strict=False)
    trainer = backend.build_trainer(placed, recipe)
    with contextlib.redirect_stdout(io.StringIO()):
        after = context.probe.train_as_book(start, arrays, recipe, EPOCHS)
        train_ch13(
            placed.net,
            batches,
            batches,
            None,
            trainer,
            EPOCHS,
            backend.devices('cpu'),
            reduction=recipe.reduction,
        )
    context.save('book/printed', after)
    context.save('book/ours', backend.get_state(placed))
    changes = [np.abs(after[name] - array).max() for name, array in start.items()]
    context.note('book/moved', float(max(changes)))


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare our weights with the book's, for each framework."""
    for trace_ in (a, b):
        values = relative_by_name(trace_.arrays('book/ours'), trace_.arrays('book/printed'))
        first = first_beyond(values, limit('book', 'weights', ''))
        name = trace_.folder.name
        yield check('book', name, 'weights', largest(values.values()), first)
