"""The page about security promises nothing without a test."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / 'docs/security.md').read_text(encoding='utf-8')
TEST = re.compile(r'`(tests/[\w/]+\.py)::(\w+)`')


def test_every_test_that_the_page_names_exists():
    named = TEST.findall(PAGE)
    assert len(named) >= 20
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, name
    assert PAGE.count('::') == len(named), 'nothing that looks like a test is written otherwise'


def test_every_promise_names_a_test():
    _, _, promises = PAGE.partition('## Not trusted')
    items = re.split(r'\n- ', promises)[1:]
    assert len(items) >= 15
    for item in items:
        assert TEST.search(item.partition('\n\n')[0]), item


def test_the_readme_leads_to_the_page():
    assert '(docs/security.md)' in (ROOT / 'README.md').read_text(encoding='utf-8')
