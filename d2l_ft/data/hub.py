"""Named data sets: download, verify, extract, cache. Nothing is used before its hash matches."""

from pathlib import Path

from d2l_ft.errors import DataError
from d2l_ft.storage.archives import extract
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import fetch
from d2l_ft.storage.locks import hold_lock

DATA_URL = 'http://d2l-data.s3-accelerate.amazonaws.com/'
"""The bucket of Dive into Deep Learning.

Example:
    >>> d2l.DATA_HUB['hotdog'][0] == d2l.DATA_URL + 'hotdog.zip'
    True
"""

DATA_HUB: dict[str, tuple[str, str]] = {
    'hotdog': (DATA_URL + 'hotdog.zip', 'fba480ffa8aa7e0febbb511d181409f899b9baa5'),
}
"""Name -> (URL of a .zip, .tar or .tar.gz archive, its SHA-1 or SHA-256 in hexadecimal). It has the
entries that the chapters add, which ``d2l-ft chapter check`` compares; you can add more.

Example:
    >>> d2l.DATA_HUB['mine'] = ('https://example.org/mine.zip', '0' * 40)
    >>> sorted(d2l.DATA_HUB)
    ['hotdog', 'mine']
"""


def hub_entry(name: str) -> tuple[str, str]:
    """Return the URL and the hash of a named data set.

    Raises:
        DataError: There is no such name.
    """
    try:
        return DATA_HUB[name]
    except KeyError:
        raise DataError(
            f'no data set is named {name!r}: DATA_HUB has {", ".join(sorted(DATA_HUB))}'
        ) from None


def download(name: str, *, cache: Path | None = None) -> Path:
    """Return the verified archive of a named data set; download it if necessary.

    Raises:
        DataError: Unknown name, no network, or another hash.

    Example:
        >>> d2l.download('hotdog').name
        'hotdog.zip'
    """
    url, expected = hub_entry(name)
    folder = cache or cache_dir() / 'data'
    return fetch(url, expected, folder / url.rsplit('/', 1)[-1], 'use the built-in  `data=sample`')


def download_extract(name: str, folder: str | None = None) -> str:
    """Return the folder of a named data set; download, verify and unpack it if necessary.

    Args:
        name: A key of DATA_HUB, such as 'hotdog'.
        folder: The folder inside the archive, if it does not have the name of the archive.

    Raises:
        DataError: Unknown name, no network, another hash, or no such folder in the archive.

    Example:
        >>> data_dir = d2l.download_extract('hotdog')
        >>> train, test = d2l.load_folders(data_dir)
    """
    url, expected = hub_entry(name)
    unpacked = cache_dir() / 'data' / f'{name}-{expected[:12]}'  # another hash is another data set
    if not unpacked.is_dir():
        archive = download(name)
        with hold_lock(unpacked, lambda: None):
            if not unpacked.is_dir():  # another process may have unpacked it
                extract(archive, unpacked)
    inner = unpacked / (folder or url.rsplit('/', 1)[-1].partition('.')[0])
    if folder and not inner.is_dir():
        raise DataError(f'the archive of {name!r} has no folder {folder!r}')
    return str(inner if inner.is_dir() else unpacked)
