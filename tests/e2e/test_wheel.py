"""What a built wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_wheel_has_the_three_packages_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, '-m', 'build', '--wheel', '--outdir', str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split('/')[0] for name in names if '.dist-info' not in name}
    assert tops == {'d2l_ft', 'd2l_ft_mxnet', 'd2l_ft_pytorch'}
    for package, folder in (
        ('d2l_ft', 'd2l_ft'),
        ('d2l_ft_mxnet', 'backends/d2l_ft_mxnet'),
        ('d2l_ft_pytorch', 'backends/d2l_ft_pytorch'),
    ):
        for path in (ROOT / folder).rglob('*.py'):
            assert f'{package}/{path.relative_to(ROOT / folder)}' in names
    others = [
        path
        for path in (ROOT / 'd2l_ft/chapter').rglob('*')
        if path.suffix in ('.css', '.js', '.html')
    ]
    assert len(others) >= 3
    for path in others:
        assert str(path.relative_to(ROOT)) in names
    for package in ('d2l_ft', 'd2l_ft_mxnet', 'd2l_ft_pytorch'):
        assert f'{package}/py.typed' in names
    assert 'd2l_ft/convert/zoo.json.xz' in names
    assert any(name.endswith('licenses/LICENSE') for name in names)
