"""The d2l-ft command."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from d2l_ft import __version__
from d2l_ft.architectures import ARCHITECTURES
from d2l_ft.chapter.cli import chapter
from d2l_ft.cli_data import data
from d2l_ft.cli_options import FILE, backend_option, offline_option
from d2l_ft.cli_train import train
from d2l_ft.errors import D2LFTError, DataError
from d2l_ft.messages import OutputFailed, safe_streams, say, visible, warn
from d2l_ft.registry import backend_name, backend_names, get_backend
from d2l_ft.signals import exit_code, handled, stop, stop_line

FEW_FILES = 'this process may not open more files: allow more with  ulimit -n 1024'


def too_few_files(error: BaseException | None) -> bool:
    """Tell whether an error came of the system's limit of open files, by way of whatever."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if isinstance(error, ImportError | OSError) and 'Too many open files' in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


class Commands(click.Group):
    """A group whose D2LFTErrors, and wrong options, are one line and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line."""
        with handled(stop), safe_streams():
            code = self._main(standalone_mode, *args, **extra)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def _main(self, standalone_mode: bool, *args: Any, **extra: Any) -> Any:
        """Return the exit code of a command line, or what its command returns."""
        run: Any = super().main
        code: Any
        try:
            code = run(*args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            if not standalone_mode:
                raise
            path = error.ctx.command_path if error.ctx else 'd2l-ft'
            text = error.format_message()
            if text.startswith('Usage: '):  # the help that a group without a command is
                click.echo(text, err=True)
            else:
                warn(f'{" ".join(text.split()).rstrip(".")}: see  {path} --help')
            code = 2
        except click.Abort as error:
            code = exit_code(error.__cause__)
        except KeyboardInterrupt as error:  # while a command's options were read
            warn(stop_line(error))
            code = exit_code(error)
        except OutputFailed as error:
            if error.code == 1:  # as of a command of the system, nothing is said of a closed pipe
                warn(str(error))
            code = error.code
        return code

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            few = too_few_files(error)
            if ctx.params.get('debug') or not (few or isinstance(error, D2LFTError)):
                raise
            warn(FEW_FILES if few else str(error))
            ctx.exit(2)
        except KeyboardInterrupt as error:
            warn(stop_line(error))
            ctx.exit(exit_code(error))


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


@main.command()
@click.argument('run', type=FILE)
@click.option(
    '--data',
    default=None,
    help='Another data set: its test part, or all of a folder without one.  [default: that of the '
    'run]',
)
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
    found, which = evaluate_run(opened, get_backend(backend), data, bar=not as_json)
    if as_json:
        say(
            json.dumps(
                {
                    'accuracy': found.accuracy,
                    'examples': len(found.samples),
                    'tested': which,
                    'classes': found.classes,
                    'confusion': found.confusion.tolist(),
                }
            )
        )
        return
    say(f'accuracy {found.accuracy:.3f} on {len(found.samples)} images: {which}')
    width = max(len(name) for name in found.classes)
    for name, row in zip(found.classes, found.confusion.tolist(), strict=True):
        say(
            f'{name:>{width}} is taken for  '
            + ', '.join(
                f'{other}: {count}'
                for other, count in zip(found.classes, row, strict=True)
                if count
            )
        )
    for mistake in found.worst(5):
        say(
            f'{mistake.path}: {found.classes[mistake.label]}, taken for '
            f'{found.classes[mistake.predicted]} ({mistake.probability:.2f})'
        )


@main.command()
@click.argument('run', type=FILE)
@click.argument('images', nargs=-1, required=True)
@backend_option
@click.option(
    '--top',
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help='Classes to print for each image.',
)
@click.option('--skip-bad', is_flag=True, help='Exit code 0 although images were bad.')
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON list.')
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    run: Path,
    images: tuple[str, ...],
    backend: str | None,
    top: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Classify images with the net of a run directory, with either framework.

    \b
    Examples:
      d2l-ft predict runs/mine lunch.jpg dinner.png --top 2
      d2l-ft predict runs/mine photos '*.jpg'
      find photos -name '*.jpg' | d2l-ft predict runs/mine - --json

    IMAGES are files; folders, of which all .jpg, .jpeg and .png are taken, deeper ones too;
    patterns with * ? [ ] that the shell has left; and -, for a list on the standard input, one a
    line.

    Bad images stop nothing: the others are classified, and the bad ones are named at the end; in
    the JSON list they have "error" in place of "class". The exit code is then 3, or 2 if all are
    bad.
    """
    from d2l_ft.augment import Pipeline
    from d2l_ft.evaluation import predict as probabilities
    from d2l_ft.experiment import load_net
    from d2l_ft.folder import find_images, inspect_images
    from d2l_ft.interface import Sample
    from d2l_ft.run import Run

    opened = Run.open(run)
    found = find_images(map(os.path.expanduser, images), sys.stdin.buffer)
    if not found:
        raise DataError('the standard input names no image: give a list of paths, one a line')
    paths = [path for path, problem in found if not problem]
    checked = inspect_images([Sample(path, 0) for path in paths], bar=not as_json).problems
    problems = dict(found) | dict(zip(paths, checked, strict=True))
    good = [path for path in paths if not problems[path]]
    rows = []
    if good:
        chosen = get_backend(backend)
        net = load_net(opened, chosen)
        pipeline = Pipeline(opened.config['image_size'])
        rows = probabilities(chosen, net, good, pipeline, bar=not as_json).tolist()
    classes = opened.config['classes']
    ranked = {
        path: sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])
        for path, row in zip(good, rows, strict=True)
    }
    if as_json:
        say(json.dumps([_answer(path, ranked.get(path), problems[path]) for path, _ in found]))
    else:
        for path in good:
            best = ', '.join(f'{name} {p:.3f}' for name, p in ranked[path][:top])
            say(f'{path}: {best}')
    bad = [(path, problems[path]) for path, _ in found if problems[path]]
    for path, problem in bad:
        warn(f'{path} {problem}')
    if bad and not skip_bad:
        ctx.exit(3 if good else 2)


def _answer(path: str, ranked: list[tuple[str, float]] | None, problem: str) -> dict[str, Any]:
    """Return what the JSON of ``predict`` says of an image."""
    if ranked is None:
        return {'path': path, 'error': problem}
    return {'path': path, 'class': ranked[0][0], 'probabilities': dict(ranked)}


@main.command()
@click.argument('runs', nargs=-1, required=True, type=FILE)
@click.option(
    '--out',
    type=FILE,
    default=Path('comparison.png'),
    show_default=True,
    help='The figure to write: .png, .pdf or .svg.',
)
def compare(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the learning curves of several runs into one figure.

    \b
    Example:
      d2l-ft compare runs/with-mxnet runs/with-pytorch
    """
    from d2l_ft.plotting import figure_format, save_curves, text_curves
    from d2l_ft.run import Run, short_names

    figure_format(out)  # before anything is read
    curves = {}
    for path, name in short_names(runs).items():
        for net, history in Run.open(path).history().items():
            curves[visible(f'{name} {net}')] = history
    save_curves(out, curves)
    say(*text_curves({name: history[-1:] for name, history in curves.items()}))
    say(f'figure: {out}')


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
@click.option('--report', type=FILE, help='Write an HTML page.')
@click.option('--json', 'json_file', type=FILE, help='Write all numbers.')
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
        say(*command.tolerance_table())
        return
    plan = command.make_plan(precision=precision, **options)
    if prove:
        ctx.exit(command.find_faults(plan, json_file, say))
    ctx.exit(command.compare_frameworks(plan, precision, report, json_file, say))


for each in (train, chapter, data):
    main.add_command(each)


@main.command()
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
def doctor(as_json: bool) -> None:
    """Tell what is installed, on which devices and threads it computes, and what is missing.

    What lies in the cache, whose folder D2L_FT_HOME names, may be deleted while nothing runs:
    downloads, source models, features and lists of checked images come again when needed.

    \b
    Example:
      d2l-ft doctor --json
    """
    found = diagnose()
    if as_json:
        say(json.dumps(found))
        return
    sizes = ', '.join(f'{name} {size / 2**20:.1f} MiB' for name, size in found['cached'].items())
    rows = {
        'chosen': found['chosen'],
        'cores': f'{found["cores"]}, {"with" if found["bfloat16"] else "without"} bfloat16',
        'cache': f'{found["cache"]}: {sizes or "empty"}',
        'versions': ', '.join(f'{name} {version}' for name, version in found['versions'].items()),
    }
    for name, state in found['backends'].items():
        rows[name] = state.get('error') or (
            f'works on {", ".join(state["devices"])} with {state["threads"]} thread(s)'
        )
    for name, text in rows.items():
        say(f'{name}: {text}')


def diagnose() -> dict[str, Any]:
    """Return what ``doctor`` prints."""
    from d2l_ft.devices import has_bfloat16, usable_cores
    from d2l_ft.experiment import versions
    from d2l_ft.files import cache_path, cache_sizes

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
        'bfloat16': has_bfloat16(),
        'cache': str(cache_path()),
        'cached': cache_sizes(),
        'versions': versions(),
        'backends': backends,
    }


if __name__ == '__main__':
    sys.exit(main())
