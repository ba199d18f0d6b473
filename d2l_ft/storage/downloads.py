"""Download a file with a known hash: verified before it is used, resumed after an interruption.

The bytes that have arrived are kept beside the target in a ``.part`` file, which becomes the target
when its hash matches. A second process waits for the first. The ``.part`` file is never written if
it is a link, has a second name (a hard link) or belongs to another user: in a shared folder another
user could have put it there.

D2L_FT_MIRROR     folder of a server, such as https://mirror.example/d2l, from which every file is
                  fetched instead, by the last part of its URL; hashes are checked all the same.
                  With a password: https://name:password@mirror.example/d2l, special letters as %XX
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
"""Seconds without a byte from the server after which an attempt ends."""

ATTEMPTS = 5
"""Attempts for one file."""

PAUSE = 1.0
"""Seconds before the second attempt; each pause is twice the one before, 15 seconds in all."""

LARGEST = 20 * 2**30
"""Most bytes of a download; if a server sends more, it is stopped."""

CHUNK = 1 << 16
"""Most bytes that are read at a time."""

LATER = {408, 425, 429, 500, 502, 503, 504}
"""HTTP status codes of errors that may be gone at the next attempt."""


class TryAgain(Exception):
    """An attempt failed for a reason that may be gone at the next one."""


def offline() -> bool:
    """Tell whether nothing may be fetched."""
    return os.environ.get(OFFLINE_VARIABLE, '').strip() not in ('', '0')


@dataclass(frozen=True)
class Address:
    """Where a file is: a URL without secrets, and the user name and password for its server."""

    url: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def opener(self) -> urllib.request.OpenerDirector:
        """Return urllib's opener for the URL; it sends the password to the URL's server only."""
        handlers: list[urllib.request.BaseHandler] = [Redirects()]
        if self.user is not None:
            parts = urllib.parse.urlsplit(self.url)
            known = urllib.request.HTTPPasswordMgrWithPriorAuth()
            server = f'{parts.scheme}://{parts.netloc}/'
            known.add_password(None, server, self.user, self.password or '', is_authenticated=True)
            handlers.append(Password(known))
        return urllib.request.build_opener(*handlers)


class Password(urllib.request.HTTPBasicAuthHandler):
    """Sends the user name and password with the first request, not only when the server asks."""

    def http_error_401(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        """Leave the error as it is: the password was sent with the request."""
        return None


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https addresses only."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        """Return the request for the address to which the server redirects.

        Raises:
            DataError: It is not http or https, or contains a user name.
        """
        parts = urllib.parse.urlsplit(newurl)
        if parts.scheme not in ('http', 'https') or '@' in parts.netloc:
            fp.close()
            what = 'with a name and a password' if '@' in parts.netloc else f'of {parts.scheme}'
            raise DataError(
                f'{req.full_url} redirects to an address {what}, which is not followed: '
                'ask the administrator of that server'
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def address(url: str, name: str) -> Address:
    """Split the user name and password off a URL.

    Args:
        url: A http, https or file URL.
        name: What to call the URL in an error, which must not show a password in it.

    Raises:
        DataError: It is not such a URL.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
        # an unescaped / or # in a password ends the server's part, and its @ lands in the rest
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
    """Return the address to fetch a URL's file from: on the mirror, if there is one.

    Raises:
        DataError: The address is not a http, https or file URL.
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
    """Tell whether a file exists and its hash is, or begins with, the expected one."""
    return path.is_file() and file_digest(path, expected).startswith(expected.lower())


def fetch(
    url: str,
    expected: str,
    target: Path,
    instead: str,
    unpack: Callable[[Path, Path], None] | None = None,
) -> Path:
    """Download a file unless a copy with the right hash exists.

    Args:
        url: Where the file is; D2L_FT_MIRROR replaces all but its last part.
        expected: Its hash: SHA-1 (40 hexadecimal digits), SHA-256, or the first digits of a
            SHA-256.
        target: Where to keep it.
        instead: What the user can do without a network; the end of the error's line.
        unpack: Called with (download, path to write) to extract the file that has the hash; for
            publishers that tell the hash of a file, not that of the archive around it.

    Raises:
        DataError: No network, no such file, or another hash.
        StorageError: The disk is full, or the folder cannot be written.
    """
    if has_digest(target, expected):
        return target
    source = source_address(url)
    if offline():
        raise DataError(
            f'{source.url} is not in the cache and {OFFLINE_VARIABLE} or `offline` forbids '
            f'fetching it: fetch it once with a network, or {instead}'
        )
    with hold_lock(
        target, lambda: warn(f'another process downloads {target.name}; waiting for it')
    ):
        if not has_digest(target, expected):  # the other process may have downloaded it
            _download(source, expected, target, instead, unpack)
    return target


def _download(
    source: Address,
    expected: str,
    target: Path,
    instead: str,
    unpack: Callable[[Path, Path], None] | None,
) -> None:
    """Download a file and move it to its place; the lock is held."""
    # the hash in the name: a file that has changed upstream is not continued from the old bytes
    part = target.with_name(f'.{target.name}.{expected[:12]}.part')
    try:
        resumed = _try_repeatedly(source, part, instead)
        wrong = _finish(part, expected, target, unpack)
        if wrong and resumed:  # the first bytes may be of another version: start from scratch
            part.unlink()
            _try_repeatedly(source, part, instead)
            wrong = _finish(part, expected, target, unpack)
        if wrong:
            with part.open('rb') as stream:
                page = stream.read(512).lstrip().startswith(b'<')
            part.unlink()  # a later attempt must not continue it
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
    """Move the download to its place if its hash matches; otherwise return what is wrong."""
    # Extract the file that has the hash
    whole = part
    if unpack is not None:
        whole = part.with_suffix('.unpacked')
        whole.unlink(missing_ok=True)  # left by a process that was killed
        try:
            unpack(part, whole)
        except DataError as error:
            whole.unlink(missing_ok=True)
            return str(error)

    # Verify it
    found = file_digest(whole, expected)
    if not found.startswith(expected.lower()):
        if whole is not part:
            whole.unlink()
        return f'its hash is {found}'

    # Move it: to the disk first, so that a power cut leaves no incomplete file under the name
    with whole.open('rb') as stream:
        os.fsync(stream.fileno())
    os.replace(whole, target)
    part.unlink(missing_ok=True)
    sync_folder(target.parent)
    return ''


def _try_repeatedly(source: Address, part: Path, instead: str) -> bool:
    """Try until all bytes have arrived; return whether an earlier download was resumed."""
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
    """Request the missing bytes of a file and append them.

    Raises:
        TryAgain: The network failed, or the server had a temporary error.
        DataError: The server does not have the file.
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
        if error.code == 416:  # range not satisfiable: the part is longer than the file
            part.unlink(missing_ok=True)
            raise TryAgain('the file has changed') from error
        if error.code in LATER:
            raise TryAgain(f'HTTP {error.code} {error.reason}') from error
        hint = 'the address or the mirror is wrong'
        if error.code in (401, 407):  # of the server, of a proxy
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
    """Return the size of the part file, and remove one that this user did not start.

    A link, a hard link or a file of another user may have been put there to have another file
    overwritten, or to smuggle in its content.
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
    """Open the part file for writing; O_EXCL: a new one must not have appeared meanwhile."""
    flags = os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)
    flags |= 0 if _part_size(part) else os.O_CREAT | os.O_EXCL
    return os.fdopen(os.open(part, flags, 0o644), 'r+b')


def _start(content_range: str | None, have: int) -> int:
    """Return the offset of the first byte of an answer; 0 if the server ignores ranges."""
    if content_range is None:
        return 0
    if not content_range.startswith(f'bytes {have}-'):
        raise TryAgain(f'the server sent another range ({content_range})')
    return have


def _length(text: str | None) -> int | None:
    """Return the length that an answer announces, if it is a number."""
    return int(text) if text and text.isascii() and text.isdigit() else None


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes of an answer as they arrive.

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
    """Write the bytes of an answer into the part file, from an offset on.

    Args:
        answer: The server's answer.
        part: The file.
        start: Offset of the first byte; what the file has behind it is dropped.
        left: Bytes that the answer announces; None if it does not.
        url: For the progress bar and the error.

    Raises:
        TryAgain: Fewer bytes came than were announced.
        DataError: More than ``LARGEST`` came.
    """
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
        # a server that ignores ranges sends the file from its beginning
        stream.seek(start)
        stream.truncate()
        for chunk in _chunks(answer):
            if stream.tell() + len(chunk) > LARGEST:
                raise DataError(f'{url} sends more than {LARGEST >> 30} GiB: it is no data set')
            stream.write(chunk)
            bar.update(len(chunk))
        if total is not None and stream.tell() < total:
            raise TryAgain(f'it broke off after {stream.tell()} of {total} bytes')
