"""Use a run: load its nets, evaluate them, and predict."""

from collections.abc import Sequence

from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.data.datasets import load_data, load_test_images
from d2l_ft.data.image_folder import Sample
from d2l_ft.errors import CheckpointError
from d2l_ft.runs.directory import Run
from d2l_ft.system.console import list_difference, list_names
from d2l_ft.training.evaluation import Evaluation, evaluate_samples, predict


def load_net(run: Run, backend: Backend, name: str | None = None) -> Placed:
    """Return a trained net of a run, in either framework, on every GPU or on the CPU.

    Raises:
        CheckpointError: There is no good checkpoint.
    """
    found = run.load(name or run.best_net())
    if found is None:
        raise CheckpointError(f'{run.path} has no checkpoint of {name}')
    net = backend.build_net(run.config.arch, len(run.config.classes))
    placed = backend.place(net, backend.devices('auto'))
    backend.set_state(placed, found[0].model)
    return placed


def evaluate_run(
    run: Run, backend: Backend, data: str | None = None, *, bar: bool = True
) -> tuple[Evaluation, str]:
    """Evaluate a run's net on the test part of its data, or on another data set.

    Args:
        run: The run.
        backend: The framework.
        data: A data set, of which the test part is used, or a folder of class folders, which is
            used whole. It need not have all classes of the run; they are matched by name.
        bar: Whether to show progress; it needs a terminal too.

    Returns:
        The evaluation, and a description of the images.

    Raises:
        DataError: The data set cannot be had, or an image in it is bad.
        CheckpointError: It has a class that the run has not.
    """
    settings, classes = run.config.settings, run.config.classes
    skip_bad = settings.data.skip_bad
    if data is None:
        dataset = load_data(
            settings.data.data, seed=settings.optim.seed, bar=bar, skip_bad=skip_bad
        )
        part, which = dataset.test, f'the test part of {dataset.name}'
    else:
        part, which = load_test_images(data, bar=bar, skip_bad=skip_bad)
        if which == f'all of {settings.data.data}':
            which += ', also what the run was trained on'
    if set(part.classes) - set(classes):
        raise CheckpointError(
            f'{part.root} has classes that {run.path} does not know: '
            f'{list_difference(part.classes, classes)}; it was trained for {list_names(classes)}'
        )
    labels = [classes.index(name) for name in part.classes]
    samples = [Sample(each.path, labels[each.label]) for each in part.samples]
    placed = load_net(run, backend)
    pipeline = run.config.pipeline()
    return evaluate_samples(backend, placed, classes, samples, pipeline, bar=bar), which


def classify(
    run: Run, backend: Backend, paths: Sequence[str], *, bar: bool = True
) -> list[dict[str, float]]:
    """Return the predictions of a run's net: class -> probability, the most probable first.

    Args:
        run: The run.
        backend: The framework.
        paths: Checked image files.
        bar: Whether to show progress; it needs a terminal too.

    Raises:
        CheckpointError: There is no good checkpoint.
        ModelError: An output of the net is not finite.
    """
    if not paths:
        return []
    samples = [Sample(path, 0) for path in paths]
    pipeline = run.config.pipeline()
    rows = predict(backend, load_net(run, backend), samples, pipeline, bar=bar).tolist()
    pairs = (zip(run.config.classes, row, strict=True) for row in rows)
    return [dict(sorted(each, key=lambda pair: -pair[1])) for each in pairs]
