"""Hostile archives write nothing outside their folder, and nothing at all."""

import gzip
import io
import stat
import tarfile
import warnings
import zipfile

import pytest

from d2l_ft.errors import DataError
from d2l_ft.storage import archives
from d2l_ft.storage.archives import extract


def zipped(*entries, **options):
    """Return a zip archive of (name, data) or (name, data, mode of the file)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w', **options) as archive:
        for name, data, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = archive.compression
            if mode:
                info.create_system = 3
                info.external_attr = mode[0] << 16
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of duplicates
                archive.writestr(info, data)
    return packed.getvalue()


def taped(*entries, packed=False):
    """Return a tar archive of (name, data) or (name, data, type, link's target)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w:gz' if packed else 'w') as archive:
        for name, data, *rest in entries:
            info = tarfile.TarInfo(name)
            info.type = rest[0] if rest else tarfile.REGTYPE
            info.linkname = rest[1] if len(rest) > 1 else ''
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def bomb():
    """Return a zip archive whose 200 MB of nothing take 200 kB."""
    return zipped(('zeros', bytes(200 << 20)), compression=zipfile.ZIP_DEFLATED)


def tar_bomb():
    return gzip.compress(taped(('zeros', bytes(200 << 20))))


def lying():
    """Return an archive that claims fewer bytes than it holds."""
    data = bytearray(zipped(('a', bytes(100_000)), compression=zipfile.ZIP_DEFLATED))
    for mark, offset in ((b'PK\x03\x04', 22), (b'PK\x01\x02', 24)):
        place = data.index(mark) + offset
        data[place : place + 4] = (10).to_bytes(4, 'little')
    return bytes(data)


def header_bomb():
    """Return a tar archive whose header claims a name of a gigabyte."""
    info = tarfile.TarInfo('././@LongLink')
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16)


def locked():
    data = bytearray(zipped(('a', b'x')))
    for mark, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


LINK = stat.S_IFLNK | 0o777
HOSTILE = {
    'zip: parent path': (lambda: zipped(('../out', b'x')), 'outside'),
    'zip: parent path inside': (lambda: zipped(('a/../../out', b'x')), 'outside'),
    'zip: backslashes': (lambda: zipped(('..\\out', b'x')), 'outside'),
    'zip: absolute': (lambda: zipped(('/tmp/out', b'x')), 'outside'),
    'zip: drive letter': (lambda: zipped(('C:out', b'x')), 'outside'),
    'zip: symbolic link': (lambda: zipped(('a', b'/etc', LINK), ('a/out', b'x')), 'link'),
    'zip: device': (lambda: zipped(('a', b'', stat.S_IFCHR | 0o666)), 'device'),
    'zip: bomb': (bomb, 'would unpack to more'),
    'zip: more than it says': (lying, 'Bad CRC|longer|overlap'),
    'zip: duplicate': (lambda: zipped(('a/b', b'x'), ('a/b', b'y')), 'twice'),
    'zip: letter case': (lambda: zipped(('a/b', b'x'), ('A/B', b'y')), 'letter case'),
    'zip: letter case of folders': (lambda: zipped(('a/b', b'x'), ('A/c', b'y')), 'letter case'),
    'zip: two codings of a letter': (lambda: zipped(('é', b'x'), ('e\u0301', b'y')), 'twice'),
    'zip: file and folder': (lambda: zipped(('a', b'x'), ('a/b', b'y')), 'needs a folder'),
    'zip: control characters': (lambda: zipped(('a\nb', b'x')), 'no name'),
    'zip: password': (locked, 'password'),
    'zip: odd method': (lambda: zipped(('a', b'x'), compression=zipfile.ZIP_BZIP2), 'compressed'),
    'zip: rubbish': (lambda: b'PK rubbish', 'cannot unpack'),
    'zip: truncated': (lambda: zipped(('a', b'x' * 999))[:-30], 'cannot unpack'),
    'tar: parent path': (lambda: taped(('../out', b'x')), 'outside'),
    'tar: absolute': (lambda: taped(('/tmp/out', b'x')), 'outside'),
    'tar: symbolic link': (lambda: taped(('a', b'', tarfile.SYMTYPE, '/etc')), 'link'),
    'tar: hard link': (lambda: taped(('a', b'', tarfile.LNKTYPE, '/etc/passwd')), 'link'),
    'tar: device': (lambda: taped(('a', b'', tarfile.CHRTYPE)), 'device'),
    'tar: pipe': (lambda: taped(('a', b'', tarfile.FIFOTYPE)), 'device'),
    'tar: duplicate': (lambda: taped(('a', b'x'), ('a', b'y')), 'twice'),
    'tar.gz: letter case': (lambda: taped(('a', b'x'), ('A', b'y'), packed=True), 'letter case'),
    'tar.gz: bomb': (tar_bomb, 'would unpack to more'),
    'tar: header without measure': (header_bomb, 'excessive size'),
    'tar: truncated': (lambda: taped(('a', b'x' * 9999))[:3000], 'cannot unpack|damaged'),
    'tar.gz: truncated': (lambda: taped(('a', b'x' * 9999), packed=True)[:-40], 'unpack'),
    'tar.gz: rubbish': (lambda: b'\x1f\x8b rubbish', 'unpack'),
    'neither': (lambda: b'7z\xbc\xaf rubbish', 'cannot unpack'),
    'empty': (lambda: b'', 'cannot unpack'),
}  # fmt: skip


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_archive_writes_nothing(name, tmp_path, figure):
    make, cause = HOSTILE[name]
    path = tmp_path / 'deep' / 'archive'
    path.parent.mkdir()
    path.write_bytes(make())
    with pytest.raises(DataError, match=cause) as caught:
        extract(path, tmp_path / 'deep' / 'unpacked')
    assert '\n' not in str(caught.value)
    assert str(path) in str(caught.value)
    assert [each.name for each in tmp_path.rglob('*')] == ['deep', 'archive']
    figure('refused, nothing written')


@pytest.mark.parametrize('pack', [zipped, taped, lambda *a: taped(*a, packed=True)])
def test_a_good_archive_is_unpacked_and_nothing_is_executable(pack, tmp_path):
    path = tmp_path / 'good'
    path.write_bytes(pack(('./a/b.txt', b'hello'), ('a/ç.txt', b''), ('c', b'x' * 3_000_000)))
    target = extract(path, tmp_path / 'unpacked')
    assert (target / 'a/b.txt').read_bytes() == b'hello'
    assert (target / 'c').stat().st_size == 3_000_000
    assert sorted(each.name for each in target.rglob('*')) == ['a', 'b.txt', 'c', 'ç.txt']
    assert not any(each.stat().st_mode & 0o111 for each in target.rglob('*') if each.is_file())


def test_folders_of_an_archive_may_be_listed(tmp_path):
    path = tmp_path / 'good.tar'
    path.write_bytes(
        taped(('./', b'', tarfile.DIRTYPE), ('a/', b'', tarfile.DIRTYPE), ('a/b', b'x'))
    )
    assert (extract(path, tmp_path / 'unpacked') / 'a/b').read_bytes() == b'x'
    path.write_bytes(zipped(('a/', b''), ('a/b', b'x')))
    assert (extract(path, tmp_path / 'zip') / 'a/b').read_bytes() == b'x'


def test_very_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'MOST_ENTRIES', 3)
    path = tmp_path / 'many'
    path.write_bytes(zipped(*((str(number), b'') for number in range(4))))
    with pytest.raises(DataError, match='more than'):
        extract(path, tmp_path / 'unpacked')
