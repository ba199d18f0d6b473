"""The reader of chapters, against d2lbook's own splitting and against what it must refuse."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2l_ft.chapter.inline import render
from d2l_ft.chapter.reader import (
    Code,
    Equation,
    Fence,
    Figure,
    Heading,
    Tab,
    Table,
    Text,
    parse_chapter,
    read_chapter,
)
from d2l_ft.errors import ChapterError

HERE = Path(__file__).parent
TABS = ('mxnet', 'pytorch', 'tensorflow', 'jax')
LIKE_D2LBOOK = ('classes', 'ince-ayar', 'linear', 'saving', 'tabs', 'traps')
"""Fixtures whose cells d2lbook reads as an author would want it."""


def golden(name):
    return json.loads((HERE / f'golden/{name}.json').read_text())


def is_named(chapter, tab):
    """Tell whether a cell names a tab: d2lbook has no notebook of a tab that nothing names."""
    return any(tab in block.tabs for block in chapter.walk() if isinstance(block, Code | Tab))


@pytest.mark.parametrize('name', LIKE_D2LBOOK)
def test_cells_are_those_of_d2lbook(name):
    compared = 0
    for default, tabs in golden(name).items():
        chapter = read_chapter(HERE / f'fixtures/{name}.md', TABS, default)
        for tab, found in tabs.items():
            ours = [cell.of_tab(tab) for cell in chapter.cells(tab)]
            if not is_named(chapter, tab) and tab != default:
                ours = []
            assert ours == found['cells'], (default, tab)
            compared += len(ours)
    assert compared > 10


def parse(text, default='mxnet'):
    return parse_chapter(text, Path('x.md'), TABS, default)


def test_a_branch_of_a_tab_has_its_else():
    cell = """```{.python .input}
#@tab all
if tab.selected('mxnet'):
    a = 1
    if not tab.selected('pytorch'):
        b = 2
elif tab.selected('jax'):
    a = 3
else:

    a = 4
# at the margin
    b = 5
c = 6
```"""
    (code,) = parse(cell).cells('mxnet')
    assert code.of_tab('mxnet') == 'a = 1\nb = 2\nc = 6'
    assert code.of_tab('jax') == 'a = 3\nc = 6'
    assert code.of_tab('pytorch') == '\na = 4\n# at the margin\nb = 5\nc = 6'


def test_what_d2lbook_misreads_is_read():
    """A block that is indented, fences with spaces behind them, an empty cell."""
    chapter = read_chapter(HERE / 'fixtures/nested-list.md', TABS, 'mxnet')
    assert len(chapter.cells('mxnet')) > 1
    cells = parse('```{.python .input}  \na = 1\n``` \n\n```{.python .input}\n```\n').cells('mxnet')
    assert [each.source for each in cells] == ['a = 1', '']


REFUSED = {
    '```eval_rst\n.. toctree::\n```': (1, 'eval_rst'),
    'a\n\n```{.python .input}\nx = 1\n#@hide\n```': (5, '#@hide'),
    '```{.python .input}\n#@tab caffe\n```': (2, "'caffe'"),
    '```{.python .input}\nx = 1  #@tab mxnet\n```': (2, 'mark of tabs'),
    "```{.python .input}\nprint('#@tab mxnet')\n```": (2, 'mark of tabs'),
    '```{.python .input}\n#@tab mxnet\n#@tab pytorch\n```': (3, 'a second mark'),
    '```{.python .input}\n#@tab all, mxnet\n```': (2, 'all alone'),
    "```{.python .input}\na = 1 if tab.selected('mxnet') else 2\n```": (1, 'tab.selected'),
    'a\n```{.python .input}\nx = 1': (2, 'no end'),
    '```{.json .output n=1}\n[]\n```': (1, 'output in the source'),
    ':begin_tab:`mxnet`\n\ntext': (1, 'no end_tab'),
    ':end_tab:': (1, 'without begin_tab'),
    ':begin_tab:`mxnet`\n:begin_tab:`pytorch`\n:end_tab:': (2, 'inside of the tab of line 1'),
    ':begin_tab:`caffe`\n:end_tab:': (1, "'caffe'"),
    ':begin_tab:`mxnet`\n```{.python .input}\n```\n:end_tab:': (2, 'inside of begin_tab'),
    'text\n\n:label:`sec_x`': (3, 'label without'),
    '# A\n:label:`a`\n:label:`b`': (3, 'a second label'),
    '$$x = 1\n\ntext': (1, '$$ is missing'),
    'a [**b\n\n```{.python .input}\n```\n\nc**]': (1, '[**'),
}


@pytest.mark.parametrize('text', REFUSED)
def test_what_is_not_supported_is_refused_with_file_line_and_reason(text):
    line, reason = REFUSED[text]
    with pytest.raises(ChapterError, match=rf'^x\.md:{line}: ') as caught:
        parse(text)
    assert reason in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_chapter_is_a_tree():
    chapter = parse(
        '# Title\n:label:`sec_t`\n\n![A *b*](img/a.svg)\n:width:`400px`\n:label:`fig_a`\n\n'
        '$$a =\n b$$\n:eqlabel:`eq_a`\n\n:Caption\n:label:`tab_a`\n\n|a|\n|-|\n|1|\n\n'
        '|b|\n|-|\n:After it\n:label:`tab_b`\n\n* one\n* two\n\n```bash\nls\n```\n\n'
        ':begin_tab:`mxnet, jax`\nfor some\n:end_tab:\n'
    )
    assert chapter.blocks == (
        Heading(1, 1, 'Title', 'sec_t'),
        Figure(4, 'A *b*', 'img/a.svg', 'fig_a', '400px'),
        Equation(8, 'a =\nb', 'eq_a'),
        Table(12, ('|a|', '|-|', '|1|'), 'Caption', 'tab_a'),
        Table(19, ('|b|', '|-|'), 'After it', 'tab_b'),
        Text(24, '* one\n* two'),
        Fence(27, 'bash', 'ls'),
        Tab(31, ('mxnet', 'jax'), (Text(32, 'for some'),)),
    )


def test_prose_is_shown_without_slide_marks():
    text = 'a [**b**] (**c :numref:`fig_x`**)[~~only slides :cite:`K`~~] `[**code**]` $x[**2**]$'
    shown = render(text, lambda name, value: f'<{name} {value}>')
    assert shown == 'a b c <numref fig_x> `[**code**]` $x[**2**]$'


@given(
    st.lists(
        st.sampled_from(
            [
                '```', '```{.python .input}', '```{.python .input #a n=1}', '````', '#@tab mxnet',
                ':begin_tab:`mxnet`', ':end_tab:', ':label:`a`', '# T', '$$', '|a|', ':c', '',
                "if tab.selected('mxnet'):", '    x', 'else:', '[**', '**]', '![a](b)', '`', '$',
                '#@save', '%%tab all',
            ]
        ) | st.text(max_size=12),
        max_size=30,
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(lines):
    try:
        chapter = parse('\n'.join(lines))
    except ChapterError:
        return
    for tab in TABS:
        assert all(isinstance(cell.of_tab(tab), str) for cell in chapter.cells(tab))
