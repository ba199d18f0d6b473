"""The ``d2l-ft chapter`` commands."""

from pathlib import Path

import click

from d2l_ft.cli.options import FILE
from d2l_ft.system.console import say


@click.group()
def chapter() -> None:
    """Run, check and publish chapters of the book.

    A chapter is a Markdown file in the book's format with code cells for several tabs, one for
    each framework. Its outputs are stored beside it, in outputs/, with what they were made with.

    \b
    Examples:
      d2l-ft chapter build                        run what is stale, then make the pages
      d2l-ft chapter status                       which cells are stale, and why
      d2l-ft chapter check                        what is wrong, translations and claims included
    """


FILES = click.argument('files', nargs=-1, type=FILE)


@chapter.command('build')
@FILES
@click.option('--tab', default='all', show_default=True, help='Run this tab alone.')
@click.option(
    '--data',
    type=click.Choice(['sample', 'hotdog']),
    default=None,
    help='Run on this data set.  [default: that of the stored outputs, or sample]',
)
@click.option('--no-run', is_flag=True, help='Make the pages from the stored outputs.')
@click.option(
    '--overwrite',
    is_flag=True,
    help='Run all, and replace any outputs, even those of photographs or of a GPU.',
)
@click.option(
    '--out',
    type=FILE,
    default=Path('build/chapters'),
    show_default=True,
    help='Where the pages go.',
)
@click.pass_context
def chapter_build(
    ctx: click.Context,
    files: tuple[Path, ...],
    tab: str,
    data: str | None,
    no_run: bool,
    overwrite: bool,
    out: Path,
) -> None:
    """Run the cells that are stale, store what comes out, and make the pages.

    FILES is a folder of chapters or some of its files; the default is chapters/. The exit code is
    1 if a cell failed; the other tabs are run and the pages are made all the same.

    \b
    Examples:
      d2l-ft chapter build --no-run
      d2l-ft chapter build chapters/fine-tuning.md --tab pytorch --data hotdog
    """
    from d2l_ft.chapter import command

    ctx.exit(command.build(files, tab, data, not no_run, overwrite, out, say))


@chapter.command('status')
@FILES
@click.pass_context
def chapter_status(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Report for each cell and tab whether its output is fresh, and if not, why. Runs nothing.

    Also reported: what changed in an original since its translation was read.

    The exit code is 0 if all are fresh, otherwise 1.

    \b
    Example:
      d2l-ft chapter status chapters/fine-tuning.md
    """
    from d2l_ft.chapter import command

    ctx.exit(command.status(files, say))


@chapter.command('check')
@FILES
@click.option('--accept', is_flag=True, help='Record the current values of the claims as read.')
@click.option(
    '--translated',
    is_flag=True,
    help='Record that the translations match the originals as they are now.',
)
@click.pass_context
def chapter_check(
    ctx: click.Context, files: tuple[Path, ...], accept: bool, translated: bool
) -> None:
    """Find problems: format, tabs, labels, marks, stale outputs, translations, claims.

    A paragraph of an original that changed since its translation was read is shown with what
    changed. A file CHAPTER.claims.json beside a chapter says what its outputs must show. The exit
    code is 0 if nothing is wrong, otherwise 1.

    \b
    Example:
      d2l-ft chapter check
    """
    from d2l_ft.chapter import command

    ctx.exit(command.check(files, accept, translated, say))


@chapter.command('notebooks')
@FILES
@click.option(
    '--out',
    type=FILE,
    default=Path('build/notebooks'),
    show_default=True,
    help='Where they go.',
)
@click.pass_context
def chapter_notebooks(ctx: click.Context, files: tuple[Path, ...], out: Path) -> None:
    """Write a notebook for each chapter, language and tab, and one that installs on Colab.

    \b
    Example:
      d2l-ft chapter notebooks --out notebooks
    """
    from d2l_ft.chapter import command

    ctx.exit(command.notebooks(files, out, say))


@chapter.command('lib')
@FILES
@click.option(
    '--out',
    type=FILE,
    default=Path('build/lib'),
    show_default=True,
    help='Where the files go.',
)
@click.option('--check', 'verify', is_flag=True, help='Only report whether they are up to date.')
@click.pass_context
def chapter_lib(ctx: click.Context, files: tuple[Path, ...], out: Path, verify: bool) -> None:
    """Cut the #@save code of the chapters out into a module.

    \b
    Example:
      d2l-ft chapter lib --out lib
    """
    from d2l_ft.chapter import command

    ctx.exit(command.library(files, out, verify, say))
