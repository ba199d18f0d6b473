"""A Sphinx extension that shows formulas as MathML, which browsers and e-book readers know."""

import re
from html import escape
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx

TAG = re.compile(r'\s*\\tag\{([^}]*)\}')


def to_mathml(tex: str, display: str) -> str:
    """Return a formula as MathML; ``display`` is 'inline' or 'block'."""
    return str(latex2mathml.converter.convert(tex, display=display))


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula in prose."""
    self.body.append(to_mathml(node.astext(), 'inline'))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a displayed formula, its number at the margin."""
    tex = node.astext()
    tag = TAG.search(tex)
    number = f'<span class="eqno">({escape(tag[1])})</span>' if tag else ''
    formula = to_mathml(TAG.sub('', tex), 'block')
    self.body.append(f'<div class="math d2l-formula">{formula}{number}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer."""
    app.add_html_math_renderer('mathml', (visit_inline, None), (visit_block, None))
    return {'version': '1', 'parallel_read_safe': True, 'parallel_write_safe': True}
