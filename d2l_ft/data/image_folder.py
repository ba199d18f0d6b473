"""An image folder as an ordered list of samples and classes, the same for every framework.

Each class is a folder; classes are sorted by name, and so are the files of a class.

* Skipped, and counted in one note: files in deeper folders, hidden files and folders, files of the
  operating system, run directories, links that lead back, other suffixes than .jpg .jpeg .png, and
  files beside the class folders. The note also says which folder is the test part and which are
  not used.
* An error: a class without images, fewer than two classes, different classes in train and test.
* An error that names the file before training starts, unless the user asks to leave such files out
  (``drop_bad_images``): a file that is truncated, has another format than JPEG and PNG, has more
  than ``LARGEST`` pixels, cannot be opened, or is a dangling link.
"""

import errno
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from d2l_ft.data.sampling import generator
from d2l_ft.errors import DataError
from d2l_ft.storage.locks import lock_file
from d2l_ft.system.console import appearance, list_names, quote

SUFFIXES = ('.jpg', '.jpeg', '.png')
"""Compared in lower case; what Gluon's ImageFolderDataset takes."""

PICTURES = frozenset(
    ['.webp', '.bmp', '.tif', '.tiff', '.gif', '.heic', '.heif', '.avif', '.jfif', '.jpe', '.jp2',
     '.jxl', '.dng', '.cr2', '.nef', '.arw']
)  # fmt: skip
"""Suffixes of image formats that are not read; a remark tells how many such files there are."""

JUNK = frozenset(
    ['__macosx', '@eadir', '#recycle', '$recycle.bin', 'system volume information', 'lost+found',
     'thumbs.db', 'ehthumbs.db', 'desktop.ini', 'icon\r']
)  # fmt: skip
"""Names of files and folders that operating systems and NAS devices leave, in lower case."""

MOST_KINDS = 10
"""How many kinds of skipped files a note lists."""

UNEVEN = 10
"""A remark is made if a class has more than this many times the images of another one."""

HELD_OUT = 0.2
"""Share of each class that is held out for testing if a folder has no test part."""

HELD_OUT_NOTE = 'no test part, so a fifth of each class is held out'

STREAM_SPLIT = 2
"""The random stream of the split; ``sampling`` has those of crops and order."""


@dataclass(frozen=True)
class Sample:
    """One labelled image file: its path and the index of its class.

    Example:
        >>> d2l.Sample('photos/train/dark/00.jpg', label=0)
        Sample(path='photos/train/dark/00.jpg', label=0)
    """

    path: str
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """A part of a data set.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted; a label is an index into it.
        samples: Images, by class, then by name.
        skipped: Kind -> number of files or folders that were skipped.
        remarks: What else the user should know, such as which folder is the test part.
    """

    root: str
    classes: list[str]
    samples: list[Sample]
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def note(self) -> str:
        """Return one line with the remarks and what was skipped, or ''."""
        lines = list(self.remarks)
        if self.skipped:
            every = sorted(self.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
            text = ', '.join(f'{number} {kind}' for kind, number in every[:MOST_KINDS])
            if rest := sum(number for _, number in every[MOST_KINDS:]):
                text += f', {rest} others'
            lines.append(f'skipped {text}')
        return f'{self.root}: {"; ".join(lines)}' if lines else ''


def scan(root: str | os.PathLike[str], fewest: int = 2) -> ImageFolder:
    """List the images of a folder that has a folder for each class.

    Args:
        root: The folder.
        fewest: Least number of classes.

    Raises:
        DataError: No such folder, fewer classes, or a class without images.
    """
    # List the classes and their images
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f'{folder} is not a folder: give one with a folder of images per class')
    skipped: dict[str, int] = {}
    classes: list[str] = []
    samples: list[Sample] = []
    for entry in list_entries(folder, skipped):
        if not is_folder(entry):
            _count(skipped, 'files beside the class folders')
            continue
        images = _images(Path(entry.path), skipped)
        if not images:
            raise DataError(_no_images_message(Path(entry.path)))
        samples += [Sample(path, len(classes)) for path in images]
        classes.append(entry.name)
    if len(classes) < fewest:
        raise DataError(
            f'{folder} has {len(classes)} class folder(s) with images, and at least '
            f'{fewest} are needed: put the images of each class into a folder of its own'
        )

    # Remark on what the user may not expect
    remarks = []
    lost = {kind: skipped.pop(kind) for kind in sorted(PICTURES & set(skipped))}
    if lost:
        count = sum(lost.values())
        remarks.append(
            f'{count} of {count + len(samples)} images are not used, as only '
            f'{" ".join(SUFFIXES)} are read: {_describe_counts(lost)}'
        )
    looks = Counter(map(appearance, classes))
    if alike := [name for name in classes if looks[appearance(name)] > 1]:
        remarks.append(f'classes that look the same: {list_names(alike)}')
    return ImageFolder(str(folder), classes, samples, skipped, remarks)


def _describe_counts(counts: Mapping[str, int]) -> str:
    """Return the counts of kinds as a text, the largest first."""
    return ', '.join(
        f'{number} {kind}' for kind, number in sorted(counts.items(), key=lambda pair: -pair[1])
    )


def _no_images_message(folder: Path) -> str:
    """Return the error message for a class folder without images: what it has, and what to do."""
    skipped: dict[str, int] = {}
    _images(folder, skipped)
    head = f'the class {quote(folder.name)} of {folder.parent} has no image'
    lost = {kind: skipped[kind] for kind in sorted(PICTURES & set(skipped))}
    if lost:
        return (
            f'{head} that can be read, but {_describe_counts(lost)}: convert them to .jpg or .png'
        )
    if 'nested folders' in skipped:
        return (
            f'{head} in it, only folders: move the images of each class right into its folder, '
            f'or move {folder.name} elsewhere if it is no class'
        )
    if os.listdir(folder):
        return f'{head}: add some ({", ".join(SUFFIXES)}), or move the folder elsewhere'
    return f'{head}: add some ({", ".join(SUFFIXES)}), or remove the empty folder'


def list_entries(folder: Path, skipped: dict[str, int]) -> list[os.DirEntry[str]]:
    """List a folder, sorted by name.

    Args:
        folder: The folder.
        skipped: Hidden entries, files of the system, links that lead back and run directories are
            left out, and counted here.

    Raises:
        DataError: The folder cannot be listed.
    """
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
        elif is_folder(entry) and _has_runs(Path(entry.path)):
            _count(skipped, 'folders of runs')
        else:
            shown.append(entry)
    return shown


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder that may not be read
        return False


def _leads_back(link: str) -> bool:
    """Tell whether a link is a loop, or leads to a folder that contains it."""
    try:
        target = os.path.realpath(link, strict=True)
    except OSError as error:
        return error.errno == errno.ELOOP
    inside = os.path.join(os.path.realpath(os.path.dirname(link)), '')
    return inside.startswith(os.path.join(target, ''))


def _has_runs(folder: Path) -> bool:
    """Tell by the files whether a folder is a run directory or contains one."""
    return _is_run(folder) or any(map(_is_run, list_subfolders(folder)))


def _is_run(folder: Path) -> bool:
    """Tell whether a folder is a run directory, also one whose run has just started."""
    config = folder / 'config.json'
    started = any((folder / name).exists() for name in ('metrics.jsonl', 'checkpoints'))
    return os.path.exists(lock_file(config)) or (started and os.path.exists(config))


def list_subfolders(folder: Path) -> list[Path]:
    """List the subfolders without hidden ones and links; [] if the folder cannot be listed."""
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
    for entry in list_entries(folder, skipped):
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_folder(entry):
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


def split(folder: ImageFolder, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Hold out a fifth of each class, at least one image, for testing.

    Raises:
        DataError: A class has only one image.
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
        # a stream for each class: images that are added to one change no other class's split
        order = generator(seed, STREAM_SPLIT, 0, label).permutation(len(images))
        held = set(order[: max(1, round(len(images) * HELD_OUT))].tolist())
        for number, sample in enumerate(images):
            (test if number in held else train).append(sample)
    return (
        replace(folder, samples=train, remarks=[*folder.remarks, HELD_OUT_NOTE]),
        ImageFolder(folder.root, folder.classes, test),
    )


def remarks(train: ImageFolder, test: ImageFolder, hashes: Mapping[str, str]) -> list[str]:
    """Return lines on what would make the accuracies of a run misleading.

    Args:
        train: The training part.
        test: The test part.
        hashes: Path -> hash of the content; images without one are not compared.
    """
    # Images in both parts make the accuracy too good; with two labels they contradict themselves
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
            (first, one), *rest = found[0]  # one pair of files is shown
            other = next(
                sample.path
                for name, sample in rest
                if (name != first if found is across else sample.label != one.label)
            )
            more = ', ...' if len(found) > 1 else ''
            lines.append(f'{len(found)} image(s) {text}, to the byte: {one.path} = {other}{more}')

    # Classes of very different sizes
    counts = Counter(sample.label for sample in train.samples)
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if largest > UNEVEN * smallest:
        lines.append(
            f'the class {quote(train.classes[most])} has {largest} images to train on and '
            f'{quote(train.classes[least])} {smallest}: the accuracy says little of the latter'
        )
    return lines
