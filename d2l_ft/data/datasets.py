"""Data sets by name: the built-in sample, the hot dogs of the book, or the user's folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from d2l_ft.data.folder_layout import find_test_images, load_folders
from d2l_ft.data.hub import DATA_HUB, download_extract
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import ImageFolder, remarks
from d2l_ft.data.protocol import Loader, LoaderFactory
from d2l_ft.data.synthetic import tasks as sample
from d2l_ft.data.transforms import AREA, Pipeline
from d2l_ft.data.validation import check_images, drop_bad_images
from d2l_ft.data.validation_cache import open_checked
from d2l_ft.errors import D2LFTError, DataError
from d2l_ft.optim.recipe import FINE_TUNED
from d2l_ft.storage.cache import cache_dir
from d2l_ft.system.hardware import free_memory

SAMPLE_SIZE, SAMPLE_BATCH, SAMPLE_LR, SAMPLE_AREA = 48, 64, 0.002, (0.4, 1.0)
"""Side of the net's input in pixels, batch size, learning rate and area of the crops for the
sample. They are smaller than the chapter's, as its images are few and small: at the chapter's batch
size an epoch would have five steps; at its rate the head oscillates."""

PHOTO_SIZE, PHOTO_BATCH, PHOTO_LR = 224, 128, FINE_TUNED.learning_rate
"""Side, batch size and learning rate for all other data sets: the chapter's."""

DATA_VARIABLE = 'D2L_FT_DATA'
"""Environment variable with the name of the data set, for a caller that gives none."""

CACHE_SHARE, CACHE_LEAST = 0.25, 1 << 28
"""Share of the free memory that the image cache may use, and its bytes if that is not known."""


@dataclass(frozen=True)
class DataSet:
    """A checked data set.

    Attributes:
        name: 'sample', a key of DATA_HUB, or a folder's full path.
        train: The training part.
        test: The test part.
        image_size: Default side of the net's input, in pixels.
        batch_size: Default number of examples a step.
        learning_rate: Default rate of the body.
        area: Least and greatest share of an image that a random crop covers.
        left_out: One line for each bad image that was left out.
        remarks: Lines on what the user should know about the images; see ``image_folder.remarks``.
        hashes: Path -> SHA-256 of the file, for the images that were checked.

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
    ) -> tuple[Loader, Loader]:
        """Return the loaders of the training part, shuffled and augmented, and of the test part.

        Args:
            backend: The framework.
            batch_size: Examples a batch.
            image_size: Side of the net's input, in pixels; None is the data set's own.
            workers: Loader processes.
            seed: Seed of the order, and of the crops.
            pipeline: Transform of the training images; None is ``self.pipeline``. The test images
                are standardised in the same way.
            cache: Keeps images between epochs; None is ``default_cache()``.
            device: The device of the batches; None is the CPU.
        """
        size = image_size or self.image_size
        cache = default_cache() if cache is None else cache
        pipeline = pipeline or self.pipeline(size, seed=seed)
        train = backend.loader(
            self.train.samples,
            pipeline,
            batch_size,
            shuffle=True,
            workers=workers,
            seed=seed,
            cache=cache,
            device=device,
        )
        test = backend.loader(
            self.test.samples,
            replace(pipeline, image_size=size, train=False),
            batch_size,
            workers=workers,
            cache=cache,
            device=device,
        )
        return train, test

    def pipeline(
        self, image_size: int, *, seed: int = 0, augment: bool = True, views: int = 0
    ) -> Pipeline:
        """Return the transform of the training images; without augmentation the test images'."""
        if not augment:
            return Pipeline(image_size)
        return Pipeline(image_size, train=True, seed=seed, area=self.area, views=views)


def load_data(
    name: str | None = None, *, seed: int = 0, bar: bool = True, skip_bad: bool = False
) -> DataSet:
    """Find a data set, draw or download it if necessary, and check every image.

    Images that passed an earlier check and have not changed are not decoded again.

    Args:
        name: 'sample', a key of DATA_HUB such as 'hotdog', or a folder; None reads D2L_FT_DATA,
            which defaults to 'sample'.
        seed: Seed of the split, for a folder without a test part.
        bar: Whether to show progress; it needs a terminal too.
        skip_bad: Whether to leave out bad images instead of refusing them.

    Raises:
        DataError: The data set cannot be found or downloaded, or an image in it is bad.

    Example:
        >>> data = d2l.load_data('photos')
        >>> data.classes, len(data.train.samples), len(data.test.samples)
        (['dark', 'light'], 16, 4)
    """
    # The sample
    if name is None:
        name = os.environ.get(DATA_VARIABLE, '').strip() or 'sample'
    if name == 'sample':
        train, test = load_folders(sample_folder(bar=bar))
        # we have drawn it, so its images are not checked
        return DataSet(name, train, test, SAMPLE_SIZE, SAMPLE_BATCH, SAMPLE_LR, SAMPLE_AREA)

    # A named data set or a folder
    hub = name in DATA_HUB
    root = Path(download_extract(name)) if hub else Path(name).expanduser().resolve()
    if not root.is_dir():
        raise DataError(
            f'there is no folder {name}: give sample, {", ".join(sorted(DATA_HUB))} or a folder '
            'with a folder of images per class'
        )
    train, test = load_folders(root, seed=seed)
    name = name if hub else str(root)

    # Check its images
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
    """Return the checked images of a data set for testing a trained net.

    Args:
        name: As for ``load_data``. A folder without a test part is taken whole, as the net was not
            trained on it.
        bar: Whether to show progress; it needs a terminal too.
        skip_bad: Whether to leave out bad images instead of refusing them.

    Returns:
        (the images, a text that says which they are).

    Raises:
        DataError: The data set cannot be found or downloaded, or an image in it is bad.
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
    """Return the built-in sample's folder in the cache; it is drawn at first use."""
    return _draw_once('sample', sample.write_target, bar=bar)


def sample_source_folder(*, bar: bool = True) -> Path:
    """Return the folder of the sample's source task; it is drawn at first use."""
    return _draw_once('sample-source', sample.write_source, bar=bar)


def _draw_once(name: str, write: Callable[..., object], *, bar: bool) -> Path:
    """Draw a data set into the cache unless it is there."""
    path = cache_dir() / 'data' / f'{name}-v{sample.VERSION}'
    if not path.is_dir():
        with tqdm(desc=f'draw {name}', unit='image', disable=None if bar else True) as progress:
            try:
                write(path, progress=progress.update)
            except D2LFTError:
                if not path.is_dir():  # else another process was faster and wrote the same bytes
                    raise
    return path


def default_cache() -> ImageCache:
    """Return an image cache that may use ``CACHE_SHARE`` of the free memory."""
    free = free_memory()
    try:
        return ImageCache(CACHE_LEAST if free is None else int(free * CACHE_SHARE))
    except DataError:  # training without it is only slower
        return ImageCache(0)
