"""Every place that makes an error has a test, and a line on the page."""

import error_texts
import pytest


def test_every_place_that_makes_an_error_has_a_test_and_a_line_on_the_page(request):
    """Whoever adds an error adds a test that provokes it, and runs it with ``--error-texts``."""
    if request.config.getoption('--error-texts', None):
        pytest.skip('this run makes the table')
    found, rows = error_texts.places(), error_texts.load(error_texts.TABLE)
    missing = error_texts.untested(found, rows)
    assert not missing, [f'{each.file}:{each.lines[0]}: {each.text}' for each in missing]
    assert not [row['message'] for row in rows.values() if '\n' in row['message']]
    assert set(rows) == {each.key for each in found}, 'the table has places that are gone'
    assert error_texts.PAGE.read_text() == error_texts.page(found, rows), (
        'stale: run  python tests/error_texts.py'
    )
