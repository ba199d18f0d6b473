"""The chapters of a folder with their settings: languages, tabs, numbers, labels."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from d2l_ft.chapter.reader import (
    Block,
    Chapter,
    Code,
    Equation,
    Figure,
    Heading,
    Table,
    read_chapter,
)
from d2l_ft.chapter.safe import check_inside
from d2l_ft.chapter.words import WORDS
from d2l_ft.errors import ChapterError
from d2l_ft.storage.typed_json import from_json

SETTINGS = 'book.json'
CLAIMS = '.claims.json'
NAME = re.compile(r'[\w-][\w. -]*')
"""Names that tabs and chapters may have, as files are named after them."""


@dataclass(frozen=True)
class Target:
    """The target of a label.

    Attributes:
        kind: 'section', 'figure', 'table' or 'equation'.
        number: Such as '13.2.1'.
        title: A heading's text or a caption.
        page: Stem of its file.
    """

    kind: str
    number: str
    title: str
    page: str


@dataclass(frozen=True)
class Settings:
    """What ``book.json`` says.

    Attributes:
        title: Language -> title of the site.
        tabs: Name of a tab -> its title, in the order in which they are shown.
        default_tab: The tab of a cell without a mark.
        languages: Language -> suffix of its files' stems; the one with '' is the origin.
        chapters: Stem of the origin's file -> number of the chapter, in the book's order.
        install: The pip line of a Colab notebook; {tab} and {pins} are put in.
        discussions: Stem -> tab -> address of the forum's thread.
        trusted: Whether HTML, links and pictures of the chapters may run scripts in a browser.
    """

    title: dict[str, str] = field(default_factory=lambda: {'en': 'Chapters'})
    tabs: dict[str, str] = field(default_factory=lambda: {'mxnet': 'MXNet', 'pytorch': 'PyTorch'})
    default_tab: str = 'mxnet'
    languages: dict[str, str] = field(default_factory=lambda: {'en': ''})
    chapters: dict[str, str] = field(default_factory=dict)
    install: str = 'd2l-ft[{tab}]'
    discussions: dict[str, dict[str, str]] = field(default_factory=dict)
    trusted: bool = False

    @classmethod
    def read(cls, path: Path) -> 'Settings':
        """Read a file; without it the defaults hold.

        Raises:
            ChapterError: The file can't be read, or has a setting that is unknown or not possible.
        """
        if not check_inside(path.parent, path).is_file():
            return cls()
        try:
            found = from_json(cls, json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, RecursionError) as error:
            raise ChapterError(f'cannot read the settings {path}: {error}') from error
        if found.default_tab not in found.tabs:
            raise ChapterError(f'{path}: default_tab is {found.default_tab!r}, which is no tab')
        names = [*found.tabs, *found.chapters, *filter(None, found.languages.values())]
        if wrong := [name for name in names if not NAME.fullmatch(name)]:
            raise ChapterError(
                f'{path}: {wrong[0]!r} is no name of a tab, a chapter or the end of one: use '
                'letters, digits, _ and -'
            )
        if unknown := [name for name in found.languages if name not in WORDS]:
            raise ChapterError(f'{path}: no words of the language {unknown[0]!r} are known')
        if '' not in found.languages.values():
            raise ChapterError(f'{path}: one language must have no suffix: the origin')
        return found


@dataclass(frozen=True)
class Page:
    """A chapter in one language.

    Attributes:
        chapter: Its tree.
        origin: Stem of the file that it translates; its own stem, if it is the origin.
        language: Such as 'en'.
        number: Of the chapter, such as '13.2'.
    """

    chapter: Chapter
    origin: str
    language: str
    number: str

    @property
    def path(self) -> Path:
        """The chapter's file."""
        return self.chapter.path

    @property
    def stem(self) -> str:
        """Name of the chapter's file without suffix."""
        return self.path.stem

    @cached_property
    def numbered_blocks(self) -> list[tuple[Block, Target]]:
        """Every block that has a number, with it."""
        return list(number_blocks(self.chapter, self.number, self.stem))


class Book:
    """The chapters of a folder.

    Args:
        root: The folder with ``book.json``.
        files: Chapters to read; None is every one that the settings name.

    Raises:
        ChapterError: A file can't be read or is not supported.
    """

    def __init__(self, root: Path, files: Sequence[Path] | None = None) -> None:
        self.root = root
        self.settings = Settings.read(root / SETTINGS)
        self.pages = [self.page(path) for path in (self.files() if files is None else files)]
        if not self.pages:
            raise ChapterError(f'{root} has no chapter: name some in {root / SETTINGS}')

    @cached_property
    def known_pages(self) -> list[Page]:
        """The pages, and the other pages of the book, which references may lead to."""
        chosen = {page.path.resolve() for page in self.pages}
        named = self.files() if (self.root / SETTINGS).is_file() else []
        others = [path for path in named if path.is_file() and path.resolve() not in chosen]
        return self.pages + [self.page(path) for path in others]

    @property
    def tabs(self) -> list[str]:
        """Names of the tabs."""
        return list(self.settings.tabs)

    def files(self) -> list[Path]:
        """Return the files of every chapter and language: those that the settings name, or all."""
        suffixes, named = self.settings.languages.values(), self.settings.chapters
        if named:
            return [self.root / f'{stem}{suffix}.md' for suffix in suffixes for stem in named]
        return sorted(self.root.glob('*.md'))

    def page(self, path: Path) -> Page:
        """Read a file; its name says whether it is a translation, and of what."""
        chapter = read_chapter(check_inside(self.root, path), self.tabs, self.settings.default_tab)
        if not NAME.fullmatch(path.stem):
            raise ChapterError(f'{path} is no name of a chapter: use letters, digits, _ and -')
        origin, language = self.identify(path.stem)
        return Page(chapter, origin, language, self.settings.chapters.get(origin, '1'))

    def identify(self, stem: str) -> tuple[str, str]:
        """Return the origin's stem and the language of a file's stem."""
        for language, suffix in self.settings.languages.items():
            if suffix and stem.endswith(suffix):
                return stem.removesuffix(suffix), language
        return stem, next(name for name, suffix in self.settings.languages.items() if not suffix)

    def origins(self) -> list[Page]:
        """Return the pages that are not translations, and translations without their origin.

        The cells of these are run; a translation shows the outputs of its origin.
        """
        mine = [page for page in self.pages if page.stem == page.origin]
        stems = {page.origin for page in mine}
        return mine + [page for page in self.pages if page.origin not in stems]

    def in_language(self, language: str) -> list[Page]:
        """Return the pages of a language."""
        return [page for page in self.pages if page.language == language]

    def labels(self, language: str) -> dict[str, Target]:
        """Return label -> target over all known pages of a language.

        Raises:
            ChapterError: A label is used twice, or a page that is known can't be read.
        """
        found: dict[str, Target] = {}
        for page in self.known_pages:
            if page.language != language:
                continue
            for block, target in page.numbered_blocks:
                name = getattr(block, 'label', '')
                if name in found:
                    raise ChapterError(f'{page.path}:{block.line}: the label {name} is used twice')
                if name:
                    found[name] = target
        return found


def number_blocks(chapter: Chapter, number: str, stem: str) -> Iterable[tuple[Block, Target]]:
    """Yield each heading, figure, table and labelled formula with its number.

    Headings below the second level have none, as in the book.
    """
    counts = {'section': 0, 'figure': 0, 'table': 0, 'equation': 0}
    kinds = {Figure: 'figure', Table: 'table', Equation: 'equation'}
    for block in chapter.walk():
        if isinstance(block, Heading):
            if block.level == 1:
                yield block, Target('section', number, block.text, stem)
            elif block.level == 2:
                counts['section'] += 1
                yield block, Target('section', f'{number}.{counts["section"]}', block.text, stem)
            elif block.label:
                here = f'{number}.{counts["section"]}'
                yield block, Target('section', here, block.text, stem)
        elif (kind := kinds.get(type(block))) and (kind == 'figure' or getattr(block, 'label', '')):
            counts[kind] += 1
            title = getattr(block, 'caption', '')
            yield block, Target(kind, f'{number}.{counts[kind]}', title, stem)


def cell_ids(chapter: Chapter) -> dict[int, str]:
    """Return line of a code cell -> its id, the same for the variants of one cell.

    Consecutive code cells without prose between them, in disjoint tabs, are variants of one cell.
    A cell without an id is named after its place.
    """
    found: dict[int, str] = {}
    for number, group in enumerate(tabsets(chapter), 1):
        name = next((each.id for each in group if each.id), f'cell-{number}')
        found |= {each.line: name for each in group}
    return found


def tabsets(chapter: Chapter) -> list[list[Code]]:
    """Return the code cells, variants of one cell together."""
    groups: list[list[Code]] = []
    last: Block | None = None
    for block in chapter.blocks:
        if isinstance(block, Code):
            if isinstance(last, Code) and goes_with(groups[-1], block):
                groups[-1].append(block)
            else:
                groups.append([block])
        last = block
    return groups


def goes_with(group: list[Code], cell: Code) -> bool:
    """Tell whether a cell is a variant of those of a group."""
    tabs = {tab for each in group for tab in each.tabs}
    disjoint = 'all' not in tabs and 'all' not in cell.tabs and not tabs & set(cell.tabs)
    return disjoint and (not cell.id or cell.id in {each.id for each in group})
