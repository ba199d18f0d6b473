"""Names in a line for the user."""

from d2l_ft.system.console import listed, unquoted


def test_names_in_a_line_are_few():
    assert listed(map(str, range(1500))) == "'0', '1', '2', '3', '4' and 1495 more"
    assert listed([]) == 'none'
    assert unquoted('hot dog') == 'hot dog'
    assert unquoted('a, b') == "'a, b'"
    assert unquoted('b ') == "'b '"
