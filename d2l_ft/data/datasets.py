"""Data sets by name: the built-in sample, the hot dogs of the book, or a folder of one's own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from d2l_ft.data.folder_layout import find_test_images, load_folders
from d2l_ft.data.hub import DATA_HUB, download_extract
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import ImageFolder, Sample, remarks
from d2l_ft.data.synthetic import tasks as sample
from d2l_ft.data.transforms import AREA, Pipeline
from d2l_ft.data.validation import check_images, drop_bad_images
from d2l_ft.data.validation_cache import open_checked
from d2l_ft.errors import D2LFTError, DataError
from d2l_ft.optim.recipe import FINE_TUNED
from d2l_ft.storage.cache import cache_dir
from d2l_ft.system.hardware import free_memory

SAMPLE_SIZE, SAMPLE_BATCH, SAMPLE_LR, SAMPLE_AREA = 48, 64, 0.002, (0.4, 1.0)
"""Side of the net's input in pixels, batch size, rate and crops for the sample: its pictures are
small and few. At the chapter's batch size an epoch has five steps; at its rate the head
oscillates."""

PHOTO_SIZE, PHOTO_BATCH, PHOTO_LR = 224, 128, FINE_TUNED.learning_rate
"""The same for photographs: the chapter's."""

DATA_VARIABLE = 'D2L_FT_DATA'
"""Environment variable with the name of the data set, where the caller gives none."""

CACHE_SHARE, CACHE_LEAST = 0.25, 1 << 28
"""Share of the free memory in which images are kept, and the bytes where that is not known."""


class LoaderFactory(Protocol):
    """What a data set needs of a backend."""

    def loader(
        self,
        samples: Sequence[Sample],
        pipeline: Any,
        batch_size: int,
        *,
        shuffle: bool = False,
        workers: int = 0,
        seed: int = 0,
        cache: ImageCache | None = None,
        device: Any = None,
    ) -> Any:
        """Return batches of the samples, as ``Backend.loader`` does."""
        ...


@dataclass(frozen=True)
class DataSet:
    """A checked data set.

    Attributes:
        name: What the user asked for: 'sample', a key of DATA_HUB, or a folder's full path.
        train: The part to train on.
        test: The part to test on.
        image_size: Side of the net's input unless the user says otherwise, in pixels.
        batch_size: Examples a step, likewise.
        learning_rate: Of the body, likewise.
        area: Least and greatest share of an image that a random crop covers.
        left_out: One line for each bad image that is not in the parts.
        remarks: Lines on what the user should know of the images, as of ``folder.remarks``.
        hashes: Path -> SHA-256 of the file, of the images that were checked.

    Example:
        >>> data = d2l.load_data('sample')
        >>> data.image_size, data.batch_size, data.learning_rate
        (48, 64, 0.002)
        >>> train_iter, test_iter = data.loaders(d2l.get_backend(), data.batch_size)
        >>> X, y = next(iter(test_iter))
    """

    name: str
    train: ImageFolder
    test: ImageFolder
    image_size: int
    batch_size: int = PHOTO_BATCH
    learning_rate: float = PHOTO_LR
    area: tuple[float, float] = AREA
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> str:
        """The folder of the data set; it has train/ and test/, unless a part was held out."""
        return self.name if os.path.isabs(self.name) else str(Path(self.train.root).parent)

    @property
    def source(self) -> str:
        """The source to fine-tune from, as ``load_source`` takes it: 'sample' or 'imagenet'."""
        return 'sample' if self.name == 'sample' else 'imagenet'

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self.train.classes

    def loaders(
        self,
        backend: LoaderFactory,
        batch_size: int,
        *,
        image_size: int | None = None,
        workers: int = 0,
        seed: int = 0,
        pipeline: Pipeline | None = None,
        cache: ImageCache | None = None,
        device: Any = None,
    ) -> tuple[Any, Any]:
        """Return the loaders of both parts: the first shuffled and augmented.

        Args:
            backend: The framework.
            batch_size: Examples a batch.
            image_size: Side of the net's input, in pixels; None is the data set's own.
            workers: Loader processes.
            seed: Seed of the order, and of the crops.
            pipeline: What is done to the training part; None is ``self.pipeline``.
            cache: Keeps images between epochs; None is ``default_cache()``.
            device: Where the batches shall lie; None is the CPU.
        """
        size = image_size or self.image_size
        cache = default_cache() if cache is None else cache
        train = backend.loader(
            self.train.samples,
            pipeline or self.pipeline(size, seed=seed),
            batch_size,
            shuffle=True,
            workers=workers,
            seed=seed,
            cache=cache,
            device=device,
        )
        test = backend.loader(
            self.test.samples,
            Pipeline(size),
            batch_size,
            workers=workers,
            cache=cache,
            device=device,
        )
        return train, test

    def pipeline(
        self, image_size: int, *, seed: int = 0, augment: bool = True, views: int = 0
    ) -> Pipeline:
        """Return what is done to the training part: without augmentation what a test image gets."""
        if not augment:
            return Pipeline(image_size)
        return Pipeline(image_size, train=True, seed=seed, area=self.area, views=views)


def load_data(
    name: str | None = None, *, seed: int = 0, bar: bool = True, skip_bad: bool = False
) -> DataSet:
    """Find a data set, make or download it if need be, and check every image.

    Images that were found good before and have not changed are not decoded again.

    Args:
        name: 'sample', a key of DATA_HUB such as 'hotdog', or a folder; None reads D2L_FT_DATA,
            which defaults to 'sample'.
        seed: Seed of the split, for a folder without a test part.
        bar: Whether to show progress; it needs a terminal too.
        skip_bad: Whether to leave out bad images instead of refusing them.

    Raises:
        DataError: The data set cannot be had, or an image in it is bad.

    Example:
        >>> data = d2l.load_data('photos')
        >>> data.classes, len(data.train.samples), len(data.test.samples)
        (['dark', 'light'], 16, 4)
    """
    if name is None:
        name = os.environ.get(DATA_VARIABLE, '').strip() or 'sample'
    if name == 'sample':
        train, test = load_folders(sample_folder(bar=bar))
        # drawn by us, so not checked again
        return DataSet(name, train, test, SAMPLE_SIZE, SAMPLE_BATCH, SAMPLE_LR, SAMPLE_AREA)
    hub = name in DATA_HUB
    root = Path(download_extract(name)) if hub else Path(name).expanduser().resolve()
    if not root.is_dir():
        raise DataError(
            f'there is no folder {name}: give sample, {", ".join(sorted(DATA_HUB))} or a folder '
            'with a folder of images per class'
        )
    train, test = load_folders(root, seed=seed)
    name = name if hub else str(root)
    left_out: list[str] = []
    with open_checked(root) as checked:
        if skip_bad:
            train, bad = drop_bad_images(train, bar=bar, checked=checked)
            test, bad_too = drop_bad_images(test, bar=bar, checked=checked)
            left_out = bad + bad_too
        else:
            hint = ', or left out with `skip_bad=True`'
            check_images([*train.samples, *test.samples], bar=bar, hint=hint, checked=checked)
    notes = remarks(train, test, checked.hashes)
    return DataSet(
        name, train, test, PHOTO_SIZE, left_out=left_out, remarks=notes, hashes=checked.hashes
    )


def load_test_images(
    name: str, *, bar: bool = True, skip_bad: bool = False
) -> tuple[ImageFolder, str]:
    """Return the checked images of a data set on which a trained net is tested.

    Args:
        name: As for ``load_data``. Of a folder without a test part all images are taken: nothing
            of it was trained on.
        bar: Whether to show progress; it needs a terminal too.
        skip_bad: Whether to leave out bad images instead of refusing them.

    Returns:
        The images, and in words which they are.

    Raises:
        DataError: The data set cannot be had, or an image in it is bad.
    """
    root = Path(name).expanduser().resolve()
    if name == 'sample' or name in DATA_HUB or not root.is_dir():
        data = load_data(name, bar=bar, skip_bad=skip_bad)
        return data.test, f'the test part of {data.name}'
    part, which = find_test_images(root)
    with open_checked(root) as checked:
        if skip_bad:
            part, _ = drop_bad_images(part, bar=bar, checked=checked)
        else:
            check_images(part.samples, bar=bar, checked=checked)
    return part, which


def sample_folder(*, bar: bool = True) -> Path:
    """Return the built-in sample's folder in the cache, drawn at first use."""
    return _draw_once('sample', sample.write_target, bar=bar)


def sample_source_folder(*, bar: bool = True) -> Path:
    """Return the folder of the sample's source task, drawn at first use."""
    return _draw_once('sample-source', sample.write_source, bar=bar)


def _draw_once(name: str, write: Callable[..., object], *, bar: bool) -> Path:
    """Draw a data set into the cache unless it is there."""
    path = cache_dir() / 'data' / f'{name}-v{sample.VERSION}'
    if not path.is_dir():
        with tqdm(desc=f'draw {name}', unit='image', disable=None if bar else True) as progress:
            try:
                write(path, progress=progress.update)
            except D2LFTError:
                if not path.is_dir():  # otherwise another process was faster, with the same bytes
                    raise
    return path


def default_cache() -> ImageCache:
    """Return a cache of images with room in a quarter of the memory that is free."""
    free = free_memory()
    try:
        return ImageCache(CACHE_LEAST if free is None else int(free * CACHE_SHARE))
    except DataError:  # without it only time is lost
        return ImageCache(0)
