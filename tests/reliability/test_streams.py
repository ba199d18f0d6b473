"""Streams that are closed, full or of few characters, and names that are no plain text."""

import html
import json
import os
import re
import subprocess
import sys
import unicodedata

import pytest
from conftest import THOROUGH, make_folder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_command import losses

from d2l_ft.runs.directory import Run
from d2l_ft.system.console import visible

pytestmark = pytest.mark.slow

TRAIN = ['train', '--source', 'none', '--arch', 'resnet18', '--image-size', '32', '--batch-size',
         '4', '--precision', 'float32', '--lr', '0.001', '--epochs', '2']  # fmt: skip

CANNOT = b'd2l-ft: cannot write to the standard output: '

C_LOCALE = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}


def run(*arguments, redirect='', environment=None, given=b'', prefix=''):
    """Run d2l-ft in a shell with redirections; return exit code, stdout and stderr."""
    script = f'{prefix}"$0" -m d2l_ft "$@" {redirect}'
    words = [each if isinstance(each, bytes) else str(each) for each in arguments]
    done = subprocess.run(
        ['bash', '-c', script, sys.executable, *words], capture_output=True, input=given,
        timeout=300, check=False, env=os.environ | (environment or {}),
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


REDIRECTS = ('>/dev/full 2>&1', '| head -1', '<&- >&- 2>&-', '>&- 2>&-', '>&-', '2>&-',
             '2>/dev/full', '2>&1 | head -0')  # fmt: skip


@pytest.mark.parametrize('redirect', REDIRECTS if THOROUGH else REDIRECTS[:3])
def test_no_trouble_with_streams_ends_a_training(framework, folder, tmp_path, redirect):
    out = tmp_path / 'run'
    words = [*TRAIN, '--backend', framework.NAME, '--data', folder, '--out', out]
    code, _, _ = run(*words, redirect=redirect, prefix='set -o pipefail; ')
    assert code == 0
    assert [epoch for epoch, *_ in losses(out)] == [1, 2]
    assert (out / 'report.html').exists()
    assert Run.open(out).load('scratch')[1].epoch == 2


@pytest.mark.parametrize(
    ('redirect', 'code', 'said'),
    [
        ('>/dev/full', 1, CANNOT + b'No space left on device\n'),
        ('>&-', 1, CANNOT + b'Bad file descriptor\n'),
        ('2>&-', 0, b''),
        ('2>/dev/full', 0, b''),
        ('>/dev/full 2>&-', 1, b''),
    ],
)  # fmt: skip
def test_a_command_whose_output_fails(folder, redirect, code, said):
    for words in (['data', 'check', folder], ['--help'], ['--version']):
        found, out, err = run(*words, redirect=redirect)
        assert (found, err) == (code, said), words
        assert bool(out) == (code == 0)


def test_a_reader_that_goes_away(tmp_path):
    """As with a command of the system: 128 + SIGPIPE, and no word."""
    folder = make_folder(tmp_path / 'photos')
    code, out, err = run('data', 'check', folder, redirect='| true', prefix='set -o pipefail; ')
    assert (code, out, err) in [(141, b'', b''), (0, b'', b'')]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, '-m', 'd2l_ft', 'data', 'check', str(folder)],
        stdout=writer, stderr=subprocess.PIPE, check=False, timeout=100,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b'')


def test_an_error_without_an_error_stream(tmp_path):
    """It keeps its exit code."""
    for redirect in ('2>&-', '2>/dev/full', '>&- 2>&-'):
        assert run('data', 'check', tmp_path / 'none', redirect=redirect)[0] == 2
        assert run('nothing', redirect=redirect)[0] == 2


NAMES = (
    b'clear\x1b[2Jscreen', b'title\x1b]0;mine\x07', b'line\nall images are good', b'back\r\x08',
    'turn\u202eed\u2066'.encode(), b'latin\xe9\xff', b'quote"s\'', b'<script>alert(1)<|script>',
    'mark\u2028\u2029\x85\x9b'.encode(), b'$x^', b'%s{0}', b'tab\t', 'cat \u732b'.encode(),
    b'a,b;c',
)  # fmt: skip
"""Names of files and classes."""

BAD = re.compile(
    '[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]'
)
"""What no output may have; nor bytes that are not UTF-8."""


def clean(data, what):
    """Fail unless a text has nothing of ``BAD``."""
    text = data.decode()
    assert not BAD.search(text), (what, BAD.search(text))
    return text


ENVIRONMENTS = {'C': C_LOCALE, 'utf-8': {}, 'cp1252': {'PYTHONIOENCODING': 'cp1252'}}


@pytest.mark.parametrize('locale', ENVIRONMENTS if THOROUGH else ['C'])
def test_names_that_are_no_plain_text(framework, tmp_path, locale, figure):
    """They pass through every command, and give the terminal no order."""
    environment = ENVIRONMENTS[locale]
    photos, out = os.fsencode(tmp_path / 'photos'), tmp_path / os.fsdecode(b'run\x1b[2J\xff')
    pictures = make_folder(tmp_path / 'plain', train=len(NAMES), test=len(NAMES))
    for part in ('train', 'test'):
        for number, name in enumerate(NAMES):
            place = os.path.join(photos, part.encode(), name)
            os.makedirs(place)
            for kind, first in (('dark', 0), ('light', 1)):
                data = (pictures / part / kind / f'{number:02d}.jpg').read_bytes()
                file = NAMES[(number + first) % len(NAMES)] + b'%d.jpg' % first
                with open(os.path.join(place, file), 'wb') as stream:
                    stream.write(data)
    code, text, err = run('data', 'check', photos, environment=environment)
    assert code == 0, err
    assert clean(text, 'data check').splitlines().count('all images are good') == 1
    broken = os.path.join(photos, b'train', NAMES[0], b'broken\x1b]0;\xfe\n.png')
    with open(broken, 'wb') as stream:
        stream.write(b'no image')
    code, text, err = run('data', 'check', photos, environment=environment)
    assert code == 2
    assert b'broken\\x1b]0;\\udcfe\\n.png is no' in text
    clean(text + err, 'data check')
    code, text, err = run(*TRAIN[:-1], '1', '--backend', framework.NAME, '--data', photos,
                          '--skip-bad', '--out', out, environment=environment)  # fmt: skip
    assert code == 0, err
    clean(text + err, 'train')
    images = [os.path.join(photos, b'test', name, NAMES[number] + b'0.jpg')
              for number, name in enumerate(NAMES)]  # fmt: skip
    for words in (
        ['evaluate', out, '--backend', framework.NAME],
        ['evaluate', out, '--backend', framework.NAME, '--json'],
        ['predict', out, *images, '--backend', framework.NAME],
        ['compare', out, out, '--out', tmp_path / 'curves.png'],
    ):
        code, text, err = run(*words, environment=environment)
        assert code == 0, err
        clean(text + err, words[0])
    code, text, _ = run('predict', out, photos, '--json', environment=environment)
    assert code == 3
    answers = json.loads(text)
    assert len(answers) == 4 * len(NAMES) + 1
    assert {each['path'] for each in answers if 'error' in each} == {os.fsdecode(broken)} or (
        environment == C_LOCALE
    )
    written = [
        path for path in out.rglob('*') if path.suffix in ('.json', '.jsonl', '.html', '.txt')
    ]
    assert len(written) == 5
    for path in written:
        text = clean(path.read_bytes(), path.name)
        assert path.suffix != '.html' or '<script>' not in text
    assert html.escape('<script>alert(1)<|script>') in (out / 'report.html').read_text()
    figure(f'{framework.NAME}: {len(NAMES)} kinds of names')


@settings(max_examples=2000 if THOROUGH else 200, deadline=None)
@given(st.text(st.characters(codec=None)) | st.binary().map(os.fsdecode))
@example('\u200d\u200c')
def test_what_is_visible_is_one_line_that_can_be_written(text):
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert not BAD.search(shown)
    assert '\n' not in shown
    shown.encode()
    assert visible(shown) == shown
    plain = ''.join(each for each in text if unicodedata.category(each)[0] != 'C')
    if plain == text and text.isprintable():
        assert shown == text
