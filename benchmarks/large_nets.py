"""Time and peak memory of convert, witness and verify for large nets of Gluon's zoo.

python benchmarks/large_nets.py [NAME ...]    # ten minutes on two cores, and 24 GB of memory

The nets have random weights and a batch of four images of 224 pixels. Each command is a process of
its own; docs/leaving-mxnet.md has the numbers.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

NETS = ('resnet50_v2', 'resnet152_v2')

SIDE = 224

MAKE = f"""
import sys
import d2l_ft.mxnet
import mxnet as mx
from mxnet.gluon.model_zoo import vision
net = vision.get_model(sys.argv[1])
mx.random.seed(1)
net.initialize(mx.init.Xavier())
net.hybridize()
net(mx.nd.zeros((1, 3, {SIDE}, {SIDE})))
net.export(sys.argv[1])
"""

MEASURE = """
import resource, subprocess, sys, time
start = time.time()
code = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
print(f'exit code {code}, {time.time() - start:.0f} s, {peak:.1f} GiB')
"""


def measured(folder: Path, *arguments: str) -> str:
    """Return exit code, time and peak memory of a command."""
    words = [sys.executable, '-c', MEASURE, '-m', 'd2l_ft', *arguments]
    return subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Measure each command with each net."""
    shape = f'3,{SIDE},{SIDE}'
    for name in sys.argv[1:] or NETS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            subprocess.run([sys.executable, '-c', MAKE, name], cwd=folder, check=True)
            for arguments in (
                ('convert', name, '--to', 'net', '--input-shape', shape),
                ('witness', name, '--out', 'net.npz', '--input-shape', shape),
                ('verify', 'net', '--against', name),
                ('verify', 'net', '--against', 'net.npz'),
            ):
                print(name, *arguments, measured(folder, *arguments), flush=True)
            print(name, 'witness', (folder / 'net.npz').stat().st_size / 1e6, 'MB')


if __name__ == '__main__':
    main()
