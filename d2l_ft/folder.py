"""An image folder as a checked, ordered list of samples and classes, the same for any framework.

One folder a class, the classes sorted by name, the files of a class sorted by name. What happens to

* files in deeper folders, hidden files and folders, what systems and our runs leave, links that
  lead back, other suffixes than .jpg .jpeg .png, and files beside the class folders: skipped, and
  counted in one note, which also says what serves as the test part and what is not used;
* a class without images, fewer than two classes, different classes in train and test: an error;
* a file that is not whole, is no JPEG or PNG inside, is larger than ``LARGEST`` pixels, cannot be
  opened, or is a dangling link: an error that names it, before training starts, or left out if
  the user asks for that (``without_bad``).
"""

import errno
import glob
import hashlib
import os
import re
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.augment import generator, pixels
from d2l_ft.checked import Checked
from d2l_ft.devices import usable_cores
from d2l_ft.errors import DataError
from d2l_ft.files import lock_file
from d2l_ft.formats import Structure, structure
from d2l_ft.interface import Sample
from d2l_ft.messages import SHOWN, listed, listed_only, look, quoted
from d2l_ft.opencv import LARGEST, cv2

SUFFIXES = ('.jpg', '.jpeg', '.png')
"""Compared in lower case; what Gluon's ImageFolderDataset takes."""

LARGEST_FILE = 1 << 29
"""Bytes of the largest file that is read: three a pixel of the largest image."""

BIG = 1 << 24
"""Pixels, or bytes, from which files are read and decoded one after the other."""

BIG_LOCK = threading.Lock()
BATCH = 1000
"""Images that wait for a thread at once: each takes 2 KiB, the path aside."""

ODD = {
    'other format': 'another format than the name says: the content counts',
    'CMYK': 'CMYK: converted to RGB',
    '16 bits': '16 bits: the upper 8 are kept',
    'palette': 'palette: looked up',
    'alpha': 'alpha: dropped',
    'animated': 'several pictures in a file: the first counts',
    'EXIF': 'turned as EXIF says',
}
"""Kinds of good images of which ``data check`` tells what becomes of them."""

PICTURES = frozenset(
    ['.webp', '.bmp', '.tif', '.tiff', '.gif', '.heic', '.heif', '.avif', '.jfif', '.jpe', '.jp2',
     '.jxl', '.dng', '.cr2', '.nef', '.arw']
)  # fmt: skip
"""Suffixes of pictures that are not read."""

JUNK = frozenset(
    ['__macosx', '@eadir', '#recycle', '$recycle.bin', 'system volume information', 'lost+found',
     'thumbs.db', 'ehthumbs.db', 'desktop.ini', 'icon\r']
)  # fmt: skip
"""What systems leave in folders, in lower case."""

TRAIN_NAMES = ('train', 'training')
TEST_NAMES = ('test', 'testing', 'val', 'valid', 'validation')
"""Names of the parts, in any case; the first that there is serves."""

DEEPEST = 4
"""Levels at which a data set is looked for that is not in the folder itself."""

MOST_KINDS = 10
"""Kinds of what was skipped that a note has."""

UNEVEN = 10
"""Times as many images as another class has, from which that is told."""

HELD_OUT = 0.2
HELD_OUT_NOTE = 'no test part, so a fifth of each class is held out'
"""Share of each class that is held out for testing if a folder has no test part."""

STREAM_SPLIT = 2


@dataclass(frozen=True)
class ImageFolder:
    """A part of a data set.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted; a label is an index into it.
        samples: Images, by class, then by name.
        skipped: What was passed over: kind -> number of files or folders.
        remarks: What else is to be told, such as what serves as the test part.
    """

    root: str
    classes: list[str]
    samples: list[Sample]
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def note(self) -> str:
        """Return one line on what was skipped and what is remarkable, or nothing."""
        lines = list(self.remarks)
        if self.skipped:
            every = sorted(self.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
            text = ', '.join(f'{number} {kind}' for kind, number in every[:MOST_KINDS])
            if rest := sum(number for _, number in every[MOST_KINDS:]):
                text += f', {rest} others'
            lines.append(f'skipped {text}')
        return f'{self.root}: {"; ".join(lines)}' if lines else ''


def scan(root: str | os.PathLike[str], fewest: int = 2) -> ImageFolder:
    """List the images of a folder with one folder a class.

    Args:
        root: The folder.
        fewest: Classes that it must have.

    Raises:
        DataError: No such folder, fewer classes, or a class without images.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f'{folder} is not a folder: give one with a folder of images per class')
    skipped: dict[str, int] = {}
    classes: list[str] = []
    samples: list[Sample] = []
    for entry in _entries(folder, skipped):
        if not _is_folder(entry):
            _count(skipped, 'files beside the class folders')
            continue
        images = _images(Path(entry.path), skipped)
        if not images:
            raise DataError(_without_images(Path(entry.path)))
        samples += [Sample(path, len(classes)) for path in images]
        classes.append(entry.name)
    if len(classes) < fewest:
        raise DataError(
            f'{folder} has {len(classes)} class folder(s) with images, and at least '
            f'{fewest} are needed: put the images of each class into a folder of its own'
        )
    remarks = []
    lost = {kind: skipped.pop(kind) for kind in sorted(PICTURES & set(skipped))}
    if lost:
        count = sum(lost.values())
        remarks.append(
            f'{count} of {count + len(samples)} pictures are not used, as only '
            f'{" ".join(SUFFIXES)} are read: {_numbers(lost)}'
        )
    looks = Counter(map(look, classes))
    if alike := [name for name in classes if looks[look(name)] > 1]:
        remarks.append(f'classes that look the same: {listed(alike)}')
    return ImageFolder(str(folder), classes, samples, skipped, remarks)


def _numbers(counts: Mapping[str, int]) -> str:
    """Return counts of kinds in words, the largest first."""
    return ', '.join(
        f'{number} {kind}' for kind, number in sorted(counts.items(), key=lambda pair: -pair[1])
    )


def _without_images(folder: Path) -> str:
    """Return the message on a class folder without images: what is there, and what to do."""
    skipped: dict[str, int] = {}
    _images(folder, skipped)
    head = f'the class {quoted(folder.name)} of {folder.parent} has no image'
    lost = {kind: skipped[kind] for kind in sorted(PICTURES & set(skipped))}
    if lost:
        return f'{head} that can be read, but {_numbers(lost)}: convert them to .jpg or .png'
    if 'nested folders' in skipped:
        return (
            f'{head} in it, only folders: move the images of each class right into its folder, '
            f'or move {folder.name} elsewhere if it is no class'
        )
    if os.listdir(folder):
        return f'{head}: add some ({", ".join(SUFFIXES)}), or move the folder elsewhere'
    return f'{head}: add some ({", ".join(SUFFIXES)}), or remove the empty folder'


def _entries(folder: Path, skipped: dict[str, int]) -> list[os.DirEntry[str]]:
    """List a folder by name, without what is no data: hidden, of the system, or our runs."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f'cannot list {folder}: {error.strerror}') from error
    shown = []
    for entry in entries:
        if entry.name.startswith('.'):
            _count(skipped, 'hidden')
        elif entry.name.lower() in JUNK:
            _count(skipped, 'files and folders of the system')
        elif entry.is_symlink() and _leads_back(entry.path):
            _count(skipped, 'links that lead back')
        elif _is_folder(entry) and _has_runs(Path(entry.path)):
            _count(skipped, 'folders of runs')
        else:
            shown.append(entry)
    return shown


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or leads to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to what cannot be looked at
        return False


def _leads_back(link: str) -> bool:
    """Tell whether a link is a loop, or leads to a folder that it lies in."""
    try:
        target = os.path.realpath(link, strict=True)
    except OSError as error:
        return error.errno == errno.ELOOP
    inside = os.path.join(os.path.realpath(os.path.dirname(link)), '')
    return inside.startswith(os.path.join(target, ''))


def _has_runs(folder: Path) -> bool:
    """Tell whether a folder is a run directory or has some, by their files."""
    return _is_run(folder) or any(map(_is_run, _subfolders(folder)))


def _is_run(folder: Path) -> bool:
    """Tell whether a folder is a run directory, which may have just begun."""
    config = folder / 'config.json'
    begun = any((folder / name).exists() for name in ('metrics.jsonl', 'checkpoints'))
    return os.path.exists(lock_file(config)) or (begun and os.path.exists(config))


def _subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, hidden ones and links aside; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            found = [each for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [
        Path(each.path)
        for each in sorted(found, key=lambda each: each.name)
        if not each.name.startswith('.') and each.name.lower() not in JUNK
    ]


def _images(folder: Path, skipped: dict[str, int]) -> list[str]:
    """List the image files of one class."""
    images = []
    for entry in _entries(folder, skipped):
        suffix = os.path.splitext(entry.name)[1].lower()
        if _is_folder(entry):
            _count(skipped, 'nested folders')
        elif suffix in SUFFIXES:
            images.append(entry.path)
        elif re.fullmatch(r'\.[a-z0-9]{1,5}', suffix):
            _count(skipped, suffix)
        else:
            _count(skipped, 'files of unknown kind')
    return images


def _count(skipped: dict[str, int], kind: str, number: int = 1) -> None:
    """Add to the count of a kind."""
    skipped[kind] = skipped.get(kind, 0) + number


class Verdict(NamedTuple):
    """What was found of an image file.

    Attributes:
        problem: What is wrong with it, or nothing.
        odd: Which kinds of ODD it is.
        content: SHA-256 of a good file.
    """

    problem: str
    odd: Sequence[str] = ()
    content: str = ''


def inspect_image(path: str) -> Verdict:
    """Read and decode an image file.

    Good is what the loader decodes, which is asked itself, if it is also whole and not too large.
    OpenCV 4.11 and 5 refuse a truncated JPEG, but it is not left to them. The size is read before,
    and large ones are decoded one after the other. Whoever changes what is good gives
    ``checked.RULES`` another number.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or device would block the reader for ever
            return Verdict('is not a regular file')
        if status.st_size == 0:
            return Verdict('is empty')
        if status.st_size > LARGEST_FILE:
            return Verdict(f'has {status.st_size >> 20} MiB, which is too large')
        with BIG_LOCK if status.st_size > BIG else nullcontext():
            data = np.fromfile(path, dtype=np.uint8)
            found = structure(data.tobytes())
            if found is None:
                return Verdict('is no JPEG or PNG image')
            size = found.width * found.height
            if size > LARGEST:
                return Verdict(f'has {found.width} x {found.height} pixels, which is too large')
            if found.cut:
                return Verdict('is truncated')
            with BIG_LOCK if size > BIG >= status.st_size else nullcontext():
                if pixels(data) is None:
                    return Verdict('does not decode: it is damaged, or of a kind that OpenCV lacks')
                content = hashlib.sha256(data.data).hexdigest()
                if 'EXIF' in found.odd and not is_turned(data, found):
                    found.odd.remove('EXIF')
    except FileNotFoundError:
        return Verdict('does not exist')
    except (OSError, MemoryError) as error:
        if getattr(error, 'errno', None) in (errno.EMFILE, errno.ENFILE):
            raise  # the process is what lacks something, not the image
        return Verdict(
            f'cannot be read ({getattr(error, "strerror", None) or "too little memory"})'
        )
    if found.format != ('PNG' if path.lower().endswith('.png') else 'JPEG'):
        found.odd.add('other format')
    return Verdict('', [kind for kind in ODD if kind in found.odd], content)


def is_turned(data: NDArray[np.uint8], found: Structure) -> bool:
    """Tell whether the loader's decoder turns or mirrors a picture, by its EXIF.

    The decoder is asked, as it does not read all EXIF that there is: where that can be, by a tiny
    picture that has the metadata of the file.
    """
    files = [data]
    if found.metadata:
        picture = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
        tiny = cv2.imencode('.jpg', picture)[1].tobytes()
        files.insert(0, np.frombuffer(b''.join([tiny[:2], *found.metadata, tiny[2:]]), np.uint8))
    for each in files:
        plain = pixels(each, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        turned = pixels(each)
        if plain is not None and turned is not None:
            return not np.array_equal(plain, turned)
    return False


@dataclass
class Inspection:
    """What was found in a part of a data set.

    Attributes:
        problems: One text per sample, empty for a good one.
        odd: Kind of ODD -> paths.
    """

    problems: list[str]
    odd: dict[str, list[str]]


@contextmanager
def silent_decoders() -> Iterator[Any]:
    """Keep the lines of libpng and libjpeg, which name no file, off the terminal.

    They write to the descriptor of stderr; yields a file in its place for all else.
    """
    try:
        shown = os.fdopen(os.dup(2), 'w')
    except OSError:  # there is no stderr
        yield sys.stderr
        return
    with shown:
        try:
            own = sys.stderr.fileno() == 2
        except (AttributeError, OSError, ValueError):  # something else was put in its place
            own = False
        if own:
            sys.stderr.flush()
        with open(os.devnull, 'w') as nothing:
            os.dup2(nothing.fileno(), 2)
        try:
            yield shown if own else sys.stderr
        finally:
            shown.flush()
            os.dup2(shown.fileno(), 2)


def inspect_images(
    samples: Iterable[Sample], bar: bool = True, checked: Checked | None = None
) -> Inspection:
    """Decode the images of a part.

    Args:
        samples: The images.
        bar: Whether to show progress; it needs a terminal too.
        checked: Images in it are good without being decoded, and none of their oddities is told;
            what is found good is added.
    """
    paths = [sample.path for sample in samples]
    todo = paths if checked is None else checked.unknown(paths)
    problems: dict[str, str] = {}
    odd: dict[str, list[str]] = {}
    # OpenCV decodes outside Python's lock
    with silent_decoders() as shown, ThreadPoolExecutor(usable_cores()) as pool:
        starts = range(0, len(todo), BATCH)
        found = tqdm(
            (each for i in starts for each in pool.map(inspect_image, todo[i : i + BATCH])),
            total=len(todo),
            desc='check images',
            unit='image',
            leave=False,
            file=shown,
            disable=None if bar else True,
        )
        for path, (problem, kinds, content) in zip(todo, found, strict=True):
            if problem:
                problems[path] = problem
            elif checked is not None:
                checked.add(path, content)
            for kind in kinds:
                odd.setdefault(kind, []).append(path)
    return Inspection([problems.get(path, '') for path in paths], odd)


def bad_images(
    samples: Iterable[Sample], bar: bool = True, checked: Checked | None = None
) -> list[str]:
    """Check every image and return one line for each bad one, in the samples' order."""
    listed = list(samples)
    problems = inspect_images(listed, bar, checked).problems
    return [f'{each.path} {text}' for each, text in zip(listed, problems, strict=True) if text]


def check_images(
    samples: Iterable[Sample], bar: bool = True, hint: str = '', checked: Checked | None = None
) -> None:
    """Check every image.

    Args:
        samples: The images.
        bar: Whether to show progress; it needs a terminal too.
        hint: What the user can do besides mending them.
        checked: As for ``inspect_images``.

    Raises:
        DataError: Names the first bad images and counts the rest.
    """
    if bad := bad_images(samples, bar, checked):
        more = f' and {len(bad) - SHOWN} more' if len(bad) > SHOWN else ''
        raise DataError(
            f'{len(bad)} bad image(s), to be mended or removed{hint}: '
            f'{"; ".join(bad[:SHOWN])}{more}'
        )


def find_images(names: Iterable[str], listed: BinaryIO) -> list[tuple[str, str]]:
    """Return the images that a command line names, each with what is wrong with its name.

    Args:
        names: Files; folders, of which all images are taken; patterns of ``glob``; or '-'.
        listed: Has such names, one a line; read for '-'.
    """
    found = []
    for name in names:
        if name == '-':
            lines = (os.fsdecode(line.rstrip(b'\r\n')) for line in listed)
            found += [each for line in lines if line for each in _named(line)]
        else:
            found += _named(name)
    return found


def _named(name: str) -> list[tuple[str, str]]:
    """Return the images that one name stands for."""
    matches = [name]
    if not os.path.lexists(name) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True)) or matches
    found = []
    for match in matches:
        found += _below(match) if os.path.isdir(match) else [(match, '')]
    return found


def _below(folder: str) -> list[tuple[str, str]]:
    """Return the images of a folder and of those in it, by name, without what is hidden."""
    found, problems = [], []

    def refused(error: OSError) -> None:
        problems.append((error.filename, f'cannot be listed ({error.strerror})'))

    for place, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(each for each in folders if not each.startswith('.'))
        found += [
            (os.path.join(place, each), '')
            for each in sorted(files)
            if not each.startswith('.') and os.path.splitext(each)[1].lower() in SUFFIXES
        ]
    if not found and not problems:
        problems = [(folder, f'has no image ({", ".join(SUFFIXES)})')]
    return found + problems


def without_bad(
    folder: ImageFolder, bar: bool = True, checked: Checked | None = None
) -> tuple[ImageFolder, list[str]]:
    """Return a part without its bad images, and one line for each that was left out.

    Raises:
        DataError: No image of a class is good.
    """
    problems = inspect_images(folder.samples, bar, checked).problems
    pairs = list(zip(folder.samples, problems, strict=True))
    good = [sample for sample, text in pairs if not text]
    left = {sample.label for sample in good}
    for label, name in enumerate(folder.classes):
        if label not in left:
            raise DataError(f'no image of the class {name!r} in {folder.root} is good')
    left_out = [f'{sample.path} {text}' for sample, text in pairs if text]
    return replace(folder, samples=good), left_out


def split(folder: ImageFolder, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Hold out a fifth of each class, at least one image, for testing.

    Raises:
        DataError: A class has one image only.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    by_label: list[list[Sample]] = [[] for _ in folder.classes]
    for sample in folder.samples:
        by_label[sample.label].append(sample)
    for label, (name, images) in enumerate(zip(folder.classes, by_label, strict=True)):
        if len(images) < 2:
            raise DataError(
                f'the class {name!r} of {folder.root} has one image, which cannot be '
                'split: add images, or make the folders train/ and test/'
            )
        order = generator(seed, STREAM_SPLIT, 0, label).permutation(len(images))
        held = set(order[: max(1, round(len(images) * HELD_OUT))].tolist())
        for number, sample in enumerate(images):
            (test if number in held else train).append(sample)
    return (
        replace(folder, samples=train, remarks=[*folder.remarks, HELD_OUT_NOTE]),
        ImageFolder(folder.root, folder.classes, test),
    )


class Parts(NamedTuple):
    """The folders of a data set.

    Attributes:
        train: That of the training part, or None where the class folders are in the data set's.
        test: That of the test part, or None.
        remarks: What is used and what is not, where that is not plain.
    """

    train: Path | None
    test: Path | None
    remarks: list[str]


def find_parts(folder: Path) -> Parts:
    """Find the parts of a data set: a folder ``train`` with classes, and one to test on.

    Raises:
        DataError: As ``part_folders``.
    """
    named = part_folders(folder)
    train = next((each for each in named if _part(each) in TRAIN_NAMES), None)
    tests = [each for each in named if each != train and _part(each) in TEST_NAMES]
    labelled = [each for each in tests if train and _has_labels(each, train)]
    if train is None or not (labelled or _has_classes(train)):
        return Parts(None, None, [])
    test = labelled[0] if labelled else None
    others = [Path(each.path) for each in _entries(folder, {}) if _is_folder(each)]
    remarks = [
        f'{each.name}/ is not used'
        + (': it has no folders of classes' if each in tests and each not in labelled else '')
        for each in others
        if each not in (train, test)
    ]
    if len(remarks) > SHOWN:
        remarks[SHOWN:] = [f'{len(remarks) - SHOWN} more folders are not used']
    if test is not None and (test.name != 'test' or remarks):
        remarks.insert(0, f'{test.name}/ is the test part')
    return Parts(train, test, remarks)


def load_folders(root: str | os.PathLike[str], seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Return the train and test part of a data set; images are not checked yet.

    Args:
        root: A folder with ``train/`` and ``test/`` (or ``val/``, ...), or with the class folders.
        seed: Seed of the split where there is no test part.

    Raises:
        DataError: As ``scan`` and ``split``; or the parts have different classes, or there are
            folders of both parts without classes.
    """
    folder = Path(root)
    parts = find_parts(folder)
    if parts.train is None:
        return split(_scan_whole(folder), seed)
    train = scan(parts.train)
    train = replace(train, remarks=[*parts.remarks, *train.remarks])
    if parts.test is None:
        return split(train, seed)
    test = scan(parts.test)
    here, there = set(train.classes), set(test.classes)
    if here != there:
        raise DataError(
            f'{parts.train.name} and {parts.test.name} of {folder} must have the same classes; '
            f'only in {parts.train.name}: {listed_only(here, there)}; only in {parts.test.name}: '
            f'{listed_only(there, here)}'
        )
    return train, test


def to_test(root: str | os.PathLike[str]) -> tuple[ImageFolder, str]:
    """Return the images of a data set on which a net is tested that was trained on another one.

    One class is enough.

    Returns:
        The test part, or all images where there is none; and in words which they are.

    Raises:
        DataError: As ``scan``.
    """
    folder = Path(root)
    parts = find_parts(folder)
    if parts.test is not None:
        return scan(parts.test, fewest=1), f'the test part of {folder}'
    part = _scan_whole(folder, fewest=1) if parts.train is None else scan(parts.train, fewest=1)
    return part, f'all of {folder}'


def _part(folder: Path) -> str:
    """Return the name of a folder as that of a part is compared."""
    return folder.name.casefold()


def part_folders(folder: Path) -> list[Path]:
    """Return the folders that have the name of a part, the preferred ones first.

    Raises:
        DataError: Two have the same but for upper and lower case, and neither is in lower case.
    """
    order = [*TRAIN_NAMES, *TEST_NAMES]
    try:
        names = [name for name in os.listdir(folder) if name.casefold() in order]
    except OSError:  # whoever lists it next will tell
        return []
    found = [folder / name for name in names if os.path.isdir(folder / name)]
    for name in order:
        same = sorted(each.name for each in found if _part(each) == name)
        if len(same) > 1 and name not in same:
            raise DataError(
                f'{folder} has {listed(same)}: rename the one that is meant to {quoted(name)}'
            )
    return sorted(found, key=lambda each: (order.index(_part(each)), each.name != _part(each)))


def _has_images(folder: Path) -> bool:
    """Tell whether there is an image right in a folder."""
    try:
        with os.scandir(folder) as entries:
            return any(
                os.path.splitext(each.name)[1].lower() in SUFFIXES and each.name[0] != '.'
                for each in entries
            )
    except OSError:
        return False


def _class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that have images right in them."""
    entries = [entry for entry in _entries(folder, {}) if _is_folder(entry)]
    return [entry.name for entry in entries if _has_images(Path(entry.path))]


def _has_classes(folder: Path) -> bool:
    """Tell whether a folder is a part rather than a class: it has folders of images, and none."""
    return not _has_images(folder) and bool(_class_folders(folder))


def _has_labels(test: Path, train: Path) -> bool:
    """Tell whether a test folder has classes: more than one, or one of the training part."""
    found = _class_folders(test)
    return len(found) > 1 or bool(set(found) & set(_class_folders(train)))


def _scan_whole(folder: Path, fewest: int = 2) -> ImageFolder:
    """List the images of a folder without parts, or tell where a data set seems to be."""
    named = part_folders(folder)
    entries = _entries(folder, {}) if os.path.isdir(folder) else []
    inner = [Path(each.path) for each in entries if _is_folder(each)]
    if len(named) > 1 and set(inner) == set(named):
        raise DataError(
            f'{listed(each.name for each in named)} of {folder} have no folders of classes: put '
            'the images of each class into a folder of its own, in each of them'
        )
    if not any(map(_has_images, inner)) and (likely := _data_set_below(folder)):
        raise DataError(
            f'{folder} has no class folders with images, but {likely} has: give  {likely}  instead'
        )
    return scan(folder, fewest)


def _data_set_below(folder: Path) -> Path | None:
    """Return the only folder below that seems to be a data set, at the first level with any."""
    level = [folder]
    for _ in range(DEEPEST):
        level = [each for parent in level for each in _subfolders(parent)]
        sets = [each for each in level if _is_data_set(each)]
        if sets:
            return sets[0] if len(sets) == 1 else None
    return None


def _is_data_set(folder: Path) -> bool:
    """Tell whether a folder has class folders, or a training part that has."""
    parts = [each for each in part_folders(folder) if _part(each) in TRAIN_NAMES]
    return any(map(_has_classes, parts)) or len(_class_folders(folder)) > 1


def remarks(train: ImageFolder, test: ImageFolder, hashes: Mapping[str, str]) -> list[str]:
    """Return lines on what would make the numbers of a training say less than they seem to.

    Args:
        train: The training part.
        test: The test part.
        hashes: Path -> hash of the content; images without are left out.
    """
    lines = []
    same: dict[str, list[tuple[str, Sample]]] = {}
    for name, part in (('train', train), ('test', test)):
        for sample in part.samples:
            if sample.path in hashes:
                same.setdefault(hashes[sample.path], []).append((name, sample))
    groups = [group for group in same.values() if len(group) > 1]
    across = [group for group in groups if len({name for name, _ in group}) > 1]
    differ = [group for group in groups if len({sample.label for _, sample in group}) > 1]
    for text, found in (('both in train and in test', across), ('in more than one class', differ)):
        if found:
            (first, one), *rest = found[0]
            other = next(
                sample.path
                for name, sample in rest
                if (name != first if found is across else sample.label != one.label)
            )
            more = ', ...' if len(found) > 1 else ''
            lines.append(f'{len(found)} picture(s) {text}, to the byte: {one.path} = {other}{more}')
    counts = Counter(sample.label for sample in train.samples)
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if largest > UNEVEN * smallest:
        lines.append(
            f'the class {quoted(train.classes[most])} has {largest} images to train on and '
            f'{quoted(train.classes[least])} {smallest}: the accuracy says little of the latter'
        )
    return lines
