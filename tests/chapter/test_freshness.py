"""What counts when a cell's freshness is judged: the library's code, hashed."""

import ast
import importlib.util

import pytest

from d2l_ft.chapter import freshness
from d2l_ft.chapter.book import Page
from d2l_ft.chapter.reader import read_chapter

CELLS = """```{.python .input #data}
#@tab all
#@save
d2l.DATA_HUB['x'] = (d2l.DATA_URL + 'x.zip', '0' * 40)
```

```{.python .input #train}
#@tab all
history = d2l.train_ch13(None, None, None, None, None, 5)
```

```{.python .input #later}
#@tab all
print(history)
```
"""


def test_hashes_are_the_same_in_every_version_of_python():
    """The second tree is the first as Python 3.12 has it: its f-string is in more pieces."""
    one = ast.parse("f'{{a}} {b}'", mode='eval').body
    text, value = [each for each in one.values if isinstance(each, ast.Constant)], one.values[-1]
    whole = ''.join(each.value for each in text)
    parts = [ast.Constant(whole[:1]), ast.Constant(''), ast.Constant(whole[1:]), value]
    assert freshness.dump(ast.JoinedStr(parts)) == freshness.dump(one)
    assert freshness.dump(ast.JoinedStr(parts[1:])) != freshness.dump(one)
    tree = ast.parse('def f(x):\n    return x')
    tree.body[0].type_params = []  # a field of Python 3.12
    assert 'type_params' not in freshness.dump(tree)


@pytest.mark.parametrize('name', freshness.NOT_USED_BY_CELLS)
def test_what_no_cell_runs_makes_none_stale(name, framework):
    """Each name is that of a module or package, whose definitions do not count."""
    tab = framework.NAME
    packages = freshness.packages(tab)
    assert any(importlib.util.find_spec(f'{package}.{name}') for package in packages)
    modules = {definition.rpartition('.')[0] for definition in freshness.library(tab)}
    assert 'd2l_ft.training.trainer' in modules
    assert not {each for each in modules if each.split('.')[1:2] == [name]}


LINES = {
    'mxnet': 'from d2l_ft import mxnet as d2l',
    'pytorch': 'from d2l_ft import torch as d2l',
}
"""Tab -> the import line of the book."""


def uses_of(path, tab, line):
    """Return id -> what each cell of a small chapter uses of the library."""
    path.write_text(f'# T\n\n```{{.python .input #start}}\n#@tab {tab}\n{line}\n```\n\n{CELLS}')
    page = Page(read_chapter(path, tuple(LINES), tab), 't', 'en', '1')
    return freshness.library_digests(page, tab)


def test_a_cell_depends_on_the_library_by_either_import_line(framework, tmp_path):
    """The book's line leads to the same functions, and to what binds them to the framework."""
    tab = framework.NAME
    path = tmp_path / 't.md'
    plain, bound = (
        {cell: set(uses.values()) for cell, uses in uses_of(path, tab, line).items()}
        for line in ('import d2l_ft as d2l', LINES[tab])
    )
    assert 'd2l_ft.book_api.train_ch13' in bound['train']
    assert f'd2l_ft_{tab}.training.train_step' in bound['train']
    assert 'd2l_ft.data.hub.DATA_HUB' in bound['data']
    for cell in ('train', 'data', 'later'):
        assert plain[cell] <= bound[cell]
        assert 'd2l_ft.framework_names.names_of' in bound[cell]
    assert bound['start'] == set()


def test_every_function_of_the_seam_leads_to_code(framework):
    """Also where the backend's package imports it when it is first used."""
    tab = framework.NAME
    package = freshness.packages(tab)[1]
    for name in freshness.SEAM - {'NAME', 'FRAMEWORK'}:
        found = freshness.reachable_definitions([f'{package}.{name}'], tab).values()
        assert any(each.startswith(f'{package}.') and each.endswith(f'.{name}') for each in found)
