"""Draw food: shapes with shading and texture, backgrounds, light. Each function draws one thing.

Its shapes have coordinates in which it is about one unit long and lies along the x axis, with y
downwards; a ``Canvas`` rotates, scales and shifts them into pixels.
"""

import math
from collections.abc import Callable

import numpy as np

from d2l_ft.data.synthetic.canvas import Canvas, Colour, blob, capsule, zigzag

TAN, BROWN, DARK = (214, 160, 92), (150, 84, 40), (78, 42, 24)

RED, GREEN, YELLOW = (186, 52, 40), (84, 142, 52), (234, 194, 60)

CREAM, PINK, WHITE, ORANGE = (246, 228, 190), (226, 142, 150), (242, 240, 236), (232, 126, 40)

SAUSAGES = ((176, 70, 44), (148, 60, 38), (206, 104, 74), (120, 52, 34))

SAUCES = ((236, 188, 36), (178, 26, 22), (240, 226, 180))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """Choose a colour and vary it."""
    red, green, blue = np.array(colours[rng.integers(len(colours))]) + rng.normal(0, 9, 3)
    return float(red), float(green), float(blue)


def _sauce(canvas: Canvas, length: float, height: float, share: float = 0.7) -> None:
    """Put a wavy line of sauce on, at times."""
    if canvas.rng.random() < share:
        turns = int(canvas.rng.integers(3, 8))
        canvas.line(zigzag(length, height, turns), _pick(canvas.rng, SAUCES), 0.035)


def _split_bun(canvas: Canvas, bend: float) -> float:
    """Draw an open long bun and return half of the width of its gap."""
    rng = canvas.rng
    width, gap = rng.uniform(0.34, 0.46), rng.uniform(0.1, 0.16)
    bun = _pick(rng, (TAN, (196, 132, 66), (226, 186, 124)))
    canvas.shadow(capsule(1.0, width * 1.3, bend))
    for side in (-1, 1):
        canvas.fill(capsule(1.0, width * 0.62, bend) + [0, side * gap], bun)
    canvas.fill(capsule(0.9, gap * 1.2, bend), CREAM, round_=0.1)
    return float(gap)


def hotdog(canvas: Canvas) -> None:
    """Draw a sausage in a split bun, which shows on both of its sides."""
    rng = canvas.rng
    bend = rng.uniform(-0.08, 0.08)
    _split_bun(canvas, bend)
    canvas.fill(capsule(rng.uniform(0.9, 1.14), rng.uniform(0.15, 0.2), bend), _pick(rng, SAUSAGES))
    if rng.random() < 0.3:
        canvas.dots(12, 0.42, 0.07, 0.025, _pick(rng, (GREEN, CREAM, RED)))
    _sauce(canvas, 0.8, 0.045)


def sausage(canvas: Canvas) -> None:
    """Draw one to three sausages without bread."""
    rng, count = canvas.rng, int(canvas.rng.integers(1, 4))
    bend = rng.uniform(-0.12, 0.12)
    for number in range(count):
        rod = capsule(1.0, rng.uniform(0.16, 0.22), bend) + [0, 0.21 * (number - (count - 1) / 2)]
        canvas.shadow(rod)
        canvas.fill(rod, _pick(rng, SAUSAGES))
    _sauce(canvas, 0.75, 0.05, 0.5)


def roll(canvas: Canvas) -> None:
    """Draw a split bun filled with cream or jam."""
    rng = canvas.rng
    bend = rng.uniform(-0.08, 0.08)
    gap = _split_bun(canvas, bend)
    filling = _pick(rng, (PINK, WHITE, YELLOW, DARK, (150, 30, 60)))
    for x in np.linspace(-0.36, 0.36, int(rng.integers(6, 10))):
        canvas.fill(blob(0.08, gap * 0.8, rng, 0.05) + [x, -bend * 4 * x * x], filling, 4.0, 0.25)
    _sauce(canvas, 0.8, 0.045, 0.4)


def kebab(canvas: Canvas) -> None:
    """Draw a split bun filled with strips of meat and salad."""
    rng = canvas.rng
    bend = rng.uniform(-0.08, 0.08)
    gap = _split_bun(canvas, bend)
    for x in rng.uniform(-0.4, 0.4, int(rng.integers(14, 22))):
        strip = blob(0.07, 0.025, rng, 0.1)
        turn = rng.uniform(0, math.pi)
        cosine, sine = math.cos(turn), math.sin(turn)
        strip = strip @ np.array([[cosine, sine], [-sine, cosine]])
        strip += [x, -bend * 4 * x * x + rng.uniform(-0.7, 0.7) * gap]
        canvas.fill(strip, _pick(rng, (*SAUSAGES, *SAUSAGES, GREEN, CREAM)), 6.0, 0.2)
    _sauce(canvas, 0.8, 0.045, 0.5)


def baguette(canvas: Canvas) -> None:
    """Draw a long loaf with slashes across."""
    rng, width = canvas.rng, canvas.rng.uniform(0.26, 0.46)
    canvas.shadow(capsule(1.05, width))
    canvas.fill(capsule(1.05, width), _pick(rng, (TAN, (190, 122, 58))))
    for x in np.linspace(-0.32, 0.32, int(rng.integers(3, 6))):
        cut = np.array([[x - 0.05, -width * 0.3], [x + 0.05, width * 0.3]])
        canvas.line(cut, CREAM, 0.035)


def eclair(canvas: Canvas) -> None:
    """Draw a long bun with icing on top, striped at times."""
    rng, width = canvas.rng, canvas.rng.uniform(0.3, 0.44)
    canvas.shadow(capsule(1.0, width))
    canvas.fill(capsule(1.0, width), _pick(rng, (TAN, (204, 146, 80))))
    canvas.fill(capsule(0.92, width * 0.66), _pick(rng, (DARK, BROWN, PINK, WHITE)), 3.0, 0.2)
    _sauce(canvas, 0.75, 0.05, 0.6)


def sandwich(canvas: Canvas) -> None:
    """Draw a filled long roll: leaves and slices between two halves, no sausage."""
    rng, width = canvas.rng, canvas.rng.uniform(0.36, 0.48)
    bun = _pick(rng, (TAN, (196, 132, 66)))
    canvas.shadow(capsule(1.0, width * 1.2))
    canvas.fill(capsule(1.0, width * 0.6) + [0, -0.13], bun)
    canvas.fill(capsule(1.0, width * 0.6) + [0, 0.13], bun)
    for x in np.linspace(-0.36, 0.36, int(rng.integers(5, 9))):
        piece = blob(0.09, 0.075, rng, 0.1) + [x, rng.normal(0, 0.02)]
        canvas.fill(piece, _pick(rng, (GREEN, RED, YELLOW, PINK, CREAM)), 5.0, 0.15)


def banana(canvas: Canvas) -> None:
    """Draw a bent yellow rod with dark ends."""
    rng = canvas.rng
    rod = capsule(1.0, rng.uniform(0.18, 0.26), rng.uniform(0.16, 0.3))
    canvas.shadow(rod)
    canvas.fill(rod, _pick(rng, (YELLOW, (206, 196, 70))))
    for tip in (rod[rod[:, 0] > 0.47], rod[rod[:, 0] < -0.47]):
        if len(tip) > 2:
            canvas.fill(tip, DARK)


def carrot(canvas: Canvas) -> None:
    """Draw an orange wedge with leaves and rings."""
    rng = canvas.rng
    body = np.array([[0.5, 0], [-0.3, 0.12], [-0.36, 0.06], [-0.36, -0.06], [-0.3, -0.12]])
    canvas.shadow(body)
    for _ in range(3):
        end = np.array([[-0.34, 0], [-0.55, rng.uniform(-0.14, 0.14)]])
        canvas.line(end, GREEN, 0.04)
    canvas.fill(body, _pick(rng, (ORANGE, (216, 96, 44))))
    for x in rng.uniform(-0.25, 0.3, 5):
        canvas.line(np.array([[x, -0.04], [x, 0.02]]), BROWN, 0.012)


def cucumber(canvas: Canvas) -> None:
    """Draw a green rod, with slices beside it at times."""
    rng = canvas.rng
    rod = capsule(1.0, rng.uniform(0.18, 0.28), rng.uniform(-0.08, 0.08))
    canvas.shadow(rod)
    canvas.fill(rod, _pick(rng, (GREEN, (60, 108, 48))), 14.0)
    for x in rng.uniform(-0.4, 0.4, int(rng.integers(0, 4))):
        canvas.fill(blob(0.11, 0.11, rng) + [x, 0.24], (206, 226, 160))


def burger(canvas: Canvas) -> None:
    """Draw a round bun from the side, in layers."""
    rng, bun = canvas.rng, _pick(canvas.rng, (TAN, (196, 132, 66)))
    canvas.shadow(capsule(0.8, 0.6))
    for y, height, colour in (
        (0.2, 0.2, bun),
        (0.1, 0.12, DARK),
        (0.04, 0.08, YELLOW),
        (-0.02, 0.08, GREEN),
    ):
        canvas.fill(capsule(0.8, height, 0.01 * rng.normal()) + [0, y], colour)
    top = blob(0.4, 0.3, rng, 0.01)
    top[:, 1] = np.minimum(top[:, 1], 0.0) - 0.05
    canvas.fill(top, bun)
    canvas.dots(10, 0.25, 0.1, 0.012, CREAM)


def pizza(canvas: Canvas) -> None:
    """Draw a round pizza or a slice of it."""
    rng = canvas.rng
    disc = blob(0.45, 0.45, rng)
    if rng.random() < 0.5:
        disc = np.concatenate([disc[:9], [[0.0, 0.0]]])
    canvas.shadow(disc)
    canvas.fill(disc, TAN)
    canvas.fill(disc * 0.86, _pick(rng, (YELLOW, (222, 130, 62))), 18.0, 0.1)
    canvas.dots(9, 0.36, 0.36, 0.055, _pick(rng, (RED, BROWN, GREEN)))


def donut(canvas: Canvas) -> None:
    """Draw a ring with icing and sprinkles."""
    rng = canvas.rng
    canvas.shadow(blob(0.42, 0.42, rng))
    canvas.fill(blob(0.42, 0.42, rng, 0.01), TAN)
    canvas.fill(blob(0.37, 0.37, rng), _pick(rng, (PINK, DARK, WHITE)), 3.0, 0.15)
    canvas.dots(14, 0.34, 0.34, 0.018, _pick(rng, (YELLOW, GREEN, RED)))
    canvas.fill(blob(0.14, 0.14, rng), (110, 90, 70), 4.0, 0.1)


def cake(canvas: Canvas) -> None:
    """Draw a piece of layer cake from the side."""
    rng = canvas.rng
    canvas.shadow(np.array([[-0.4, -0.3], [0.4, -0.3], [0.4, 0.3], [-0.4, 0.3]]))
    colours = _pick(rng, (BROWN, CREAM, PINK)), _pick(rng, (WHITE, CREAM, DARK))
    for number, y in enumerate(np.linspace(-0.3, 0.2, 5)):
        layer = np.array([[-0.4, y], [0.4, y], [0.4, y + 0.13], [-0.4, y + 0.13]])
        canvas.fill(layer, colours[number % 2], 8.0, 0.1)
    _sauce(canvas, 0.7, 0.04, 0.4)


def fish(canvas: Canvas) -> None:
    """Draw a fish with tail and eye."""
    rng = canvas.rng
    colour = _pick(rng, ((150, 160, 170), (210, 130, 100), (110, 130, 140)))
    tail = np.array([[-0.3, 0], [-0.52, -0.17], [-0.46, 0], [-0.52, 0.17]])
    body = blob(0.38, rng.uniform(0.12, 0.19), rng, 0.01)
    canvas.shadow(body)
    canvas.fill(tail, colour)
    canvas.fill(body, colour, 14.0)
    canvas.fill(blob(0.03, 0.03, rng) + [0.26, -0.03], DARK)


def apple(canvas: Canvas) -> None:
    """Draw an apple with a stalk."""
    rng = canvas.rng
    fruit = blob(0.36, 0.36, rng, 0.02)
    fruit[:, 1] += 0.06 * np.exp(-((fruit[:, 0] / 0.1) ** 2)) * (fruit[:, 1] < 0)
    canvas.shadow(fruit)
    canvas.fill(fruit, _pick(rng, (RED, GREEN, (214, 196, 80))))
    canvas.line(np.array([[0, -0.3], [0.05, -0.46]]), DARK, 0.03)


def egg(canvas: Canvas) -> None:
    """Draw a fried egg."""
    rng = canvas.rng
    white = blob(0.42, 0.36, rng, 0.09)
    canvas.shadow(white)
    canvas.fill(white, WHITE, 4.0, 0.1)
    canvas.fill(blob(0.15, 0.15, rng) + rng.normal(0, 0.04, 2), (242, 170, 40), 4.0)


def bottle(canvas: Canvas) -> None:
    """Draw a bottle with a label."""
    rng = canvas.rng
    colour = _pick(rng, (GREEN, BROWN, (90, 120, 160), RED))
    canvas.shadow(capsule(0.8, 0.3))
    canvas.fill(capsule(0.68, 0.28) + [-0.16, 0], colour, 3.0)
    canvas.fill(capsule(0.5, 0.1) + [0.27, 0], colour, 3.0)
    label = np.array([[-0.35, -0.13], [-0.02, -0.13], [-0.02, 0.13], [-0.35, 0.13]])
    canvas.fill(label, _pick(rng, (WHITE, YELLOW, CREAM)), 4.0, 0.1)


def leaf(canvas: Canvas) -> None:
    """Draw a leaf of salad with veins."""
    rng = canvas.rng
    canvas.shadow(blob(0.48, 0.26, rng))
    canvas.fill(blob(0.48, 0.26, rng, 0.06), _pick(rng, (GREEN, (120, 160, 60))), 12.0)
    canvas.line(np.array([[-0.48, 0], [0.45, 0]]), CREAM, 0.02)
    for x in np.linspace(-0.3, 0.25, 4):
        for side in (-1, 1):
            canvas.line(np.array([[x, 0], [x + 0.13, side * 0.16]]), CREAM, 0.012)


def taco(canvas: Canvas) -> None:
    """Draw a folded tortilla with filling."""
    rng = canvas.rng
    shell = blob(0.46, 0.4, rng, 0.02)
    shell[:, 1] = np.minimum(shell[:, 1], 0.02)
    canvas.shadow(shell)
    canvas.fill(shell * 1.05 + [0.02, -0.03], BROWN)
    for x in np.linspace(-0.35, 0.35, 8):
        top = -0.36 * math.sqrt(1 - (x / 0.46) ** 2)
        piece = blob(0.08, 0.07, rng, 0.1) + [x, top]
        canvas.fill(piece, _pick(rng, (GREEN, RED, YELLOW, BROWN)), 5.0, 0.15)
    canvas.fill(shell, _pick(rng, (YELLOW, TAN)), 12.0)


DRAWINGS: dict[str, Callable[[Canvas], None]] = {
    each.__name__: each
    for each in (
        hotdog, roll, kebab, sausage, baguette, eclair, sandwich, banana, carrot, cucumber,
        burger, pizza, donut, cake, fish, apple, egg, bottle, leaf, taco,
    )
}  # fmt: skip
