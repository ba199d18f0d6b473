"""The d2l-ft command."""

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from d2l_ft import __version__
from d2l_ft.architectures import ARCHITECTURES
from d2l_ft.chapter.cli import chapter
from d2l_ft.cli_data import data, offline_option
from d2l_ft.errors import INTERRUPTED, CheckpointError, D2LFTError
from d2l_ft.recipe import SCHEDULES
from d2l_ft.registry import VARIABLE, backend_name, backend_names, get_backend


class Commands(click.Group):
    """A group whose D2LFTErrors, and wrong options, are one line and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line."""
        run: Any = super().main
        try:
            code = run(*args, standalone_mode=False, **extra)
        except click.UsageError as error:
            if not standalone_mode:
                raise
            path = error.ctx.command_path if error.ctx else 'd2l-ft'
            text = error.format_message()
            if not text.startswith(
                'Usage: '
            ):  # which is the help that a group without a command is
                text = f'd2l-ft: {" ".join(text.split()).rstrip(".")}: see  {path} --help'
            click.echo(text, err=True)
            code = 2
        except click.Abort:
            code = INTERRUPTED
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except D2LFTError as error:
            if ctx.params.get('debug'):
                raise
            click.echo(f'd2l-ft: {error}', err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo('d2l-ft: interrupted', err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
@click.option('--debug', is_flag=True, help='Show the traceback of an error.')
@click.version_option(__version__, prog_name='d2l-ft')
def main(debug: bool) -> None:
    """Fine-tune an image classifier on MXNet Gluon or on PyTorch.

    \b
    Examples:
      d2l-ft train --compare                 the built-in sample; nothing is downloaded
      d2l-ft train --data photos --source imagenet
      d2l-ft predict runs/mine cat.jpg       with either framework
      d2l-ft doctor                          what is installed, what is missing

    The framework is that of --backend, otherwise of D2L_FT_BACKEND, otherwise PyTorch.
    """


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --backend."""
    text = f'Framework: {", ".join(backend_names())}.  [default: {VARIABLE}, or pytorch]'
    return click.option('--backend', help=text)(command)


@main.command()
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
    default='sample',
    show_default=True,
    help='sample (pre-trained at first use), imagenet, none, or a weights file.',
)
@click.option('--epochs', default=5, show_default=True, type=click.IntRange(1))
@click.option(
    '--batch-size',
    type=click.IntRange(1),
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
    type=click.IntRange(0),
    help='Draw so many crops of an image, which come again and again.  [default: always new ones]',
)
@click.option('--compare', is_flag=True, help='Also train a twin from scratch.')
@click.option(
    '--image-size',
    type=click.IntRange(32),
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
    type=click.IntRange(0),
    default=None,
    help='Loader processes.  [default: 0 on the CPU, up to 8 with a GPU]',
)
@click.option(
    '--image-cache',
    type=click.IntRange(0),
    default=None,
    metavar='MIB',
    help='Memory in which decoded images are kept between epochs; the result does not depend on '
    'it. Worker processes do without.  [default: a quarter of what is free]',
)
@click.option(
    '--precision',
    default='auto',
    show_default=True,
    type=click.Choice(['auto', 'float32', 'bfloat16']),
    help='auto takes bfloat16 where the hardware has it.',
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
    type=click.IntRange(0),
    help='Write checkpoints within an epoch too.  [default: after each epoch]',
)
@click.option('--skip-bad', is_flag=True, help='Leave out bad images; the run lists them.')
@click.option('--seed', default=0, show_default=True, type=click.IntRange(0))
@offline_option
@click.option(
    '--out',
    type=click.Path(path_type=Path),
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

    Ctrl-C stops after the step under way and writes a checkpoint.
    """  # fmt: skip
    from d2l_ft.experiment import Settings
    from d2l_ft.experiment import train as train_run
    from d2l_ft.plotting import text_curves

    settings = Settings(**options)
    if resume:
        out, settings, backend = _resumed(ctx, out, backend)
    for net in settings.nets():
        settings.recipe(net)  # tells what is wrong before a framework is imported
    chosen = get_backend(backend)
    out = out or _default_out(chosen.NAME, settings.data)
    run, interrupted = train_run(chosen, settings, out, resume, say=click.echo)
    if interrupted:
        click.echo(f'stopped; go on with:  d2l-ft train --out {out} --resume', err=True)
        ctx.exit(INTERRUPTED)
    click.echo(text_curves(run.history()))
    for name, history in run.history().items():
        last = history[-1]
        click.echo(
            f'{name}: loss {last.train_loss:.3f}, train acc {last.train_acc:.3f}, '
            f'test acc {last.test_acc:.3f}'
        )
    click.echo(f'report: {run.path / "report.html"}')


def _resumed(ctx: click.Context, out: Path | None, backend: str | None) -> tuple[Path, Any, str]:
    """Return directory, settings and backend of the run to go on with.

    What changes no result may be given anew, and epochs unless the rates depend on them; anything
    else must be as it was.
    """
    from d2l_ft.experiment import run_settings
    from d2l_ft.run import Run

    if out is None:
        raise CheckpointError('--resume needs the run directory: --out DIR')
    run = Run.open(out)
    settings = run_settings(run)
    kept = asdict(settings)
    free = {'devices', 'workers', 'image_cache', 'keep_memory', 'save_every'}
    if settings.schedule == 'constant':
        free.add('epochs')
    for name in kept:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if name in free:
            settings = replace(settings, **{name: value})
        elif value != kept[name]:
            option = name.replace('_', '-')
            raise CheckpointError(
                f'{out} was begun with --{option} {kept[name]}: '
                'leave the option out, or train anew with another --out'
            )
    return out, settings, backend or run.config['backend']


def _default_out(backend: str, data: str) -> Path:
    """Return a new directory below runs/."""
    time = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    return Path('runs') / f'{time}-{backend}-{Path(data).name}'


@main.command()
@click.argument('run', type=click.Path(path_type=Path))
@click.option('--data', default=None, help='Another data set.  [default: that of the run]')
@backend_option
@offline_option
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
def evaluate(run: Path, data: str | None, backend: str | None, as_json: bool) -> None:
    """Test the net of a run directory, with either framework.

    \b
    Example:
      d2l-ft evaluate runs/mine --backend mxnet
    """
    from d2l_ft.experiment import evaluate_run
    from d2l_ft.run import Run

    opened = Run.open(run)
    found, _ = evaluate_run(opened, get_backend(backend), data, bar=not as_json)
    if as_json:
        click.echo(
            json.dumps(
                {
                    'accuracy': found.accuracy,
                    'examples': len(found.samples),
                    'classes': found.classes,
                    'confusion': found.confusion.tolist(),
                }
            )
        )
        return
    click.echo(f'accuracy {found.accuracy:.3f} on {len(found.samples)} images')
    width = max(len(name) for name in found.classes)
    for name, row in zip(found.classes, found.confusion.tolist(), strict=True):
        click.echo(
            f'{name:>{width}} is taken for  '
            + ', '.join(
                f'{other}: {count}'
                for other, count in zip(found.classes, row, strict=True)
                if count
            )
        )
    for mistake in found.worst(5):
        click.echo(
            f'{mistake.path}: {found.classes[mistake.label]}, taken for '
            f'{found.classes[mistake.predicted]} ({mistake.probability:.2f})'
        )


@main.command()
@click.argument('run', type=click.Path(path_type=Path))
@click.argument('images', nargs=-1, required=True, type=click.Path())
@backend_option
@click.option(
    '--top',
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help='Classes to print for each image.',
)
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON list.')
def predict(
    run: Path, images: tuple[str, ...], backend: str | None, top: int, as_json: bool
) -> None:
    """Classify image files with the net of a run directory, with either framework.

    \b
    Example:
      d2l-ft predict runs/mine lunch.jpg dinner.png --top 2
    """
    from d2l_ft.augment import Pipeline
    from d2l_ft.evaluation import predict as probabilities
    from d2l_ft.experiment import load_net
    from d2l_ft.folder import check_images
    from d2l_ft.interface import Sample
    from d2l_ft.run import Run

    opened = Run.open(run)
    check_images([Sample(path, 0) for path in images], bar=not as_json)
    chosen = get_backend(backend)
    pipeline = Pipeline(opened.config['image_size'])
    net = load_net(opened, chosen)
    rows = probabilities(chosen, net, images, pipeline, bar=not as_json).tolist()
    classes = opened.config['classes']
    answers = []
    for path, row in zip(images, rows, strict=True):
        ranked = sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])
        answers.append({'path': path, 'class': ranked[0][0], 'probabilities': dict(ranked)})
        if not as_json:
            click.echo(f'{path}: ' + ', '.join(f'{name} {p:.3f}' for name, p in ranked[:top]))
    if as_json:
        click.echo(json.dumps(answers))


@main.command()
@click.argument('runs', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    default=Path('comparison.png'),
    show_default=True,
    help='The figure to write.',
)
def compare(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the learning curves of several runs into one figure.

    \b
    Example:
      d2l-ft compare runs/with-mxnet runs/with-pytorch
    """
    from d2l_ft.plotting import save_curves, text_curves
    from d2l_ft.run import Run

    curves = {}
    for path in runs:
        opened = Run.open(path)
        for net, history in opened.history().items():
            curves[f'{path.name} {net}'] = history
    save_curves(out, curves)
    click.echo(text_curves({name: history[-1:] for name, history in curves.items()}))
    click.echo(f'figure: {out}')


@main.command()
@click.option(
    '--data', default='sample', show_default=True, help='sample, hotdog, or an image folder.'
)
@click.option(
    '--arch',
    default='resnet18',
    show_default=True,
    type=click.Choice([*ARCHITECTURES, 'all']),
    help='Architecture.',
)
@click.option(
    '--steps',
    default=50,
    show_default=True,
    type=click.IntRange(1),
    help='Steps that are followed from the same start.',
)
@click.option(
    '--precision',
    type=click.Choice(['float32', 'float64']),
    default=None,
    help='Compare in this precision alone.  [default: both]',
)
@click.option('--report', type=click.Path(path_type=Path), help='Write an HTML page.')
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Write all numbers.')
@click.option('--rungs', help='Only these, separated by commas.  [default: all]')
@click.option('--heads', default=None, help='Numbers of classes.  [default: 2; 2,10,1000 for all]')
@click.option('--prove', is_flag=True, help='Plant every known fault, and tell which is found.')
@click.option('--tolerances', is_flag=True, help='Print the table of tolerances and end.')
@click.pass_context
def parity(
    ctx: click.Context,
    /,
    precision: str | None,
    report: Path | None,
    json_file: Path | None,
    prove: bool,
    tolerances: bool,
    **options: Any,
) -> None:
    """Prove that both frameworks see the same bytes and compute the same numbers.

    \b
    Examples:
      d2l-ft parity                          ResNet-18, some four minutes
      d2l-ft parity --data photos --report parity.html
      d2l-ft parity --arch all --json parity.json
      d2l-ft parity --prove                  is every planted fault found?

    Each framework runs in a process of its own; the files that they leave are compared, rung by
    rung: samples, pixels, structure, forward, backward, update, trajectory, runs, checkpoints,
    devices, book. The exit code is 0 if all are equal, 1 if not, 2 if they can't be compared.
    """  # fmt: skip
    from d2l_ft.parity import command

    if tolerances:
        click.echo('\n'.join(command.tolerance_table()))
        return
    plan = command.make_plan(precision=precision, **options)
    if prove:
        ctx.exit(command.find_faults(plan, json_file, click.echo))
    ctx.exit(command.compare_frameworks(plan, precision, report, json_file, click.echo))


main.add_command(chapter)
main.add_command(data)


@main.command()
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
def doctor(as_json: bool) -> None:
    """Tell what is installed, on which devices and threads it computes, and what is missing.

    \b
    Example:
      d2l-ft doctor --json
    """
    found = diagnose()
    if as_json:
        click.echo(json.dumps(found))
        return
    for key in ('chosen', 'cores', 'cache', 'versions'):
        click.echo(f'{key}: {found[key]}')
    for name, state in found['backends'].items():
        text = state.get('error') or (
            f'works on {", ".join(state["devices"])} with {state["threads"]} threads'
        )
        click.echo(f'{name}: {text}')


def diagnose() -> dict[str, Any]:
    """Return what ``doctor`` prints."""
    from d2l_ft.devices import usable_cores
    from d2l_ft.experiment import versions
    from d2l_ft.files import cache_dir

    backends: dict[str, Any] = {}
    for name in backend_names():
        try:
            backend = get_backend(name)
            devices = [str(device) for device in backend.devices('auto')]
            backends[name] = {'devices': devices, 'threads': backend.threads()}
        except D2LFTError as error:
            backends[name] = {'error': str(error)}
    try:
        chosen = backend_name()
    except D2LFTError as error:
        chosen = str(error)
    return {
        'chosen': chosen,
        'cores': usable_cores(),
        'cache': str(cache_dir()),
        'versions': versions(),
        'backends': backends,
    }


if __name__ == '__main__':
    sys.exit(main())
