"""Plan, trace and check: what both frameworks do, what they write, and one comparison of it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.probe import Probe
from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.data.folder_layout import load_folders, part_folders
from d2l_ft.data.image_folder import ImageFolder, Sample, scan
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import ParityError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.state import State
from d2l_ft.parity.compare import SUMS

MOST = 1 << 16
"""Elements of a tensor that are written to a trace, to bound its size; of a larger tensor the sums
over all elements are written too."""

STREAM_PERTURB = 7


@dataclass(frozen=True)
class Plan:
    """What both frameworks do; a JSON file for the processes that do it.

    Attributes:
        root: An image folder as ``load_folders`` takes it.
        archs: Architectures.
        heads: Numbers of classes.
        steps: Steps of a trajectory.
        rungs: Names of the rungs, in order.
        precisions: Some of 'float64' and 'float32'; float32 is judged against float64.
        batch_size: Examples a step.
        image_size: Side of the net's input, in pixels.
        images: How many files of the data set are used.
        epochs: Epochs whose samples and pixels are compared.
        run_epochs: Epochs of a whole run.
        source: Source of a whole run, as ``load_source`` takes it.
        seed: Seed of everything.
        threads: Threads of each framework; the two run side by side.
        nets: Records of the converted nets among the architectures, as JSON.
    """

    root: str
    archs: tuple[str, ...] = ('resnet18',)
    heads: tuple[int, ...] = (2,)
    steps: int = 50
    rungs: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ('float64', 'float32')
    batch_size: int = 8
    image_size: int = 64
    images: int = 40
    epochs: int = 3
    run_epochs: int = 3
    source: str = 'none'
    seed: int = 0
    threads: int = 1
    nets: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> 'Plan':
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def cases(self) -> list[tuple[str, int]]:
        """Return every (architecture, classes)."""
        return [(arch, classes) for arch in self.archs for classes in self.heads]

    def pipeline(self, *, train: bool = False) -> Pipeline:
        """Return how images become the input of the plan's nets."""
        prepared = architecture(self.archs[0]).preparation
        return Pipeline(self.image_size, train=train, seed=self.seed, **prepared)

    @cached_property
    def parts(self) -> tuple[ImageFolder, ImageFolder]:
        """Return the train and test part of the data set."""
        return load_parts(self.root, self.seed)

    def shortage(self) -> list[str]:
        """Return notes on what is done if the data set is too small for the plan."""
        train, test = self.parts
        notes = []
        if train.samples == test.samples:
            notes.append(
                'a class has one image and there is no test folder: the same are tested on'
            )
        if len(train.samples) < 2 * self.batch_size:
            notes.append(
                f'{len(train.samples)} training images for batches of {self.batch_size}: '
                'they come again with other crops'
            )
        return notes

    def samples(self, count: int | None = None, part: int = 0) -> list[Sample]:
        """Return some samples, spread evenly over the classes and the files.

        Args:
            count: How many; None is ``images``.
            part: 0 for train, 1 for test.
        """
        samples = self.parts[part].samples
        number = min(count or self.images, len(samples))
        return [samples[i * len(samples) // number] for i in range(number)]

    def cycle(self, count: int) -> list[tuple[Sample, int]]:
        """Return training samples, each with the round in which it comes; few files are repeated.

        Args:
            count: How many. A caller that crops uses the round as the epoch, so that a repeated
                file has another crop.
        """
        samples = self.samples(count)
        return [(samples[i % len(samples)], i // len(samples)) for i in range(count)]

    def name(self, path: str) -> str:
        """Return the path of a file relative to the data set, as reports show it."""
        return str(Path(path).relative_to(self.root))


def load_parts(root: str, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
    """Return the train and test part; a folder that is too small to split is both.

    Raises:
        DataError: As ``scan``.
    """
    if is_too_small(root):
        return scan(root), scan(root)
    return load_folders(root, seed=seed)


def is_too_small(root: str) -> bool:
    """Tell whether a folder cannot be split: it has no parts, and a class with one image."""
    if part_folders(Path(root)):
        return False
    labels = Counter(each.label for each in scan(root).samples)
    return min(labels.values()) < 2


@dataclass
class Context:
    """The context in which a rung traces one framework.

    Attributes:
        plan: What to do.
        backend: The framework.
        probe: Access to its internals.
        folder: Where the trace goes.
    """

    plan: Plan
    backend: Backend
    probe: Probe
    folder: Path

    def save(self, group: str, arrays: Mapping[str, Any]) -> None:
        """Write arrays under a name such as 'forward/resnet18-2/float64'."""
        path = self.folder / f'{group}.npz'
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
        np.savez(path, **kept)

    def note(self, group: str, facts: Any) -> None:
        """Write facts that are not arrays, as JSON."""
        path = self.folder / f'{group}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts))

    def net(
        self, arch: str, classes: int, dtype: str, strict: bool = True, devices: str = 'cpu'
    ) -> Placed:
        """Return a placed net with perturbed weights, the same numbers in every framework."""
        net = self.backend.build_net(arch, classes, seed=self.plan.seed)
        self.probe.prepare(net, dtype, strict=strict)
        placed = self.backend.place(net, self.backend.devices(devices))
        self.backend.set_state(placed, perturb(self.backend.get_state(placed), self.plan.seed))
        return placed

    def batch(self, classes: int, size: int | None = None, skip: int = 0) -> Any:
        """Return a batch of real images; the labels cycle through the classes.

        Args:
            classes: Number of classes.
            size: Examples; None is the plan's batch size.
            skip: Images to skip.
        """
        count = size or self.plan.batch_size
        samples = self.plan.cycle(count + skip)[skip:]
        pipeline = self.plan.pipeline(train=True)
        crops = [pipeline.crop(each.path, turn, i) for i, (each, turn) in enumerate(samples)]
        labels = np.arange(len(samples)) * 7 % classes  # 7 has no factor in common with 2, 10, 1000
        return self.backend.to_batch(pipeline.to_float(np.stack(crops)), labels)


def perturb(state: Mapping[str, NDArray[Any]], seed: int) -> State:
    """Return a state whose scales, shifts and statistics are as uneven as a trained net's.

    A new net has 1 and 0 there, so swapped parameters or a wrong rule would not show.
    """
    found = {}
    for number, name in enumerate(sorted(state)):
        array, kind = state[name], name.rpartition('.')[2]
        draws = np.random.Generator(
            np.random.Philox(key=[seed, STREAM_PERTURB], counter=[0, 0, number, 0])
        )
        if array.ndim == 1:
            around = 1.0 if kind in ('weight', 'running_var') else 0.0
            spread = 0.3 if around else 0.1
            array = (around + spread * draws.uniform(-1, 1, array.shape)).astype(np.float32)
        found[name] = array
    return found


def thin(state: Mapping[str, NDArray[Any]]) -> State:
    """Return a state without most of its larger tensors: every k-th element, and two sums of all.

    The sums are of the magnitudes and of the squares, which do not cancel, so a change of any
    element shows.
    """
    found = {}
    for name, array in state.items():
        if array.size > MOST:
            flat = array.reshape(-1)
            sums = [np.abs(flat).sum(dtype=np.float64), np.square(flat, dtype=np.float64).sum()]
            rest = flat[:: -(-flat.size // MOST)]
            found[name] = rest
            found[name + SUMS] = np.array(sums)
        else:
            found[name] = array
    return found


class Trace:
    """The trace of one framework: the files that its process wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrays(self, group: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a group, in the order in which they were written.

        Raises:
            ParityError: They were not written.
        """
        try:
            with np.load(self.folder / f'{group}.npz', allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError) as error:
            raise ParityError(f'the trace {self.folder} has no {group} ({error})') from error

    def facts(self, group: str) -> Any:
        """Return what ``Context.note`` wrote.

        Raises:
            ParityError: It was not written.
        """
        try:
            return json.loads((self.folder / f'{group}.json').read_text())
        except (OSError, ValueError) as error:
            raise ParityError(f'the trace {self.folder} has no {group} ({error})') from error


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: rung/case/what.
        value: What was measured.
        tolerance: The most it may be.
        unit: Of both.
        ok: Whether it is within.
        where: The first place where the two differ, if they do.
        cause: The likely cause, if they do.
        low: The least it may be: a known difference must be found.
        reason: Why the tolerance is not less; of a stated figure, what it comes from.
        stated: Whether the value is only reported, without a limit, as it depends on the images.
    """

    name: str
    value: float
    tolerance: float
    unit: str
    ok: bool
    where: str = ''
    cause: str = ''
    low: float = 0.0
    reason: str = ''
    stated: bool = False

    @property
    def fails(self) -> bool:
        """Tell whether it is judged and beyond its tolerance."""
        return not self.ok and not self.stated


Checks = Iterator[Check]
