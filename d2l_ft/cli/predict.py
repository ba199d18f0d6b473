"""The command that classifies images."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.options import FILE, backend_option
from d2l_ft.errors import DataError
from d2l_ft.system.console import say, warn


@click.command()
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
    from d2l_ft.data.image_files import find_images
    from d2l_ft.data.image_folder import Sample
    from d2l_ft.data.validation import inspect_images
    from d2l_ft.runs.directory import Run
    from d2l_ft.runs.results import classify

    opened = Run.open(run)
    found = find_images(map(os.path.expanduser, images), sys.stdin.buffer)
    if not found:
        raise DataError('the standard input names no image: give a list of paths, one a line')
    paths = [path for path, problem in found if not problem]
    checked = inspect_images([Sample(path, 0) for path in paths], bar=not as_json).problems
    problems = dict(found) | dict(zip(paths, checked, strict=True))
    good = [path for path in paths if not problems[path]]
    rows = classify(opened, get_backend(backend), good, bar=not as_json) if good else []
    ranked = dict(zip(good, rows, strict=True))
    if as_json:
        say(json.dumps([_answer(path, ranked.get(path), problems[path]) for path, _ in found]))
    else:
        for path in good:
            best = ', '.join(f'{name} {p:.3f}' for name, p in list(ranked[path].items())[:top])
            say(f'{path}: {best}')
    bad = [(path, problems[path]) for path, _ in found if problems[path]]
    for path, problem in bad:
        warn(f'{path} {problem}')
    if bad and not skip_bad:
        ctx.exit(3 if good else 2)


def _answer(path: str, ranked: dict[str, float] | None, problem: str) -> dict[str, Any]:
    """Return what the JSON of ``predict`` says of an image."""
    if ranked is None:
        return {'path': path, 'error': problem}
    return {'path': path, 'class': next(iter(ranked)), 'probabilities': ranked}
