"""The stored outputs of cells, in files beside the chapters, and how they were made.

``outputs/<chapter>/<tab>/run.json`` holds the text outputs of a tab, and the data, device and
versions of its run; pictures are files beside it. A translation shows the outputs of its origin.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from d2l_ft.chapter.safe import check_inside
from d2l_ft.errors import ChapterError
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.storage.typed_json import from_json

FOLDER, FILE = 'outputs', 'run.json'
PICTURES = {'image/png': '.png', 'image/svg+xml': '.svg', 'image/jpeg': '.jpg'}
"""MIME type -> suffix of the pictures that are kept, the best first."""


@dataclass(frozen=True)
class Output:
    """One output of a cell.

    Attributes:
        kind: 'stream' (printed), 'text' (the value of the last line) or 'picture'.
        text: The text; of a picture, its text form.
        file: Name of a picture's file, beside run.json.
        stream: Of a stream: 'stdout' or 'stderr'.
    """

    kind: str
    text: str = ''
    file: str = ''
    stream: str = ''


@dataclass(frozen=True)
class CellRun:
    """The outputs of a cell.

    Attributes:
        code: Hash of its code and of all before it.
        outputs: What it printed and drew.
        seconds: How long it took.
        uses: Hash of everything that it used of the library.
    """

    code: str
    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0
    uses: str = ''


@dataclass(frozen=True)
class Run:
    """The stored run of a tab.

    Attributes:
        made: How it was made: 'date', 'data', 'device', 'python', 'system', 'versions'.
        cells: Id -> its outputs.
        library: Hash -> name of each definition of the library that the cells used.
        failure: 'cell', 'code' and 'error' of the last run, if that failed; the outputs from
            that cell on are those of the run before it.
    """

    made: dict[str, Any]
    cells: dict[str, CellRun]
    library: dict[str, str] = field(default_factory=dict)
    failure: dict[str, str] | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """The rank of the run: photographs above the sample, a GPU above a CPU."""
        return rank(self.made.get('data', ''), self.made.get('device', ''))

    def text(self, cell: str) -> str:
        """Return all that a cell printed or showed as text."""
        found = self.cells.get(cell)
        return '\n'.join(each.text for each in found.outputs) if found else ''


def rank(data: str, device: str) -> tuple[int, int]:
    """Return a rank that is higher for photographs, and for a GPU."""
    return int(data not in ('', 'sample')), int(bool(device) and 'cpu' not in device)


def folder(root: Path, origin: str, tab: str) -> Path:
    """Return the folder of a tab's outputs."""
    return root / FOLDER / origin / tab


def load_run(root: Path, origin: str, tab: str) -> Run | None:
    """Read the stored run of a tab, or return None where there is none.

    Raises:
        ChapterError: The file cannot be read, or is damaged.
    """
    place = folder(root, origin, tab)
    path = check_inside(root, place / FILE)
    if not path.is_file():
        return None
    try:
        run = from_json(Run, json.loads(path.read_text(encoding='utf-8')))
        for file in (one.file for each in run.cells.values() for one in each.outputs):
            if file != Path(file).name:
                raise ValueError(f'{file!r} is no name of a picture beside it')
            check_inside(root, place / file)
        return run
    except OSError as error:
        raise ChapterError(f'cannot read the outputs {path}: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise ChapterError(
            f'the outputs {path} are damaged ({error}): restore them, or delete the folder and '
            'run  d2l-ft chapter build'
        ) from error


def save_run(root: Path, origin: str, tab: str, run: Run, pictures: Mapping[str, bytes]) -> None:
    """Write a run and its pictures; a file whose bytes would be the same is left alone."""
    place = folder(root, origin, tab)
    for name, data in pictures.items():
        write_if_changed(place / name, data)
    values = asdict(run)
    if not values['failure']:
        del values['failure']
    text = json.dumps(values, indent=1, ensure_ascii=False) + '\n'
    write_if_changed(place / FILE, text.encode())
    file_names = {each.file for cell in run.cells.values() for each in cell.outputs} | {FILE}
    for path in place.iterdir():
        if path.name not in file_names:
            path.unlink()


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file unless it has these bytes already, so that its time stays."""
    if not (path.is_file() and path.read_bytes() == data):
        write_atomic(path, data)


def collect(cell: str, outputs: list[Any]) -> tuple[tuple[Output, ...], dict[str, bytes]]:
    """Return the outputs of a notebook's cell, and the bytes of its pictures.

    Args:
        cell: Id of the cell, as a name of files.
        outputs: As nbformat has them.
    """
    found: list[Output] = []
    pictures: dict[str, bytes] = {}
    for each in outputs:
        if each['output_type'] == 'stream':
            last = found[-1] if found else None
            if last and last.kind == 'stream' and last.stream == each['name']:
                found[-1] = Output('stream', last.text + each['text'], stream=each['name'])
            else:
                found.append(Output('stream', each['text'], stream=each['name']))
        elif each['output_type'] in ('display_data', 'execute_result'):
            data = each['data']
            mime = next((one for one in PICTURES if one in data), '')
            text = data.get('text/plain', '')
            if mime:
                name = f'{cell}-{len(pictures) + 1}{PICTURES[mime]}'
                pictures[name] = to_bytes(data[mime], mime)
                found.append(Output('picture', text, file=name))
            else:
                found.append(Output('text', text))
    return tuple(found), pictures


def to_bytes(data: str, mime: str) -> bytes:
    """Return the bytes of a picture in a notebook."""
    return data.encode() if mime == 'image/svg+xml' else base64.b64decode(data)


def to_notebook(outputs: Sequence[Output], place: Path) -> list[dict[str, Any]]:
    """Return outputs as nbformat has them; ``place`` is the folder of the pictures."""
    found: list[dict[str, Any]] = []
    for each in outputs:
        if each.kind == 'stream':
            found.append({'output_type': 'stream', 'name': each.stream, 'text': each.text})
            continue
        data = {'text/plain': each.text}
        if each.kind == 'picture':
            suffix = Path(each.file).suffix
            mime = next(one for one, own in PICTURES.items() if own == suffix)
            raw = (place / each.file).read_bytes()
            svg = mime == 'image/svg+xml'
            data[mime] = raw.decode() if svg else base64.b64encode(raw).decode()
        found.append({'output_type': 'display_data', 'metadata': {}, 'data': data})
    return found
