"""Image folders as people have them: what is taken, what is left out, and what is said of it."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_folder, run_config
from test_command import command

from d2l_ft.cli.data import data_check
from d2l_ft.data import datasets, folder_layout
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.opencv import cv2
from d2l_ft.errors import CheckpointError, DataError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.results import evaluate_run
from d2l_ft.storage.locks import lock_file


def test_split_holds_out_a_fifth(tmp_path):
    root = make_folder(tmp_path / 'p') / 'train'
    train, test = folder_layout.load_folders(root)
    assert len(train.samples) == 16
    assert len(test.samples) == 4
    assert not {each.path for each in train.samples} & {each.path for each in test.samples}
    again, _ = folder_layout.load_folders(root)
    assert again.samples == train.samples
    other, _ = folder_layout.load_folders(root, seed=1)
    assert other.samples != train.samples


def test_train_and_test_must_have_the_same_classes(tmp_path):
    root = make_folder(tmp_path / 'p')
    (root / 'test' / 'dark').rename(root / 'test' / 'black')
    with pytest.raises(DataError, match="only in train: 'dark'; only in test: 'black'"):
        folder_layout.load_folders(root)


@pytest.fixture
def root(tmp_path):
    """Return an empty folder beside the tests' cache."""
    path = tmp_path / 'data'
    path.mkdir()
    return path


def pictures(folder, count=3, suffix='.png', seed=0):
    """Write small pictures, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([seed, *str(folder).encode()])
    for number in range(count):
        image = draw.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        (folder / f'{number}{suffix}').write_bytes(cv2.imencode('.png', image)[1].tobytes())


def part(root, name, count=3, classes=('cat', 'dog')):
    for each in classes:
        pictures(root / name / each, count)


def checked(root, code=0):
    """Return what ``data check`` prints."""
    done = CliRunner().invoke(data_check, [str(root)])
    if done.exception and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, DataError), done.exception
        assert code == 2, done.exception
        assert '\n' not in str(done.exception)
        return str(done.exception)
    assert code == 0, done.output
    return done.output


def counts(root):
    return tuple(len(each.samples) for each in load_folders(root))


@pytest.mark.parametrize(
    ('train', 'test'),
    [('Train', 'Test'), ('TRAIN', 'VAL'), ('training', 'testing'), ('train', 'validation'),
     ('Training', 'Valid'), ('train', 'val')],
)  # fmt: skip
def test_parts_are_known_by_their_names_in_any_case(root, train, test):
    part(root, train, 4)
    part(root, test, 2)
    assert counts(root) == (8, 4)
    assert f'{test}/ is the test part' in checked(root)
    data = datasets.load_data(str(root), bar=False)
    assert data.root == str(root)
    assert load_folders(data.root)[0].samples == data.train.samples


def test_the_proof_takes_the_same_parts(root):
    from d2l_ft.parity.plan import load_parts

    part(root, 'Train', 1)
    part(root, 'Test', 1)
    assert load_parts(str(root)) == load_folders(root)


def test_the_usual_names_are_not_remarked_upon(folder):
    assert [each.note() for each in load_folders(folder)] == ['', '']


def test_what_is_not_used_is_named(root):
    for name, count in (('train', 4), ('test', 2), ('val', 3), ('spare', 1)):
        part(root, name, count)
    assert counts(root) == (8, 4)
    out = checked(root)
    for text in ('test/ is the test part', 'val/ is not used', 'spare/ is not used'):
        assert text in out
    assert load_folders(root)[0].note() in out


@pytest.mark.parametrize('inner', ['', 'unknown', 'test'])
def test_a_test_folder_without_labels_is_no_test_part(root, inner):
    part(root, 'train', 10)
    pictures(root / 'test' / inner)
    assert counts(root) == (16, 4)
    out = checked(root)
    assert 'test/ is not used: it has no folders of classes' in out
    assert 'a fifth of each class is held out' in out
    part(root, 'val', 2)
    assert counts(root) == (20, 4)
    assert 'val/ is the test part' in checked(root)


def test_a_training_part_alone_is_split(root):
    part(root, 'train', 5)
    assert counts(root) == (8, 2)
    assert 'a fifth of each class is held out' in checked(root)
    assert datasets.load_data(str(root), bar=False).root == str(root)


def test_classes_may_have_the_names_of_parts(root):
    part(root, '', 5, ('bus', 'train', 'tram'))
    assert load_folders(root)[0].classes == ['bus', 'train', 'tram']


def test_parts_without_classes_are_no_classes(root):
    for name in ('train', 'test'):
        pictures(root / name)
    assert 'no folders of classes' in checked(root, 2)


def test_two_folders_of_a_part_must_be_told_apart(root):
    part(root, 'Train')
    part(root, 'TRAIN')
    if len(os.listdir(root)) < 2:
        pytest.skip('a file system that does not tell case')
    message = checked(root, 2)
    assert "'TRAIN', 'Train'" in message
    part(root, 'train', 5)
    assert counts(root) == (8, 2)
    assert 'Train/ is not used' in checked(root)


@pytest.mark.parametrize('depth', [1, 2, 3])
@pytest.mark.parametrize('parts', [True, False])
def test_a_data_set_further_down_is_named(root, depth, parts):
    inner = root.joinpath(*['photos'] * depth)
    for name in ('train', 'test') if parts else ('',):
        part(inner, name)
    message = checked(root, 2)
    assert f'give  {inner}  instead' in message
    assert checked(inner), 'the advice is true'
    part(inner.parent / 'other', 'train')
    assert 'give  ' not in checked(root, 2), 'there are two'


def test_no_message_tells_to_remove_a_folder_with_data(root):
    part(root, '', 3)
    odd = root / 'odd'
    odd.mkdir()
    assert 'remove the empty folder' in checked(root, 2)
    (odd / 'notes.txt').write_text('x')
    assert 'remove' not in checked(root, 2)
    pictures(odd / 'deeper')
    message = checked(root, 2)
    assert 'remove' not in message
    assert 'only folders' in message
    pictures(odd, suffix='.webp')
    message = checked(root, 2)
    assert 'remove' not in message
    assert '3 .webp: convert' in message


def test_pictures_with_another_suffix_are_counted(root):
    part(root, '', 3)
    for suffix, count in (('.webp', 4), ('.BMP', 2), ('.heic', 1), ('.txt', 5)):
        pictures(root / 'cat', count, suffix)
    out = checked(root)
    assert '7 of 13 images are not used' in out
    for text in ('4 .webp', '2 .bmp', '1 .heic', '5 .txt'):
        assert text in out
    assert out.index('.heic') < out.index('skipped') < out.index('.txt'), 'text is no picture'
    for number in range(50):
        (root / 'dog' / f'x.s{number}').touch()
    assert len(load_folders(root)[0].note()) < 1000


def test_junk_is_skipped_and_counted(root):
    part(root, '', 5)
    before = load_folders(root)[0].samples
    pictures(root / '__MACOSX' / 'cat')
    pictures(root / '@eaDir')
    pictures(root / 'cat' / '@eaDir')
    pictures(root / '.git')
    (root / 'cat' / '._0.png').write_bytes(b'x')
    (root / 'cat' / 'Thumbs.db').write_bytes(b'x')
    (root / 'desktop.ini').write_bytes(b'x')
    found = load_folders(root)[0]
    assert found.samples == before
    assert '5 files and folders of the system, 2 hidden' in found.note()


@pytest.mark.parametrize('where', ['run', 'runs/one', 'kept/two'])
@pytest.mark.parametrize('begun', [True, False])
def test_runs_within_the_data_are_no_classes(root, where, begun):
    part(root, '', 5)
    before = load_folders(root)[0].samples
    run = root / where
    run.mkdir(parents=True)
    if begun:
        (run / 'config.json').write_text('{}')
        (run / 'metrics.jsonl').write_text('')
        (run / 'curves.png').write_bytes(b'x')
    else:
        lock_file(run / 'config.json').touch()
    found = load_folders(root)[0]
    assert found.samples == before
    assert '1 folders of runs' in found.note()
    (root / 'cat' / 'config.json').write_text('{}')
    assert load_folders(root)[0].classes == ['cat', 'dog'], 'which makes no run of a class'


def test_a_run_may_lie_in_the_folder_of_its_data(framework, root):
    part(root, '', 5)
    for name in ('one', 'two'):
        out, _ = command(
            'train', '--backend', framework.NAME, '--data', root, '--image-size', 32,
            '--source', 'none', '--precision', 'float32', '--batch-size', 8, '--lr', 0.001,
            '--epochs', 1, '--out', root / 'runs' / name,
        )  # fmt: skip
        assert 'skipped 1 folders of runs' in out
    assert Run.open(root / 'runs' / 'two').config.classes == ['cat', 'dog']


def test_loops_of_links_end(root):
    part(root, '', 5)
    before = load_folders(root)[0].samples
    (root / 'again').symlink_to('.')
    (root / 'self').symlink_to('self')
    (root / 'cat' / 'up').symlink_to('..')
    found = load_folders(root)[0]
    assert found.samples == before
    assert '3 links that lead back' in found.note()
    pictures(root.parent / 'outside')
    (root / 'elsewhere').symlink_to(root.parent / 'outside')
    assert load_folders(root)[0].classes == ['cat', 'dog', 'elsewhere']


def test_the_same_picture_in_both_parts_or_in_two_classes_is_told(root):
    part(root, 'train', 4)
    part(root, 'test', 2)
    said = 'both in train and in test', 'in more than one class'
    out = checked(root)
    assert not any(text in out for text in said)
    data = datasets.load_data(str(root), bar=False)
    assert data.remarks == []
    shutil.copy(root / 'train/cat/0.png', root / 'train/cat/twice.png')
    assert datasets.load_data(str(root), bar=False).remarks == [], 'harmless'
    shutil.copy(root / 'train/cat/0.png', root / 'test/cat/copy.png')
    shutil.copy(root / 'train/cat/1.png', root / 'test/cat/other.png')
    shutil.copy(root / 'train/dog/1.png', root / 'train/cat/same.png')
    for remembered in (False, True):
        first, second = datasets.load_data(str(root), bar=False).remarks
        assert first.startswith(f'2 image(s) {said[0]}'), remembered
        assert first.endswith('train/cat/0.png = ' + str(root / 'test/cat/copy.png, ...'))
        assert second.startswith(f'1 image(s) {said[1]}')
        assert first in checked(root)
        assert second in checked(root)


def test_uneven_classes_are_told(root):
    for name, count in (('cat', 30), ('dog', 3)):
        pictures(root / 'train' / name, count)
        pictures(root / 'test' / name, 1)
    assert datasets.load_data(str(root), bar=False).remarks == []
    pictures(root / 'train' / 'cat', 31)
    (line,) = datasets.load_data(str(root), bar=False).remarks
    assert "'cat' has 31" in line
    assert "'dog' 3" in line


@pytest.mark.parametrize(
    ('one', 'other'),
    [('caf\xe9', 'cafe\u0301'), ('cat', 'cat '), ('hot dog', 'hot  dog'), ('a b', 'a\xa0b'),
     ('a, b', 'a')],
)  # fmt: skip
def test_names_that_look_the_same_are_told_apart(root, one, other):
    part(root, 'train', 3, ('x', one))
    part(root, 'test', 3, ('x', other))
    message = checked(root, 2)
    here, there = message.split('only in test')
    assert here != there
    if one == 'caf\xe9':
        assert "'caf\\xe9'" in here
        assert "'cafe\\u0301'" in there
        assert unicodedata.normalize('NFC', message) == message
    else:
        assert ascii(one) in here
        assert ascii(other) in there
    part(root, 'train', 3, (other,))
    part(root, 'test', 3, (one,))
    assert ('look the same' in checked(root)) == (other != 'a')


def test_an_error_on_many_classes_is_short(root):
    names = [f'species_{number:04d}_with_a_latin_name' for number in range(300)]
    for name in ('train', 'test'):
        for each in names:
            (root / name / (each if name == 'train' else each[1:])).mkdir(parents=True)
            (root / name / (each if name == 'train' else each[1:]) / '0.png').touch()
    message = checked(root, 2)
    assert len(message) < 800
    assert message.count('and 295 more') == 2


def test_an_evaluation_on_other_classes_names_the_difference(backend, root):
    names = [f'species_{number:04d}' for number in range(200)]
    for name in ('train', 'test'):
        part(root / 'photos', name, 1, names)
    run = Run(root, run_config(classes=[*names[:-1], 'unknown']))
    with pytest.raises(CheckpointError) as caught:
        evaluate_run(run, backend, str(root / 'photos'), bar=False)
    assert "does not know: 'species_0199'; it was" in str(caught.value)
    run = Run(root, run_config(classes=[name.upper() for name in names]))
    with pytest.raises(CheckpointError, match=r'and 195 more; .* and 195 more$') as caught:
        evaluate_run(run, backend, str(root / 'photos'), bar=False)
    assert len(str(caught.value)) < 800
