"""What counts when a cell's freshness is judged: the library's code, hashed."""

import ast
import importlib.util

import pytest

from d2l_ft.chapter import freshness


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
    assert 'd2l_ft.training' in modules
    assert not {each for each in modules if each.split('.')[1:2] == [name]}
