"""The command that trains."""

from pathlib import Path
from typing import Any

import click

from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.options import (
    FILE,
    SectionCommand,
    backend_option,
    offline_option,
    say_flags,
    settings_options,
)
from d2l_ft.errors import CheckpointError
from d2l_ft.runs.settings import Settings, option_fields
from d2l_ft.system.console import ignore_output_errors, say, warn


@click.command(cls=SectionCommand)
@backend_option
@settings_options
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
      d2l-ft train --data photos --source flowers      a net that d2l-ft convert wrote
      d2l-ft train --out runs/mine --resume

    Ctrl-C, SIGTERM and SIGHUP stop after the current step and write a checkpoint; the exit code
    is 130, 143 or 129.
    """
    from d2l_ft.report.text import text_curves
    from d2l_ft.runs.job import train as train_run

    ignore_output_errors()
    settings = Settings.of(**options)
    if resume:
        out, settings, backend = _load_for_resume(ctx, out, backend)
    settings.check()  # before a framework is imported, which takes seconds
    run, stopped = train_run(get_backend(backend), settings, out, resume=resume, say=say_flags)
    if stopped:
        warn(f'stopped; go on with:  d2l-ft train --out {run.path} --resume')
        ctx.exit(128 + stopped)
    say(*text_curves(run.history()))
    for name, history in run.history().items():
        last = history[-1]
        say(
            f'{name}: loss {last.train_loss:.3f}, train acc {last.train_acc:.3f}, '
            f'test acc {last.test_acc:.3f}'
        )
    say(f'report: {run.path / "report.html"}')


def _load_for_resume(
    ctx: click.Context, out: Path | None, backend: str | None
) -> tuple[Path, Settings, str]:
    """Return directory, settings and backend of the run to resume."""
    from d2l_ft.runs.directory import Run

    if out is None:
        raise CheckpointError('--resume needs the run directory: --out DIR')
    config = Run.open(out).config
    given = {
        name: ctx.params[name]
        for name in option_fields()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    return out, config.settings.resume(given), backend or config.backend
