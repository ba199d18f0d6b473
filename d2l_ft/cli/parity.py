"""The command that proves that both frameworks compute the same."""

from pathlib import Path
from typing import Any

import click

from d2l_ft.cli.options import FILE
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.system.console import say


@click.command()
@click.option(
    '--data', default='sample', show_default=True, help='sample, hotdog, or an image folder.'
)
@click.option(
    '--arch',
    default='resnet18',
    show_default=True,
    metavar='NAME',
    help=f'{", ".join(ARCHITECTURES)}, all of them (all), or a folder of d2l-ft convert.',
)
@click.option(
    '--steps',
    default=50,
    show_default=True,
    type=click.IntRange(1),
    help='Training steps to compare from the same start.',
)
@click.option(
    '--precision',
    type=click.Choice(['float32', 'float64']),
    default=None,
    help='Compare only in this precision.  [default: both]',
)
@click.option('--report', type=FILE, help='Write an HTML page.')
@click.option('--json', 'json_file', type=FILE, help='Write all numbers.')
@click.option('--rungs', help='Only these, separated by commas.  [default: all]')
@click.option('--heads', default=None, help='Numbers of classes.  [default: 2; 2,10,1000 for all]')
@click.option('--prove', is_flag=True, help='Plant every known fault, and report which are found.')
@click.option('--tolerances', is_flag=True, help='Print the table of tolerances and exit.')
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
      d2l-ft parity --arch flowers           a converted net: MXNet runs its graph
      d2l-ft parity --prove                  is every planted fault found?

    Each framework runs in a process of its own; the files that they leave are compared, rung by
    rung: samples, pixels, structure, forward, backward, update, trajectory, runs, checkpoints,
    devices, book. The exit code is 0 if all are equal, 1 if not, 2 if they can't be compared.
    """
    from d2l_ft.parity import command

    if tolerances:
        say(*command.tolerance_table())
        return
    plan = command.make_plan(precision=precision, **options)
    if prove:
        ctx.exit(command.find_faults(plan, json_file, say))
    ctx.exit(command.compare_frameworks(plan, precision, report, json_file, say))
