"""The tables and heads of the reports."""

import pytest

from d2l_ft.report.html import document, table


@pytest.mark.parametrize('text', ['12', '-0.5', '1.2e-12', 'inf', 'nan', '3 x', '1e-05 to 2e-3'])
def test_a_number_stands_at_the_right(text):
    assert f'<td class="n">{text}</td>' in table(['a'], [[text]])


@pytest.mark.parametrize('text', ['', 'conv0', '4 x 3 x 8', 'e-5', 'information', '1.9.1 or newer'])
def test_what_is_no_number_stands_at_the_left(text):
    assert f'<td>{text}</td>' in table(['a'], [[text]])


def test_a_table_names_its_columns_and_rows_if_they_have_names():
    assert table(['', ''], [['a', 1]], 'facts').count('<tr>') == 1
    assert '<table class="facts">' in table(['', ''], [['a', 1]], 'facts')
    named = table(['', 'cat'], [['dog', 3]], names=True)
    assert '<tr><th></th><th>cat</th></tr><tr><th>dog</th><td class="n">3</td></tr>' in named


def test_a_page_shows_its_title_as_text_and_leaves_empty_parts_out():
    page = document('a <b>\x1b', ['<h1>one</h1>', '', '<p>two'], 'h1{color:red}')
    assert '<title>a &lt;b&gt;' in page
    assert '\x1b' not in page
    assert '<h1>one</h1>\n<p>two\n' in page
    assert 'h1{color:red}</style>' in page
