"""The command that tests a run."""

import json
from pathlib import Path

import click

from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.options import FILE, backend_option, offline_option
from d2l_ft.system.console import say


@click.command()
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
    from d2l_ft.runs.directory import Run
    from d2l_ft.runs.results import evaluate_run

    opened_run = Run.open(run)
    found, which = evaluate_run(opened_run, get_backend(backend), data, bar=not as_json)
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
            f'{name:>{width}} predicted as  '
            + ', '.join(
                f'{other}: {count}'
                for other, count in zip(found.classes, row, strict=True)
                if count
            )
        )
    for mistake in found.worst(5):
        say(
            f'{mistake.path}: {found.classes[mistake.label]}, predicted as '
            f'{found.classes[mistake.predicted]} ({mistake.probability:.2f})'
        )
