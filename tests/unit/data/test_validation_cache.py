"""Images that were found good are not decoded again, unless anything about them has changed."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from d2l_ft.cli.data import data_check
from d2l_ft.data import datasets, folder_layout, validation, validation_cache
from d2l_ft.errors import DataError
from d2l_ft.storage.cache import cache_dir, cache_path

IMAGES = 28


@pytest.fixture
def decoded(monkeypatch):
    """Return the names of the images that were decoded; clear it to count anew."""
    names = []
    real = validation.inspect_image

    def counted(path):
        names.append('/'.join(Path(path).parts[-2:]))
        return real(path)

    monkeypatch.setattr(validation, 'inspect_image', counted)
    return names


@pytest.fixture
def old(folder, monkeypatch):
    """Return an image folder whose files have been left alone for long enough."""
    monkeypatch.setattr(validation_cache, 'YOUNG', 0)
    time.sleep(0.02)  # more than a tick
    return folder


def load(folder, **options):
    return datasets.load_data(str(folder), bar=False, **options)


def memory():
    """Return the only file of the memory."""
    (path,) = (cache_dir() / 'checked').iterdir()
    return path


def images():
    return json.loads(memory().read_bytes())['images']


@pytest.mark.parametrize('skip_bad', [False, True])
def test_an_unchanged_image_is_not_decoded_again(old, decoded, skip_bad):
    first = load(old)
    assert len(decoded) == len(images()) == IMAGES
    assert 'train/dark/03.jpg' in images()
    decoded.clear()
    assert load(old, skip_bad=skip_bad) == first
    assert load(old, seed=1, skip_bad=skip_bad).train == first.train
    assert decoded == []


def test_a_part_that_was_split_off_is_remembered_whatever_the_seed(old, decoded):
    load(old / 'train')
    assert len(decoded) == len(images()) == 20
    load(old / 'train', seed=5)
    assert len(decoded) == 20


def rewritten(path):
    """Another picture of the same size in bytes."""
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def set_back(path):
    """Another content, with size and time of the former: only the change time tells."""
    status = path.stat()
    rewritten(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path):
    """Another file under the name, as ``cp -p`` and ``mv`` would leave it."""
    other = path.with_name('other')
    shutil.copy2(path, other)
    other.replace(path)


def linked(path):
    target = path.parent.parent.parent / 'elsewhere.jpg'
    path.rename(target)
    path.symlink_to(target)
    rewritten(target)


@pytest.mark.parametrize('change', [rewritten, set_back, replaced, linked, Path.touch])
def test_a_changed_image_is_decoded_again(old, decoded, change):
    load(old)
    decoded.clear()
    time.sleep(0.02)
    change(old / 'train/dark/03.jpg')
    load(old)
    assert decoded == ['dark/03.jpg']
    load(old)
    assert decoded == ['dark/03.jpg'], 'and then remembered'


def test_each_mark_counts():
    """Also where the change of one of them cannot be brought about alone."""
    status = [0o100644, 7, 1, 1, 0, 0, 99, 1, 2, 3]
    first = validation_cache.fingerprint(
        os.stat_result(status, {'st_mtime_ns': 20, 'st_ctime_ns': 30})
    )
    inode = validation_cache.fingerprint(os.stat_result([0o100644, 8, *status[2:]],
                                        {'st_mtime_ns': 20, 'st_ctime_ns': 30}))  # fmt: skip
    size = validation_cache.fingerprint(os.stat_result([*status[:6], 98, 1, 2, 3],
                                       {'st_mtime_ns': 20, 'st_ctime_ns': 30}))  # fmt: skip
    modified = validation_cache.fingerprint(
        os.stat_result(status, {'st_mtime_ns': 21, 'st_ctime_ns': 30})
    )
    changed = validation_cache.fingerprint(
        os.stat_result(status, {'st_mtime_ns': 20, 'st_ctime_ns': 31})
    )
    assert len({first, inode, size, modified, changed}) == 5


@pytest.mark.parametrize('skip_bad', [False, True])
def test_a_bad_image_is_found_each_time(old, decoded, skip_bad):
    for name in ('03.jpg', '05.jpg'):
        path = old / 'train/dark' / name
        path.write_bytes(path.read_bytes()[:300])
    for count in (IMAGES, 2, 2):
        decoded.clear()
        if skip_bad:
            assert len(load(old, skip_bad=True).left_out) == 2
        else:
            with pytest.raises(DataError, match='2 bad'):
                load(old)
        assert len(decoded) == count
    assert len(images()) == IMAGES - 2


def test_an_image_that_goes_bad_is_found(old, decoded):
    load(old)
    path = old / 'test/light/00.jpg'
    path.write_bytes(b'')
    with pytest.raises(DataError, match=r'00\.jpg is empty'):
        load(old)
    path.unlink()
    path.symlink_to('nowhere')
    with pytest.raises(DataError, match='does not exist'):
        load(old)


def test_a_young_file_is_not_remembered(folder, decoded, monkeypatch):
    """It could be rewritten within the same tick, and look the same."""
    assert validation_cache.YOUNG >= 2e9, "FAT's tick"
    monkeypatch.setattr(validation_cache, 'YOUNG', 600e9)  # for slow machines
    load(folder)
    load(folder)
    assert len(decoded) == 2 * IMAGES
    path = folder / 'train/dark/03.jpg'
    os.utime(path, (0, 0))  # what the user sets is no age
    load(folder)
    assert len(decoded) == 3 * IMAGES
    assert not (cache_dir() / 'checked').exists()


def test_what_changes_while_it_is_decoded_is_not_remembered(old, monkeypatch, decoded):
    counted = validation.inspect_image
    path = old / 'train/dark/03.jpg'

    def slow(each):
        found = counted(each)
        if each == str(path):
            time.sleep(0.02)
            rewritten(path)
        return found

    monkeypatch.setattr(validation, 'inspect_image', slow)
    load(old)
    monkeypatch.setattr(validation, 'inspect_image', counted)
    decoded.clear()
    load(old)
    assert decoded == ['dark/03.jpg']


def test_what_is_gone_is_forgotten(old, decoded):
    load(old)
    (old / 'train/dark/03.jpg').unlink()
    load(old)
    assert len(images()) == IMAGES - 1
    assert 'train/dark/03.jpg' not in images()


@pytest.mark.parametrize('skip_bad', [False, True])
def test_what_was_known_before_ctrl_c_is_kept(old, monkeypatch, decoded, skip_bad):
    """What was just decoded, and what it had not come to: the parts are checked in turn."""
    load(old)
    for path in (old / 'train/light').iterdir():
        path.touch()
    counted = validation.inspect_image

    def stopped(path):
        if path.endswith('train/light/05.jpg'):
            raise KeyboardInterrupt
        return counted(path)

    monkeypatch.setattr(validation, 'inspect_image', stopped)
    with pytest.raises(KeyboardInterrupt):
        load(old, skip_bad=skip_bad)
    monkeypatch.setattr(validation, 'inspect_image', counted)
    decoded.clear()
    load(old)
    assert sorted(decoded) == [f'light/{number:02d}.jpg' for number in range(5, 10)]


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b'\xff\x00' * 99),
        lambda path: path.write_bytes(b'[' * 100_000),
        lambda path: path.write_text('[1]'),
        lambda path: path.write_text('{"folder": 1, "images": 2}'),
        lambda path: path.write_text(path.read_text().replace('"images": {', '"images": {"a": 1,')),
        lambda path: path.write_text(path.read_text().replace('OpenCV', 'OpenCW')),
        lambda path: path.write_text(path.read_text().replace('photos', 'others')),
    ],
    ids=['empty', 'cut', 'noise', 'deep', 'list', 'types', 'mark', 'rules', 'folder'],
)
def test_a_damaged_or_foreign_memory_is_renewed(old, decoded, damage):
    load(old)
    whole = memory().read_bytes()
    damage(memory())
    assert memory().read_bytes() != whole
    decoded.clear()
    load(old)
    assert len(decoded) == IMAGES
    assert json.loads(memory().read_bytes()) == json.loads(whole)


def test_other_rules_have_another_memory(old, monkeypatch, decoded):
    """Environments with different versions of OpenCV do not take each other's away."""
    load(old)
    rules = validation_cache.RULES
    monkeypatch.setattr(validation_cache, 'RULES', '2')
    load(old)
    assert len(decoded) == 2 * IMAGES
    monkeypatch.setattr(validation_cache, 'RULES', rules)
    load(old)
    assert len(decoded) == 2 * IMAGES


@pytest.mark.parametrize('place', ['checked', '.'])
def test_a_cache_that_cannot_be_written_is_no_error(old, decoded, place):
    """A file in the folder's place: root would pass over permissions."""
    path = cache_path() / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
    for times in (1, 2):
        load(old)
        assert len(decoded) == times * IMAGES
    assert path.read_bytes() == b''


def test_no_home_is_no_error(old, monkeypatch):
    def homeless():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(validation_cache, 'cache_dir', homeless)
    load(old)


def test_nothing_new_is_not_written(old, monkeypatch):
    load(old)
    written = []
    monkeypatch.setattr(validation_cache, 'write_atomic', lambda *_: written.append(1))
    load(old)
    assert written == []


def test_two_processes_at_once(old, decoded):
    """Each writes a whole file; whichever is last, it is right."""
    code = (
        'import sys\nfrom d2l_ft.data import validation_cache\n'
        'from d2l_ft.data.datasets import load_data\n'
        'validation_cache.YOUNG = 0\n'
        'for _ in range(20):\n'
        '    with validation_cache.open_checked(sys.argv[1], forget=True):\n'
        '        pass\n'  # forgets all
        '    load_data(sys.argv[1], bar=False)\n'
    )
    load(old)
    path = memory()
    running = [
        subprocess.Popen([sys.executable, '-c', code, str(old)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    seen = set()
    while any(each.poll() is None for each in running):
        seen.add(len(json.loads(path.read_bytes())['images']))
    for each in running:
        assert each.communicate()[1] == b''
        assert each.returncode == 0
    assert seen <= {0, IMAGES}, 'never a part'
    decoded.clear()
    load(old)
    assert decoded == []
    assert len(images()) == IMAGES


def test_data_check_decodes_all_and_forgets(old, decoded):
    """Bytes that rot on the disk change no mark: the memory is made to say that they are good."""
    load(old)
    decoded.clear()
    done = CliRunner().invoke(data_check, [str(old)], catch_exceptions=False)
    assert 'all images are good' in done.output
    assert len(decoded) == IMAGES
    path = old / 'train/dark/03.jpg'
    path.write_bytes(path.read_bytes()[:300])
    held = json.loads(memory().read_bytes())
    held['images']['train/dark/03.jpg'] = f'{validation_cache.fingerprint(path.stat())} 0'
    memory().write_text(json.dumps(held))
    load(old)  # as it must be, or the test proves nothing
    done = CliRunner().invoke(data_check, [str(old)])
    assert 'bad: ' in done.output
    with pytest.raises(DataError, match='1 bad'):
        load(old)


def test_data_check_serves_training(old, decoded, monkeypatch):
    """Also from within the folder, where the paths are relative."""
    monkeypatch.chdir(old)
    CliRunner().invoke(data_check, ['.'], catch_exceptions=False)
    assert len(decoded) == IMAGES
    load(old)
    assert len(decoded) == IMAGES
    CliRunner().invoke(data_check, [f'../{old.name}/'], catch_exceptions=False)
    load(old)
    assert len(decoded) == 2 * IMAGES
    memory()


@pytest.mark.parametrize('part', ['train/dark/03.jpg', '.'])
def test_a_name_that_is_no_text(old, decoded, part):
    """On Linux a name is any bytes: that of an image, or of the folder."""
    path = old / part
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b'/\xff\xfe.jpg'))
    try:
        path.rename(odd)
    except OSError:
        pytest.skip('this file system takes text alone')
    root = odd if part == '.' else old
    time.sleep(0.02)
    load(root)
    decoded.clear()
    load(root)
    assert decoded == []


def test_many_images_are_inspected_in_their_order(old, monkeypatch):
    """Also where they are handed to the threads in several batches."""
    monkeypatch.setattr(validation, 'BATCH', 3)
    (old / 'train/light/04.jpg').write_bytes(b'')
    train, _ = folder_layout.load_folders(old)
    problems = validation.inspect_images(train.samples, bar=False).problems
    assert [number for number, text in enumerate(problems) if text] == [14]
