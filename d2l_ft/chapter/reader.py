"""Read a chapter in the book's Markdown into a small tree.

The format is d2lbook's: fences with ``{.python .input}`` are code cells, ``#@tab`` says in which
tabs a cell is run, ``:begin_tab:`` encloses prose of some tabs, and a line such as
``:label:`x``` belongs to the heading, figure, table or equation above it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from d2l_ft.chapter.inline import find_unbalanced
from d2l_ft.errors import ChapterError

ALL = 'all'
"""Name of every tab at once, in ``#@tab all``."""

FENCE = re.compile(r'(```+) *(.*)')
MARK_LINE = re.compile(r':(label|width|eqlabel|bibliography):`([^`]*)`\s*$')
TAB_BEGIN = re.compile(r':begin_tab:`([^`]*)`')
TAB_END = re.compile(r':end_tab:')
CAPTION = re.compile(r':(?!\w+:)(.+)')
TAB_MARK = re.compile(r'(?:# *@tab|(?:# *)?%%tab) +([\w, ]+)')
TAB_WORD = re.compile(r'# *@tab\b|%%tab\b')
HEADING = re.compile(r' {0,3}(#{1,6}) +(.*)')
FIGURE = re.compile(r'!\[(.*)\]\(([^)]*)\)\s*', re.DOTALL)
EQUATION = re.compile(
    r'(?:[\[(](?:\*\*|~~))?\$\$(.+?)\$\$(?:(?:\*\*|~~)[\])])?[.,]?\s*(?::eqlabel:`([^`]*)`)?',
    re.DOTALL,
)
FORMULA = re.compile(r'([\[(](?:\*\*|~~))?\$\$')
SELECTED = re.compile(
    r'( *)(if|elif) +(not +)?tab\.selected\(([^)]*\)(?: or tab\.selected\([^)]*\))*) *:'
)
LOAD_TABS = '%load_ext d2lbook.tab'


BEGINNINGS = (FENCE, TAB_BEGIN, TAB_END, HEADING, FORMULA, re.compile(r'!\['))
"""Lines that end a paragraph even without an empty line before them."""


@dataclass(frozen=True)
class Block:
    """A part of a chapter; ``line`` is its first line in the file, from 1."""

    line: int


@dataclass(frozen=True)
class Heading(Block):
    """A heading of level 1 to 6."""

    level: int
    text: str
    label: str = ''


@dataclass(frozen=True)
class Figure(Block):
    """A picture alone in its paragraph; ``width`` is as written, such as '400px'."""

    caption: str
    path: str
    label: str = ''
    width: str = ''


@dataclass(frozen=True)
class Table(Block):
    """A table: its rows as written, the caption from the line ``:Caption`` above it."""

    rows: tuple[str, ...]
    caption: str = ''
    label: str = ''


@dataclass(frozen=True)
class Equation(Block):
    """A displayed formula, without its dollar signs."""

    tex: str
    label: str = ''


@dataclass(frozen=True)
class Fence(Block):
    """A fence that is not a code cell; it is shown as it is."""

    info: str
    source: str


@dataclass(frozen=True)
class Text(Block):
    """Anything else: a paragraph, a list, a quotation."""

    source: str


@dataclass(frozen=True)
class Tab(Block):
    """Prose of some tabs."""

    tabs: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Code(Block):
    """A code cell.

    Attributes:
        source: Its lines without the mark of the tabs, with the branches of all tabs.
        tabs: The tabs it is run in; ('all',) is every one.
        attributes: Of the fence, besides its classes: 'n' -> '5'.
        id: Of the fence's ``#id``, or ''.
    """

    source: str
    tabs: tuple[str, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    id: str = ''

    def runs_in(self, tab: str) -> bool:
        """Tell whether the cell is run in a tab."""
        return tab in self.tabs or self.tabs == (ALL,)

    def of_tab(self, tab: str) -> str:
        """Return the source that a tab runs, with only its own branches of ``tab.selected``."""
        return select_branches(self.source, tab)


@dataclass(frozen=True)
class Chapter:
    """A chapter's file as a tree."""

    path: Path
    blocks: tuple[Block, ...]

    def walk(self) -> Iterator[Block]:
        """Yield every block, those inside of tabs too."""
        for block in self.blocks:
            yield block
            if isinstance(block, Tab):
                yield from block.blocks

    def cells(self, tab: str) -> list[Code]:
        """Return the code cells that a tab runs."""
        return [each for each in self.blocks if isinstance(each, Code) and each.runs_in(tab)]


def read_chapter(path: Path, tabs: Sequence[str], default_tab: str) -> Chapter:
    """Read a file.

    Args:
        path: A Markdown file in UTF-8.
        tabs: The names that are known.
        default_tab: The tab of a cell without a mark.

    Raises:
        ChapterError: The file can't be read, or has something unsupported; with file and line.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ChapterError(f'cannot read the chapter {path}: {error}') from error
    return parse_chapter(text, path, tabs, default_tab)


def parse_chapter(text: str, path: Path, tabs: Sequence[str], default_tab: str) -> Chapter:
    """Parse a chapter's text; arguments and errors are those of ``read_chapter``."""
    reader = Reader(text, path, tabs, default_tab)
    chapter = Chapter(path, tuple(reader.blocks()))
    reader.check_prose(chapter.blocks)
    return chapter


class Reader:
    """Walks over the lines of a chapter once.

    Args:
        text: The chapter.
        path: For errors.
        tabs: The names that are known.
        default_tab: The tab of a cell without a mark.
    """

    def __init__(self, text: str, path: Path, tabs: Sequence[str], default_tab: str) -> None:
        self.lines = text.splitlines()
        self.path, self.tabs, self.default_tab = path, tabs, default_tab
        self.at = 0

    def fail(self, reason: str, line: int | None = None) -> ChapterError:
        """Return an error that names file and line; ``line`` counts from 1."""
        return ChapterError(f'{self.path}:{line or self.at + 1}: {reason}')

    def blocks(self, inside: int = 0) -> Iterator[Block]:
        """Yield blocks to the end of the file, or of the tab that began in line ``inside``."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip():
                self.at += 1
            elif TAB_END.match(line):
                if not inside:
                    raise self.fail('end_tab without begin_tab')
                self.at += 1
                return
            elif opening := TAB_BEGIN.match(line):
                if inside:
                    raise self.fail(f'begin_tab inside of the tab of line {inside}')
                yield self.tab(opening[1])
            elif fence := FENCE.match(line):
                block = self.fence(fence[1], fence[2].strip(), bool(inside))
                if not (isinstance(block, Code) and LOAD_TABS in block.source):
                    yield block
            else:
                yield self.prose()
        if inside:
            raise self.fail('begin_tab has no end_tab', inside)

    def tab(self, names: str) -> Tab:
        """Read prose of some tabs."""
        first = self.at + 1
        tabs = self.known_tabs(names)
        self.at += 1
        return Tab(first, tabs, tuple(self.blocks(first)))

    def known_tabs(self, names: str, line: int | None = None) -> tuple[str, ...]:
        """Return the names in a list of tabs."""
        found = tuple(name.strip() for name in names.split(',') if name.strip())
        for name in found:
            if name != ALL and name not in self.tabs:
                known = ', '.join((*self.tabs, ALL))
                raise self.fail(f'no tab is named {name!r}: choose of {known}', line)
        if not found or (ALL in found and len(found) > 1):
            raise self.fail(f'cannot read the tabs {names!r}: name some, or {ALL} alone', line)
        return found

    def fence(self, marks: str, info: str, inside: bool) -> Block:
        """Read a fence: a code cell, or a block that is shown as it is."""
        first = self.at + 1
        self.at += 1
        lines: list[str] = []
        while self.at < len(self.lines):
            end = FENCE.match(self.lines[self.at])
            if end and end[1] == marks and not end[2].strip():
                self.at += 1
                return self.cell(first, info, lines, inside)
            lines.append(self.lines[self.at])
            self.at += 1
        raise self.fail(f'the fence has no end: a line of {marks} is missing', first)

    def cell(self, first: int, info: str, lines: list[str], inside: bool) -> Block:
        """Return the code cell or the plain fence of some lines."""
        classes, attributes, name = parse_info(info)
        if 'output' in classes:
            raise self.fail('output in the source: remove it, outputs are kept apart', first)
        if 'eval_rst' in info:
            raise self.fail('eval_rst is not supported: write Markdown', first)
        if not {'python', 'input'} <= classes:
            return Fence(first, info, '\n'.join(lines))
        if inside:
            raise self.fail('a code cell inside of begin_tab: mark the cell with #@tab', first)
        code: list[str] = []
        tabs: tuple[str, ...] = ()
        for number, line in enumerate(lines, first + 1):
            if '#@hide' in line.replace(' ', ''):
                raise self.fail('#@hide is not supported: every cell is shown', number)
            if TAB_WORD.search(line):
                found = TAB_MARK.fullmatch(line.strip())
                if found is None or tabs:
                    reason = 'a second mark of tabs' if tabs else 'cannot read the mark of tabs'
                    raise self.fail(f'{reason}: write one line such as  #@tab mxnet', number)
                tabs = self.known_tabs(found[1], number)
            else:
                code.append(line)
        source = '\n'.join(code)
        try:
            for tab in self.tabs:
                select_branches(source, tab)
        except ValueError as error:
            raise self.fail(str(error), first) from None
        return Code(first, source, tabs or (self.default_tab,), attributes, name)

    def prose(self) -> Block:
        """Read one block of prose: up to an empty line, a fence or a tab."""
        first = self.at + 1
        line = self.lines[self.at]
        if found := HEADING.match(line):
            self.at += 1
            return Heading(first, len(found[1]), found[2].strip(), self.marks('label')['label'])
        if FORMULA.match(line):
            return self.equation(first)
        if figure := self.figure(first):
            return figure
        if line.startswith('|'):
            return self.table(first)
        if CAPTION.match(line) and self.table_follows():
            return self.table(first)
        lines = self.paragraph()
        return Text(first, '\n'.join(lines))

    def paragraph(self) -> list[str]:
        """Take lines up to an empty one, or one that begins another block."""
        lines: list[str] = []
        while self.at < len(self.lines) and self.lines[self.at].strip():
            line = self.lines[self.at]
            if lines and any(each.match(line) for each in BEGINNINGS):
                break
            if (mark := MARK_LINE.match(line)) and mark[1] in ('label', 'eqlabel', 'width'):
                raise self.fail(f'{mark[1]} without a heading, figure, table or equation above it')
            lines.append(line)
            self.at += 1
        return lines

    def marks(self, *names: str) -> dict[str, str]:
        """Take the marks on the lines that follow; an empty line may stand before them."""
        found = dict.fromkeys(names, '')
        while True:
            ahead = self.at
            while ahead < len(self.lines) and not self.lines[ahead].strip():
                ahead += 1
            mark = MARK_LINE.match(self.lines[ahead]) if ahead < len(self.lines) else None
            if mark is None or mark[1] not in names:
                return found
            if found[mark[1]]:
                raise self.fail(f'a second {mark[1]}', ahead + 1)
            found[mark[1]] = mark[2]
            self.at = ahead + 1

    def figure(self, first: int) -> Figure | None:
        """Read a picture that is alone in its paragraph; its caption may take several lines."""
        end = self.at
        while end < len(self.lines) and self.lines[end].strip():
            end += 1
            text = '\n'.join(self.lines[self.at : end])
            if found := FIGURE.fullmatch(text):
                self.at = end
                marks = self.marks('label', 'width')
                return Figure(first, found[1], found[2], marks['label'], marks['width'])
            if not text.startswith('!['):
                break
        return None

    def equation(self, first: int) -> Block:
        """Read a displayed formula; if text follows it, it is part of a paragraph."""
        end, text = self.at, ''
        while end < len(self.lines) and self.lines[end].strip():
            text += self.lines[end].strip() + '\n'
            end += 1
            if found := EQUATION.fullmatch(text.strip()):
                self.at = end
                label = found[2] or self.marks('eqlabel')['eqlabel']
                return Equation(first, found[1].strip(), label)
            if text.count('$$') > 1:
                return Text(first, '\n'.join(self.paragraph()))
        raise self.fail('the formula has no end: $$ is missing', first)

    def table_follows(self) -> bool:
        """Tell whether the next line that is neither empty nor a label is a row of a table."""
        rest = (line for line in self.lines[self.at + 1 :] if line.strip())
        return next((line for line in rest if not MARK_LINE.match(line)), '').startswith('|')

    def table(self, first: int) -> Table:
        """Read a table; its caption and label stand before or after its rows."""
        caption, label = self.caption(), self.marks('label')['label']
        while not self.lines[self.at].strip():
            self.at += 1
        rows = []
        while self.at < len(self.lines) and self.lines[self.at].startswith('|'):
            rows.append(self.lines[self.at].rstrip())
            self.at += 1
        caption = caption or self.caption()
        return Table(first, tuple(rows), caption, label or self.marks('label')['label'])

    def caption(self) -> str:
        """Take the line ``:Caption`` of a table, if it is here."""
        found = CAPTION.match(self.lines[self.at]) if self.at < len(self.lines) else None
        if found is None:
            return ''
        self.at += 1
        return found[1].strip()

    def check_prose(self, blocks: Sequence[Block]) -> None:
        """Check that slide marks balance between two code cells.

        Raises:
            ChapterError: They do not.
        """
        texts: list[str] = []
        first = 1
        for block in (*blocks, Code(len(self.lines), '', (ALL,))):
            if not isinstance(block, Code):
                first = first if texts else block.line
                texts += prose_of(block)
                continue
            if mark := find_unbalanced('\n\n'.join(texts)):
                raise self.fail(f'the slide mark {mark} has no partner before the next cell', first)
            texts = []


def prose_of(block: Block) -> list[str]:
    """Return the texts of a block that may have slide marks and references."""
    if isinstance(block, Tab):
        return [text for each in block.blocks for text in prose_of(each)]
    if isinstance(block, Text):
        return [block.source]
    if isinstance(block, Heading):
        return [block.text]
    if isinstance(block, Figure):
        return [block.caption]
    if isinstance(block, Table):
        return [block.caption, *block.rows]
    return []


def parse_info(info: str) -> tuple[set[str], dict[str, str], str]:
    """Return the classes, the attributes and the id of a fence's ``{.python .input n=5 #id}``."""
    if not (info.startswith('{') and info.endswith('}')):
        return set(), {}, ''
    words = info[1:-1].split()
    classes = {word[1:] for word in words if word.startswith('.')}
    names = [word[1:] for word in words if word.startswith('#')]
    pairs = [word.partition('=') for word in words if '=' in word]
    return classes, {name: value for name, _, value in pairs}, names[-1] if names else ''


def select_branches(source: str, tab: str) -> str:
    """Return a cell with a tab's own branch in place of each ``if tab.selected(...)``.

    Raises:
        ValueError: ``tab.selected`` is not the whole condition of an if.
    """
    if 'tab.selected' not in source:
        return source
    return '\n'.join(own_lines(source.split('\n'), tab))


def own_lines(lines: list[str], tab: str) -> list[str]:
    """Return the lines that a tab runs; those of its branches lose their extra indentation."""
    result: list[str] = []
    at = 0
    while at < len(lines):
        found = SELECTED.fullmatch(lines[at].rstrip())
        if found is None or found[2] == 'elif':
            if 'tab.selected' in lines[at]:
                raise ValueError(f"write  if tab.selected('...'):  alone, not  {lines[at].strip()}")
            result.append(lines[at])
            at += 1
            continue
        depth, done = len(found[1]), False
        while found is not None:
            body = lines[at + 1 : (at := end_of_body(lines, at, depth))]
            if not done and (done := holds(found, tab)):
                result += own_lines(dedent(body, depth), tab)
            last = found[2] == 'else' or at == len(lines)
            found = None if last else further_branch(lines[at].rstrip(), depth)
    return result


def further_branch(line: str, depth: int) -> re.Match[str] | None:
    """Return the match of a line that is an elif of ``tab.selected`` or an else."""
    found = SELECTED.fullmatch(line) or re.fullmatch(r'( *)(else)() *:()', line)
    return found if found and found[2] != 'if' and len(found[1]) == depth else None


def holds(found: re.Match[str], tab: str) -> bool:
    """Tell whether the condition of a branch holds in a tab."""
    if found[2] == 'else':
        return True
    return (tab in re.findall(r'[\'"](\w+)[\'"]', found[4])) != bool(found[3])


def end_of_body(lines: list[str], at: int, depth: int) -> int:
    """Return the line after a body and the empty lines after it; comments never end it."""
    end = at + 1
    for number in range(at + 1, len(lines)):
        line = lines[number]
        if not line.lstrip().startswith('#'):
            if line.strip() and indentation(line) <= depth:
                break
            end = number + 1
    return end


def dedent(body: list[str], depth: int) -> list[str]:
    """Return the lines of a body, indented like the statement that they belong to."""
    code = (line for line in body if line.strip() and not line.lstrip().startswith('#'))
    excess = min((indentation(line) - depth for line in code), default=0)
    return [line[min(excess, indentation(line)) :] for line in body]


def without_magics(source: str) -> str:
    """Return a cell with its magics, which are not Python, replaced by empty lines."""
    return '\n'.join('' if re.match(r'[%!]', line) else line for line in source.split('\n'))


def indentation(line: str) -> int:
    """Return the number of spaces before a line's first character."""
    return len(line) - len(line.lstrip(' '))


def lines_in_file(path: Path, cell: Code, source: str) -> list[int]:
    """Return the line number in the chapter's file, from 1, of each line of a cell's source.

    Args:
        path: The chapter.
        cell: The cell.
        source: Its source, or the part that a tab runs.
    """
    lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    found, at = [], cell.line
    for line in source.split('\n'):
        with suppress(ValueError):  # the file has been changed in the meantime
            at = lines.index(line.strip(), at) + 1
        found.append(at)
    return found
