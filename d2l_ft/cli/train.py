"""The command that trains."""

import datetime
import itertools
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from d2l_ft.backend.devices import PRECISIONS
from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.options import FILE, backend_option, offline_option
from d2l_ft.errors import CheckpointError, StorageError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.optim.schedules import SCHEDULES
from d2l_ft.runs.bounds import BOUNDS
from d2l_ft.storage.atomic import describe
from d2l_ft.system.console import keep_going, say, warn


@click.command()
@backend_option
@click.option(
    '--data',
    default='sample',
    show_default=True,
    help='sample, hotdog, or a folder with a folder of images per class.',
)
@click.option(
    '--arch',
    default='resnet18',
    show_default=True,
    type=click.Choice(list(ARCHITECTURES)),
    help='Architecture.',
)
@click.option(
    '--source',
    default=None,
    help='sample (pre-trained at first use), imagenet, none, or a weights file.  [default: sample '
    'for sample, else imagenet]',
)
@click.option('--epochs', default=5, show_default=True, type=click.IntRange(*BOUNDS['epochs']))
@click.option(
    '--batch-size',
    type=click.IntRange(*BOUNDS['batch_size']),
    default=None,
    help='Examples a step.  [default: 64 for sample, else 128]',
)
@click.option(
    '--lr',
    type=float,
    default=None,
    help='Rate of the body, for the mean loss; the twin of --compare gets 10 x.  '
    '[default: 0.002 for sample, else 0.01]',
)
@click.option(
    '--head-lr-mult',
    default=10.0,
    show_default=True,
    help='The new output layer learns so many times faster.',
)
@click.option('--weight-decay', default=0.001, show_default=True)
@click.option('--momentum', default=0.0, show_default=True)
@click.option('--freeze', is_flag=True, help='Train the output layer alone.')
@click.option(
    '--cache-features',
    is_flag=True,
    help='With --freeze, run the body once and train the output layer on what it gave: the same '
    'net to rounding, in a fraction of the time. It needs --no-augment or --views.',
)
@click.option(
    '--augment/--no-augment',
    default=True,
    show_default=True,
    help='Crop and flip the training images at random.',
)
@click.option(
    '--views',
    default=0,
    metavar='COUNT',
    type=click.IntRange(*BOUNDS['views']),
    help='Draw so many crops of an image, which come again and again.  [default: always new ones]',
)
@click.option('--compare', is_flag=True, help='Also train a twin from scratch.')
@click.option(
    '--image-size',
    type=click.IntRange(*BOUNDS['image_size']),
    default=None,
    help="Side of the net's input in pixels.  [default: 48 for sample, else 224]",
)
@click.option(
    '--devices',
    default='auto',
    show_default=True,
    help='auto, cpu, cpu:2 (two replicas), gpu, gpu:0,1.',
)
@click.option(
    '--workers',
    type=click.IntRange(*BOUNDS['workers']),
    default=None,
    help='Loader processes.  [default: 0 on the CPU, up to 8 with a GPU]',
)
@click.option(
    '--image-cache',
    type=click.IntRange(*BOUNDS['image_cache']),
    default=None,
    metavar='MIB',
    help='Memory in which decoded images are kept between epochs; the result does not depend on '
    'it.  [default: a quarter of what is free]',
)
@click.option(
    '--precision',
    default='auto',
    show_default=True,
    type=click.Choice(PRECISIONS),
    help='auto takes bfloat16 with PyTorch where the hardware has it.',
)
@click.option(
    '--channels-last/--no-channels-last',
    default=True,
    show_default=True,
    help='Layout of images in memory with PyTorch: faster, and sums round otherwise.',
)
@click.option(
    '--keep-memory/--no-keep-memory',
    default=True,
    show_default=True,
    help='Keep freed memory for the next step instead of giving it back to the system (glibc).',
)
@click.option(
    '--schedule',
    default='constant',
    show_default=True,
    type=click.Choice(SCHEDULES),
    help='How the rates go on: cosine lets them fall to 0 over all steps.',
)
@click.option(
    '--save-every',
    default=0,
    metavar='STEPS',
    type=click.IntRange(*BOUNDS['save_every']),
    help='Write checkpoints within an epoch too.  [default: after each epoch]',
)
@click.option('--skip-bad', is_flag=True, help='Leave out bad images; the run lists them.')
@click.option('--seed', default=0, show_default=True, type=click.IntRange(*BOUNDS['seed']))
@offline_option
@click.option(
    '--out',
    type=FILE,
    default=None,
    help='Run directory.  [default: runs/<time>-<backend>-<data>]',
)
@click.option('--resume', is_flag=True, help='Go on with the run in --out where it stopped.')
@click.pass_context
def train(
    ctx: click.Context, /, backend: str | None, out: Path | None, resume: bool, **options: Any
) -> None:
    """Fine-tune a net; without options ResNet-18 on the built-in sample.

    \b
    Examples:
      d2l-ft train --compare
      d2l-ft train --backend mxnet --arch resnet18_v2
      d2l-ft train --data photos --source imagenet --epochs 10 --batch-size 32
      d2l-ft train --data photos --source imagenet --freeze --cache-features --views 4
      d2l-ft train --out runs/mine --resume

    Ctrl-C, SIGTERM and SIGHUP stop after the step under way and write a checkpoint; the exit code
    is 130, 143 or 129.
    """  # fmt: skip
    from d2l_ft.report.text import text_curves
    from d2l_ft.runs.job import train as train_run
    from d2l_ft.runs.settings import Settings

    keep_going()
    settings = Settings(**options)
    if resume:
        out, settings, backend = _resumed(ctx, out, backend)
    settings.check()  # tells what is wrong before a framework is imported
    chosen = get_backend(backend)
    out = out or _new_out(chosen.NAME, settings.data)
    try:
        run, stopped = train_run(chosen, settings, out, resume, say=say)
    finally:
        with suppress(OSError):
            out.rmdir()  # which an error has left empty
    if stopped:
        warn(f'stopped; go on with:  d2l-ft train --out {out} --resume')
        ctx.exit(128 + stopped)
    say(*text_curves(run.history()))
    for name, history in run.history().items():
        last = history[-1]
        say(
            f'{name}: loss {last.train_loss:.3f}, train acc {last.train_acc:.3f}, '
            f'test acc {last.test_acc:.3f}'
        )
    say(f'report: {run.path / "report.html"}')


def _resumed(ctx: click.Context, out: Path | None, backend: str | None) -> tuple[Path, Any, str]:
    """Return directory, settings and backend of the run to go on with.

    The devices, what changes no result, and epochs unless the rates depend on them may be given
    anew, and the folder of the data, whose contents are compared; anything else must be as it was.
    """
    from d2l_ft.runs.directory import Run
    from d2l_ft.runs.settings import full_path, run_settings

    if out is None:
        raise CheckpointError('--resume needs the run directory: --out DIR')
    run = Run.open(out)
    settings = run_settings(run)
    kept = asdict(settings)
    free = {'devices', 'workers', 'image_cache', 'keep_memory', 'save_every', 'data'}
    if settings.schedule == 'constant':
        free.add('epochs')
    for name in kept:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value: Any = full_path(ctx.params[name]) if name == 'source' else ctx.params[name]
        if name in free:
            settings = replace(settings, **{name: value})
        elif value != (full_path(kept[name]) if name == 'source' else kept[name]):
            option = name.replace('_', '-')
            raise CheckpointError(
                f'{out} was begun with --{option} {kept[name]}: '
                'leave the option out, or train anew with another --out'
            )
    return out, settings, backend or run.config['backend']


def _new_out(backend: str, data: str) -> Path:
    """Make a directory below runs/ that no other process takes, and return it.

    Raises:
        StorageError: It cannot be made.
    """
    time = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    # a name may take 255 bytes
    first = Path('runs') / f'{time}-{backend}-{Path(data).expanduser().resolve().name[:50]}'
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f'{first.name}-{number}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if path.parent.is_dir():
                continue
            raise StorageError(f'{path.parent} is not a folder: name another with --out') from None
        except OSError as error:
            raise StorageError(describe(error, path)) from error
        break
    return path
