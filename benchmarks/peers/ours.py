"""Training with d2l-ft train: FOLDER EPOCHS BATCH BACKEND ARCHITECTURE PRECISION."""

import json
import sys
import tempfile
from pathlib import Path

from measured import report

import d2l_ft as d2l
from d2l_ft.cli.main import main

folder, epochs, batch, backend, architecture, precision = sys.argv[1:]
packages = {'pytorch': ['torch'], 'mxnet': ['mxnet']}[backend]
with tempfile.TemporaryDirectory() as place:
    out = Path(place) / 'run'
    main(
        [
            'train', '--backend', backend, '--data', folder, '--source', 'none',
            '--epochs', epochs, '--batch-size', batch, '--lr', '0.001',
            '--arch', architecture, '--precision', precision, '--out', str(out),
        ],
        standalone_mode=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
measured = [(round(each['examples_per_sec'] * each['seconds']), each['seconds']) for each in lines]
report(measured, d2l.get_backend(backend).threads(), 0, ['d2l-ft', *packages])
