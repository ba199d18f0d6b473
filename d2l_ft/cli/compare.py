"""The command that draws several runs into one figure."""

from pathlib import Path

import click

from d2l_ft.cli.options import FILE
from d2l_ft.system.console import say, visible


@click.command()
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
    from d2l_ft.report.figures import figure_format, save_curves
    from d2l_ft.report.text import text_curves
    from d2l_ft.runs.directory import Run, short_names

    figure_format(out)  # before anything is read
    curves = {}
    for path, name in short_names(runs).items():
        for net, history in Run.open(path).history().items():
            curves[visible(f'{name} {net}')] = history
    save_curves(out, curves)
    say(*text_curves({name: history[-1:] for name, history in curves.items()}))
    say(f'figure: {out}')
