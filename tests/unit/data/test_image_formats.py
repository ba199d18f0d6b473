"""What is read of an image file's structure, apart from what any decoder says of it."""

import numpy as np
import pytest

from d2l_ft.data.image_formats import structure
from d2l_ft.data.opencv import cv2

KINDS = {
    'jpeg': ('.jpg', []),
    'progressive jpeg': ('.jpg', [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    'png': ('.png', []),
}


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_is_whole_with_its_last_byte_alone(kind):
    """Decoders differ in what they refuse; this is told whichever there is."""
    suffix, flags = KINDS[kind]
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, image, flags)[1].tobytes()
    whole = structure(data)
    assert whole is not None
    assert (whole.width, whole.height, whole.cut) == (30, 20, False)
    for length in range(len(data)):
        found = structure(data[:length])
        assert found is None or found.cut, length
