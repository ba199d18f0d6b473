"""The pipeline of images: crops, flips, floats, and the still image of a moving one."""

import numpy as np
import pytest
from PIL import Image

from d2l_ft.data import folder_layout, transforms


def test_crops_depend_on_epoch_and_index_alone(folder):
    path = str(folder / 'train' / 'dark' / '00.jpg')
    pipeline = transforms.Pipeline(32, train=True)
    one = pipeline.crop(path, 1, 5)
    assert one.shape == (32, 32, 3)
    assert np.array_equal(one, pipeline.crop(path, 1, 5))
    assert not np.array_equal(one, pipeline.crop(path, 2, 5))
    assert not np.array_equal(one, pipeline.crop(path, 1, 6))


def test_a_flip_turns_left_to_right(folder):
    path, pipeline = (
        folder_layout.load_folders(folder)[0].samples[0].path,
        transforms.Pipeline(32, train=True),
    )
    image, flips = transforms.decode(path), []
    for index in range(8):
        (top, left, height, width), flip = pipeline.draw(*image.shape[:2], 0, index)
        expected = transforms.resize(image[top : top + height, left : left + width], 32, 32)
        crop = pipeline.crop(path, 0, index)
        np.testing.assert_array_equal(crop, expected[:, ::-1] if flip else expected)
        assert crop.flags.c_contiguous
        flips.append(flip)
    assert {True, False} == set(flips)


def test_boxes_lie_inside_and_have_the_area():
    draws = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        top, left, height, width = transforms.random_box(90, 140, draws)
        assert 0 <= top <= 90 - height
        assert 0 <= left <= 140 - width
        shares.append(height * width / (90 * 140))
    assert min(shares) > 0.07
    assert 0.35 < np.mean(shares) < 0.6
    assert transforms.random_box(10, 1000, np.random.default_rng(0))[2:] == (10, 13)


def test_floats_are_the_frameworks_arithmetic():
    crops = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    pipeline = transforms.Pipeline(5)
    floats = pipeline.to_float(crops)
    mean, std = (
        np.array(each, np.float32).reshape(3, 1, 1) for each in (pipeline.mean, pipeline.std)
    )
    expected = (crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std
    assert floats.dtype == np.float32
    assert np.array_equal(floats, expected)
    assert np.array_equal(pipeline.to_uint8(floats), crops)


@pytest.mark.parametrize('still', [True, False])
def test_the_still_image_of_an_animated_png_is_decoded(tmp_path, still):
    """OpenCV since 4.12 would give the first picture of the animation."""
    red, green, blue = (Image.new('RGB', (9, 6), colour) for colour in ('red', 'lime', 'blue'))
    first, rest = (red, [green, blue]) if still else (green, [blue])
    path = tmp_path / 'moving.png'
    first.save(path, save_all=True, append_images=rest, default_image=still)
    assert transforms.decode(str(path))[0, 0].tolist() == ([255, 0, 0] if still else [0, 255, 0])
    whole = np.fromfile(path, np.uint8)
    plain = transforms.still_image(whole)
    assert b'acTL' not in plain.tobytes()
    assert b'IEND' in plain.tobytes()
    for cut in (whole[:-20], whole[:-5], whole[:40], whole[:0]):  # what is damaged stays so
        assert transforms.still_image(cut) is cut
    longer = np.append(whole, np.frombuffer(b'more than a chunk', np.uint8))
    assert transforms.still_image(longer).tobytes() == plain.tobytes()
    red.save(path)
    data = np.fromfile(path, np.uint8)
    assert transforms.still_image(data) is data
