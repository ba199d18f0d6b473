"""Rung 8: a whole training run on the data, in float32, as a user would start it."""

import re
from dataclasses import asdict

from d2l_ft.models.architectures import architecture
from d2l_ft.parity.plan import Checks, Context, Plan, Trace, is_too_small
from d2l_ft.parity.tolerances import check
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings


def lacks(plan: Plan) -> str:
    """Return what the data set or the net lacks for a run, or nothing."""
    definition = architecture(plan.archs[0]).definition
    if definition is not None and re.search(r'nn\.(Dropout|PReLU)\(', definition.source):
        return (
            "the net has dropout, whose draws are each framework's own, or a PReLU, whose gradient "
            "MXNet has wrong; in the other rungs dropout is off, and PyTorch's gradient is MXNet's"
        )
    if not is_too_small(plan.root):
        return ''
    images = len(plan.samples())
    return (
        f'a run tests on other images than it trains on, so it needs at least 2 of each class or a '
        f'test folder; the folder has {images} in {len(plan.parts[0].classes)} classes'
    )


def trace(context: Context) -> None:
    """Train, and write the metrics of every epoch."""
    plan = context.plan
    settings = Settings.of(
        data=plan.root,
        arch=plan.archs[0],
        source=plan.source,
        num_epochs=plan.run_epochs,
        batch_size=4 * plan.batch_size,
        learning_rate=0.001,
        image_size=plan.image_size,
        devices='cpu',
        precision='float32',
        seed=plan.seed,
    )
    run, _ = train(
        context.backend, settings, context.folder / 'runs/run', bar=False, say=lambda _line: None
    )
    context.note('runs/metrics', [asdict(each) for each in run.metrics()])
    context.note('runs/examples', run.config.test_examples)


def compare(a: Trace, b: Trace, plan: Plan) -> Checks:
    """Compare the test accuracy of every epoch, in images."""
    left, right = (trace.facts('runs/metrics') for trace in (a, b))
    count = a.facts('runs/examples')
    images = {
        f'{x["net"]}, epoch {x["epoch"]}': round(abs(x['test_acc'] - y['test_acc']) * count)
        for x, y in zip(left, right, strict=True)
    }
    worst = max(images, key=lambda name: images[name])
    yield check('runs', plan.archs[0], 'test-images', images[worst], worst)
    losses = {
        f'{x["net"]}, epoch {x["epoch"]}': abs(x['train_loss'] / y['train_loss'] - 1)
        for x, y in zip(left, right, strict=True)
    }
    worst = max(losses, key=lambda name: losses[name])
    yield check('runs', plan.archs[0], 'train-loss', losses[worst], worst)
