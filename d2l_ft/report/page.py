"""The report of a run: one HTML page that needs no other file and no network."""

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from d2l_ft.data.opencv import cv2
from d2l_ft.data.transforms import decode, resize
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.system.console import visible
from d2l_ft.training.evaluation import Evaluation
from d2l_ft.training.metrics import EpochMetrics

THUMB = 120
"""Longer side of a thumbnail, in pixels."""

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #8884;padding:.3rem .6rem}
td{text-align:right}th{text-align:left}img{max-width:100%}
figure{display:inline-block;margin:.4rem;vertical-align:top;width:9rem;font-size:.8rem}
:root{color-scheme:light dark}.curves{background:#fff}
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
    head = f'<!doctype html><meta charset="utf-8"><title>{escape_line(title)}</title>'
    page = f'{head}<style>{STYLE}</style>{"".join(parts)}'
    write_atomic(path, page.encode())


def escape_line(text: str) -> str:
    """Return a text of one line as HTML."""
    return html.escape(visible(text))


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table whose first column names the rows."""
    top = ''.join(f'<th>{escape_line(each)}' for each in header)
    lines = ''
    for row in rows:
        name, *cells = (escape_line(str(each)) for each in row)
        lines += f'<tr><th>{name}' + ''.join(f'<td>{cell}' for cell in cells)
    return f'<table><tr>{top}{lines}</table>'


def _metrics(metrics: Iterable[EpochMetrics]) -> str:
    """Return the metrics of all epochs."""
    header = ['net', 'epoch', 'train loss', 'train acc', 'test acc', 'examples/sec', 'step only']
    return _table(
        header,
        (
            (
                each.net,
                each.epoch,
                f'{each.train_loss:.3f}',
                f'{each.train_acc:.3f}',
                f'{each.test_acc:.3f}',
                f'{each.examples_per_sec:.1f}',
                f'{each.step_examples_per_sec:.1f}',
            )
            for each in metrics
        ),
    )


def _confusion(evaluation: Evaluation) -> str:
    """Return the confusion matrix."""
    rows = zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
    return _table(['', *evaluation.classes], ((name, *counts) for name, counts in rows))


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
