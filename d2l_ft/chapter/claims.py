"""The claims of a chapter about its outputs, and whether the outputs still support them.

``<chapter>.claims.json`` is a list of objects:

    {"claim": "the head has two outputs", "cell": "finetune-net", "find": "\\((\\d+), 512\\)",
     "equals": 2}

``cell`` is the id of a cell and ``find`` a regular expression over its text, whose first group is
the value (the whole text without ``find``). The value must be ``equals``, ``at_least``, ``at_most``
or ``between`` [low, high]; ``exceeds`` names another cell in which the same expression must find a
smaller value; with ``same`` the value must be the same in every tab. ``data`` restricts a claim to
outputs made on that data set, ``tabs`` to some tabs. ``was`` holds the values with which a person
last read the text and found it right.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2l_ft.chapter.book import CLAIMS, Book, Page
from d2l_ft.chapter.outputs import Run, load_run
from d2l_ft.chapter.safe import check_inside
from d2l_ft.errors import ChapterError
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.storage.typed_json import convert

KEYS: dict[str, Any] = {
    'claim': str, 'cell': str, 'find': str, 'equals': float | str, 'at_least': float,
    'at_most': float, 'between': tuple[float, ...], 'exceeds': str, 'same': bool, 'data': str,
    'tabs': list[str], 'was': dict[str, Any],
}  # fmt: skip
TESTS = {'equals', 'at_least', 'at_most', 'between', 'exceeds', 'same'}


def claims_file(book: Book, page: Page) -> Path:
    """Return the file of a chapter's claims."""
    return check_inside(book.root, book.root / f'{page.origin}{CLAIMS}')


def load_claims(path: Path) -> list[dict[str, Any]]:
    """Read a file of claims; none where there is no file.

    Raises:
        ChapterError: The file can't be read, or a claim has an unknown key or tests nothing.
    """
    if not path.is_file():
        return []
    try:
        claims = convert(
            json.loads(path.read_text(encoding='utf-8')), list[dict[str, Any]], 'claims'
        )
        for claim in claims:
            unknown, tests = set(claim) - set(KEYS), TESTS & set(claim)
            if unknown or not tests or not {'claim', 'cell'} <= set(claim):
                what = f'unknown {sorted(unknown)}' if unknown else 'no cell, or nothing to test'
                raise ValueError(f'{claim.get("claim", claim)!r}: {what}')
            for name, value in claim.items():
                convert(value, KEYS[name], name)
            if len(claim.get('between', 'ab')) != 2:
                raise ValueError(f'{claim["claim"]!r}: between has two values')
            re.compile(claim.get('find', ''))
    except (OSError, ValueError, RecursionError, re.error) as error:
        raise ChapterError(f'cannot read the claims {path}: {error}') from error
    found: list[dict[str, Any]] = claims
    return found


def broken_claims(book: Book, page: Page) -> Iterator[str]:
    """Yield one line for every claim that the stored outputs of a chapter do not support."""
    runs = {tab: load_run(book.root, page.origin, tab) for tab in book.tabs}
    for claim in load_claims(claims_file(book, page)):
        yield from judge(claim, {tab: run for tab, run in runs.items() if run})


def judge(claim: dict[str, Any], runs: dict[str, Run]) -> Iterator[str]:
    """Yield a line for each tab in which a claim fails, with the old and the new value."""
    values = {}
    for tab, run in runs_of_claim(claim, runs).items():
        value = value_of(claim, run)
        if value is None:
            cell, find = claim['cell'], claim.get('find', '')
            yield f'{claim["claim"]}: {tab}: the cell {cell} has no output with {find!r}'
            continue
        values[tab] = value
        if wrong := unmet_condition(claim, value, run):
            was = claim.get('was', {}).get(tab)
            before = f' (it was {was})' if was is not None else ''
            yield f'{claim["claim"]}: {tab}: {value}{before} is not {wrong}'
    if claim.get('same') and len(set(values.values())) > 1:
        shown = ', '.join(f'{tab} {value}' for tab, value in values.items())
        was = claim.get('was', {})
        before = f' (it was {", ".join(f"{tab} {value}" for tab, value in was.items())})'
        yield f'{claim["claim"]}: the tabs differ: {shown}{before if was else ""}'


def runs_of_claim(claim: dict[str, Any], runs: dict[str, Run]) -> dict[str, Run]:
    """Return the runs to which a claim applies."""
    return {
        tab: run
        for tab, run in runs.items()
        if tab in claim.get('tabs', runs)
        and claim.get('data', run.made.get('data')) == run.made.get('data')
    }


def value_of(claim: dict[str, Any], run: Run) -> Any:
    """Return the value of a claim: a number if it is one, otherwise text; None if missing."""
    text = run.text(claim['cell'])
    if 'find' in claim:
        found = re.search(claim['find'], text)
        if found is None:
            return None
        text = found[1] if found.re.groups else found[0]
    elif not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text.strip()


def unmet_condition(claim: dict[str, Any], value: Any, run: Run) -> str:
    """Return the condition that a value does not meet, or '' if it meets all."""
    number = value if isinstance(value, float) else float('nan')  # no comparison holds for it
    if 'equals' in claim:
        bound = claim['equals']
        if value != (float(bound) if is_number(bound) else bound):
            return str(bound)
    if 'at_least' in claim and not number >= claim['at_least']:
        return f'at least {claim["at_least"]}'
    if 'at_most' in claim and not number <= claim['at_most']:
        return f'at most {claim["at_most"]}'
    if 'between' in claim and not claim['between'][0] <= number <= claim['between'][1]:
        return 'between {} and {}'.format(*claim['between'])
    if 'exceeds' in claim:
        other = value_of(claim | {'cell': claim['exceeds']}, run)
        if not (isinstance(other, float) and number > other):
            return f'above {other} of the cell {claim["exceeds"]}'
    return ''


def is_number(value: Any) -> bool:
    """Tell whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def accept(book: Book, page: Page) -> int:
    """Record the current values in a chapter's claims as read; return the number of claims."""
    path = claims_file(book, page)
    claims = load_claims(path)
    runs = {tab: run for tab in book.tabs if (run := load_run(book.root, page.origin, tab))}
    for claim in claims:
        found = {tab: value_of(claim, run) for tab, run in runs_of_claim(claim, runs).items()}
        claim['was'] = {**claim.get('was', {}), **found}
    if claims:
        write_atomic(path, (json.dumps(claims, indent=1, ensure_ascii=False) + '\n').encode())
    return len(claims)
