"""Keep an untrusted chapter from reading other files and from running scripts.

``make_harmless`` shows raw HTML, and links that run something, as text. ``check_inside`` refuses
files outside the book's folder. ``is_active`` finds pictures that can run something. As a Sphinx
extension the module also checks the document that Sphinx has read, in case something came in
through a directive, a role, HTML or a link. A book whose ``book.json`` says ``"trusted": true`` is
shown as it is; files outside its folder are refused all the same.
"""

import html
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

from d2l_ft.errors import ChapterError

SCHEMES = ('http', 'https', 'mailto')
"""Schemes of links that are kept; links without a scheme lead to the book itself."""

OWN_HTML = re.compile(r'<a href="notebooks/[\w.%-]+\.ipynb" download>|</a>')
"""HTML that this package writes into pages: the links to the notebooks."""

DATA = re.compile(r'data:image/(png|jpeg|gif|svg\+xml)[;,]')
"""A picture within the text; a browser runs no script in it."""

ACTIVE = {
    'script', 'foreignobject', 'iframe', 'embed', 'object', 'handler', 'listener', 'audio',
    'video', 'animate', 'set', 'animatetransform', 'animatemotion', 'meta', 'link', 'base',
}  # fmt: skip
"""Elements of SVG that run something, or may contain something that does."""


def check_inside(root: Path, path: Path) -> Path:
    """Return a path if it leads to something in the book's folder, links resolved.

    Raises:
        ChapterError: It leads elsewhere.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise ChapterError(
            f'{path} leads out of the folder of the book, {root}: copy the file into it'
        )
    return path


def make_harmless(text: str) -> str:
    """Return Markdown in which raw HTML and links that run something are shown as text."""
    for _ in range(100):  # what is found is no HTML afterwards, so each round finds less
        found, links = find_risks(text)
        if links:
            text = re.sub(r'(?<!\\)\](?=[(:\[])', r'\\]', text)
        for each in found:
            text = text.replace(each, each.replace('<', '&lt;'))
        if not (found or links):
            return text
        if find_risks(text) == (found, links):
            break
    return text.replace('<', '&lt;').replace(']', r'\]')


def find_risks(text: str) -> tuple[list[str], bool]:
    """Return the raw HTML in a Markdown text, and whether a link or picture may run something."""
    env: dict[str, Any] = {}
    found, bad = [], False
    for token in tokens(parser().parse(text, env)):
        if token.type in ('html_inline', 'html_block'):
            found.append(token.content)
        picture, link = (str(token.attrs.get(name, '')) for name in ('src', 'href'))
        bad = bad or not (is_followed(link) and (is_followed(picture) or DATA.match(picture)))
    references = env.get('references', {}).values()
    return found, bad or any(not is_followed(each['href']) for each in references)


@cache
def parser() -> Any:
    """Return the parser of Markdown; unlike its default it accepts every address in a link."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    found: Any = MarkdownIt('commonmark').enable('table').use(dollarmath_plugin)
    found.validateLink = lambda url: True
    return found


def tokens(found: Iterable[Any]) -> Iterator[Any]:
    """Yield tokens, and those inside of them."""
    for each in found:
        yield each
        yield from tokens(each.children or ())


def is_followed(address: str) -> bool:
    """Tell whether a link leads to the web, to a mailbox or into the book.

    Browsers ignore white space and control characters when they look for the scheme.
    """
    from urllib.parse import unquote

    plain = re.sub(r'[\x00-\x20\x7f-\xa0\u2000-\u200f\ufeff]', '', unquote(html.unescape(address)))
    scheme = re.match(r'([^/?#:]*):', plain)
    return scheme is None or scheme[1].lower() in SCHEMES


def is_active(data: bytes, suffix: str) -> bool:
    """Tell whether a picture can run something, or cannot be checked; only SVG ever can."""
    if suffix.lower() != '.svg':
        return False
    active = False

    def note(*_: Any) -> None:
        nonlocal active
        active = True

    def start(name: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            local = key.rpartition(':')[2].lower()
            picture = DATA.match(value) and not value.startswith('data:image/svg')
            if local.startswith('on') or (local == 'href' and not (is_followed(value) or picture)):
                note()
        if name.rpartition(':')[2].lower() in ACTIVE:
            note()

    reader = expat.ParserCreate()
    reader.StartElementHandler = start
    reader.ProcessingInstructionHandler = reader.EntityDeclHandler = note
    try:
        reader.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        return True
    return active


def check_document(app: Any, document: Any) -> None:
    """Check a page that Sphinx has read, and make it harmless, before it is written.

    Raises:
        ChapterError: It shows or offers a file outside the book's folder.
    """
    from docutils import nodes
    from sphinx import addnodes

    def within(address: str) -> None:
        root = Path(app.srcdir).resolve()
        if not (root / address.lstrip('/')).resolve().is_relative_to(root):
            raise ChapterError(
                f'{app.env.docname}.md leads to {address}, out of the folder of the book: copy the '
                'file into it'
            )

    for node in list(document.findall(nodes.image)):
        address = str(node.get('uri', ''))
        if re.match(r'\w[\w+.-]*:', address):
            node.replace_self(nodes.Text(node.get('alt', '')))
        else:
            within(address)
    for node in list(document.findall(addnodes.download_reference)):
        within(str(node.get('reftarget', '')))
    if app.config.d2l_trusted:
        return
    for node in list(document.findall(nodes.raw)):
        if not OWN_HTML.fullmatch(node.astext().strip()):
            node.replace_self(nodes.Text(node.astext()))
    for node in list(document.findall(nodes.meta)):
        node.parent.remove(node)
    for node in list(document.findall(nodes.reference)):
        if not is_followed(str(node.get('refuri', ''))):
            node.replace_self(node.children or nodes.Text(node.astext()))


def forbid_files(app: Any) -> None:
    """Forbid directives to read files, and to write HTML unless the book is trusted."""
    app.env.settings['file_insertion_enabled'] = False
    app.env.settings['raw_enabled'] = app.config.d2l_trusted


def setup(app: Any) -> dict[str, Any]:
    """Check each page before Sphinx collects its pictures and titles."""
    app.add_config_value('d2l_trusted', False, 'env', bool)
    app.connect('builder-inited', forbid_files)
    app.connect('doctree-read', check_document, priority=1)
    return {'version': '1', 'parallel_read_safe': True, 'parallel_write_safe': True}
