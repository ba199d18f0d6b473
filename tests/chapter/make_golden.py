"""Write what d2lbook 1.0.3 reads in the fixtures to ``golden/``, for our parser to be compared.

d2lbook is an oracle and no dependency, so it gets an environment of its own (CPython 3.11):

    python3.11 -m venv /tmp/oracle
    /tmp/oracle/bin/pip install 'setuptools<81' d2lbook==1.0.3 isort==9.0.2
    /tmp/oracle/bin/python tests/chapter/make_golden.py

d2l-notedown, which d2lbook reads Markdown with, imports ``pkg_resources``: hence setuptools. What
is saved passes through isort. The rest of d2lbook's requirements may be left out: with
``--no-deps`` for d2lbook, nbformat, nbconvert, d2l-notedown, astor, yapf and isort suffice.

A golden file maps a default tab to a tab to ``cells``, the sources of its code cells, and to
``saved``, its blocks for the library. A list is empty also where d2lbook raises or returns None.
"""

import json
from collections.abc import Callable
from pathlib import Path

from d2lbook import library, notebook

HERE = Path(__file__).parent
DEFAULTS = ('mxnet', 'pytorch')
TABS = ('mxnet', 'pytorch', 'tensorflow')


def code_cells(path: Path, tab: str, default: str) -> list[str]:
    """Return the sources of the code cells of a tab."""
    whole = notebook.read_markdown(path.read_text(encoding='utf-8'))
    mine = notebook.get_tab_notebook(notebook.split_markdown_cell(whole), tab, default)
    return [cell.source for cell in mine.cells if cell.cell_type == 'code'] if mine else []


def saved_blocks(path: Path, tab: str, default: str) -> list[str]:
    """Return the blocks that the library module of a tab gets."""
    return [block for block, *_ in library._save_code(path, tab=tab, default_tab=default)]


def attempt(
    read: Callable[[Path, str, str], list[str]], path: Path, tab: str, default: str
) -> list[str]:
    """Return what is read, or nothing where d2lbook raises."""
    try:
        return read(path, tab, default)
    except Exception as error:  # whatever an old program may raise
        print(f'{path.name}, tab {tab}, default {default}: {read.__name__} raised {error!r:.80}')
        return []


def golden(path: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return all that d2lbook reads in a fixture."""
    readers = {'cells': code_cells, 'saved': saved_blocks}
    return {
        default: {
            tab: {key: attempt(read, path, tab, default) for key, read in readers.items()}
            for tab in TABS
        }
        for default in DEFAULTS
    }


def main() -> None:
    """Write a golden file for each fixture."""
    (HERE / 'golden').mkdir(exist_ok=True)
    for path in sorted((HERE / 'fixtures').glob('*.md')):
        text = json.dumps(golden(path), indent=1, ensure_ascii=False)
        (HERE / 'golden' / f'{path.stem}.json').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
