"""A canvas with shapes, shading and texture, on which food is drawn."""

import math

import numpy as np
from numpy.typing import NDArray

from d2l_ft.data.opencv import cv2

Points = NDArray[np.float64]

Colour = tuple[float, float, float]
"""RGB, 0 to 255."""


def capsule(length: float, width: float, bend: float = 0.0) -> Points:
    """Return a rod with round ends, which ``bend`` lifts."""
    x = length / 2 - width / 2
    ends = np.linspace(-math.pi / 2, math.pi / 2, 9)
    right = np.stack([x + width / 2 * np.cos(ends), width / 2 * np.sin(ends)], axis=1)
    side = np.linspace(x, -x, 9)
    bottom = np.stack([side, np.full(9, width / 2)], axis=1)
    points = np.concatenate([right, bottom, -right, -bottom])
    points[:, 1] -= bend * (2 * points[:, 0] / length) ** 2
    return np.asarray(points)


def blob(rx: float, ry: float, rng: np.random.Generator, rough: float = 0.03) -> Points:
    """Return an ellipse with an uneven edge."""
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    radius = np.ones(40)
    for wave in (2, 3, 5):
        radius += rough * rng.normal() * np.cos(wave * angle + rng.uniform(0, 6.3))
    return np.stack([rx * radius * np.cos(angle), ry * radius * np.sin(angle)], axis=1)


def zigzag(length: float, height: float, turns: int) -> Points:
    """Return a wavy line along the x axis."""
    t = np.linspace(-0.5, 0.5, 12 * turns)
    return np.stack([length * t, height * np.sin(2 * math.pi * turns * t)], axis=1)


class Canvas:
    """An image that is being drawn.

    Args:
        height: Pixels.
        width: Pixels.
        rng: Source of every choice.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.image = background(height, width, rng)
        self.tint = rng.normal(0, 14, 3)
        self.aim(rng.uniform(0.75, 1.15), rng.uniform(0, 2 * math.pi), 0.1)

    def aim(self, scale: float, angle: float, spread: float) -> None:
        """Choose size (shares of the short side), turn (radians) and place of what follows."""
        height, width = self.image.shape[:2]
        self.scale = scale * min(height, width)
        cosine, sine = math.cos(angle), math.sin(angle)
        squash = self.rng.uniform(0.75, 1.0)  # seen at an angle
        self.turn = np.array([[cosine, -sine * squash], [sine, cosine * squash]])
        shift = self.rng.uniform(-spread, spread, 2)
        self.centre = np.array([width * (0.5 + shift[0]), height * (0.5 + shift[1])])

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """Return points in sixteenths of a pixel, for OpenCV to draw smooth edges (shift=4)."""
        moved = points @ self.turn.T * self.scale + self.centre
        return np.asarray(np.rint(moved * 16), dtype=np.int32)

    def shadow(self, points: Points) -> None:
        """Darken the ground below a shape."""
        mask = np.zeros(self.image.shape[:2], np.float32)
        drop = np.array([0.02, 0.04]) * 16 * self.scale
        outline = self.pixels(points) + drop.astype(np.int32)
        cv2.fillPoly(mask, [outline], (1.0,), cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(mask, (0, 0), max(1.0, 0.03 * self.scale))
        self.image *= (1 - 0.45 * soft)[..., None]

    def fill(
        self, points: Points, colour: Colour, grain: float = 8.0, round_: float = 0.35
    ) -> None:
        """Fill a shape: rounded by light, uneven by texture."""
        mask = np.zeros(self.image.shape[:2], np.float32)
        cv2.fillPoly(mask, [self.pixels(points)], (1.0,), cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(mask, (0, 0), max(1.0, 0.05 * self.scale))
        light = 1 - round_ + 1.3 * round_ * np.clip(2 * soft - 1, 0, 1)
        texture = noise(mask.shape[0], mask.shape[1], self.rng, 4) * grain
        paint = (np.array(colour) + self.tint) * light[..., None] + texture[..., None]
        self.image += mask[..., None] * (paint - self.image)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw an open line; the width is in units of the thing's length."""
        thick = max(1, round(width * self.scale))
        cv2.polylines(
            self.image,
            [self.pixels(points)],
            isClosed=False,
            color=[float(c) for c in colour],
            thickness=thick,
            lineType=cv2.LINE_AA,
            shift=4,
        )

    def dots(self, count: int, rx: float, ry: float, size: float, colour: Colour) -> None:
        """Scatter small blobs over an ellipse."""
        for _ in range(count):
            angle, radius = self.rng.uniform(0, 6.3), math.sqrt(self.rng.random()) * 0.8
            at = np.array([rx * radius * math.cos(angle), ry * radius * math.sin(angle)])
            spot = blob(size, size * self.rng.uniform(0.6, 1), self.rng, 0.06) + at
            cv2.fillPoly(
                self.image, [self.pixels(spot)], [float(c) for c in colour], cv2.LINE_AA, 4
            )

    def finish(self) -> NDArray[np.uint8]:
        """Add light, blur and noise; return (height, width, 3) RGB."""
        rng, (height, width) = self.rng, self.image.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        angle = rng.uniform(0, 2 * math.pi)
        light = 1 + rng.uniform(0, 0.3) * (x * math.cos(angle) + y * math.sin(angle))
        cast = rng.normal(1, 0.06, 3) * rng.uniform(0.75, 1.15)
        image = self.image * light[..., None] * cast
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
        image += rng.normal(0, rng.uniform(1, 7), image.shape)
        return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def noise(height: int, width: int, rng: np.random.Generator, cell: int) -> NDArray[np.float32]:
    """Return smooth noise of deviation about 1 with features of ``cell`` pixels."""
    coarse = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def background(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a table: plain, wooden, chequered or mottled, at times with a plate."""
    base = rng.uniform(50, 235) + rng.normal(0, 22, 3)
    image = np.ones((height, width, 3)) * base
    y, x = np.mgrid[:height, :width]
    angle, kind = rng.uniform(0, math.pi), rng.integers(4)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    if kind == 1:
        grain = np.sin(along / rng.uniform(3, 9) + 2 * noise(height, width, rng, 24))
        image += grain[..., None] * rng.uniform(8, 22) * np.array([1.0, 0.8, 0.6])
    elif kind == 2:
        side = rng.uniform(8, 24)
        checks = ((along // side + across // side) % 2)[..., None]
        image += checks * rng.normal(0, 55, 3)
    elif kind == 3:
        image += noise(height, width, rng, 10)[..., None] * rng.uniform(8, 24)
    if rng.random() < 0.45:
        radius = int(min(height, width) * rng.uniform(0.42, 0.6))
        shade = float(rng.uniform(170, 245))
        centre = (width // 2, height // 2)
        cv2.circle(image, centre, radius, (shade, shade, shade), -1, cv2.LINE_AA)
        cv2.circle(image, centre, int(radius * 0.8), (shade - 14,) * 3, 2, cv2.LINE_AA)
    return image
