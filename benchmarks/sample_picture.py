"""Draw docs/img/sample.jpg: what the built-in sample looks like.

python benchmarks/sample_picture.py
"""

from pathlib import Path

import numpy as np

from d2l_ft.data.opencv import cv2
from d2l_ft.data.synthetic.tasks import TARGET_CLASSES, draw, picture_generator
from d2l_ft.data.transforms import resize

COLUMNS, SIDE = 10, 96


def main() -> None:
    """Draw two rows for each class and write them."""
    rows = []
    for name in TARGET_CLASSES:
        pictures = [
            resize(draw(name, picture_generator(0, f'target/train/{name}', index)), SIDE, SIDE)
            for index in range(2 * COLUMNS)
        ]
        rows += [np.hstack(pictures[:COLUMNS]), np.hstack(pictures[COLUMNS:])]
    path = Path(__file__).parent.parent / 'docs/img/sample.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == '__main__':
    main()
