"""Feed a reader with mutated files, in a process whose memory is bounded.

    python fuzz.py READER COUNT [SEED]

Prints one JSON object: how many inputs were read, how many were refused with an error of d2l_ft,
the slowest in seconds, and by how many MiB the process grew at the most. Any other error ends it
with a traceback and leaves the input in fuzz-<reader>.
"""

import json
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMORY = 1 << 30
"""Bytes by which the process may grow."""

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1,
           1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]  # fmt: skip
VALUES = [None, True, False, 0, -1, 1 << 70, 1e308, float('nan'), '', 'x', '../../x', [], {}, [1],
          {'x': []}, ['a', 'a']]  # fmt: skip
WORDS = [
    b'```{.python .input #a n=1}\n', b'```\n', b'#@tab mxnet\n', b'#@tab all\n', b'#@save\n',
    b':begin_tab:`mxnet`\n', b':end_tab:\n', b':label:`a`\n', b'$$', b'|a|b|\n', b'%%tab all\n',
    b"if tab.selected('mxnet'):\n", b'else:\n', b'    ', b'[**', b'**]', b'![a](b)', b'`', b'\n\n',
    b'# T\n', b':numref:`a`', b'\xff', b'\x00', '\u202e\U0001f32d'.encode(),
]  # fmt: skip


def mutated(data, others, draw):
    """Return bytes with a few changes."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        place, kind = draw.randrange(len(data) + 1), draw.randrange(9)
        end = min(len(data), place + draw.choice((1, 2, 4, 8, 30, 300)))
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            number, size = draw.choice(NUMBERS), draw.choice((1, 2, 4, 8))
            data[place : place + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, 'little')
        elif kind == 2:
            del data[place:end]
        elif kind == 3:
            data[place:place] = data[place:end] * draw.choice((1, 2, 50))
        elif kind == 4:
            data[place:place] = draw.randbytes(end - place)
        elif kind == 5:
            del data[place:]
        elif kind == 6:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            data[place:end] = other[start : start + draw.choice((8, 100, 2000))]
        elif kind == 7:
            data[place:place] = draw.choice(WORDS)
        else:
            digits = str(draw.choice(NUMBERS)).encode()
            data[place:end] = digits
    return bytes(data)


def mutated_json(value, draw):
    """Return a JSON value with one of its parts replaced, removed or doubled."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(sorted(value))
        kind = draw.randrange(8)
        if kind == 0:
            return {each: value[each] for each in value if each != name}
        if kind == 1:
            return value | {'unknown': draw.choice(VALUES)}
        return value | {name: mutated_json(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], mutated_json(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


class Checkpoints:
    """Checkpoints, by way of a run's newest."""

    def __init__(self, folder):
        import numpy as np

        from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint

        self.path = folder / 'x.safetensors'
        state = {'conv.weight': np.ones((4, 3, 3), np.float32), 'fc.bias': np.arange(5.0)}
        meta = {'position': {'epoch': 1, 'step': 2}, 'classes': ['a', 'b'], 'format': 1}
        self.state, self.meta, self.seeds = state, meta, []
        for parts in ((state, state, meta), (state, {}, {}), ({}, {}, meta)):
            save_checkpoint(self.path, Checkpoint(*parts))
            self.seeds.append(self.path.read_bytes())

    def write(self, draw):
        """Change bytes; or only what the checksum of the tensors does not cover."""
        from safetensors.numpy import save

        if draw.random() < 0.5:
            data = mutated(draw.choice(self.seeds), self.seeds, draw)
        else:
            text = json.dumps(mutated_json(self.meta, draw)).encode()
            text = mutated(text, [text], draw) if draw.random() < 0.5 else text
            data = save(self.state, metadata={'d2l_ft': text.decode(errors='replace')})
            data = mutated(data, self.seeds, draw) if draw.random() < 0.3 else data
        self.path.write_bytes(data)

    def read(self):
        from contextlib import suppress

        from d2l_ft.models.checkpoint import load_checkpoint
        from d2l_ft.storage.typed_json import from_json
        from d2l_ft.training.metrics import Position

        found = load_checkpoint(self.path)
        assert all(array.size < 1 << 20 for array in found.model.values())
        with suppress(ValueError):  # as Run.load takes it
            from_json(Position, found.meta.get('position'))


class Params:
    """Gluon's .params files, in all three layouts of an array."""

    def __init__(self, folder):
        import struct

        self.path = folder / 'x.params'
        self.seeds = []
        for head in (
            struct.pack('<IiI2q', 0xF993FAC9, 0, 2, 2, 3),
            struct.pack('<II2q', 0xF993FAC8, 2, 2, 3),
            struct.pack('<I2I', 2, 2, 3),
            struct.pack('<Iii2q', 0xF993FACA, 0, 2, 2, 3),
        ):
            array = head + struct.pack('<iii6f', 1, 0, 0, *range(6))
            names = [b'features.0.weight', b'features.1.gamma']
            listed = b''.join(struct.pack('<Q', len(name)) + name for name in names)
            self.seeds.append(struct.pack('<3Q', 0x112, 0, 2) + array * 2
                              + struct.pack('<Q', 2) + listed)  # fmt: skip
        rows = struct.pack('<Iii2qi2q', 0xF993FAC9, 1, 2, 1, 3, 2, 4, 3)
        rows += struct.pack('<iii', 1, 0, 0) + struct.pack('<iiq', 6, 1, 1)
        rows += struct.pack('<3fq', 1, 2, 3, 2)  # a sparse array: the third of four rows
        self.seeds.append(struct.pack('<3Q', 0x112, 0, 1) + rows + struct.pack('<QQ', 1, 1) + b'a')

    def read(self):
        from d2l_ft.models.gluon_params import MOST_DENSE, gluon_state, read_params

        found = read_params(self.path)
        size = 2 * self.path.stat().st_size  # bfloat16 becomes float32
        assert sum(array.nbytes for array in found.values()) <= max(size, 2 * MOST_DENSE)
        gluon_state(read_params(self.path), 'resnet18', self.path)


class Symbols:
    """Symbol files of MXNet, translated with parameters of whatever shape they ask for."""

    def __init__(self, folder):
        self.path = folder / 'x-symbol.json'
        data, weight = {'op': 'null', 'name': 'data'}, {'op': 'null', 'name': 'w'}
        nodes = [data, weight]
        attributes = {
            'Convolution': {'kernel': '(3, 3)', 'num_filter': '4', 'no_bias': 'True'},
            'Pooling': {'kernel': '(2, 2)', 'pool_type': 'max', 'stride': '(2, 2)'},
            'Reshape': {'shape': '(0, -1)'}, 'slice_axis': {'axis': '1', 'begin': '0', 'end': '1'},
            'Activation': {'act_type': 'relu'}, '_mul_scalar': {'scalar': '0.5'},
        }  # fmt: skip
        for op, attrs in attributes.items():
            last = 0 if len(nodes) == 2 else len(nodes) - 1
            inputs = [[last, 0, 0], [1, 0, 0]] if op == 'Convolution' else [[last, 0, 0]]
            nodes.append({'op': op, 'name': op.lower(), 'attrs': attrs, 'inputs': inputs})
        self.value = {'nodes': nodes, 'heads': [[len(nodes) - 1, 0, 0]], 'arg_nodes': [0, 1]}
        self.seeds = [json.dumps(self.value).encode()]

    def write(self, draw):
        value = json.dumps(mutated_json(self.value, draw)).encode()
        self.path.write_bytes(value if draw.random() < 0.7 else mutated(value, self.seeds, draw))

    def read(self):
        import ast

        import numpy as np

        from d2l_ft.convert.formats import read_model
        from d2l_ft.convert.source import problems, translate

        model = read_model([self.path])
        arrays = {'w': np.zeros((4, 3, 3, 3), np.float32)}
        if not problems(model.graph, arrays):
            text = translate(model.graph, arrays).text
            names = {type(each).__name__ for each in ast.parse(text).body}
            assert names <= {'Expr', 'Import', 'ImportFrom', 'ClassDef', 'FunctionDef'}, text


class Configs:
    """config.json and metrics.jsonl of a run."""

    def __init__(self, folder):
        from dataclasses import asdict

        from conftest import run_config

        from d2l_ft.training.metrics import EpochMetrics

        self.path = folder / 'config.json'
        self.other = folder / 'metrics.jsonl'
        self.config = asdict(run_config(versions={'numpy': '1'}))
        self.metrics = asdict(EpochMetrics('scratch', 1, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0))
        self.seeds = [json.dumps(each).encode() for each in (self.config, self.metrics)]

    def write(self, draw):
        for path, value, seed in (
            (self.path, self.config, self.seeds[0]),
            (self.other, self.metrics, self.seeds[1]),
        ):
            if draw.random() < 0.5:
                data = json.dumps(mutated_json(value, draw)).encode()
            else:
                data = mutated(seed, self.seeds, draw)
            path.write_bytes(data if draw.random() < 0.8 else seed)

    def read(self):
        from d2l_ft.report.text import text_curves
        from d2l_ft.runs.directory import Run

        run = Run.open(self.path.parent)
        settings = run.config.settings
        for name in settings.model.nets():
            settings.optim.recipe(name)
        text_curves(run.history())


class Chapters:
    """Chapters, their claims, settings and stored outputs."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / 'a.md'
        fixtures = ROOT / 'tests/chapter/fixtures'
        self.texts = [path.read_bytes() for path in sorted(fixtures.glob('*.md'))]
        self.texts += [path.read_bytes() for path in sorted((ROOT / 'chapters').glob('*.md'))]
        names = ('mxnet', 'pytorch', 'tensorflow', 'jax')
        self.book = {
            'title': {'en': 'T'}, 'tabs': {name: name.title() for name in names},
            'default_tab': 'mxnet', 'languages': {'en': ''}, 'chapters': {'a': '1'},
            'install': 'x', 'discussions': {'a': {'mxnet': 'https://example.org'}},
        }  # fmt: skip
        self.claims = json.loads((ROOT / 'chapters/fine-tuning.claims.json').read_text())
        self.run = {
            'made': {'data': 'sample', 'device': 'cpu'}, 'library': {},
            'cells': {'a': {'code': 'x', 'seconds': 1.0, 'outputs': [
                {'kind': 'picture', 'text': 'x', 'file': 'a-1.png', 'stream': ''}]}},
        }  # fmt: skip
        self.seeds = self.texts

    def write(self, draw):
        from d2l_ft.chapter import outputs

        files = {'a.md': None, 'book.json': self.book, 'a.claims.json': self.claims}
        run = outputs.folder(self.folder, 'a', 'mxnet')
        run.mkdir(parents=True, exist_ok=True)
        files[str((run / outputs.FILE).relative_to(self.folder))] = self.run
        victim = 'a.md' if draw.random() < 0.6 else draw.choice(sorted(files))
        for name, value in files.items():
            if value is None:
                data = draw.choice(self.texts)
                if name == victim:
                    start = draw.choice((0, draw.randrange(len(data))))
                    data = mutated(data[start:], self.texts, draw)
            elif name == victim and draw.random() < 0.5:
                data = mutated(json.dumps(value).encode(), self.texts, draw)
            else:
                data = json.dumps(mutated_json(value, draw) if name == victim else value).encode()
            (self.folder / name).write_bytes(data)

    def read(self):
        from d2l_ft.chapter import book as books
        from d2l_ft.chapter import claims, outputs

        for tab in ('mxnet', 'pytorch'):
            outputs.load_run(self.folder, 'a', tab)
        claims.load_claims(self.folder / 'a.claims.json')
        book = books.Book(self.folder)
        for page in book.pages:
            for tab in book.tabs:
                [cell.of_tab(tab) for cell in page.chapter.cells(tab)]
            list(claims.broken_claims(book, page))
        book.labels(next(iter(book.settings.languages)))


class Archives:
    """Zip and tar archives, plain and packed."""

    def __init__(self, folder):
        from test_archives import taped, zipped

        self.path, self.folder = folder / 'in' / 'x', folder
        self.path.parent.mkdir()
        files = ('a/b.txt', b'hello' * 40), ('a/c', b''), ('d', b'x' * 900)
        self.seeds = [zipped(*files), zipped(*files, compression=8), taped(*files),
                      taped(*files, packed=True)]  # fmt: skip

    def read(self):
        import shutil

        from d2l_ft.storage.archives import extract

        target = self.folder / 'in' / 'out'
        try:
            extract(self.path, target)
        finally:
            shutil.rmtree(target, ignore_errors=True)
            left = {each.name for each in self.folder.iterdir()}
            inside = {each.name for each in self.path.parent.iterdir()}
            assert left == {'in'}, left
            assert inside == {'x'}, inside


READERS = {
    'checkpoint': Checkpoints, 'params': Params, 'config': Configs, 'chapter': Chapters,
    'archive': Archives, 'symbol': Symbols,
}  # fmt: skip


def peak():
    """Return the most memory that the process has had, in MiB.

    Not ru_maxrss, which begins with that of the process which started this one.
    """
    (line,) = re.findall(r'VmHWM:\s*(\d+) kB', Path('/proc/self/status').read_text())
    return int(line) / 1024


def bound_memory():
    """Let the process grow by no more than MEMORY."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main():
    """Feed a reader."""
    from d2l_ft.errors import D2LFTError

    name, count, seed = sys.argv[1], int(sys.argv[2]), int([*sys.argv, 0][3])
    draw = random.Random(f'{name} {seed}')
    read = refused = 0
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        reader = READERS[name](Path(folder))
        if hasattr(reader, 'write'):
            reader.write(random.Random(0))
        else:
            reader.path.write_bytes(reader.seeds[0])
            reader.read()  # imports all that it needs, and must work
        bound_memory()
        before = peak()
        for number in range(count):
            if hasattr(reader, 'write'):
                reader.write(draw)
            else:
                reader.path.write_bytes(mutated(draw.choice(reader.seeds), reader.seeds, draw))
            begun, message = time.perf_counter(), ''
            try:
                reader.read()
                read += 1
            except D2LFTError as error:
                refused, message = refused + 1, str(error)
            except BaseException:
                traceback.print_exc()
                message = '\n'
            if '\n' in message:  # each of our errors is one line
                kept = Path(f'fuzz-{name}').resolve()
                kept.write_bytes(reader.path.read_bytes())
                sys.exit(f'input {number} is in {kept}: {message!r}')
            slowest = max(slowest, time.perf_counter() - begun)
    found = {'read': read, 'refused': refused, 'slowest': slowest, 'grown': peak() - before}
    print(json.dumps(found))


if __name__ == '__main__':
    sys.path[:0] = [str(ROOT / 'tests/reliability'), str(ROOT / 'tests')]
    main()
