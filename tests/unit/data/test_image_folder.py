"""What is listed of an image folder, and how a part is split off."""

import pytest
from conftest import make_folder

from d2l_ft.data import image_folder
from d2l_ft.errors import DataError


@pytest.mark.parametrize('classes', [2, 7])
def test_split_holds_out_a_fifth_of_each_class(tmp_path, classes):
    """The same images as the first version, which looked at all images for each class."""
    for label in range(classes):
        place = tmp_path / 'many' / f'c{label}'
        place.mkdir(parents=True)
        for number in range(5 + label):
            (place / f'{number}.png').write_bytes(b'')
    whole = image_folder.scan(tmp_path / 'many')
    train, test = image_folder.split(whole, seed=3)
    for label in range(classes):
        every = [sample for sample in whole.samples if sample.label == label]
        order = image_folder.generator(3, image_folder.STREAM_SPLIT, 0, label).permutation(
            len(every)
        )
        held = set(order[: max(1, round(len(every) * image_folder.HELD_OUT))].tolist())
        assert [s for s in test.samples if s.label == label] == [
            sample for number, sample in enumerate(every) if number in held
        ]
    assert len(train.samples) + len(test.samples) == len(whole.samples)
    assert [s.label for s in train.samples] == sorted(s.label for s in train.samples)


def test_scan_lists_sorted_and_counts_what_it_skips(tmp_path):
    root = make_folder(tmp_path / 'p') / 'train'
    (root / 'dark' / 'deeper').mkdir()
    (root / 'dark' / '.hidden.jpg').write_bytes(b'')
    (root / 'dark' / 'notes.txt').write_text('x')
    (root / 'loose.jpg').write_bytes(b'')
    found = image_folder.scan(root)
    assert found.classes == ['dark', 'light']
    assert [each.label for each in found.samples] == [0] * 10 + [1] * 10
    assert found.samples == sorted(found.samples, key=lambda each: each.path)
    note = found.note()
    for text in ('1 hidden', '1 nested folders', '1 .txt', '1 files beside'):
        assert text in note


def test_scan_refuses(tmp_path):
    with pytest.raises(DataError, match='not a folder'):
        image_folder.scan(tmp_path / 'none')
    (tmp_path / 'a').mkdir()
    with pytest.raises(DataError, match=r"class 'a'.*no image"):
        image_folder.scan(tmp_path)
    (tmp_path / 'a' / 'x.PNG').write_bytes(b'x')
    with pytest.raises(DataError, match='at least 2'):
        image_folder.scan(tmp_path)
