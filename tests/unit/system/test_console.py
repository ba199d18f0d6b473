"""Names in a line for the user."""

from d2l_ft.system.console import list_names, quote_if_needed


def test_names_in_a_line_are_few():
    assert list_names(map(str, range(1500))) == "'0', '1', '2', '3', '4' and 1495 more"
    assert list_names([]) == 'none'
    assert quote_if_needed('hot dog') == 'hot dog'
    assert quote_if_needed('a, b') == "'a, b'"
    assert quote_if_needed('b ') == "'b '"
