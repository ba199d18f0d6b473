"""Run a chapter's cells in a kernel of the tab, and store their outputs."""

import asyncio
import atexit
import datetime
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell
from tqdm import tqdm

from d2l_ft.backend.registry import BACKENDS, VARIABLE, check_installed
from d2l_ft.chapter.book import Book, Page, cell_ids
from d2l_ft.chapter.freshness import cell_states, code_digests, combine, library_digests
from d2l_ft.chapter.notebooks import cell_id, make_notebook
from d2l_ft.chapter.outputs import CellRun, Run, collect, folder, load_run, rank, save_run
from d2l_ft.chapter.reader import lines_in_file
from d2l_ft.data.datasets import DATA_VARIABLE
from d2l_ft.errors import BackendNotInstalled

FACTS = 'from d2l_ft.chapter.kernel import facts\nprint(facts())'
FACTS_ID = 'd2l-ft-facts'
DEFAULT_DATA = 'sample'
FRAME = re.compile(r'^ *(?:Cell|Input) In ?\[(\d+)\],? line:? ?(\d+)', re.MULTILINE)
"""Where IPython's traceback names a line of a cell."""

POLL = 0.05
"""Seconds between two checks whether a kernel has ended."""


@dataclass(frozen=True)
class Outcome:
    """The result for a tab: 'fresh', 'run', 'failed' or 'kept', and a line that explains it.

    If a cell failed, ``trace`` has the lines of the chapter in the traceback, the failing one last.
    """

    page: str
    tab: str
    what: str
    text: str
    trace: tuple[str, ...] = ()


class Kernel(AsyncKernelManager):
    """A kernel of this Python for one tab, without the frameworks of the others."""

    tab = ''

    @property
    def kernel_spec(self) -> KernelSpec:
        """Return how to start it."""
        command = [sys.executable, '-m', 'd2l_ft.chapter.kernel', self.tab]
        # its only warning would be that messages on this machine are signed, not encrypted
        options = ['-f', '{connection_file}', '--log-level=ERROR']
        return KernelSpec(argv=[*command, *options], language='python')


class CellFailed(Exception):
    """A cell failed.

    Args:
        cell: The id that it has in the notebook.
        error: The error's last line.
        seconds: Id -> seconds of the cells that were run.
        frames: (number of a code cell in the notebook, line in it), both from 1, outermost first.
    """

    def __init__(
        self,
        cell: str,
        error: str,
        seconds: dict[str, float],
        frames: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(error)
        self.cell, self.error, self.seconds, self.frames = cell, error, seconds, frames


def refresh(book: Book, page: Page, tab: str, data: str | None, overwrite: bool) -> Outcome:
    """Run a tab if one of its cells is stale, or real data were asked for; store the outputs.

    Args:
        book: The chapters.
        page: One that is not a translation.
        tab: A tab.
        data: 'sample' or 'hotdog'; None means that of the stored outputs.
        overwrite: Whether outputs of real data or of a GPU may be replaced by others.

    Raises:
        ChapterError: The stored outputs are damaged, or can't be written.
    """
    stored = load_run(book.root, page.origin, tab)
    before = stored.made.get('data', DEFAULT_DATA) if stored else DEFAULT_DATA
    data_set = data or before
    states = cell_states(page, tab, stored)
    stale = [each for each in states if each.state != 'fresh']
    if stored and not stale and rank(data_set, '')[0] <= stored.rank[0] and not overwrite:
        if stored.failure:  # of code that has been removed
            save_run(book.root, page.origin, tab, replace(stored, failure=None), {})
        return Outcome(page.stem, tab, 'fresh', f'all {len(states)} cells are fresh')
    start_time = time.perf_counter()
    try:
        if tab in BACKENDS:
            check_installed(tab)
        run, pictures, trace = execute(book, page, tab, data_set)
    except BackendNotInstalled as error:
        return Outcome(page.stem, tab, 'failed', str(error))
    except CellFailed as failed:
        return Outcome(page.stem, tab, 'failed', f'cell {failed.cell}: {failed.error}')
    if run.failure:
        save_failure(book, page, tab, stored, run, pictures)
        text = f'cell {run.failure["cell"]}, {run.failure["error"]}'
        return Outcome(page.stem, tab, 'failed', text, trace)
    if stored and any(a < b for a, b in zip(run.rank, stored.rank, strict=True)) and not overwrite:
        text = (
            f'the stored outputs ({stored.made.get("data")}, {stored.made.get("device")}) are '
            f'worth more than these ({data_set}, {run.made["device"]}): replace them with  '
            'd2l-ft chapter build --overwrite'
        )
        return Outcome(page.stem, tab, 'kept', text)
    place = folder(book.root, page.origin, tab)
    changed = ', '.join(changed_outputs(place, stored, run, pictures)) or 'none'
    save_run(book.root, page.origin, tab, run, pictures)
    seconds = time.perf_counter() - start_time
    text = f'{len(states)} cells in {seconds:.0f} s; outputs that changed: {changed}'
    return Outcome(page.stem, tab, 'run', text)


def save_failure(
    book: Book, page: Page, tab: str, stored: Run | None, run: Run, pictures: Mapping[str, bytes]
) -> None:
    """Store the outputs of a failed run up to the failure; after it the old ones stay.

    Outputs of another rank, or made on other data, all stay.
    """
    if stored and (stored.rank, stored.made.get('data')) != (run.rank, run.made['data']):
        save_run(book.root, page.origin, tab, replace(stored, failure=run.failure), {})
        return
    if stored:
        kept = {name: cell for name, cell in stored.cells.items() if name not in run.cells}
        run = replace(run, cells=run.cells | kept, library=stored.library | run.library)
    save_run(book.root, page.origin, tab, run, pictures)


def changed_outputs(
    place: Path, stored: Run | None, run: Run, pictures: Mapping[str, bytes]
) -> list[str]:
    """Return the ids of the cells whose outputs changed.

    Args:
        place: Folder of the stored pictures.
        stored: The run before, if there is one.
        run: The new run.
        pictures: File name -> bytes of its pictures.
    """
    found = []
    for name, cell in run.cells.items():
        before = stored.cells.get(name) if stored else None
        files = [each.file for each in cell.outputs if each.file]
        same = before is not None and before.outputs == cell.outputs
        if not same or any((place / file).read_bytes() != pictures[file] for file in files):
            found.append(name)
    return found


def execute(
    book: Book, page: Page, tab: str, data: str
) -> tuple[Run, dict[str, bytes], tuple[str, ...]]:
    """Run all cells of a tab; return the outputs, the bytes of the pictures, and the trace.

    If a cell fails, the run has the failure and the cells before it.

    Raises:
        Failed: The kernel died before the first cell.
    """
    notebook = make_notebook(book, page, tab, book.labels(page.language))
    notebook.cells.insert(0, new_code_cell(FACTS, id=FACTS_ID))
    failed: CellFailed | None = None
    try:
        seconds = run_notebook(notebook, tab, data, book.root, f'{page.stem} {tab}')
    except CellFailed as error:
        if error.cell == FACTS_ID:
            raise
        failed, seconds = error, error.seconds
    made = json.loads(notebook.cells.pop(0).outputs[0]['text'])
    made = {'date': datetime.date.today().isoformat(), 'data': data, **made}
    cell_outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == 'code'}
    cells: dict[str, CellRun] = {}
    pictures: dict[str, bytes] = {}
    failure: dict[str, str] | None = None
    trace: tuple[str, ...] = ()
    uses = library_digests(page, tab)
    for name, code in code_digests(page, tab).items():
        if failed and cell_id(name) == failed.cell:
            trace = trace_of(page, tab, failed)
            where = trace[-1].partition(': ')[0]
            failure = {'cell': name, 'code': code, 'error': f'{where}: {failed.error}'}
            break
        outputs, drawn = collect(cell_id(name), cell_outputs[cell_id(name)])
        took = round(seconds.get(cell_id(name), 0.0), 1)
        cells[name] = CellRun(code, outputs, took, combine(uses[name]))
        pictures |= drawn
    library = {
        value: full.rpartition('.')[2] for name in cells for value, full in uses[name].items()
    }
    by_name = dict(sorted(library.items(), key=lambda each: (each[1], each[0])))
    return Run(made, cells, by_name, failure), pictures, trace


def trace_of(page: Page, tab: str, failed: CellFailed) -> tuple[str, ...]:
    """Return the lines of a chapter in a traceback as 'file:line: code', the failing one last."""
    cells, ids = page.chapter.cells(tab), cell_ids(page.chapter)
    found = []
    for number, line in failed.frames:
        if 0 <= number - 2 < len(cells):  # the first cell of the notebook is the one with the facts
            cell = cells[number - 2]
            source = cell.of_tab(tab)
            lines = source.split('\n')
            if 0 < line <= len(lines):
                place = lines_in_file(page.path, cell, source)[line - 1]
                found.append(f'{page.path}:{place}: {lines[line - 1].strip()}')
    if not found:
        found += [
            f'{page.path}:{cell.line}: {failed.cell}'
            for cell in cells
            if cell_id(ids[cell.line]) == failed.cell
        ]
    return tuple(found)


def run_notebook(notebook: Any, tab: str, data: str, cwd: Path, title: str) -> dict[str, float]:
    """Execute a notebook in place; return id of a code cell -> its seconds.

    Raises:
        Failed: A cell raised an error, or the kernel died.
        KeyboardInterrupt: After Ctrl-C; the kernel is ended.
    """
    # a kernel without the other frameworks, and the seconds of each cell
    manager = Kernel()
    manager.tab = tab
    seconds: dict[str, float] = {}
    starts: dict[str, float] = {}
    count = sum(cell.cell_type == 'code' for cell in notebook.cells)
    with (
        tqdm(total=count, desc=title, unit='cell', disable=None) as bar,
        # what the kernel itself prints; what a cell prints is an output
        tempfile.TemporaryFile() as errors,
    ):

        def on_start(cell: Any, cell_index: int) -> None:
            starts[cell.id] = time.perf_counter()

        def on_end(cell: Any, cell_index: int, **_: Any) -> None:
            if cell.cell_type == 'code':
                seconds[cell.id] = time.perf_counter() - starts[cell.id]
                bar.update()

        client = NotebookClient(
            notebook,
            km=manager,
            timeout=None,
            resources={'metadata': {'path': str(cwd)}},
            on_cell_start=on_start,
            on_cell_executed=on_end,
        )
        environment = {name: value for name, value in os.environ.items() if name != 'MPLBACKEND'}
        environment |= {DATA_VARIABLE: data, VARIABLE: tab}
        try:
            run_client(client, manager, environment, errors)
        except CellExecutionError as error:
            text = f'{error.ename}: {first_line(error.evalue)}'
            raise CellFailed(
                last_started(starts), text, seconds, frames_in(error.traceback)
            ) from error
        except (DeadKernelError, RuntimeError) as error:  # RuntimeError if it never answered
            errors.seek(0)
            lines = errors.read().decode(errors='replace').strip().splitlines()
            text = lines[-1] if lines else first_line(str(error))
            raise CellFailed(last_started(starts), f'the kernel died: {text}', seconds) from error
    return seconds


def run_client(
    client: NotebookClient, manager: Kernel, environment: dict[str, str], errors: IO[bytes]
) -> None:
    """Execute a notebook in a thread, as the client has its own handling of Ctrl-C.

    Args:
        client: Has the notebook.
        manager: Starts the kernel.
        environment: Variables of its process.
        errors: Its error stream.

    Raises:
        CellExecutionError: A cell raised an error.
        DeadKernelError: The kernel died.
        KeyboardInterrupt: After Ctrl-C, when the kernel is ended.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            lambda: asyncio.run(
                client.async_execute(env=environment, stderr=errors, cleanup_kc=True)
            )
        )
        try:
            future.result()
        except KeyboardInterrupt:
            while not future.done():  # the kernel may be about to start
                if process := getattr(manager.provisioner, 'process', None):
                    process.kill()
                time.sleep(POLL)
            raise
        finally:
            atexit.unregister(
                client._cleanup_kernel
            )  # it is done already, and fails if no kernel answered


def frames_in(traceback: str) -> list[tuple[int, int]]:
    """Return (number of a cell, line in it) of the cells that IPython's traceback names."""
    plain = re.sub(r'\x1b\[[0-9;]*m', '', traceback)
    return [(int(cell), int(line)) for cell, line in FRAME.findall(plain)]


def last_started(starts: dict[str, float]) -> str:
    """Return the id of the cell that was started last."""
    return next(reversed(starts), FACTS_ID)


def first_line(text: str) -> str:
    """Return the first line of a text that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), '')
