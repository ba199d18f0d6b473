"""Download a file whose hash is known: verified before it is used, resumed where it broke off.

What has arrived is kept beside the target in a ``.part`` file, which becomes the target when its
hash fits. A second process waits for the first. What is written to is never a link, nor a file of
another user or of two names: in a folder that others share, it would be one of theirs.

D2L_FT_MIRROR     folder of a server, such as https://mirror.example/d2l, from which every file is
                  fetched instead, under the last part of its name; hashes are checked alike. With a
                  password: https://name:password@mirror.example/d2l, special letters as %XX
D2L_FT_OFFLINE    if set to anything but 0, nothing is fetched
"""

import hashlib
import http.client
import os
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from d2l_ft.errors import DataError, StorageError
from d2l_ft.storage.atomic import describe, sync_folder
from d2l_ft.storage.locks import hold_lock
from d2l_ft.system.console import warn

MIRROR_VARIABLE, OFFLINE_VARIABLE = 'D2L_FT_MIRROR', 'D2L_FT_OFFLINE'

MIRROR_EXAMPLE = 'https://name:password@mirror.example/d2l'

SCHEMES = ('https', 'http', 'file')

TIMEOUT = 20
"""Seconds without a byte from a server until the attempt is given up."""

ATTEMPTS = 5

PAUSE = 1.0
"""Attempts for one file, and seconds before the second; each pause is twice the one before."""

LARGEST = 20 * 2**30
"""Bytes of the largest download; a server that sends more is cut off."""

CHUNK = 1 << 16

LATER = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which the same question may be answered otherwise."""


class TryAgain(Exception):
    """An attempt failed in a way that the next one may not."""


def offline() -> bool:
    """Tell whether nothing may be fetched."""
    return os.environ.get(OFFLINE_VARIABLE, '').strip() not in ('', '0')


@dataclass(frozen=True)
class Address:
    """Where a file is: a URL that may be shown, and the name and password for its server."""

    url: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def opener(self) -> urllib.request.OpenerDirector:
        """Return what opens the URL; only its own server is told the password."""
        handlers: list[urllib.request.BaseHandler] = [Redirects()]
        if self.user is not None:
            parts = urllib.parse.urlsplit(self.url)
            known = urllib.request.HTTPPasswordMgrWithPriorAuth()
            server = f'{parts.scheme}://{parts.netloc}/'
            known.add_password(None, server, self.user, self.password or '', is_authenticated=True)
            handlers.append(Password(known))
        return urllib.request.build_opener(*handlers)


class Password(urllib.request.HTTPBasicAuthHandler):
    """Sends a name and a password with the first request, and does not ask again."""

    def http_error_401(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        """Leave the answer as it is."""
        return None


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to addresses of its own kind."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        """Return the request for where a server sends on to.

        Raises:
            DataError: It is no address on the web, or has a name and a password in it.
        """
        parts = urllib.parse.urlsplit(newurl)
        if parts.scheme not in ('http', 'https') or '@' in parts.netloc:
            fp.close()
            what = 'with a name and a password' if '@' in parts.netloc else f'of {parts.scheme}'
            raise DataError(
                f'{req.full_url} sends on to an address {what}, which is not followed: '
                'ask whoever runs that server'
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def address(url: str, name: str) -> Address:
    """Return a URL without the name and password that it may hold, and these.

    Args:
        url: Of http, https or file.
        name: What the URL is, for the error; the URL itself may hold a password.

    Raises:
        DataError: It is no such URL.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises, where it is none
        rest = parts.path + parts.query + parts.fragment
        whole = '@' not in rest and bool(parts.hostname or parts.scheme not in ('http', 'https'))
    except ValueError:
        whole = False
    if not whole:
        raise DataError(
            f'{name} is no address such as {MIRROR_EXAMPLE}: in the name and the password, and in '
            'what follows the server, write / as %2F, @ as %40, # as %23'
        )
    if parts.scheme not in SCHEMES:
        raise DataError(
            f'{name} begins with {parts.scheme or "no scheme"}: use an address with '
            f'{", ".join(SCHEMES)}'
        )
    user, password = (
        None if each is None else urllib.parse.unquote(each)
        for each in (parts.username, parts.password)
    )
    place = parts.netloc.rpartition('@')[2]
    return Address(parts._replace(netloc=place).geturl(), user, password)


def source_address(url: str) -> Address:
    """Return where to fetch a URL's file from: the mirror's, if there is one.

    Raises:
        DataError: The mirror, or else the URL, is no address of http, https or file.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, '').strip()
    if mirror:
        found = address(mirror, MIRROR_VARIABLE)
        return replace(found, url=f'{found.url.rstrip("/")}/{url.rsplit("/", 1)[-1]}')
    return address(url, 'the address of the file')


def file_digest(path: Path, like: str) -> str:
    """Return a file's hash in hexadecimal: SHA-1 if ``like`` has 40 digits, otherwise SHA-256."""
    digest = hashlib.new('sha1' if len(like) == 40 else 'sha256')
    with path.open('rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def has_digest(path: Path, expected: str) -> bool:
    """Tell whether a file is there and has a hash, or a hash that begins so."""
    return path.is_file() and file_digest(path, expected).startswith(expected.lower())


def fetch(
    url: str,
    expected: str,
    target: Path,
    instead: str,
    unpack: Callable[[Path, Path], None] | None = None,
) -> Path:
    """Download a file unless a copy with the right hash is there.

    Args:
        url: Where the file is; D2L_FT_MIRROR is asked instead.
        expected: Its hash: SHA-1 (40 hexadecimal digits), SHA-256, or the first digits of it.
        target: Where to keep it.
        instead: What the user can do without a network; the end of the error's line.
        unpack: Turns what was downloaded into the file that has the hash, both given as paths;
            for publishers who tell the hash of a file, not that of the archive around it.

    Raises:
        DataError: No network, no such file, or another hash.
        StorageError: The disk is full, or the folder cannot be written.
    """
    if has_digest(target, expected):
        return target
    source = source_address(url)
    if offline():
        raise DataError(
            f'{source.url} is not in the cache and {OFFLINE_VARIABLE} or `offline` forbids to '
            f'fetch it: fetch it once with a network, or {instead}'
        )
    with hold_lock(
        target, lambda: warn(f'another process downloads {target.name}; waiting for it')
    ):
        if not has_digest(target, expected):  # the other process may have brought it
            _download(source, expected, target, instead, unpack)
    return target


def _download(
    source: Address,
    expected: str,
    target: Path,
    instead: str,
    unpack: Callable[[Path, Path], None] | None,
) -> None:
    """Bring a file to its place."""
    part = target.with_name(f'.{target.name}.{expected[:12]}.part')  # by hash: never of another
    try:
        resumed = _try_repeatedly(source, part, instead)
        wrong = _finish(part, expected, target, unpack)
        if wrong and resumed:  # the beginning may be of another version of the file: all anew
            part.unlink()
            _try_repeatedly(source, part, instead)
            wrong = _finish(part, expected, target, unpack)
        if wrong:
            with part.open('rb') as stream:
                page = stream.read(512).lstrip().startswith(b'<')
            part.unlink()
            hint = ' (it is a page of HTML: does a proxy or a login stand between?)' if page else ''
            raise DataError(
                f'{source.url} is not the file that was expected{hint}: {wrong}, expected the hash '
                f'{expected}: try again later, or {instead}'
            )
    except OSError as error:
        raise StorageError(describe(error, target)) from error


def _finish(
    part: Path, expected: str, target: Path, unpack: Callable[[Path, Path], None] | None
) -> str:
    """Move what has arrived to its place if its hash fits; otherwise tell what is wrong."""
    whole = part
    if unpack is not None:
        whole = part.with_suffix('.unpacked')
        whole.unlink(missing_ok=True)  # of a process that was killed
        try:
            unpack(part, whole)
        except DataError as error:
            whole.unlink(missing_ok=True)
            return str(error)
    found = file_digest(whole, expected)
    if not found.startswith(expected.lower()):
        if whole is not part:
            whole.unlink()
        return f'its hash is {found}'
    with whole.open('rb') as stream:
        os.fsync(stream.fileno())
    os.replace(whole, target)
    part.unlink(missing_ok=True)
    sync_folder(target.parent)
    return ''


def _try_repeatedly(source: Address, part: Path, instead: str) -> bool:
    """Try until all bytes have arrived; tell whether some were there from an earlier time."""
    resumed = bool(_part_size(part))
    for number in range(ATTEMPTS):
        if number:
            time.sleep(PAUSE * 2 ** (number - 1))
        try:
            _try_once(source, part)
            return resumed
        except TryAgain as error:
            cause = str(error)
    kept = '; what has arrived is kept for the next time' if part.is_file() else ''
    raise DataError(f'cannot download {source.url} ({cause}, {ATTEMPTS} attempts{kept}): {instead}')


def _try_once(source: Address, part: Path) -> None:
    """Ask for what is missing of a file and append it.

    Raises:
        TryAgain: The network failed, or the server for now.
        DataError: The server has no such file.
    """
    url, have = source.url, _part_size(part)
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        with source.opener().open(request, timeout=TIMEOUT) as answer:
            start = _start(answer.headers.get('Content-Range'), have)
            left = _length(answer.headers.get('Content-Length'))
            _receive(answer, part, start, left, url)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is longer than the file
            part.unlink(missing_ok=True)
            raise TryAgain('the file has changed') from error
        if error.code in LATER:
            raise TryAgain(f'HTTP {error.code} {error.reason}') from error
        hint = 'the address or the mirror is wrong'
        if error.code in (401, 407):
            hint = f'a name and a password are asked for, as in {MIRROR_EXAMPLE}'
        raise DataError(
            f'cannot download {url} (HTTP {error.code} {error.reason}): {hint}'
        ) from error
    except urllib.error.URLError as error:
        raise TryAgain(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise TryAgain(str(error) or type(error).__name__) from error
    except ValueError as error:
        raise DataError(f'{url} is no address of a file ({error})') from error


def _part_size(part: Path) -> int:
    """Return the bytes that have arrived, and remove what this user did not begin.

    A link, a file of another user, or one that has a second name elsewhere was put there by
    somebody who wants it written, or filled with bytes of his own.
    """
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    own = not hasattr(os, 'getuid') or status.st_uid == os.getuid()
    if stat.S_ISREG(status.st_mode) and own and status.st_nlink == 1 and status.st_size:
        return status.st_size
    part.unlink()
    return 0


def _open_part(part: Path) -> BinaryIO:
    """Open what has arrived for writing; a new file cannot be one that is there meanwhile."""
    flags = os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)
    flags |= 0 if _part_size(part) else os.O_CREAT | os.O_EXCL
    return os.fdopen(os.open(part, flags, 0o644), 'r+b')


def _start(content_range: str | None, have: int) -> int:
    """Return the place of the first byte of an answer; 0 where the server ignores ranges."""
    if content_range is None:
        return 0
    if not content_range.startswith(f'bytes {have}-'):
        raise TryAgain(f'the server sent another range ({content_range})')
    return have


def _length(text: str | None) -> int | None:
    """Return the length that an answer claims."""
    return int(text) if text and text.isascii() and text.isdigit() else None


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield an answer's bytes as they come.

    Raises:
        TryAgain: The connection broke, or was silent for too long.
    """
    try:
        while chunk := answer.read1(CHUNK):
            yield chunk
    except (http.client.HTTPException, OSError) as error:
        raise TryAgain(str(error) or type(error).__name__) from error


def _receive(
    answer: http.client.HTTPResponse, part: Path, start: int, left: int | None, url: str
) -> None:
    """Write an answer's bytes from a place of the file on."""
    total = None if left is None else start + left
    with (
        _open_part(part) as stream,
        tqdm(
            total=total,
            initial=start,
            desc=url.rsplit('/', 1)[-1],
            unit='B',
            unit_scale=True,
            disable=None,
        ) as bar,
    ):
        stream.seek(start)
        stream.truncate()
        for chunk in _chunks(answer):
            if stream.tell() + len(chunk) > LARGEST:
                raise DataError(f'{url} sends more than {LARGEST >> 30} GiB: it is no data set')
            stream.write(chunk)
            bar.update(len(chunk))
        if total is not None and stream.tell() < total:
            raise TryAgain(f'it broke off after {stream.tell()} of {total} bytes')
