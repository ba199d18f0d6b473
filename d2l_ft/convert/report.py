"""A proof as lines and as one HTML page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from d2l_ft.convert.verify import TIMES, TITLES, Proof, Row
from d2l_ft.report.html import document, table

VERDICTS = {
    'equal': 'Equal: the translation computes what the net of MXNet computes.',
    'part': 'They part: the translation does not compute what the net of MXNet computes.',
    'undecided': 'Undecided: what was computed cannot tell rounding from error.',
}

STYLE = """
.facts td{overflow-wrap:anywhere}.facts td.n{text-align:left}
.facts td:first-child{min-width:7rem}td code{white-space:nowrap}
"""

COLOURS = {'equal': 'good', 'part': 'bad', 'undecided': 'unknown'}
"""Verdict -> CSS class."""

SHORT = {
    'eval': 'values',
    'train': 'outputs in training',
    'gradient': 'gradients',
    'statistic': 'statistics',
    'steps': 'steps',
}
"""Stage -> the line of the proof that saw a fault."""

FACTS = {
    'folder': 'folder',
    'files': 'compared with (SHA-256)',
    'translated': 'translated from (SHA-256)',
    'versions': 'versions',
    'operators': 'operators',
    'arrays': 'stored arrays',
    'inputs': 'inputs',
    'steps': 'steps of SGD',
}
"""Fact -> what a reader is told that it is."""


def seen_by(stages: Sequence[str]) -> str:
    """Return which lines saw a fault, in words."""
    return ', '.join(SHORT[each] for each in stages)


def title(row: Row) -> str:
    """Return what a row compared, in words."""
    return TITLES.get(row.stage, 'outputs in float32: distance of MXNet from float64')


def text_lines(proof: Proof) -> list[str]:
    """Return a proof as lines for a terminal."""
    lines = []
    for row in proof.rows:
        lines.append(
            f'{row.state:9} {title(row)}: {row.error:.1e} (limit {row.limit:.1e}), '
            f'{row.count} {"array" if row.count == 1 else "arrays"}'
            + (f', at {row.where}' if row.state != 'equal' else '')
        )
    for each in proof.defects:
        lines.append(
            f'defect    the gradients of {each.name} part; finite differences give '
            f'{each.measured:.6g}, PyTorch {each.ours:.6g}, MXNet {each.theirs:.6g}: '
            f'{each.right} is right'
        )
    for words, stages in proof.seen.items():
        if stages is not None:
            seen = f'seen by {seen_by(stages)}' if stages else 'NOT SEEN'
            lines.append(f'planted   {words}: {seen}')
    lines += [f'note      {each}' for each in proof.notes]
    return [*lines, VERDICTS[proof.verdict]]


def page(proof: Proof, facts: Mapping[str, Any]) -> str:
    """Return a proof as one HTML page with everything inside.

    Args:
        proof: The proof.
        facts: Files with hashes, versions, operators, arrays: what a reader may ask for.
    """
    verdict = proof.verdict
    parts = [
        '<h1>A net of MXNet and its translation to PyTorch</h1>',
        f'<p class="verdict {COLOURS[verdict]}">{VERDICTS[verdict]}</p>',
        '<h2>What was compared</h2>',
        table(
            ('result', 'what', 'largest relative error', 'limit', 'arrays', 'where'),
            (
                (
                    f'<span class="{COLOURS[row.state]}">{row.state}</span>',
                    html.escape(title(row)),
                    f'{row.error:.1e}',
                    f'{row.limit:.1e}',
                    row.count,
                    f'<code>{html.escape(row.where)}</code>',
                )
                for row in proof.rows
            ),
        ),
        '<p>In float64, a limit is 1e-12 or, if that is more, 100 times what a change of the '
        'weights by one unit in the last place changes there. In float32, MXNet may be '
        f'{TIMES:g} times as far from float64 as PyTorch.</p>',
        _defects(proof),
        _faults(proof),
        '<h2>What was not shown</h2><ul>',
        *(f'<li>{html.escape(each)}</li>' for each in proof.notes),
        '</ul><h2>Facts</h2>',
        table(
            ('', ''),
            ((FACTS.get(name, name), _fact(each)) for name, each in facts.items()),
            'facts',
        ),
    ]
    return document(f'{verdict}: a net of MXNet in PyTorch', parts, STYLE)


def _fact(value: object) -> str:
    """Return a fact as HTML: a line for each entry of a dictionary, a shape with crosses."""
    if isinstance(value, Mapping):
        return '<br>'.join(f'{html.escape(str(k))}: {_fact(v)}' for k, v in value.items()) or 'none'
    if isinstance(value, list | tuple):
        return ' x '.join(map(str, value))
    return html.escape(str(value))


def _defects(proof: Proof) -> str:
    """Return the gradients in which the frameworks part, and who is right."""
    if not proof.defects:
        return ''
    return (
        '<h2>Gradients in which they part</h2><p>The loss was measured on both sides of the '
        'weights: its slope says which framework is right. Where that is PyTorch, the parameter is '
        'left out of the gradients above, and stays as it is in the steps, unless the notes say '
        'that the translation was given the defect.</p>'
    ) + table(
        ('parameter', 'slope, by finite differences', 'PyTorch', 'MXNet', 'right'),
        (
            (
                f'<code>{html.escape(each.name)}</code>',
                f'{each.measured:.8g}',
                f'{each.ours:.8g}',
                f'{each.theirs:.8g}',
                each.right,
            )
            for each in proof.defects
        ),
    )


def _faults(proof: Proof) -> str:
    """Return the table of planted faults."""
    if not proof.seen:
        return ''
    rows = []
    for words, stages in proof.seen.items():
        if stages is None:
            seen = 'this net has no such thing'
        elif stages:
            seen = f'<span class="good">seen</span> by {seen_by(stages)}'
        else:
            seen = '<span class="bad">not seen</span>'
        rows.append((html.escape(words), seen))
    return (
        '<h2>What this proof can see</h2><p>Each fault was planted in this very net, and compared '
        'again.</p>' + table(('fault', 'which line saw it'), rows)
    )
