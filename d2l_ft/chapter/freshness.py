"""Find out which outputs are stale and why, without running anything.

The code of a cell and of all cells before it in its tab is hashed as a syntax tree, so comments
and layout don't count. A cell also depends on the functions of the library that its names lead to,
through the imports of each module, from function to function. A call such as ``backend.train_step``
leads to the function of that name in the tab's backend, whichever object ``backend`` is. Only the
code of a definition counts, not its module: moving it makes nothing stale.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from d2l_ft import _NAMES
from d2l_ft.backend.protocol import Backend
from d2l_ft.backend.registry import BACKENDS
from d2l_ft.chapter.book import Page, cell_ids
from d2l_ft.chapter.outputs import Run
from d2l_ft.chapter.reader import without_magics

OWN = 'd2l_ft'
BOUND = ('d2l_ft.mxnet', 'd2l_ft.torch')
"""Modules with the package's names, bound to a framework: ``from d2l_ft import mxnet as d2l``."""

NOT_USED_BY_CELLS = ('chapter', 'parity', 'probe', 'cli')
"""Packages and modules that no cell runs."""

SEAM = frozenset(name for name in dir(Backend) if not name.startswith('_'))
"""Names of a backend's functions."""

PLACES = '_NAMES'
"""The table of a package's names and their modules; not the table but its names are followed."""

DIGITS = 12
"""Hexadecimal digits of a hash that are kept: enough for some thousand definitions."""


@dataclass(frozen=True)
class Definition:
    """A function, class or constant of the library.

    Attributes:
        digest: Of its code without docstrings; '' for a name that is imported from elsewhere.
        uses: Full names that its code may lead to, such as 'd2l_ft.training.trainer.Trainer'.
    """

    digest: str
    uses: frozenset[str]


@dataclass(frozen=True)
class CellState:
    """Whether a cell's output in a tab is fresh.

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


def dump(node: object) -> str:
    """Return a syntax tree as text, the same in every version of Python.

    Versions add fields, which are empty in older code, so empty fields are left out. Python 3.12
    splits the text of an f-string into other pieces than other versions.
    """
    if isinstance(node, ast.JoinedStr):
        return f'JoinedStr({dump(pieces(node))})'
    if isinstance(node, ast.AST):
        fields = [(name, each) for name, each in ast.iter_fields(node) if each not in (None, [])]
        return (
            f'{type(node).__name__}({", ".join(f"{name}={dump(each)}" for name, each in fields)})'
        )
    if isinstance(node, list):
        return f'[{", ".join(map(dump, node))}]'
    return repr(node)


def is_own(module: str) -> bool:
    """Tell whether a module belongs to the package or to one of its backends."""
    return module.partition('.')[0] in (OWN, *(each.module for each in BACKENDS.values()))


def pieces(node: ast.JoinedStr) -> list[ast.expr]:
    """Return the parts of an f-string, with pieces of text that touch joined."""
    found: list[ast.expr] = []
    for each in node.values:
        if isinstance(each, ast.Constant) and found and isinstance(found[-1], ast.Constant):
            found[-1] = ast.Constant(f'{found[-1].value!s}{each.value!s}')
        elif not isinstance(each, ast.Constant) or each.value:
            found.append(each)
    return found


def parse_cell(source: str) -> ast.Module | None:
    """Return a cell's syntax tree, or None where it has none; magics are left out."""
    try:
        return ast.parse(without_magics(source))
    except SyntaxError:
        return None


def code_digest(source: str) -> str:
    """Return a hash of a cell's code that comments and layout do not change."""
    tree = parse_cell(source)
    magics = [line for line in source.split('\n') if line.startswith(('%', '!'))]
    return digest(source if tree is None else dump(tree) + '\n'.join(magics))


def code_digests(page: Page, tab: str) -> dict[str, str]:
    """Return id -> hash of a cell's code and of all cells before it in the tab."""
    ids, found, before = cell_ids(page.chapter), {}, ''
    for cell in page.chapter.cells(tab):
        before = digest(before + code_digest(cell.of_tab(tab)))
        found[ids[cell.line]] = before
    return found


@cache
def library(tab: str) -> Mapping[str, Definition]:
    """Return full name -> definition, for d2l_ft and the tab's backend."""
    specs = {package: importlib.util.find_spec(package) for package in packages(tab)}
    roots = {name: Path(each.origin).parent for name, each in specs.items() if each and each.origin}
    return read_library(roots, tab)


def read_library(roots: Mapping[str, Path], tab: str) -> Mapping[str, Definition]:
    """Return full name -> definition, of the packages in some folders."""
    found: dict[str, Definition] = {}
    for package, root in roots.items():
        for path in sorted(root.rglob('*.py')):
            parts = path.relative_to(root).with_suffix('').parts
            if parts[0] in NOT_USED_BY_CELLS:
                continue
            module = '.'.join((package, *parts)).removesuffix('.__init__')
            found |= definitions(module, ast.parse(path.read_text(encoding='utf-8')), tab)
    return found | late_functions(found, tab)


def late_functions(found: Mapping[str, Definition], tab: str) -> dict[str, Definition]:
    """Return the functions of the tab's backend that it imports when they are first used.

    No import leads to these, so each is looked up in all modules of the backend.
    """
    package = BACKENDS[tab].module if tab in BACKENDS else ''
    late = {f'{package}.{name}' for name in SEAM} - set(found)
    places: dict[str, set[str]] = {name: set() for name in late}
    for name, definition in found.items():
        root, last = name.partition('.')[0], name.rpartition('.')[2]
        if root == package and definition.digest and f'{package}.{last}' in late:
            places[f'{package}.{last}'].add(name)
    return {name: Definition('', frozenset(where)) for name, where in places.items() if where}


def packages(tab: str) -> list[str]:
    """Return the packages whose code a tab's cells run."""
    return [OWN] + ([BACKENDS[tab].module] if tab in BACKENDS else [])


def definitions(module: str, tree: ast.Module, tab: str) -> dict[str, Definition]:
    """Return full name -> definition of every function, class and constant of a module.

    A name that a package re-exports is a definition too, which uses what it stands for.
    """
    body = list(statements(tree.body))
    known = {name: f'{module}.{name}' for node in body for name in defined_names(node)}
    imports = import_targets(tree)
    names = imports | known
    found = {
        f'{module}.{name}': Definition('', frozenset({target})) for name, target in imports.items()
    }
    for node in body:
        for name in defined_names(node) - {PLACES}:
            plain = digest(dump(without_modules(without_docstrings(node))))
            uses = frozenset(targets(node, names, tab))
            found[f'{module}.{name}'] = Definition(plain, uses - {f'{module}.{name}'})
    return found


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those of an ``if`` at its top level too."""
    for node in body:
        yield from statements([*node.body, *node.orelse]) if isinstance(node, ast.If) else [node]


def defined_names(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        places = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {name for place in places for name in bound_names(place)}
    return set()


def import_targets(tree: ast.AST) -> dict[str, str]:
    """Return name -> what it stands for, of everything that is imported anywhere in a tree."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                root = each.name.partition('.')[0]
                found[each.asname or root] = each.name if each.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                found[each.asname or each.name] = f'{node.module}.{each.name}'
    return found


def targets(node: ast.AST, names: Mapping[str, str], tab: str) -> set[str]:
    """Return what the names in a tree may lead to.

    Args:
        node: The tree.
        names: Name -> full name of what is known there.
        tab: Whose backend the methods of a backend belong to.
    """
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            if each.id in names:
                found.add(names[each.id])
        elif isinstance(each, ast.Attribute):
            if isinstance(each.value, ast.Name) and each.value.id in names:
                found |= resolve_public(f'{names[each.value.id]}.{each.attr}')
            if each.attr in SEAM and tab in BACKENDS:
                found.add(f'{BACKENDS[tab].module}.{each.attr}')
    return found


def resolve_public(name: str) -> set[str]:
    """Return the full name of a name of the package, which imports it when it is first used.

    For a module that binds the names to a framework, its ``__getattr__`` is used too.
    """
    package, _, last = name.rpartition('.')
    if package not in (OWN, *BOUND) or last not in _NAMES:
        return {name}
    found = {f'{OWN}.{_NAMES[last]}.{last}'}
    return found | {f'{package}.__getattr__'} if package in BOUND else found


def without_docstrings(node: ast.AST) -> ast.AST:
    """Remove the docstrings in a tree."""
    for each in ast.walk(node):
        body = getattr(each, 'body', None)
        if isinstance(body, list) and body and is_docstring(body[0]):
            vars(each)['body'] = body[1:]  # AST, the base class, declares no body
    return node


def without_modules(node: ast.AST) -> ast.AST:
    """Remove the modules from imports of the library; the imported names are followed instead."""
    for each in ast.walk(node):
        if isinstance(each, ast.ImportFrom) and is_own(each.module or ''):
            each.module = ''
    return node


def is_docstring(node: ast.AST) -> bool:
    """Tell whether a statement is a string alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def bound_names(node: ast.AST) -> set[str]:
    """Return the names that a tree binds."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            found.add(each.id)
        elif isinstance(each, ast.FunctionDef | ast.ClassDef):
            found.add(each.name)
    return found


def changed_names(tree: ast.Module) -> set[str]:
    """Return the names whose values a cell makes, or may change.

    A call whose result is not used may change its arguments and the object whose method it is.
    """
    found = bound_names(tree)
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


def names_in(tree: ast.AST) -> set[str]:
    """Return every name in a tree."""
    return {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}


def library_digests(page: Page, tab: str) -> dict[str, dict[str, str]]:
    """Return id -> (hash -> full name) of what each cell uses of the library.

    A cell uses it directly, or through values that earlier cells made or may have changed.
    """
    ids = cell_ids(page.chapter)
    uses_of_values: dict[str, set[str]] = {}
    modules: dict[str, str] = {}
    found = {}
    for cell in page.chapter.cells(tab):
        tree = parse_cell(cell.of_tab(tab)) or ast.Module([], [])
        modules |= import_targets(tree)
        used = targets(tree, modules, tab)
        used = used.union(*(uses_of_values.get(name, set()) for name in names_in(tree)))
        for name in changed_names(tree) - set(modules):
            uses_of_values[name] = uses_of_values.get(name, set()) | used
        found[ids[cell.line]] = reachable_definitions(used, tab)
    return found


def reachable_definitions(names: Iterable[str], tab: str) -> dict[str, str]:
    """Return hash -> full name of every definition that some names lead to."""
    definitions_of_tab, seen = library(tab), set(names)
    queue = list(seen)
    while queue:
        each = definitions_of_tab.get(queue.pop())
        fresh = each.uses - seen if each else frozenset()
        seen |= fresh
        queue += fresh
    return {
        definitions_of_tab[name].digest: name
        for name in sorted(seen)
        if name in definitions_of_tab and definitions_of_tab[name].digest
    }


def combine(uses: Iterable[str]) -> str:
    """Return one hash of the hashes of everything that a cell uses."""
    return digest(' '.join(sorted(uses)))


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


def has_failed(name: str, code: str, run: Run) -> bool:
    """Tell whether a cell failed when it was last run with this code, given as its hash."""
    failure = run.failure or {}
    return (failure.get('cell'), failure.get('code')) == (name, code)


def judge(
    name: str, code: str, uses: Mapping[str, str], run: Run | None, broken: str
) -> tuple[str, str]:
    """Return the state of a cell, and why.

    Args:
        name: Its id.
        code: Hash of its code and of all before it.
        uses: Hash -> full name of what it uses of the library.
        run: The stored run of its tab.
        broken: A cell before it whose code changed, or ''.
    """
    if run is None:
        return 'never run', 'the tab has no outputs'
    if run.failure and has_failed(name, code, run):
        return 'failed', run.failure['error']
    if name not in run.cells:
        return 'never run', 'a new cell'
    if run.cells[name].code != code:
        return 'stale', f'follows {broken}, whose code changed' if broken else CODE
    if run.cells[name].uses != combine(uses):
        changed = sorted(each for value, each in uses.items() if value not in run.library)
        rest = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
        return 'stale', f'{changed[0] if changed else "what it uses"} changed{rest}'
    return 'fresh', ''
