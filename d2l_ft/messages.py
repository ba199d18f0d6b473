"""Lines for the user, above a progress bar instead of inside it; and names of theirs in a line."""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable

from tqdm import tqdm

SHOWN = 5
"""Names of many that a line has."""

PLAIN = re.compile(r'[\w.+-]+( [\w.+-]+)*')


def tell(text: str) -> None:
    """Print what goes on; nothing in a notebook, whose output would vary by it."""
    if 'ipykernel' not in sys.modules:
        tqdm.write(text)


def warn(text: str) -> None:
    """Print to the error stream what the user should know though the work goes on."""
    tqdm.write(f'd2l-ft: {text}', file=sys.stderr)


def look(name: str) -> str:
    """Return what names that look the same have in common: accents composed, one kind of space."""
    return ' '.join(unicodedata.normalize('NFC', name).split())


def quoted(name: str) -> str:
    """Return a name in quotes, with escapes where it does not show what it is."""
    return repr(name) if name == look(name) and name.isprintable() else ascii(name)


def unquoted(name: str) -> str:
    """Return a name as it is if nothing in it can be taken for something else, else ``quoted``."""
    return name if PLAIN.fullmatch(name) and name == look(name) else quoted(name)


def listed(names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return the first few of some names, quoted, and how many more there are; or 'none'.

    Names that look the same as another, of these or the others, are told apart by escapes.
    """
    every = list(names)
    if not every:
        return 'none'
    alike = Counter(map(look, {*every, *others}))
    text = ', '.join(ascii(n) if alike[look(n)] > 1 else quoted(n) for n in every[:SHOWN])
    return text + (f' and {len(every) - SHOWN} more' if len(every) > SHOWN else '')


def listed_only(names: Iterable[str], others: Iterable[str]) -> str:
    """Return ``listed`` of the names that are not among the others."""
    these, those = set(names), set(others)
    return listed(sorted(these - those), those)
