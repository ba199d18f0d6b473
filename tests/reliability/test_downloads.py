"""Downloads from a server that does everything wrong: no bad file is taken for a good one."""

import base64
import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import zipfile
from pathlib import Path

import pytest
from test_command import command

import d2l_ft as d2l
from d2l_ft.errors import DataError, StorageError
from d2l_ft.sources import zoo
from d2l_ft.storage import downloads
from d2l_ft.storage.archives import extract_only_member
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import fetch

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 2000
SHA1, SHA256 = hashlib.sha1(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A server whose answers are what ``plan`` lists, one after the other; the last stays."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.plan, self.asked, self.content = ['good'], [], CONTENT
        self.told = []
        self.url = f'http://127.0.0.1:{self.server_address[1]}/files/toy.zip'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer as the plan says."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        plan, content = self.server.plan, self.server.content
        self.server.asked.append(self.headers.get('Range'))
        what = plan.pop(0) if len(plan) > 1 else plan[0]
        self.server.told.append(self.headers.get('Authorization'))
        first = int((self.headers.get('Range') or 'bytes=0-')[6:].rstrip('-'))
        if what.isdigit():
            self.send_error(int(what))
        elif what.startswith('to '):
            self.send_response(302)
            self.send_header('Location', what[3:])
            self.send_header('Content-Length', '0')
            self.end_headers()
        elif what == 'html':
            self.send(b'<html>Please log in</html>')
        elif what == 'other bytes':
            self.send(content[:-1] + b'?')
        elif what == 'ignores ranges' or (what == 'good' and not first):
            self.send(content)
        elif what == 'good' and first >= len(content):
            self.send_error(416)
        elif what == 'good':
            self.send(content[first:], 206, f'bytes {first}-{len(content) - 1}/{len(content)}')
        elif what == 'other range':
            self.send(content, 206, f'bytes 0-{len(content) - 1}/{len(content)}')
        elif what == 'truncates':
            self.send(content[first:], 206 if first else 200,
                      f'bytes {first}-{len(content) - 1}/{len(content)}', share=0.3)  # fmt: skip
        elif what == 'stalls':
            self.send(content, share=0.3, then=lambda: time.sleep(3))
        elif what == 'endless':
            self.send(content * 4, length=False)
        elif what == 'says nothing':
            self.close_connection = True

    def send(self, data, code=200, content_range='', share=1.0, then=lambda: None, length=True):
        """Send data, or the first share of it."""
        self.send_response(code)
        if length:
            self.send_header('Content-Length', str(len(data)))
        if content_range:
            self.send_header('Content-Range', content_range)
        self.end_headers()
        try:
            self.wfile.write(data[: int(share * len(data))])
            self.wfile.flush()
            then()
        except OSError:
            pass  # the client has gone
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    """Run the server; let attempts follow at once."""
    monkeypatch.setattr(downloads, 'PAUSE', 0.0)
    monkeypatch.setattr(downloads, 'TIMEOUT', 1.0)
    for name in ('D2L_FT_MIRROR', 'D2L_FT_OFFLINE', 'http_proxy'):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def names(folder):
    """Return the files of a folder, without locks."""
    return sorted(each.name for each in folder.iterdir() if not each.name.endswith('.lock'))


def zipped(**members):
    """Return a zip archive of some files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.mark.parametrize(
    'plan',
    [
        ['truncates', 'good'],
        ['truncates', 'truncates', 'truncates', 'good'],
        ['500', '503', 'good'],
        ['429', 'good'],
        ['stalls', 'good'],
        ['truncates', 'ignores ranges'],
        ['truncates', 'other range', 'good'],
        ['says nothing', 'good'],
    ],
    ids=' '.join,
)
def test_it_comes_in_the_end(server, tmp_path, plan, figure):
    server.plan = plan
    path = fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x')
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ['toy.zip']
    if plan[0] == 'truncates':
        assert server.asked[1] == f'bytes={int(0.3 * len(CONTENT))}-', 'it goes on where it broke'
    figure(f'whole after {len(server.asked)} requests')


@pytest.mark.parametrize(
    ('plan', 'cause', 'requests'),
    [
        (['truncates'], r'broke off after \d+ of 512000 bytes', 5),
        (['html'], 'page of HTML', 1),
        (['404'], 'HTTP 404', 1),
        (['403'], 'HTTP 403', 1),
        (['500'], 'HTTP 500', 5),
        (['stalls'], 'timed out', 5),
        (['other bytes'], 'is not the file that was expected', 1),
        (['truncates', 'other range'], 'another range', 5),
        (['says nothing'], 'closed connection', 5),
    ],
    ids=lambda each: ' '.join(each) if isinstance(each, list) else '',
)
def test_a_bad_file_is_never_accepted(server, tmp_path, plan, cause, requests, figure):
    server.plan, target = plan, tmp_path / 'toy.zip'
    with pytest.raises(DataError, match=cause) as caught:
        fetch(server.url, SHA1, target, 'use the sample')
    message = str(caught.value)
    assert server.url in message
    assert '\n' not in message
    if plan[0] in ('html', 'other bytes'):
        assert SHA1 in message
        body = b'<html>Please log in</html>' if plan[0] == 'html' else CONTENT[:-1] + b'?'
        assert hashlib.sha1(body).hexdigest() in message
    assert not target.exists()
    assert all(name.endswith('.part') for name in names(tmp_path)), 'nothing at the final path'
    assert len(server.asked) == requests
    server.plan = ['good']
    assert fetch(server.url, SHA1, target, 'x').read_bytes() == CONTENT, 'the next time it comes'
    assert names(tmp_path) == ['toy.zip']
    figure(f'refused after {requests} requests')


@pytest.mark.parametrize('digest', [SHA1, SHA256, SHA256[:8], SHA256.upper()])
def test_hashes(server, tmp_path, digest):
    assert fetch(server.url, digest, tmp_path / 'a', 'x').read_bytes() == CONTENT
    with pytest.raises(DataError, match='not the file'):
        fetch(server.url, '0' * len(digest), tmp_path / 'b', 'x')


def test_a_good_copy_is_not_fetched_and_a_damaged_one_is(server, tmp_path):
    target = tmp_path / 'toy.zip'
    target.write_bytes(CONTENT)
    fetch(server.url, SHA1, target, 'x')
    assert server.asked == []
    target.write_bytes(CONTENT[:-1])
    assert fetch(server.url, SHA1, target, 'x').read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_the_rest_of_another_version_is_thrown_away(server, tmp_path):
    server.plan = ['truncates', '404']
    with pytest.raises(DataError):
        fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x')
    server.content, server.plan = b'?' + CONTENT[1:], ['good']
    new = hashlib.sha1(server.content).hexdigest()
    (part,) = tmp_path.glob('.*.part')
    part.rename(part.with_name(f'.toy.zip.{new[:12]}.part'))  # as if that had been asked for
    assert fetch(server.url, new, tmp_path / 'toy.zip', 'x').read_bytes() == server.content


def test_more_than_the_whole_is_begun_anew(server, tmp_path):
    (tmp_path / f'.toy.zip.{SHA1[:12]}.part').write_bytes(CONTENT + b'more')
    assert fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x').read_bytes() == CONTENT


def test_a_server_without_an_end_is_cut_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, 'LARGEST', 100_000)
    server.plan = ['endless']
    with pytest.raises(DataError, match='it is no data set'):
        fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x')


def test_a_mirror_is_asked_instead_and_checked_alike(server, tmp_path, monkeypatch):
    elsewhere = 'http://127.0.0.1:9/deep/toy.zip'
    monkeypatch.setenv('D2L_FT_MIRROR', server.url.rpartition('/')[0])
    assert fetch(elsewhere, SHA1, tmp_path / 'a', 'x').read_bytes() == CONTENT
    with pytest.raises(DataError, match='not the file') as caught:
        fetch(elsewhere, SHA256[::-1], tmp_path / 'b', 'x')
    assert server.url in str(caught.value)
    (tmp_path / 'toy.zip').write_bytes(CONTENT)
    monkeypatch.setenv('D2L_FT_MIRROR', tmp_path.as_uri())
    assert fetch(elsewhere, SHA1, tmp_path / 'c', 'x').read_bytes() == CONTENT


def test_offline_fetches_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_OFFLINE', '1')
    with pytest.raises(DataError, match='`offline`'):
        fetch(server.url, SHA1, tmp_path / 'a', 'use the sample')
    assert server.asked == []
    monkeypatch.setenv('D2L_FT_OFFLINE', '0')
    fetch(server.url, SHA1, tmp_path / 'a', 'x')
    _, err = command('data', 'fetch', 'hotdog', '--offline', code=2)
    assert '--data sample' in err
    assert err.count('\n') == 1


def test_no_network_names_the_sample(monkeypatch):
    monkeypatch.setattr(downloads, 'PAUSE', 0.0)
    monkeypatch.setitem(d2l.DATA_HUB, 'hotdog', ('http://127.0.0.1:9/hotdog.zip', '0' * 40))
    with pytest.raises(DataError, match=r'refused.*5 attempts.*`data=sample`') as caught:
        d2l.download_extract('hotdog')
    assert '\n' not in str(caught.value)
    with pytest.raises(DataError, match='hotdog'):
        d2l.download_extract('no-such-set')


def test_pauses_grow(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(downloads, 'PAUSE', 1.0)
    monkeypatch.setattr(downloads.time, 'sleep', pauses.append)
    server.plan = ['500']
    with pytest.raises(DataError):
        fetch(server.url, SHA1, tmp_path / 'a', 'x')
    assert pauses == [1, 2, 4, 8]


def test_a_full_disk_is_a_storage_error(server, tmp_path, monkeypatch):
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(StorageError, match='cannot write'):
        fetch(server.url, SHA1, tmp_path / 'file' / 'toy.zip', 'x')
    real = os.replace

    def full(old, new):
        if str(new).endswith('toy.zip'):
            raise OSError(28, 'No space left on device')
        return real(old, new)

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(StorageError, match='no space left'):
        fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x')
    assert not (tmp_path / 'toy.zip').exists()


def test_two_processes_fetch_once(server, tmp_path, figure):
    code = (
        'import sys, pathlib\n'
        'from d2l_ft.storage import downloads\n'
        'real = downloads._receive\n'
        'def slow(*a):\n'
        '    import time; time.sleep(3); real(*a)\n'
        'downloads._receive = slow\n'
        f'downloads.fetch({server.url!r}, {SHA1!r}, pathlib.Path(sys.argv[1]), "x")\n'
    )
    children = [
        subprocess.Popen([sys.executable, '-c', code, str(tmp_path / 'toy.zip')],
                         stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], errors
    assert len(server.asked) == 1
    assert any('waiting for it' in text for text in errors)
    figure('3 processes, 1 request')


def test_a_data_set_is_verified_before_it_is_unpacked(server, tmp_path, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as archive:
        archive.writestr('toy/train/a.txt', 'hello')
    server.content = packed.getvalue()
    digest = hashlib.sha1(server.content).hexdigest()
    monkeypatch.setitem(d2l.DATA_HUB, 'toy', (server.url, digest))
    path = d2l.download_extract('toy')
    assert (Path(path) / 'train' / 'a.txt').read_text() == 'hello'
    server.plan = ['404']
    assert d2l.download_extract('toy') == path  # cached
    unpacked = []
    monkeypatch.setattr('d2l_ft.data.hub.extract', lambda *a: unpacked.append(a))
    monkeypatch.setitem(d2l.DATA_HUB, 'toy', (server.url, '0' * 40))
    server.plan = ['good']
    with pytest.raises(DataError, match='not the file'):
        d2l.download_extract('toy')
    assert unpacked == []


def test_weights_in_an_archive_are_verified(server, tmp_path):
    target = tmp_path / 'net.params'
    server.content = zipped(net=CONTENT)
    assert fetch(server.url, SHA1, target, 'x', extract_only_member).read_bytes() == CONTENT
    assert names(tmp_path) == ['net.params']
    for bad in (zipped(net=b'?'), zipped(a=CONTENT, b=b''), b'PK rubbish', b'<html>'):
        target.unlink(missing_ok=True)
        server.content = bad
        with pytest.raises(DataError, match='not the file') as caught:
            fetch(server.url, SHA1, target, 'x', extract_only_member)
        assert SHA1 in str(caught.value)
        assert names(tmp_path) == []


def test_the_files_of_the_zoos_have_the_names_that_the_servers_know(monkeypatch):
    asked = []
    monkeypatch.setattr(zoo, 'fetch', lambda *a: asked.append(a))
    for backend, archs in zoo.IMAGENET.items():
        for arch in archs:
            zoo.imagenet_file(arch, backend)
    urls = {url: digest for url, digest, *_ in asked}
    assert urls['https://download.pytorch.org/models/resnet18-f37072fd.pth'].startswith('f37072fd')
    assert any(url.endswith('/resnet18_v2-a81db45f.zip') for url in urls)
    assert all(url.rpartition('-')[2].split('.')[0] in digest for url, digest in urls.items())


def test_what_arrives_is_written_to_no_file_of_another(server, tmp_path, figure):
    """Links, symbolic and hard, to a file, to nothing and to a folder; a pipe; an empty file."""
    victim = tmp_path / 'victim'
    part = tmp_path / 'shared' / f'.toy.zip.{SHA1[:12]}.part'
    part.parent.mkdir()
    planted = [
        lambda: part.symlink_to(victim),
        lambda: part.hardlink_to(victim),
        lambda: part.symlink_to(tmp_path / 'none'),
        lambda: part.symlink_to(tmp_path),
        lambda: part.write_bytes(b''),
        lambda: os.mkfifo(part),
    ]
    for plant in planted:
        for archived in (False, True):
            victim.write_bytes(b'precious' * 100)
            plant()
            target = tmp_path / 'shared' / 'toy.zip'
            server.content = zipped(net=CONTENT) if archived else CONTENT
            if archived:
                part.with_suffix('.unpacked').symlink_to(victim)
            fetch(server.url, SHA1, target, 'x', extract_only_member if archived else None)
            assert target.read_bytes() == CONTENT
            assert names(target.parent) == ['toy.zip']
            assert not target.is_symlink()
            assert target.stat().st_nlink == 1
            assert victim.read_bytes() == b'precious' * 100
            assert not (tmp_path / 'none').exists()
            target.unlink()
    figure(f'{2 * len(planted)} planted names, no other file written')


def test_a_file_of_another_user_is_not_gone_on_with(server, tmp_path, monkeypatch):
    """Its owner could change it after it was verified."""
    part = tmp_path / f'.toy.zip.{SHA1[:12]}.part'
    part.write_bytes(CONTENT[:1000])
    own = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: own + 1)
    assert fetch(server.url, SHA1, tmp_path / 'toy.zip', 'x').read_bytes() == CONTENT
    assert server.asked == [None], 'from the beginning'


@pytest.mark.parametrize('mode', [0o777, 0o1777, 0o775, 0o757, 0o770])
@pytest.mark.parametrize('place', ['', 'data'])
def test_a_cache_into_which_others_could_write_is_refused(tmp_path, monkeypatch, mode, place):
    """Whoever runs it, root too; what the line says to run is what helps."""
    home = tmp_path / 'with a space'
    (home / 'data').mkdir(parents=True, mode=0o755)
    monkeypatch.setenv('D2L_FT_HOME', str(home))
    (home / place).chmod(mode)
    _, err = command('data', 'fetch', 'hotdog', '--offline', code=2)
    assert err.count('\n') == 1
    assert 'other users could write into the cache' in err
    line = err.partition('run  ')[2].partition('  or else')[0]
    assert line.startswith('chmod go-w ')
    subprocess.run(line, shell=True, check=True)
    _, err = command('data', 'fetch', 'hotdog', '--offline', code=2)
    assert '--offline' in err


def test_a_cache_of_another_user_is_refused(tmp_path, monkeypatch):
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.setenv('D2L_FT_HOME', str(home))
    if os.getuid() == 0:
        os.chown(home, 12345, 12345)
    else:
        own = os.getuid()
        monkeypatch.setattr(os, 'getuid', lambda: own + 1)
    with pytest.raises(StorageError, match=r'belongs to another user.*D2L_FT_HOME') as caught:
        d2l.download_extract('hotdog')
    assert '\n' not in str(caught.value)


def test_the_cache_is_made_for_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path / 'deep' / 'home'))
    before = os.umask(0)
    try:
        assert cache_dir().stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


NAME, PASSWORD = 'na me', 'p@ss/w:rd#?'


def with_password(url):
    """Return an address with the name and the password in it."""
    user, password = (urllib.parse.quote(each, safe='') for each in (NAME, PASSWORD))
    return url.replace('http://', f'http://{user}:{password}@')


def test_a_password_of_the_mirror_is_sent_and_never_shown(server, tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_MIRROR', with_password(server.url.rpartition('/')[0]))
    monkeypatch.setattr(downloads, 'ATTEMPTS', 2)
    elsewhere = 'http://127.0.0.1:9/deep/toy.zip'
    expected = 'Basic ' + base64.b64encode(f'{NAME}:{PASSWORD}'.encode()).decode()
    server.plan = ['truncates', 'to ' + server.url, 'good']
    assert fetch(elsewhere, SHA1, tmp_path / 'a', 'x').read_bytes() == CONTENT
    assert server.told == [expected] * 3
    texts = []
    for plan in ('404', '401', '500', 'html', 'truncates', 'says nothing', 'other range'):
        server.plan = [plan]
        with pytest.raises(DataError) as caught:
            fetch(elsewhere, SHA1, tmp_path / 'b', 'x')
        texts.append(''.join(traceback.format_exception(caught.value)))
    monkeypatch.setenv('D2L_FT_OFFLINE', '1')
    for words in (('data', 'fetch', 'hotdog'), ('--debug', 'data', 'fetch', 'hotdog'), ('doctor',)):
        done = subprocess.run(
            [sys.executable, '-m', 'd2l_ft', *words], capture_output=True, text=True
        )
        texts += [done.stdout, done.stderr]
    for secret in (PASSWORD, urllib.parse.quote(PASSWORD, safe=''), NAME, expected[6:]):
        assert not any(secret in text for text in texts), secret


def test_a_password_goes_to_no_other_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_MIRROR', with_password(server.url.rpartition('/')[0]))
    with Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server.plan = ['to ' + other.url]
        fetch('http://127.0.0.1:9/toy.zip', SHA1, tmp_path / 'a', 'x')
        other.shutdown()
    assert len(other.told) == 1
    assert other.told == [None]


@pytest.mark.parametrize(
    'place', ['ftp://127.0.0.1/x', 'file:///etc/passwd', 'http://na:secret@127.0.0.1:9/x']
)
def test_a_server_cannot_send_on_to_anything_but_the_web(server, tmp_path, place):
    server.plan = ['to ' + place]
    with pytest.raises(DataError, match=r'not followed|HTTP 302') as caught:
        fetch(server.url, SHA1, tmp_path / 'a', 'x')
    assert 'secret' not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    'mirror',
    [
        'ftp://name:secret@host/d2l', 'sftp://host', 'data:text/plain,secret', 'C:\\files',
        'host/d2l', 'name:secret@host', 'http://', 'https://name:secret/x@host/d2l',
        'https://name:12/secret@host', 'https://name:secret#x@host', 'https://name:secret?@host',
        'https://[secret', 'gopher://host', 'javascript:secret',
    ],
)  # fmt: skip
def test_a_mirror_of_another_kind_is_refused_at_once(server, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv('D2L_FT_MIRROR', mirror)
    with pytest.raises(DataError, match='D2L_FT_MIRROR') as caught:
        fetch(server.url, SHA1, tmp_path / 'a', 'x')
    assert '\n' not in str(caught.value)
    assert 'secret' not in ''.join(traceback.format_exception(caught.value))
    assert server.asked == []
    monkeypatch.delenv('D2L_FT_MIRROR')
    with pytest.raises(DataError, match='address of the file'):
        fetch(mirror, SHA1, tmp_path / 'a', 'x')
