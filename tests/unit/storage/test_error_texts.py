"""What the errors of files, archives, downloads and the cache say."""

import http.server
import os
import threading
import zipfile

import pytest
from conftest import says
from served import serve

from d2l_ft.errors import DataError, StorageError
from d2l_ft.storage.archives import extract, extract_only_member
from d2l_ft.storage.atomic import check_writable, new_directory, write_atomic
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import fetch
from d2l_ft.storage.locks import hold_lock

HASH = 'a' * 40


def test_a_file_or_folder_that_cannot_be_written(blocked):
    def fill():
        with new_directory(blocked):
            pass

    def lock():
        with hold_lock(blocked):
            pass

    for call in (lambda: write_atomic(blocked, b''), lambda: check_writable(blocked), fill, lock):
        assert says(StorageError, call) == (
            f'cannot write {blocked}: {blocked.parent} is not a folder'
        )


def test_a_file_that_another_process_writes(tmp_path):
    def lock():
        with hold_lock(tmp_path / 'a'):
            pass

    with hold_lock(tmp_path / 'a'):
        assert says(StorageError, lock) == (
            f'another process is writing {tmp_path / "a"}: wait for it, or stop it'
        )


def test_an_archive_that_leads_out_of_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('../out.txt', '')
    text = says(DataError, extract, tmp_path / 'a.zip', tmp_path / 'new')
    assert text.startswith(f'{tmp_path / "a.zip"} is not unpacked: ')
    assert '../out.txt' in text


def test_an_archive_of_several_files_in_place_of_one(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a', '')
        archive.writestr('b', '')
    text = says(DataError, extract_only_member, tmp_path / 'a.zip', tmp_path / 'new')
    assert text.endswith('is not unpacked: it has 2 files instead of one')


def test_an_archive_that_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a', b'0' * 1000)
    raw = bytearray((tmp_path / 'a.zip').read_bytes())
    raw[100] ^= 1
    (tmp_path / 'a.zip').write_bytes(raw)
    text = says(DataError, extract, tmp_path / 'a.zip', tmp_path / 'new')
    assert text == f"cannot unpack {tmp_path / 'a.zip'}: Bad CRC-32 for file 'a'"


def get(url, target, expected=HASH):
    """Download with the advice that a caller gives."""
    return fetch(url, expected, target, 'use the built-in  --data sample')


def test_a_file_that_the_server_has_not(tmp_path):
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}none.zip', tmp_path / 'in' / 'none.zip')
    assert text.startswith(f'cannot download {url}none.zip (HTTP 404 ')
    assert text.endswith(': the address or the mirror is wrong')


def test_a_file_with_another_hash(tmp_path):
    (tmp_path / 'a.zip').write_text('x')
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip')
    assert 'a.zip is not the file that was expected: its hash is ' in text
    assert f'{HASH}: try again later, or use the built-in  --data sample' in text


def test_a_download_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_OFFLINE', '1')
    text = says(DataError, get, 'https://example.org/a.zip', tmp_path / 'a.zip')
    assert 'fetch it once with a network, or use the built-in  --data sample' in text


@pytest.mark.parametrize(
    ('url', 'cause'),
    [
        ('https://name:pass/word@example.org/a', 'is no address such as https://'),
        ('ftp://example.org/a', 'begins with ftp: use an address with https, http, file'),
        ('example.org/a', 'begins with no scheme: use an address with https, http, file'),
    ],
)
def test_an_address_that_is_none(tmp_path, url, cause):
    assert f'the address of the file {cause}' in says(DataError, get, url, tmp_path / 'a')


@pytest.mark.slow  # until the name is not found
def test_an_address_that_no_server_can_be_asked_for(tmp_path):
    text = says(DataError, get, 'file://elsewhere.example/a.zip', tmp_path / 'a.zip')
    assert 'file://elsewhere.example/a.zip' in text


def test_a_download_into_a_folder_that_is_taken(tmp_path):
    (tmp_path / 'a.zip').write_text('x')
    (tmp_path / 'in' / 'a.zip').mkdir(parents=True)
    digest = '11f6ad8ec52a2984abaafd7c3b516503785c2072'  # SHA-1 of x
    with serve(tmp_path) as url:
        text = says(StorageError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip', digest)
    assert text == f'cannot write {tmp_path / "in" / "a.zip"}: Is a directory'


def test_an_address_without_a_server(tmp_path):
    text = says(DataError, get, 'http://a..b/a.zip', tmp_path / 'a.zip')
    assert text.startswith('http://a..b/a.zip is no address of a file (')


def test_a_cache_into_which_others_could_write(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path / 'open'))
    (tmp_path / 'open').mkdir()
    (tmp_path / 'open').chmod(0o777)
    assert says(StorageError, cache_dir) == (
        'other users could write into the cache: if you trust what is there, run  chmod go-w '
        f'{tmp_path / "open"}  or else name another folder in D2L_FT_HOME'
    )


def test_a_cache_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path))
    own = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: own + 1)  # only root can give a folder away
    if own == 0:
        os.chown(tmp_path, 12345, -1)
    assert says(StorageError, cache_dir) == (
        f'the cache {tmp_path} belongs to another user, who could replace what is in it: name a '
        'folder of your own in D2L_FT_HOME'
    )


class SendsOn(http.server.BaseHTTPRequestHandler):
    """Sends every request on."""

    to = ''

    def do_GET(self):
        self.send_response(302)
        self.send_header('Location', self.to)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ('address', 'what'),
    [
        ('ftp://example.org/a.zip', 'of ftp'),
        ('https://name:secret@example.org/a.zip', 'with a name and a password'),
    ],
)
def test_a_server_that_sends_on_to_what_is_not_followed(tmp_path, address, what):
    handler = type('Handler', (SendsOn,), {'to': address})
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_address[1]}/a.zip'
        assert says(DataError, get, url, tmp_path / 'a.zip') == (
            f'{url} redirects to an address {what}, which is not followed: '
            'ask the administrator of that server'
        )


def test_a_server_that_sends_more_than_any_data_set_has(tmp_path, monkeypatch):
    (tmp_path / 'a.zip').write_text('x' * 100)
    monkeypatch.setattr('d2l_ft.storage.downloads.LARGEST', 99)
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip')
    assert text == f'{url}a.zip sends more than 0 GiB: it is no data set'
