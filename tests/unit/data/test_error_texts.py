"""What the errors of data sets and images say."""

import importlib
import sys
import zipfile

import numpy as np
from conftest import make_folder, says
from served import serve

import d2l_ft as d2l
from d2l_ft.data import hub
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import scan
from d2l_ft.data.synthetic.tasks import draw, write_target
from d2l_ft.data.transforms import decode
from d2l_ft.errors import DataError

HASH = 'a' * 40


def test_a_data_set_that_is_unknown():
    assert says(DataError, hub.download, 'none') == (
        "no data set is named 'none': DATA_HUB has hotdog"
    )
    assert says(DataError, d2l.load_data, 'none') == (
        'there is no folder none: give sample, hotdog or a folder with a folder of images per class'
    )


def test_a_folder_that_the_archive_has_not(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / 'toy.zip', 'w') as archive:
        archive.writestr('toy/a.txt', '')
    digest = hub.fetch.__globals__['file_digest'](tmp_path / 'toy.zip', HASH)
    with serve(tmp_path) as url:
        monkeypatch.setitem(hub.DATA_HUB, 'toy', (f'{url}toy.zip', digest))
        assert says(DataError, hub.download_extract, 'toy', 'toys') == (
            "the archive of 'toy' has no folder 'toys'"
        )


def test_more_memory_for_images_than_there_is():
    assert says(DataError, ImageCache, 1 << 62) == (
        'the system refuses 4398046511104 MiB for the image cache: ask for less (`image_cache`)'
    )


def test_a_picture_that_cannot_be_drawn():
    text = says(DataError, draw, 'bicycle', np.random.default_rng(0))
    assert text.startswith("no drawing is named 'bicycle': choose one of ")


def test_pictures_are_drawn_into_no_folder_that_is_used(tmp_path):
    (tmp_path / 'a').write_text('')
    text = says(DataError, write_target, tmp_path)
    assert text == f'{tmp_path} exists already: name another folder, or remove it'


def test_an_image_that_is_gone_or_damaged(tmp_path):
    path = tmp_path / 'a.jpg'
    assert says(DataError, decode, str(path)) == f'cannot read {path}: No such file or directory'
    path.write_text('no image')
    assert says(DataError, decode, str(path)) == (
        f'cannot decode {path}: run  d2l-ft data check  on its folder'
    )


def test_a_folder_that_is_no_data_set(tmp_path):
    assert says(DataError, scan, tmp_path / 'none') == (
        f'{tmp_path / "none"} is not a folder: give one with a folder of images per class'
    )
    folder = make_folder(tmp_path / 'photos')
    (folder / 'train/dark/new').mkdir()
    for path in (folder / 'train/dark').glob('*.jpg'):
        path.rename(folder / 'train/dark/new' / path.name)
    assert 'has no image in it, only folders: move the images of each class right into' in says(
        DataError, load_folders, folder
    )


def test_a_folder_that_may_not_be_read(closed):
    folder, as_another = closed
    (folder / 'inner').mkdir(mode=0)
    with as_another():
        text = says(DataError, scan, folder / 'inner')
    assert text == f'cannot list {folder / "inner"}: Permission denied'


def test_a_class_of_one_image_or_of_none_that_is_good(tmp_path):
    folder = make_folder(tmp_path / 'photos', train=1)
    assert says(DataError, load_folders, folder / 'train') == (
        f"the class 'dark' of {folder / 'train'} has one image, which cannot be split: add images, "
        'or make the folders train/ and test/'
    )
    (folder / 'train/dark/00.jpg').write_text('no image')
    assert says(DataError, d2l.load_data, str(folder), bar=False, skip_bad=True) == (
        f"no image of the class 'dark' in {folder / 'train'} is good"
    )


def test_an_opencv_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    monkeypatch.delitem(sys.modules, 'd2l_ft.data.opencv')
    text = says(DataError, importlib.import_module, 'd2l_ft.data.opencv')
    assert text.startswith('OpenCV cannot be imported (')
    assert ': run  pip install --force-reinstall opencv-python-headless ' in text
