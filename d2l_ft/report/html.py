"""Pages with everything inside: what the reports of runs and proofs share."""

import html
import re
from collections.abc import Iterable, Sequence

from d2l_ft.system.console import visible

STYLE = """
:root{color-scheme:light dark;--line:#8884;--good:#2b8a3e;--bad:#c92a2a;--unknown:#b35900}
@media(prefers-color-scheme:dark){:root{--good:#7bd88f;--bad:#ff8787;--unknown:#ffb066}}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:.9rem}.wide{overflow-x:auto;margin:1rem 0}
td,th{border:1px solid var(--line);padding:.2rem .6rem;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.unknown{color:var(--unknown)}
.verdict{font-size:1.3rem;font-weight:600}code{overflow-wrap:anywhere}pre{overflow-x:auto}img{max-width:100%}
"""

NUMBER = re.compile(r'-?(\d[\d.e+-]*|inf|nan)( to [\d.e+-]+)?( x)?')


def document(title: str, parts: Iterable[str], style: str = '') -> str:
    """Return a page.

    Args:
        title: Plain text.
        parts: The body, in HTML; empty ones are left out.
        style: CSS beside what all pages have.
    """
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape_line(title)}</title><style>{STYLE}{style}</style>'
        + '\n'.join(part for part in parts if part)
        + '\n'
    )


def escape_line(text: str) -> str:
    """Return a text of one line as HTML."""
    return html.escape(visible(text))


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], kind: str = '', *, names: bool = False
) -> str:
    """Return a table; numbers stand at the right.

    Args:
        header: A title for each column, in HTML; none if all are empty.
        rows: Cells in HTML.
        kind: Its CSS class, where a page has a style for it.
        names: Whether the first column names the rows.
    """
    top = ''.join(f'<th>{each}</th>' for each in header)
    body = ''
    for row in rows:
        cells = (_cell(each, name=names and not at) for at, each in enumerate(row))
        body += f'<tr>{"".join(cells)}</tr>'
    shown = f'<tr>{top}</tr>' if any(header) else ''
    attribute = f' class="{kind}"' if kind else ''
    return f'<div class="wide"><table{attribute}>{shown}{body}</table></div>'


def _cell(value: object, *, name: bool) -> str:
    text = str(value)
    if name:
        return f'<th>{text}</th>'
    return f'<td class="n">{text}</td>' if NUMBER.fullmatch(text) else f'<td>{text}</td>'
