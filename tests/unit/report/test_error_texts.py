"""What the errors of figures say."""

from conftest import says

from d2l_ft.errors import StorageError
from d2l_ft.report.figures import save_curves


def test_a_figure_of_an_unknown_kind(tmp_path):
    assert says(StorageError, save_curves, tmp_path / 'a.gif', {}) == (
        f'cannot draw {tmp_path / "a.gif"}: name a file that ends in .png, .pdf or .svg'
    )
