"""The proof as one HTML page with everything inside, to attach to a ticket."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.data.opencv import cv2
from d2l_ft.parity.charts import line_chart
from d2l_ft.parity.ladder import PAIR, Result
from d2l_ft.parity.plan import Check, Plan, Trace
from d2l_ft.parity.proof import Finding
from d2l_ft.parity.rungs import RUNGS, forward
from d2l_ft.report.html import document, table

SHOWN = 8
"""Crops that are shown of each framework."""

STYLE = """
:root{--one:#1f6feb;--two:#d9480f;--three:#2b8a3e}
@media(prefers-color-scheme:dark){:root{--one:#74b0ff;--two:#ffa066;--three:#7bd88f}}
svg{width:100%;min-width:34rem;height:auto}
figure{margin:1rem 0}figcaption{font-weight:600}
svg text{fill:currentColor;font-size:12px}.legend{margin:.2rem 0 1rem}
.crops img{width:6rem;height:6rem;image-rendering:pixelated;display:block}
.crops td{border:0;padding:2px}
"""


def page(plan: Plan, result: Result, folder: Path, findings: Sequence[Finding] = ()) -> str:
    """Return the page.

    Args:
        plan: What was compared.
        result: The result of the comparison.
        folder: Where the traces are.
        findings: The results for planted faults, if any were planted.
    """
    traces = [Trace(folder / name) for name in PAIR]
    title = f'MXNet Gluon and PyTorch: {", ".join(plan.archs)}'
    sections = [
        f'<h1>{html.escape(title)}</h1>',
        verdict(result),
        '<h2>The ladder</h2>',
        *(ladder(rung, result.checks) for rung in plan.rungs),
        ''.join(f'<p>{html.escape(note)}</p>' for note in result.notes),
        crops(plan, traces) if 'pixels' in plan.rungs else '',
        layer_errors(plan, traces) if 'forward' in plan.rungs else '',
        loss_curves(plan, traces) if 'trajectory' in plan.rungs else '',
        known_differences(result.checks),
        stated_figures(result.checks),
        planted_faults(findings) if findings else '',
        environment(plan, result),
    ]
    return document(title, sections, STYLE)


def verdict(result: Result) -> str:
    """Return the verdict, with the first place where the frameworks differ."""
    failures = result.failures
    if result.equal:
        return f'<p class="verdict good">Equal within the stated tolerances: {result.count}.</p>'
    first = failures[0] if failures else None
    text = f'Different: {len(failures)} of {result.count}.'
    more = f'First: {first.name} at {first.where}; likely cause: {first.cause}.' if first else ''
    return f'<p class="verdict bad">{text}</p><p>{html.escape(more)}</p>'


def ladder(rung: str, checks: Sequence[Check]) -> str:
    """Return the checks of a rung under its title."""
    own = [each for each in checks if each.name.startswith(f'{rung}/') and not each.stated]
    if not own:
        return ''
    title = (RUNGS[rung].__doc__ or '').partition('\n')[0]
    rows = [
        [
            html.escape(check.name.partition('/')[2]),
            f'{check.value:.2g}',
            f'{f"{check.low:.1g} to " if check.low else ""}{check.tolerance:.1g}',
            html.escape(check.unit),
            f'{check.tolerance / check.value:.0f} x' if check.value else '',
            '<span class="good">ok</span>'
            if check.ok
            else f'<span class="bad">differs</span> at {html.escape(check.where)}; '
            f'likely cause: {html.escape(check.cause)}',
        ]
        for check in own
    ]
    header = ('check', 'measured', 'tolerance', 'unit', 'margin', 'verdict')
    attribute = '' if all(check.ok for check in own) else ' open'
    good = sum(check.ok for check in own)
    return (
        f'<details{attribute}><summary>{html.escape(title)} <b>{good} of {len(own)}</b></summary>'
        f'{table(header, rows)}</details>'
    )


def picture(image: NDArray[Any]) -> str:
    """Return an RGB image as an <img>."""
    _, data = cv2.imencode('.png', np.ascontiguousarray(image[:, :, ::-1]))
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}">'


def crops(plan: Plan, traces: Sequence[Trace]) -> str:
    """Return what each framework saw of the first pictures, and the difference."""
    images = [trace.arrays('pixels/epochs')['crops'][0] for trace in traces]
    step = max(1, len(images[0]) // SHOWN)
    shown_crops = [each[::step][:SHOWN] for each in images]
    apart = np.abs(shown_crops[0].astype(int) - shown_crops[1])
    # 8 times as bright, so that small differences are visible
    rows = [*zip(PAIR, shown_crops, strict=True), ('difference x 8', np.clip(8 * apart, 0, 255))]
    body = ''.join(
        f'<tr><th>{name}' + ''.join(f'<td>{picture(each.astype(np.uint8))}' for each in row)
        for name, row in rows
    )
    return (
        '<h2>What each framework saw</h2>'
        f'<div class="wide"><table class="crops">{body}</table></div>'
        f'<p>The largest difference is {int(apart.max())} of 255.</p>'
    )


def layer_errors(plan: Plan, traces: Sequence[Trace]) -> str:
    """Return how far the output of each layer is apart, in each precision."""
    parts = ['<h2>Layer by layer</h2>']
    for arch in plan.archs:
        series: dict[str, list[float]] = {}
        names: list[str] = []
        for dtype in plan.precisions:
            values = forward.layers(traces[0], traces[1], f'{arch}-{plan.heads[0]}', dtype, 'train')
            series[dtype], names = list(values.values()), list(values)
        title = f'{arch}, train mode: largest difference / largest value of each layer'
        parts += [line_chart(title, series, names, log=True, axis='layer, in order of execution')]
    return ''.join(parts)


def loss_curves(plan: Plan, traces: Sequence[Trace]) -> str:
    """Return the losses of the strict float64 runs on top of each other, and their difference."""
    parts = [f'<h2>{plan.steps} steps from the same start</h2>']
    for arch in plan.archs:
        case = f'trajectory/{arch}-{plan.heads[0]}/strict/course'
        losses = [trace.arrays(case)['losses'] for trace in traces]
        parts.append(
            line_chart(
                f'{arch}: loss',
                dict(zip(PAIR, (list(map(float, each)) for each in losses), strict=True)),
                axis='step',
            )
        )
        apart = np.abs(losses[0] - losses[1]) / np.abs(losses[1])
        parts.append(
            line_chart(
                f'{arch}: relative difference of the losses',
                {f'{arch}, relative difference, float64': [float(each) for each in apart]},
                log=True,
                axis='step',
            )
        )
    return ''.join(parts)


def known_differences(checks: Sequence[Check]) -> str:
    """Return the known differences, with their cause."""
    rows = [
        [
            html.escape(check.name),
            f'{check.value:.2g}',
            html.escape(check.unit),
            html.escape(check.reason),
        ]
        for check in checks
        if check.low
    ]
    if not rows:
        return ''
    return '<h2>Known differences</h2>' + table(('check', 'measured', 'unit', 'cause'), rows)


def stated_figures(checks: Sequence[Check]) -> str:
    """Return the figures that depend on the images and have no limit."""
    rows = [
        [
            html.escape(check.name),
            f'{check.value:.3g}',
            html.escape(check.unit),
            html.escape(check.where),
            html.escape(check.reason),
        ]
        for check in checks
        if check.stated
    ]
    if not rows:
        return ''
    header = ('figure', 'measured', 'unit', 'at', 'cause')
    return '<h2>Stated, not judged</h2>' + table(header, rows)


def planted_faults(findings: Sequence[Finding]) -> str:
    """Return the results for planted faults."""
    rows = [
        [html.escape(text) for text in (each.text, each.check or 'nothing', each.where)]
        for each in findings
    ]
    found = sum(each.found for each in findings)
    return f'<h2>Planted faults: {found} of {len(findings)} found</h2>' + table(
        ('fault', 'found by', 'at'), rows
    )


def environment(plan: Plan, result: Result) -> str:
    """Return versions, plan, and a hash of the pictures' names and bytes."""
    digest = hashlib.sha256()
    for sample in (*plan.samples(), *plan.samples(part=1)):
        digest.update(plan.name(sample.path).encode() + Path(sample.path).read_bytes())
    facts = {**result.environment, 'sha256 of the pictures': digest.hexdigest()}
    return f'<h2>Environment</h2><pre><code>{html.escape(json.dumps(facts, indent=1))}</code></pre>'
