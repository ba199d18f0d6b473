"""Whatever the picture, the frameworks' own transforms give what is computed independently."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from d2l_ft.backend.probe import get_probe
from d2l_ft.backend.registry import get_backend
from d2l_ft.data.transforms import RESIZE_RATIO, Pipeline
from d2l_ft.parity.antialias import (
    PIL_BITS,
    resize_as_pil,
    resize_as_torch,
    resize_with_antialias,
    triangles,
)
from d2l_ft.parity.plan import Context, Plan, Trace
from d2l_ft.parity.rungs import pixels

pytestmark = pytest.mark.needs('mxnet', 'pytorch')

SIZE, EXAMPLES = 32, 30
SIDE = round(SIZE * RESIZE_RATIO)


def picture(kind: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture that is hard for a resize, (height, width, 3)."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    line = (rows == height // 2) | (columns == width // 3)
    values = {
        'noise': np.random.default_rng(seed).integers(0, 256, (height, width)),
        'stripes': 255 * (columns % 2) + 0 * rows,
        'line': 255 * line,
        'checkerboard': 255 * ((rows + columns) % 2),
        'gradient': 255 * columns // max(1, width - 1) + 0 * rows,
        'black': 0 * (rows + columns),
        'white': 255 + 0 * (rows + columns),
    }[kind]
    return np.stack([values, values[::-1], 255 - values], axis=2).astype(np.uint8)


KINDS = ('noise', 'stripes', 'line', 'checkerboard', 'gradient', 'black', 'white')
side = st.one_of(st.integers(1, 4), st.integers(5, 80), st.sampled_from([64, 146, 257, 600]))
pictures = st.builds(picture, st.sampled_from(KINDS), side, side, st.integers(0, 99))


@pytest.fixture(scope='module', params=['mxnet', 'pytorch'])
def probe(request):
    """Return a framework's probe."""
    return get_probe(get_backend(request.param))


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """Return where the picture of an example is written."""
    return tmp_path_factory.mktemp('pictures') / 'one.png'


def test_own_transforms_of_any_picture_are_within_the_limits(probe, file):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(pictures, st.integers(0, 5))
    def run(image, index):
        Image.fromarray(image).save(file)
        assert np.array_equal(probe.decode(str(file)), image)
        pipeline = Pipeline(SIZE, train=True)
        box, flip = pipeline.draw(*image.shape[:2], 0, index)
        for stack in probe.STACKS:
            train = probe.train_transform(str(file), box, flip=flip, size=SIZE, stack=stack)
            test = probe.eval_transform(str(file), SIDE, SIZE, stack)
            for part, own in (('train', train), ('test', test)):
                found, _ = pixels.distances(own['crop'], image, pipeline, index, part, stack)
                assert pixels.check('pixels', 'own', f'{part}-{stack}', found).ok
                assert np.array_equal(own['float'], pipeline.to_float(own['crop'][None])[0])

    run()


def test_antialias_is_a_mean_over_what_a_pixel_covers():
    stripes = picture('stripes', 64, 64)
    small = resize_with_antialias(stripes, 16, 16, PIL_BITS)
    assert np.ptp(small[2:-2, 2:-2]) <= 1  # all grey
    assert triangles(64, 16).sum(1) == pytest.approx(np.ones(16))
    assert np.array_equal(resize_as_pil(stripes, 64, 64), stripes)
    assert (
        resize_as_pil(stripes[:1], 5, 7).shape
        == resize_as_torch(stripes[:, :1], 5, 7).shape
        == (5, 7, 3)
    )


@pytest.mark.parametrize('stack', ['gluon', 'tensor', 'tensor-antialias', 'pil'])
def test_another_resize_is_found(stack):
    image, pipeline = picture('noise', 100, 90), Pipeline(SIZE, train=True)
    right = [
        pixels.reference_crop(image, pipeline, 0, 'test', each)
        for each in pixels.RESIZES.get(stack, ())
    ] or [pixels.core_crop(image, pipeline, 0, 'test')]
    assert pixels.distances(right[0], image, pipeline, 0, 'test', stack)[0] == 0
    wrong = [np.roll(right[0], 1, 1), right[0] + np.uint8(2), right[0][:-1]]
    for each in wrong:
        found, _ = pixels.distances(each, image, pipeline, 0, 'test', stack)
        assert not pixels.check('pixels', 'own', f'test-{stack}', found).ok


def test_the_distance_from_opencv_is_stated_and_there(tmp_path):
    image, pipeline = picture('stripes', 100, 90), Pipeline(SIZE, train=True)
    own = pixels.reference_crop(image, pipeline, 0, 'test', resize_as_pil)
    judged, stated = pixels.distances(own, image, pipeline, 0, 'test', 'pil')
    assert (judged, stated > 60) == (0, True)
    figure = pixels.check('pixels', 'own', 'opencv-test-pil', stated, 'a picture')
    assert figure.stated
    assert figure.ok
    assert figure.where == 'a picture'
    assert not pixels.check('pixels', 'own', 'test-pil', stated).ok


def test_distance():
    one = picture('noise', 4, 5)
    assert pixels.distance(one, one) == 0
    assert pixels.distance(one, one[:3]) == 255
    assert pixels.distance(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 7, np.uint8)) == 7


def test_a_reader_that_turns_a_picture_is_stated(tmp_path):
    image = picture('noise', 20, 30)
    for name in 'ab':
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / '0.png')
    plan = Plan(str(tmp_path))
    told = pixels.check_decoder('some', {'00': image, '01': image.transpose(1, 0, 2)}, plan)
    assert told.value == 255
    assert told.stated
    assert 'b/0.png' in told.where


@pytest.mark.parametrize('split', [(1, 1), (2, 1), (2, 2), (3, 2), (2, 2, 2)])
def test_batches_go_round_few_images_with_other_crops(tmp_path, split):
    for label, count in enumerate(split):
        folder = tmp_path / 'abc'[label]
        folder.mkdir()
        for number in range(count):
            Image.fromarray(picture('noise', 60, 50, number)).save(folder / f'{number}.png')
    plan = Plan(str(tmp_path), image_size=SIZE)
    backend = get_backend('pytorch')
    context = Context(plan, backend, get_probe(backend), tmp_path / 'trace')
    for size, skip in ((8, 0), (3, 20), (14, 2)):
        images, labels = context.batch(2, size, skip=skip)
        assert len(images) == len(labels) == size
        assert len(np.unique(images.numpy().reshape(size, -1), axis=0)) == size
    assert Trace(tmp_path / 'trace').folder.name == 'trace'
