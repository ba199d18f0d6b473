"""A run goes on with the images with which it began, wherever they lie now, and with no others."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import reference_backend
from conftest import THOROUGH, make_folder
from test_command import OPTIONS, command

from d2l_ft.data.datasets import load_data
from d2l_ft.data.opencv import cv2
from d2l_ft.errors import CheckpointError
from d2l_ft.runs import contents
from d2l_ft.runs.directory import CONTENTS, Run
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings

pytestmark = pytest.mark.slow

SMALL = Settings.of(source='none', image_size=32, batch_size=8, num_epochs=1)


def trained(folder, out, epochs=1, resume=False):
    """Train on a folder, or go on."""
    settings = SMALL
    if resume:
        settings = Run.open(out).config.settings
    settings = settings.replace(data=str(folder), num_epochs=epochs)
    return train(reference_backend, settings, out, resume=resume, bar=False, say=lambda _: None)[0]


def pngs(root, split):
    """Return an image folder of PNG files, with parts or without."""
    make_folder(root, train=6, test=3)
    for path in list(root.rglob('*.jpg')):
        cv2.imwrite(str(path.with_suffix('.png')), cv2.imread(str(path)))
        path.unlink()
    if not split:
        shutil.rmtree(root / 'test')
        for each in list((root / 'train').iterdir()):
            each.rename(root / each.name)
        (root / 'train').rmdir()
    return root


def change_a_pixel(path, draw):
    """Change one bit; the file keeps its time of modification."""
    image, times = cv2.imread(str(path)), os.stat(path)
    image[draw.randrange(image.shape[0]), draw.randrange(image.shape[1]), 0] ^= 1
    cv2.imwrite(str(path), image)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path


def replace_a_file(path, draw):
    other = draw.choice([each for each in sorted(path.parent.iterdir()) if each != path])
    data, times = other.read_bytes(), os.stat(path)
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path


def rename(path, draw):
    return path.rename(path.with_name(f'{draw.randrange(10**6)}.png'))


def relabel(path, draw):
    other = next(each for each in path.parent.parent.iterdir() if each != path.parent)
    return path.rename(other / f'from-{draw.randrange(10**6)}.png')


def swap(path, draw):
    other = next(each for each in path.parent.parent.iterdir() if each != path.parent) / path.name
    path.rename(path.with_suffix('.tmp'))
    other.rename(path)
    path.with_suffix('.tmp').rename(other)
    return path.parents[1]  # one of the two is named


def remove(path, draw):
    path.unlink()
    return Path(path.parent.name, path.name)


def add(path, draw):
    return Path(shutil.copy(path, path.with_name(f'{draw.randrange(10**6)}.png')))


CHANGES = (change_a_pixel, replace_a_file, rename, relabel, swap, remove, add)


@pytest.mark.parametrize('split', [True, False], ids=['parts', 'held out'])
@pytest.mark.parametrize('change', CHANGES, ids=lambda each: each.__name__)
def test_another_image_is_refused_and_named(change, split, tmp_path, figure):
    draw = random.Random(change.__name__)
    out, count = tmp_path / 'run', 20 if THOROUGH else 3
    start = pngs(tmp_path / 'start', split)
    trained(start, out)
    for number in range(count):
        folder = Path(shutil.copytree(start, tmp_path / f'now{number}'))
        victim = change(draw.choice(sorted(folder.rglob('*.png'))), draw)
        with pytest.raises(CheckpointError) as caught:
            trained(folder, out, 2, resume=True)
        line = str(caught.value)
        assert '\n' not in line
        assert 'train again with another `out`' in line
        assert str(victim) in line or change in (rename, relabel), line
        assert '.png' in line
    assert len(trained(start, out, 2, resume=True).metrics()) == 2
    figure(f'{count} of {count} refused')


@pytest.mark.parametrize('split', [True, False], ids=['parts', 'held out'])
def test_the_same_images_go_on_wherever_they_lie(split, tmp_path, monkeypatch):
    folder, out = pngs(tmp_path / 'photos', split), tmp_path / 'run'
    trained(folder, out)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'link').symlink_to('photos')
    shutil.copytree(folder, tmp_path / 'copied')
    for image in (tmp_path / 'copied').rglob('*.png'):
        os.utime(image, (1, 1))
    spellings = ['photos', './photos/', str(folder), 'link', 'photos/../photos', 'copied']
    for epochs, name in enumerate(spellings, 2):
        run = trained(name, out, epochs, resume=True)
        assert len(run.metrics()) == epochs
        assert run.config.data == str((tmp_path / name).resolve())
    folder.rename(tmp_path / 'train')  # which is also the name of a part
    assert len(trained('train', out, 9, resume=True).metrics()) == 9


def test_the_command_goes_on_after_a_move(framework, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ['train', '--data', 'photos', *OPTIONS, '--image-size', 32, '--lr', 1e-5,
             '--backend', framework.NAME, '--out', 'run']  # fmt: skip
    command(*words, '--epochs', 1)
    command(*words, '--epochs', 2, '--resume')
    folder.rename(tmp_path / 'moved')
    _, err = command('train', '--out', 'run', '--resume', '--epochs', 3, code=2)
    assert 'd2l-ft train --out run --resume --data FOLDER' in err
    assert err.count('\n') == 1
    command('train', '--out', 'run', '--resume', '--epochs', 3, '--data', 'moved')
    assert len(Run.open(tmp_path / 'run').metrics()) == 3


def test_a_damaged_list_is_named(tmp_path):
    folder, out = pngs(tmp_path / 'photos', True), tmp_path / 'run'
    trained(folder, out)
    good = (out / CONTENTS).read_text().splitlines()
    for line in ('', '{}', '[1]', '[1, 2, 3, 4]', '[' * 100_000, '["a", true, "b", "c"]'):
        (out / CONTENTS).write_text('\n'.join([*good[1:], line, good[0]]))
        with pytest.raises(CheckpointError, match='damaged') as caught:
            trained(folder, out, 2, resume=True)
        assert '\n' not in str(caught.value)
    (out / CONTENTS).unlink()
    with pytest.raises(CheckpointError, match=r'images.jsonl is missing: train again'):
        trained(folder, out, 2, resume=True)


def test_files_that_look_the_same_are_not_read_again(tmp_path, monkeypatch, figure):
    count = 10_000 if THOROUGH else 500
    for name in ('a', 'b'):
        (tmp_path / 'photos' / name).mkdir(parents=True)
        _, data = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))
        for number in range(count // 2):
            path = tmp_path / 'photos' / name / f'{number}.png'
            path.write_bytes(data.tobytes())
    time.sleep(2.1)  # so that a change would show in the times
    data = load_data(str(tmp_path / 'photos'), bar=False)
    begun = time.perf_counter()
    contents.save_contents(tmp_path, data, bar=False)
    saved = time.perf_counter()
    kept = contents.load_contents(tmp_path)
    assert [json.loads(line)[0] for line in (tmp_path / CONTENTS).read_text().splitlines()] == [
        each.name for each in kept
    ]
    monkeypatch.setattr(contents, 'digest', None)
    assert contents.find_change(kept, data, bar=False) == ''
    ended = time.perf_counter()
    first, again = (1e7 * seconds / count for seconds in (saved - begun, ended - saved))
    figure(f'{count} files: {first:.0f} ms per 10 000 at first, {again:.0f} ms at a resume')
    print(f'{first:.0f} ms, {again:.0f} ms')
