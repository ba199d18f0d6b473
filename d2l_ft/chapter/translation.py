"""The text of an original when its translation was last read, and what has changed since.

``<translation>.origin.json`` is a list of the original's paragraphs with their digests.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path

from d2l_ft.chapter.book import Book, Page
from d2l_ft.chapter.reader import Code, Equation, Fence, Tab, prose_of
from d2l_ft.chapter.safe import check_inside
from d2l_ft.errors import ChapterError
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.storage.typed_json import from_json

ORIGIN = '.origin.json'
AROUND = 3
"""Words that are shown before and after a change."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, heading, caption, table or fence; its layout does not count.

    Attributes:
        digest: The first digits of the SHA-256 of its text.
        text: Its words, a space between them.
    """

    digest: str
    text: str


def paragraphs(page: Page) -> list[tuple[int, Paragraph]]:
    """Return (line, paragraph) of all prose of a chapter."""
    found = []
    for block in page.chapter.walk():
        if isinstance(block, Tab | Code | Equation):
            continue  # the blocks of a tab follow; code and formulas are not translated
        texts = [block.source] if isinstance(block, Fence) else prose_of(block)
        if text := ' '.join(' '.join(texts).split()):
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            found.append((block.line, Paragraph(digest, text)))
    return found


def origin_of(book: Book, page: Page) -> Page | None:
    """Return the page that another translates; None if it is no translation or that is missing."""
    others = (each for each in book.known_pages if each.stem == page.origin)
    return None if page.stem == page.origin else next(others, None)


def origin_file(book: Book, page: Page) -> Path:
    """Return the file with the original's paragraphs when a translation was read."""
    return check_inside(book.root, book.root / f'{page.stem}{ORIGIN}')


def read_paragraphs(path: Path) -> list[Paragraph]:
    """Read the paragraphs of the original.

    Raises:
        ChapterError: The file cannot be read, or is damaged.
    """
    try:
        found = [from_json(Paragraph, each) for each in json.loads(path.read_text('utf-8'))]
    except OSError as error:
        raise ChapterError(f'cannot read {path}: {error.strerror}') from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ChapterError(
            f'cannot read {path} ({error}): read the translation again, then run  '
            'd2l-ft chapter check --translated'
        ) from error
    return found


def stale_paragraphs(book: Book, page: Page) -> Iterator[str]:
    """Yield a line for each paragraph of the original that changed since a translation was read.

    Raises:
        ChapterError: The file of the original's paragraphs cannot be read.
    """
    origin, path = origin_of(book, page), origin_file(book, page)
    if origin is None or not path.is_file():
        return
    before, now = read_paragraphs(path), paragraphs(origin)
    old, new = [each.digest for each in before], [each.digest for _, each in now]
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == 'equal':
            continue
        for at in range(max(b - a, d - c)):
            was = before[a + at].text if a + at < b else ''
            line, said = (now[c + at][0], now[c + at][1].text) if c + at < d else (0, '')
            place = line or (now[min(c, len(now) - 1)][0] if now else 1)
            yield (
                f'{page.path}: {origin.path}:{place} changed since this translation was read: '
                f'{word_diff(was, said)}'
            )


def word_diff(old: str, new: str) -> str:
    """Return what changed between two texts, as [-old-] {+new+} between some words."""
    before, now = old.split(), new.split()
    found = []
    for what, a, b, c, d in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if what == 'equal':
            words = before[a:b]
            if len(words) > 2 * AROUND:
                head, tail = words[:AROUND] if a else [], words[-AROUND:] if b < len(before) else []
                words = [*head, '...', *tail]
            found += words
        else:
            found += [f'[-{" ".join(before[a:b])}-]'] if b > a else []
            found += ['{+' + ' '.join(now[c:d]) + '+}'] if d > c else []
    return ' '.join(found)


def unread_translations(book: Book) -> Iterator[str]:
    """Yield a line for each translation without a record that it was read."""
    for page in book.pages:
        if origin_of(book, page) and not origin_file(book, page).is_file():
            yield (
                f'{page.path}: there is no record that it was read against its original: read it, '
                'then run  d2l-ft chapter check --translated'
            )


def note_read(book: Book) -> int:
    """Record that the translations match their originals now; return their number."""
    count = 0
    for page in book.pages:
        if origin := origin_of(book, page):
            values = [asdict(each) for _, each in paragraphs(origin)]
            text = json.dumps(values, indent=1, ensure_ascii=False) + '\n'
            write_atomic(origin_file(book, page), text.encode())
            count += 1
    return count
