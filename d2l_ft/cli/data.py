"""The commands about data sets."""

from pathlib import Path

import click

from d2l_ft.cli.options import FILE, offline_option
from d2l_ft.errors import DataError
from d2l_ft.system.console import say


@click.group()
def data() -> None:
    """Draw, check or download data sets."""


@data.command('sample')
@click.argument('directory', type=FILE)
@click.option('--seed', default=0, show_default=True, type=click.IntRange(0))
def data_sample(directory: Path, seed: int) -> None:
    """Write the built-in sample as image files.

    \b
    Example:
      d2l-ft data sample drawn-hotdogs
    """
    from tqdm import tqdm

    from d2l_ft.data.synthetic.tasks import write_target

    with tqdm(desc='draw', unit='image', disable=None) as bar:
        write_target(directory, seed, progress=bar.update)
    say(f'wrote {directory}')


@data.command('check')
@click.argument('directory', type=FILE)
@click.option('--all', 'every', is_flag=True, help='Name every image that is converted.')
def data_check(directory: Path, every: bool) -> None:
    """Report everything in an image folder that training would refuse, skip or convert.

    \b
    Example:
      d2l-ft data check photos

    It decodes every image, even if training has found it good before.
    """
    from collections import Counter

    from d2l_ft.data.folder_layout import load_folders
    from d2l_ft.data.image_folder import remarks
    from d2l_ft.data.validation import ODD, inspect_images
    from d2l_ft.data.validation_cache import open_checked
    from d2l_ft.system.console import SHOWN, quote_if_needed

    # check every image, without the results of earlier checks
    parts = load_folders(directory)
    bad: list[str] = []
    odd: dict[str, list[str]] = {}
    with open_checked(directory, forget=True) as checked:
        for name, part in zip(('train', 'test'), parts, strict=True):
            say(f'{name}: {len(part.samples)} images')
            counts = Counter(sample.label for sample in part.samples)
            for label, each in enumerate(part.classes):
                say(f'  {quote_if_needed(each)}: {counts[label]}')
            if part.note():
                say(part.note())
            found = inspect_images(part.samples, checked=checked)
            for sample, problem in zip(part.samples, found.problems, strict=True):
                if problem:
                    bad.append(f'{sample.path} {problem}')
            for kind, paths in found.odd.items():
                odd.setdefault(kind, []).extend(paths)
    # report what is converted, what is remarkable, and what is bad
    for kind, paths in odd.items():
        shown = paths if every else paths[:SHOWN]
        more = f' and {len(paths) - len(shown)} more (--all)' if len(paths) > len(shown) else ''
        say(f'{len(paths)} with {ODD[kind]}: {", ".join(shown)}{more}')
    for line in remarks(*parts, checked.hashes):
        say(line)
    for line in bad:
        say(f'bad: {line}')
    if bad:
        raise DataError(f'{len(bad)} bad image(s): repair or remove them, or train with --skip-bad')
    say('all images are good')


@data.command('fetch')
@click.argument('name')
@offline_option
def data_fetch(name: str) -> None:
    """Download, verify and unpack a named data set.

    \b
    Examples:
      d2l-ft data fetch hotdog
      D2L_FT_MIRROR=https://mirror.example/d2l d2l-ft data fetch hotdog

    An interrupted download continues where it stopped.
    """
    from d2l_ft.data.hub import download_extract

    say(download_extract(name))
