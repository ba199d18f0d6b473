"""The command line, in processes of their own, with each framework."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_folder

from d2l_ft.runs.directory import Run

pytestmark = pytest.mark.slow


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, '-m', 'd2l_ft', *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def command(*arguments, code=0):
    """Run d2l-ft and return (stdout, stderr)."""
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return out, err


OPTIONS = ['--source', 'none', '--image-size', 64, '--batch-size', 8, '--precision', 'float32']


def losses(path):
    return [(each.epoch, each.train_loss, each.test_acc) for each in Run.open(path).metrics()]


def test_train_evaluate_predict_resume(framework, folder, tmp_path):
    name, out = framework.NAME, tmp_path / 'run'
    text, _ = command('train', '--backend', name, '--data', folder, *OPTIONS,
                      '--momentum', 0.5, '--lr', 0.001, '--epochs', 2, '--out', out)  # fmt: skip
    assert 'scratch epoch 2/2' in text
    assert 'report.html' in text
    lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    assert [line['epoch'] for line in lines] == [1, 2]
    assert set(lines[0]) == {
        'net', 'epoch', 'train_loss', 'train_acc', 'test_acc', 'examples_per_sec',
        'step_examples_per_sec', 'seconds',
    }  # fmt: skip
    page = (out / 'report.html').read_text()
    assert '<h2>Worst mistakes</h2>' in page
    assert (out / 'curves.png').read_bytes()[:4] == b'\x89PNG'

    found = json.loads(command('evaluate', out, '--backend', name, '--json')[0])
    assert found['examples'] == 8
    assert found['accuracy'] == pytest.approx(lines[-1]['test_acc'])
    assert sum(map(sum, found['confusion'])) == 8

    images = sorted((folder / 'test').rglob('*.jpg'))[:3]
    answers = json.loads(command('predict', out, *images, '--json', '--backend', name)[0])
    assert [each['path'] for each in answers] == [str(path) for path in images]
    for each in answers:
        assert sum(each['probabilities'].values()) == pytest.approx(1)
        assert each['class'] == max(each['probabilities'], key=each['probabilities'].get)

    command('train', '--out', out, '--resume', '--epochs', 3)
    whole = tmp_path / 'whole'
    command('train', '--backend', name, '--data', folder, *OPTIONS,
            '--momentum', 0.5, '--lr', 0.001, '--epochs', 3, '--out', whole)  # fmt: skip
    assert losses(out) == losses(whole)
    _, err = command('train', '--out', out, '--resume', '--lr', 0.5, code=2)
    assert '--lr' in err


def test_ctrl_c_leaves_a_checkpoint_and_resume_is_exact(framework, tmp_path):
    folder = make_folder(tmp_path / 'photos', train=100, test=2)
    options = ['train', '--backend', framework.NAME, '--data', folder, *OPTIONS,
               '--lr', 0.001, '--epochs', 2]  # fmt: skip
    whole, out = tmp_path / 'whole', tmp_path / 'run'
    command(*options, '--out', whole)
    process = start(*options, '--out', out)
    while not (out / 'metrics.jsonl').exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=120)
    assert process.returncode == 130, text + err
    assert f'd2l-ft train --out {out} --resume' in err
    assert len(losses(out)) == 1
    command('train', '--out', out, '--resume')
    assert losses(out) == losses(whole)


def test_damaged_newest_checkpoint_falls_back(framework, folder, tmp_path):
    out = tmp_path / 'run'
    command('train', '--backend', framework.NAME, '--data', folder, *OPTIONS,
            '--lr', 0.001, '--epochs', 2, '--out', out)  # fmt: skip
    before = losses(out)
    newest = Run.open(out).checkpoints('scratch')[-1]
    newest.write_bytes(b'rubbish')
    command('train', '--out', out, '--resume')
    assert losses(out) == before


def test_errors_are_one_line_and_exit_code_2(tmp_path):
    for arguments, cause in (
        (['train', '--backend', 'pytroch'], 'mxnet, pytorch'),
        (['evaluate', tmp_path / 'none'], 'no run directory'),
        (['data', 'check', tmp_path / 'none'], 'not a folder'),
        (['data', 'fetch', 'nothing'], 'hotdog'),
    ):
        _, err = command(*arguments, code=2)
        assert cause in err
        assert err.count('\n') == 1
    process = start('--debug', 'data', 'fetch', 'nothing')
    assert 'Traceback' in process.communicate()[1]


def test_data_commands(tmp_path, folder):
    out, _ = command('data', 'check', folder)
    assert 'all images are good' in out
    (folder / 'train' / 'dark' / '00.jpg').write_bytes(b'rubbish')
    out, err = command('data', 'check', folder, code=2)
    assert '00.jpg is no JPEG or PNG image' in out
    assert '1 bad image' in err


def test_help_and_doctor(framework):
    names = ['train', 'evaluate', 'predict', 'doctor', 'compare', 'parity']
    for arguments in ([], *([name] for name in names), ['data', 'check']):
        text, _ = command(*arguments, '--help')
        assert 'Usage' in text
        assert re.search(r'\n  Examples?:\n    d2l-ft ', text), 'an example has a line of its own'
    found = json.loads(command('doctor', '--json')[0])
    state = found['backends'][framework.NAME]
    assert state['threads'] == found['cores'] or os.environ.get('OMP_NUM_THREADS')
    assert state['devices']
    assert found['cached'] == {}
    (Path(found['cache']) / 'models').mkdir(parents=True)
    (Path(found['cache']) / 'models/source').write_bytes(bytes(3 << 19))
    text, _ = command('doctor')
    assert f'cache: {found["cache"]}: models 1.5 MiB\n' in text
    assert f'{framework.NAME}: works on {state["devices"][0]}' in text
    assert '{' not in text


def test_frozen_and_source_file(framework, folder, tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    command('train', '--backend', framework.NAME, '--data', folder, *OPTIONS,
            '--epochs', 1, '--out', first)  # fmt: skip
    source = Run.open(first).load('scratch')[0].model
    file = tmp_path / 'source.safetensors'
    from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(file, Checkpoint(source, meta={'x': 1}))
    command('train', '--backend', framework.NAME, '--data', folder, '--source', file, '--freeze',
            '--image-size', 64, '--epochs', 1, '--out', second)  # fmt: skip
    after = Run.open(second).load('fine-tuned')[0].model
    moved = {name for name in after if (after[name] != source[name]).any()}
    assert moved == {'fc.weight', 'fc.bias'}


def test_predict_answers_for_the_good_images(framework, folder, tmp_path):
    """One bad image, and folders, patterns and lists."""
    out, images = tmp_path / 'run', tmp_path / 'images'
    command('train', '--backend', framework.NAME, '--data', folder, *OPTIONS,
            '--epochs', 1, '--out', out)  # fmt: skip
    deep = images / 'deeper' / 'still [1]'
    deep.mkdir(parents=True)
    (images / '.hidden').mkdir()
    good = []
    photos = sorted((folder / 'test').rglob('*.jpg'))
    for path, name in zip(photos, ['a b.jpg', 'c.JPG', 'deeper/d.jpeg', 'deeper/still [1]/e.jpg'],
                          strict=False):  # fmt: skip
        (images / name).write_bytes(path.read_bytes())
        good.append(str(images / name))
    (images / '.hidden' / 'f.jpg').write_bytes(b'not looked at')
    (images / 'notes.txt').write_text('nor this')
    bad = images / 'bad.jpg'
    bad.write_bytes(b'no image')
    found = [*good[:1], str(bad), *good[1:]]
    start_ = [out, '--backend', framework.NAME]

    def answers(*arguments, code, given=None):
        process = start('predict', *start_, *arguments, '--json', stdin=subprocess.PIPE)
        text, err = process.communicate(given, timeout=300)
        assert process.returncode == code, err
        listed = json.loads(text)
        for each in listed:
            assert ('class' in each) == ('error' not in each) == (each['path'] in good)
        wrong = [each['path'] for each in listed if 'error' in each]
        assert [line.split()[1] for line in err.splitlines()] == wrong
        return [each['path'] for each in listed]

    everything = [str(images), str(images / 'none.jpg'), good[0]]
    assert answers(*everything, code=3) == [*found, str(images / 'none.jpg'), good[0]]
    assert answers(images, '--skip-bad', code=0) == found
    assert answers(images / '*.[jJ]*', code=3) == [good[0], str(bad), good[1]]
    assert sorted(answers(images / '**/*.jp*g', code=3)) == sorted({*found} - {good[1]})
    assert answers(good[3], code=0) == [good[3]]  # no pattern, as there is such a file
    assert answers(bad, code=2) == [str(bad)]
    assert answers('-', code=3, given='\n'.join([good[0], str(bad), '', good[2]])) == [
        good[0], str(bad), good[2],
    ]  # fmt: skip
    (tmp_path / 'empty').mkdir()
    assert answers(tmp_path / 'empty', code=2) == [str(tmp_path / 'empty')]
    text, err = command('predict', *start_, images, code=3)
    assert [line.rsplit(': ', 1)[0] for line in text.splitlines()] == good
    assert err == f'd2l-ft: {bad} is no JPEG or PNG image\n'
    process = start('predict', *start_, '-', stdin=subprocess.DEVNULL)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err.count('\n')) == (2, 1)


def test_python_m_is_the_command():
    done = subprocess.run([sys.executable, '-m', 'd2l_ft', '--version'], capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.startswith('d2l-ft, version ')
    done = subprocess.run([sys.executable, '-m', 'd2l_ft', 'predict'], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert 'd2l-ft predict --help' in done.stderr
