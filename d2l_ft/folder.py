"""An image folder as a checked, ordered list of samples and classes, the same for any framework.

One folder a class, the classes sorted by name, the files of a class sorted by name. What happens to

* files in deeper folders, hidden files and folders, other suffixes than .jpg .jpeg .png, and files
  beside the class folders: skipped, and counted in one note;
* a class without images, fewer than two classes, different classes in train and test: an error;
* a file that is not whole, is no JPEG or PNG inside, is larger than ``LARGEST`` pixels, cannot be
  opened, or is a dangling link: an error that names it, before training starts, or left out if
  the user asks for that (``without_bad``).
"""

import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError
from tqdm import tqdm

from d2l_ft.augment import generator
from d2l_ft.checked import Checked
from d2l_ft.devices import usable_cores
from d2l_ft.errors import DataError
from d2l_ft.interface import Sample
from d2l_ft.opencv import LARGEST

SUFFIXES = ('.jpg', '.jpeg', '.png')
"""Compared in lower case; what Gluon's ImageFolderDataset takes."""

FORMATS = ('JPEG', 'PNG')
BIG = 1 << 24
"""Pixels from which images are decoded one after the other: each takes four bytes a pixel."""

BIG_LOCK = threading.Lock()
BATCH = 1000
"""Images that wait for a thread at once: each takes 2 KiB, the path aside."""

EXIF_ORIENTATION = 0x0112

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

TEST_NAMES = ('test', 'val', 'valid', 'validation')
HELD_OUT = 0.2
"""Share of each class that is held out for testing if a folder has no test part."""

STREAM_SPLIT = 2
SHOWN = 5


@dataclass(frozen=True)
class ImageFolder:
    """A part of a data set.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted; a label is an index into it.
        samples: Images, by class, then by name.
        skipped: What was passed over: kind -> number of files or folders.
    """

    root: str
    classes: list[str]
    samples: list[Sample]
    skipped: dict[str, int] = field(default_factory=dict)

    def note(self) -> str:
        """Return one line on what was skipped, or nothing."""
        parts = ', '.join(f'{number} {kind}' for kind, number in sorted(self.skipped.items()))
        return f'{self.root}: skipped {parts}' if parts else ''


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
        if not entry.is_dir():
            _count(skipped, 'files beside the class folders')
            continue
        images = _images(Path(entry.path), skipped)
        if not images:
            raise DataError(
                f'the class {entry.name!r} of {folder} has no image: add some '
                f'({", ".join(SUFFIXES)}), or remove its folder'
            )
        samples += [Sample(path, len(classes)) for path in images]
        classes.append(entry.name)
    if len(classes) < fewest:
        raise DataError(
            f'{folder} has {len(classes)} class folder(s) with images, and at least '
            f'{fewest} are needed: put the images of each class into a folder of its own'
        )
    return ImageFolder(str(folder), classes, samples, skipped)


def _entries(folder: Path, skipped: dict[str, int]) -> list[os.DirEntry[str]]:
    """List a folder by name, without what is hidden."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f'cannot list {folder}: {error.strerror}') from error
    shown = [entry for entry in entries if not entry.name.startswith('.')]
    if hidden := len(entries) - len(shown):
        _count(skipped, 'hidden', hidden)
    return shown


def _images(folder: Path, skipped: dict[str, int]) -> list[str]:
    """List the image files of one class."""
    images = []
    for entry in _entries(folder, skipped):
        if entry.is_dir():
            _count(skipped, 'nested folders')
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            images.append(entry.path)
        else:
            _count(skipped, 'files with another suffix')
    return images


def _count(skipped: dict[str, int], kind: str, number: int = 1) -> None:
    """Add to the count of a kind."""
    skipped[kind] = skipped.get(kind, 0) + number


def inspect_image(path: str) -> tuple[str, list[str]]:
    """Return what is wrong with an image file, or nothing; and which kinds of ODD it is.

    The whole picture is decoded: OpenCV and MXNet would read a truncated one in silence. Its size
    is read before, and large ones are decoded one after the other. Whoever changes what is good
    gives ``checked.RULES`` another number.
    """
    with ExitStack() as alone:  # left last: an error holds pixels too, until it is handled
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # a pipe or device would block the reader for ever
                return 'is not a regular file', []
            if status.st_size == 0:
                return 'is empty', []
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of PIL, on sizes and odd metadata
                with Image.open(path, formats=FORMATS) as image:
                    if image.width * image.height > LARGEST:
                        return f'has {image.width} x {image.height} pixels, which is too large', []
                    if image.width * image.height > BIG:
                        alone.enter_context(BIG_LOCK)
                    try:
                        image.load()
                        return '', oddities(path, image)
                    finally:
                        image.close()  # gives the pixels back before the next one may begin
        except FileNotFoundError:
            return 'does not exist', []
        except UnidentifiedImageError:
            return 'is no JPEG or PNG image', []
        except Image.DecompressionBombError:
            return 'has too many pixels', []
        except OSError as error:
            return f'cannot be read ({error.strerror or " ".join(str(error).split())})', []
        except Exception as error:  # PIL's decoders raise anything: SyntaxError, ValueError, ...
            return f'cannot be read ({" ".join(str(error).split()) or type(error).__name__})', []


def oddities(path: str, image: Image.Image) -> list[str]:
    """Return which kinds of ODD a picture is."""
    suffix = 'PNG' if path.lower().endswith('.png') else 'JPEG'
    found = {
        'other format': ('PNG' if image.format == 'PNG' else 'JPEG') != suffix,
        'CMYK': image.mode in ('CMYK', 'YCCK'),
        '16 bits': image.mode.startswith('I'),
        'palette': image.mode == 'P',
        'alpha': image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info,
        'animated': getattr(image, 'n_frames', 1) > 1,
        'EXIF': image.getexif().get(EXIF_ORIENTATION, 1) != 1,
    }
    return [kind for kind, odd in found.items() if odd]


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
def strict_pil() -> Iterator[None]:
    """Have PIL refuse truncated files, also if another library has told it not to.

    GluonCV does so for the whole process when it is imported.
    """
    former = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = former


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
    with (
        strict_pil(),
        ThreadPoolExecutor(usable_cores()) as pool,
    ):  # PIL decodes outside Python's lock
        starts = range(0, len(todo), BATCH)
        found = tqdm(
            (each for i in starts for each in pool.map(inspect_image, todo[i : i + BATCH])),
            total=len(todo),
            desc='check images',
            unit='image',
            leave=False,
            disable=None if bar else True,
        )
        for path, (problem, kinds) in zip(todo, found, strict=True):
            if problem:
                problems[path] = problem
            elif checked is not None:
                checked.add(path)
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
        ImageFolder(folder.root, folder.classes, train, folder.skipped),
        ImageFolder(folder.root, folder.classes, test),
    )


def part_to_test(root: Path) -> Path | None:
    """Return the test part of a data set that has parts, or None."""
    # not Path.is_dir, which raises where a folder may not be entered
    if not os.path.isdir(root / 'train'):
        return None
    return next((root / name for name in TEST_NAMES if os.path.isdir(root / name)), None)


def load_folders(root: str | os.PathLike[str], seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Return the train and test part of a data set; images are not checked yet.

    Args:
        root: A folder with ``train/`` and ``test/`` (or ``val/``, ...), or with the class folders.
        seed: Seed of the split where there is no test part.

    Raises:
        DataError: As ``scan`` and ``split``; or the parts have different classes.
    """
    folder = Path(root)
    if (test := part_to_test(folder)) is None:
        return split(scan(folder), seed)
    parts = scan(folder / 'train'), scan(test)
    if odd := sorted(set(parts[0].classes) ^ set(parts[1].classes)):
        raise DataError(
            f'train and {test.name} of {folder} must have the same classes; '
            f'in one of them only: {", ".join(odd)}'
        )
    return parts
