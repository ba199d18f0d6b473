"""The report of a run: one HTML page that needs no other file and no network."""

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from d2l_ft.data.opencv import cv2
from d2l_ft.data.transforms import decode, resize
from d2l_ft.report.html import document, escape_line, table
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.training.evaluation import Evaluation
from d2l_ft.training.metrics import EpochMetrics

THUMB = 120
"""Longer side of a thumbnail, in pixels."""

STYLE = """
figure{display:inline-block;margin:.4rem;vertical-align:top;width:9rem;font-size:.8rem}
.curves{background:#fff}
"""


def write_report(
    path: Path,
    config: Mapping[str, Any],
    metrics: Iterable[EpochMetrics],
    net: str,
    evaluation: Evaluation,
    curves: bytes,
) -> None:
    """Write the report: results, curves, confusion matrix, worst mistakes, settings.

    Args:
        path: The file.
        config: The run's config; 'arch' and 'data' are in the title.
        metrics: Of all epochs and nets.
        net: The name of the net that was evaluated.
        evaluation: Its predictions for the test part.
        curves: The learning curves as a PNG.

    Raises:
        StorageError: The file cannot be written.
    """
    title = f'd2l_ft: {config["arch"]} on {config["data"]}'
    drawn = base64.b64encode(curves).decode()
    parts = [
        f'<h1>{escape_line(title)}</h1>',
        f'<p>Test accuracy of the {net} net: <b>{evaluation.accuracy:.3f}</b> on '
        f'{len(evaluation.samples)} images.</p>',
        f'<img class="curves" alt="learning curves" src="data:image/png;base64,{drawn}">',
        '<h2>Epochs</h2>',
        _metrics(metrics),
        '<h2>Confusion: true class by row</h2>',
        _confusion(evaluation),
        '<h2>Worst mistakes</h2>',
        _mistakes(evaluation),
        '<h2>Settings</h2>',
        f'<pre>{html.escape(json.dumps(config, indent=2))}</pre>',
    ]
    write_atomic(path, document(title, parts, STYLE).encode())


def _metrics(metrics: Iterable[EpochMetrics]) -> str:
    """Return the metrics of all epochs."""
    header = ['net', 'epoch', 'train loss', 'train acc', 'test acc', 'examples/sec', 'step only']
    return table(
        header,
        (
            (
                escape_line(each.net),
                each.epoch,
                f'{each.train_loss:.3f}',
                f'{each.train_acc:.3f}',
                f'{each.test_acc:.3f}',
                f'{each.examples_per_sec:.1f}',
                f'{each.step_examples_per_sec:.1f}',
            )
            for each in metrics
        ),
        names=True,
    )


def _confusion(evaluation: Evaluation) -> str:
    """Return the confusion matrix."""
    classes = [escape_line(each) for each in evaluation.classes]
    rows = zip(classes, evaluation.confusion.tolist(), strict=True)
    return table(['', *classes], ((name, *counts) for name, counts in rows), names=True)


def _mistakes(evaluation: Evaluation) -> str:
    """Return thumbnails of the mistakes with the highest probability."""
    figures = ''
    for each in evaluation.worst():
        image = decode(each.path)
        scale = THUMB / max(image.shape[:2])
        small = resize(image, *(max(1, round(side * scale)) for side in image.shape[:2]))
        _, data = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        source = base64.b64encode(data.tobytes()).decode()
        text = (
            f'{evaluation.classes[each.label]}, predicted as '
            f'{evaluation.classes[each.predicted]} ({each.probability:.2f})'
        )
        figures += (
            f'<figure><img alt="{escape_line(each.path)}" src="data:image/jpeg;base64,{source}">'
            f'<figcaption>{escape_line(text)}</figcaption></figure>'
        )
    return figures or '<p>None.</p>'
