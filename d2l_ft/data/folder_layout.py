"""Find the parts of a data set in a folder: train/, test/, val/, or none of them."""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from d2l_ft.data.image_folder import (
    SUFFIXES,
    ImageFolder,
    is_folder,
    list_entries,
    list_subfolders,
    scan,
    split,
)
from d2l_ft.errors import DataError
from d2l_ft.system.console import SHOWN, list_difference, list_names, quote

TRAIN_NAMES = ('train', 'training')

TEST_NAMES = ('test', 'testing', 'val', 'valid', 'validation')
"""Names of the parts, in upper or lower case; the first name that exists counts."""

DEEPEST = 4
"""How many levels below a folder are searched for a data set, to name it in the error."""


class Parts(NamedTuple):
    """The folders of a data set.

    Attributes:
        train: The training part; None if the class folders are in the data set's folder itself.
        test: The test part, or None.
        remarks: Which folders are used and which are not, if that is not obvious.
    """

    train: Path | None
    test: Path | None
    remarks: list[str]


def find_parts(folder: Path) -> Parts:
    """Find the parts of a data set: a folder ``train`` with classes, and one to test on.

    Raises:
        DataError: As ``part_folders``.
    """
    parts = part_folders(folder)
    train = next((each for each in parts if _part_name(each) in TRAIN_NAMES), None)
    tests = [each for each in parts if each != train and _part_name(each) in TEST_NAMES]
    # a test folder of a competition often has images without classes: it cannot be the test part
    with_classes = [each for each in tests if train and _has_labels(each, train)]
    if train is None or not (with_classes or _has_classes(train)):
        return Parts(None, None, [])
    test = with_classes[0] if with_classes else None
    others = [Path(each.path) for each in list_entries(folder, {}) if is_folder(each)]
    remarks = [
        f'{each.name}/ is not used'
        + (': it has no folders of classes' if each in tests and each not in with_classes else '')
        for each in others
        if each not in (train, test)
    ]
    if len(remarks) > SHOWN:
        remarks[SHOWN:] = [f'{len(remarks) - SHOWN} more folders are not used']
    if test is not None and (test.name != 'test' or remarks):
        remarks.insert(0, f'{test.name}/ is the test part')
    return Parts(train, test, remarks)


def load_folders(root: str | os.PathLike[str], *, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and test part of a data set; the images are not checked.

    Args:
        root: A folder with ``train/`` and ``test/`` (or ``val/``, ...), or with the class folders.
        seed: Seed of the split where there is no test part.

    Raises:
        DataError: As ``scan`` and ``split``; or the parts have different classes, or there are
            folders of both parts without classes.

    Example:
        >>> train, test = d2l.load_folders('photos')
        >>> train.classes
        ['dark', 'light']
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
            f'only in {parts.train.name}: {list_difference(here, there)}; '
            f'only in {parts.test.name}: {list_difference(there, here)}'
        )
    return train, test


def find_test_images(root: str | os.PathLike[str]) -> tuple[ImageFolder, str]:
    """Return the images of a data set for testing a net that was trained on another one.

    One class is enough. A folder may have a test part alone, such as ``test/`` or ``val/``.

    Returns:
        (the test part, or all images if there is none; a text that says which they are).

    Raises:
        DataError: As ``scan``.
    """
    folder = Path(root)
    parts = find_parts(folder)
    if parts.test is not None:
        return scan(parts.test, fewest=1), f'the test part of {folder}'
    if parts.train is None and (tests := _only_tests(folder)):
        unused = ''.join(f', {each.name}/ is not used' for each in tests[1:])
        return scan(tests[0], fewest=1), f'all of {tests[0]}{unused}'
    part = _scan_whole(folder, fewest=1) if parts.train is None else scan(parts.train, fewest=1)
    return part, f'all of {folder}'


def _only_tests(folder: Path) -> list[Path]:
    """Return the test parts of a folder that has nothing else; [] if it has something else."""
    inner = {Path(each.path) for each in list_entries(folder, {}) if is_folder(each)}
    named = part_folders(folder)
    alone = inner == set(named) and all(map(_has_classes, named))
    return named if alone else []


def _part_name(folder: Path) -> str:
    """Return the name of a folder in the form in which names of parts are compared."""
    return folder.name.casefold()


def part_folders(folder: Path) -> list[Path]:
    """Return the folders that have the name of a part, in order of preference.

    Raises:
        DataError: The names of two differ only in case, and neither is in lower case.
    """
    order = [*TRAIN_NAMES, *TEST_NAMES]
    try:
        names = [name for name in os.listdir(folder) if name.casefold() in order]
    except OSError:  # the caller lists the folder too, and reports the error
        return []
    found = [folder / name for name in names if os.path.isdir(folder / name)]
    for name in order:
        same = sorted(each.name for each in found if _part_name(each) == name)
        if len(same) > 1 and name not in same:
            raise DataError(
                f'{folder} has {list_names(same)}: rename the one that is meant to {quote(name)}'
            )
    return sorted(
        found, key=lambda each: (order.index(_part_name(each)), each.name != _part_name(each))
    )


def _has_images(folder: Path) -> bool:
    """Tell whether a folder directly contains an image."""
    try:
        with os.scandir(folder) as entries:
            return any(
                os.path.splitext(each.name)[1].lower() in SUFFIXES and each.name[0] != '.'
                for each in entries
            )
    except OSError:
        return False


def _class_folders(folder: Path) -> list[str]:
    """Return the names of the subfolders that directly contain images."""
    entries = [entry for entry in list_entries(folder, {}) if is_folder(entry)]
    return [entry.name for entry in entries if _has_images(Path(entry.path))]


def _has_classes(folder: Path) -> bool:
    """Tell whether a folder is a part, not a class: it has folders of images but no images."""
    return not _has_images(folder) and bool(_class_folders(folder))


def _has_labels(test: Path, train: Path) -> bool:
    """Tell whether a test folder has classes: more than one, or one of the training part's."""
    found = _class_folders(test)
    return len(found) > 1 or bool(set(found) & set(_class_folders(train)))


def _scan_whole(folder: Path, fewest: int = 2) -> ImageFolder:
    """List the images of a folder without parts.

    Raises:
        DataError: As ``scan``; its parts have no classes; or a data set lies deeper in the folder.
    """
    parts = part_folders(folder)
    entries = list_entries(folder, {}) if os.path.isdir(folder) else []
    subfolders = [Path(each.path) for each in entries if is_folder(each)]
    if len(parts) > 1 and set(subfolders) == set(parts):
        raise DataError(
            f'{list_names(each.name for each in parts)} of {folder} have no folders of classes: '
            'put the images of each class into a folder of its own, in each of them'
        )
    if not any(map(_has_images, subfolders)) and (likely := _data_set_below(folder)):
        raise DataError(
            f'{folder} has no class folders with images, but {likely} has: give  {likely}  instead'
        )
    return scan(folder, fewest)


def _data_set_below(folder: Path) -> Path | None:
    """Return the folder further down that looks like a data set, if its level has only one."""
    level = [folder]
    for _ in range(DEEPEST):
        level = [each for parent in level for each in list_subfolders(parent)]
        sets = [each for each in level if _is_data_set(each)]
        if sets:
            return sets[0] if len(sets) == 1 else None
    return None


def _is_data_set(folder: Path) -> bool:
    """Tell whether a folder, or its training part, has class folders."""
    parts = [each for each in part_folders(folder) if _part_name(each) in TRAIN_NAMES]
    return any(map(_has_classes, parts)) or len(_class_folders(folder)) > 1
