"""Tell which outputs are stale and why, without running anything.

The code of a cell and of all cells before it in its tab is hashed as a syntax tree, so comments
and layout don't count. The library is looked at by names: a cell depends on every function, class
and constant of d2l_ft, and of its tab's backend, whose name is reachable from the names that the
cell uses. Names stand for whatever has them, so this errs on the side of too much.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from d2l_ft.chapter.book import Page, cell_ids
from d2l_ft.chapter.outputs import Run
from d2l_ft.registry import BACKENDS

OWN = 'd2l_ft'
NOT_USED_BY_CELLS = ('chapter', 'parity', 'cli.py', 'report.py')
"""Parts of the package that no cell runs."""

DIGITS = 12
"""Hexadecimal digits that are kept of a hash."""


@dataclass(frozen=True)
class Definition:
    """A function, class or constant of the library.

    Attributes:
        name: Module and name, such as 'd2l_ft.training.train_ch13'.
        digest: Of its code without docstrings.
        uses: The names in its code.
    """

    name: str
    digest: str
    uses: frozenset[str]


@dataclass(frozen=True)
class CellState:
    """Where a cell of a tab stands.

    Attributes:
        page: Stem of the chapter.
        tab: Its tab.
        cell: Its id.
        line: Its line in the file.
        state: 'fresh', 'stale', 'never run' or 'failed'.
        why: The reason, if it is not fresh.
    """

    page: str
    tab: str
    cell: str
    line: int
    state: str
    why: str = ''


def digest(text: str) -> str:
    """Return the first digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def parse_cell(source: str) -> ast.Module | None:
    """Return a cell's syntax tree, or None where it has none; magics are left out."""
    lines = ['' if line.startswith(('%', '!')) else line for line in source.split('\n')]
    try:
        return ast.parse('\n'.join(lines))
    except SyntaxError:
        return None


def code_digest(source: str) -> str:
    """Return a hash of a cell's code that comments and layout do not change."""
    tree = parse_cell(source)
    magics = [line for line in source.split('\n') if line.startswith(('%', '!'))]
    return digest(source if tree is None else ast.dump(tree) + '\n'.join(magics))


def code_digests(page: Page, tab: str) -> dict[str, str]:
    """Return id -> hash of a cell's code and of all cells before it in the tab."""
    ids, found, before = cell_ids(page.chapter), {}, ''
    for cell in page.chapter.cells(tab):
        before = digest(before + code_digest(cell.of_tab(tab)))
        found[ids[cell.line]] = before
    return found


@cache
def library(tab: str) -> Mapping[str, tuple[Definition, ...]]:
    """Return name -> its definitions in d2l_ft and in the tab's backend."""
    found: dict[str, list[Definition]] = {}
    packages = [OWN] + ([BACKENDS[tab][0]] if tab in BACKENDS else [])
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        for path in sorted(root.rglob('*.py')):
            parts = path.relative_to(root).parts
            if package == OWN and parts[0] in NOT_USED_BY_CELLS:
                continue
            module = '.'.join((package, *parts)).removesuffix('.py')
            for name, each in definitions(module, path.read_text(encoding='utf-8')):
                found.setdefault(name, []).append(each)
    return {name: tuple(each) for name, each in found.items()}


def definitions(module: str, source: str) -> Iterator[tuple[str, Definition]]:
    """Yield the name and definition of every function, class and constant of a module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each for target in targets for each in stored(target)]
        else:
            continue
        plain = digest(ast.dump(without_docstrings(node)))
        for name in names:
            yield name, Definition(f'{module}.{name}', plain, frozenset(names_in(node)))


def without_docstrings(node: ast.AST) -> ast.AST:
    """Remove the docstrings in a tree."""
    for each in ast.walk(node):
        body = getattr(each, 'body', None)
        if isinstance(body, list) and body and is_docstring(body[0]):
            each.body = body[1:]  # type: ignore[attr-defined]
    return node


def is_docstring(node: ast.AST) -> bool:
    """Tell whether a statement is a string alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def names_in(node: ast.AST) -> set[str]:
    """Return every name and attribute in a tree."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Attribute):
            found.add(each.attr)
    return found


def stored(node: ast.AST) -> set[str]:
    """Return the names that a tree binds."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            found.add(each.id)
        elif isinstance(each, ast.FunctionDef | ast.ClassDef):
            found.add(each.name)
    return found


def changed_by(tree: ast.Module) -> set[str]:
    """Return the names whose values a cell makes, or may change.

    A call that stands alone is there for what it does: what it is given by name, and the object
    whose method it is, may be changed.
    """
    found = stored(tree)
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            found |= {each.id for each in call.args if isinstance(each, ast.Name)}
            target = call.func
            while isinstance(target, ast.Attribute):
                target = target.value
            if isinstance(target, ast.Name) and isinstance(call.func, ast.Attribute):
                found.add(target.id)
    return found


def imported(tree: ast.Module) -> set[str]:
    """Return the names that a cell imports; they are not changed by being used."""
    nodes = [each for each in ast.walk(tree) if isinstance(each, ast.Import | ast.ImportFrom)]
    return {(each.asname or each.name).partition('.')[0] for node in nodes for each in node.names}


def names_of_cells(page: Page, tab: str) -> dict[str, set[str]]:
    """Return id -> the names that a cell uses, itself or through what earlier cells made."""
    ids = cell_ids(page.chapter)
    made: dict[str, set[str]] = {}
    modules: set[str] = set()
    found = {}
    for cell in page.chapter.cells(tab):
        tree = parse_cell(cell.of_tab(tab)) or ast.Module([], [])
        modules |= imported(tree)
        used = names_in(tree)
        reached = used.union(*(made.get(name, set()) for name in used))
        for name in changed_by(tree) - modules:
            made[name] = made.get(name, set()) | reached
        found[ids[cell.line]] = reached
    return found


def reached(names: Iterable[str], tab: str) -> dict[str, str]:
    """Return name -> hash of every definition that is reachable from some names."""
    known, found = library(tab), {}
    waiting, seen = list(names), set(names)
    while waiting:
        for each in known.get(waiting.pop(), ()):
            found[each.name] = each.digest
            fresh = each.uses - seen
            seen |= fresh
            waiting += fresh
    return found


def library_digests(page: Page, tab: str) -> dict[str, dict[str, str]]:
    """Return id -> (name -> hash) of what each cell uses of the library."""
    return {cell: reached(names, tab) for cell, names in names_of_cells(page, tab).items()}


def cell_states(page: Page, tab: str, run: Run | None) -> list[CellState]:
    """Return the state of every cell that a tab runs.

    Args:
        page: A chapter.
        tab: A tab.
        run: The stored run of the tab.
    """
    ids, codes = cell_ids(page.chapter), code_digests(page, tab)
    parts = library_digests(page, tab)
    states, broken = [], ''
    for cell in page.chapter.cells(tab):
        name = ids[cell.line]
        state, why = judge(name, codes[name], parts[name], run, broken)
        if why == CODE:
            broken = broken or name
        states.append(CellState(page.stem, tab, name, cell.line, state, why))
    return states


CODE = 'its code changed'


def judge(
    name: str, code: str, uses: Mapping[str, str], run: Run | None, broken: str
) -> tuple[str, str]:
    """Return the state of a cell, and why; ``broken`` is a cell before it whose code changed."""
    if run is None:
        return 'never run', 'the tab has no outputs'
    if run.failure and run.failure.get('cell') == name and run.failure.get('code') == code:
        return 'failed', run.failure['error']
    if name not in run.cells:
        return 'never run', 'a new cell'
    if run.cells[name].code != code:
        return 'stale', f'follows {broken}, whose code changed' if broken else CODE
    changed = [each for each, value in uses.items() if run.library.get(each) != value]
    if changed:
        rest = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
        return 'stale', f'{changed[0]} changed{rest}'
    return 'fresh', ''
