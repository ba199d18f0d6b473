"""Translate each net of Gluon's and GluonCV's zoos, prove it equal, and write docs/zoo.md.

python benchmarks/zoo.py                    # hours; what zoo.json has is not measured again
python benchmarks/zoo.py --only 'gluoncv/resnest*' [--again]
python benchmarks/zoo.py --large            # also nets with more than 300 MB of weights
python benchmarks/zoo.py --page             # the page again, from zoo.json
python benchmarks/zoo.py --check            # exit code 1 if the page is not what the JSON gives

Each net gets random weights, as a trained one's are in size, is exported, translated and compared
in a process of its own. One net of each family comes first, so that a run that is ended early has
seen every family.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tqdm import tqdm

HERE = Path(__file__).parent
NUMBERS, PAGE = HERE / 'zoo.json', HERE.parent / 'docs/zoo.md'
GIGABYTES = 8
"""Memory that a net's process may take."""

LARGE = 300
"""Megabytes of weights above which a net is left out."""

SECONDS = 3600
"""Time after which a net is given up."""

BATCH = 2
WITHOUT = re.compile(
    r'_(kinetics\d+|hmdb51|ucf101|sthsthv2|otb15|kitti|custom)|^(custom|monodepth|center_net|ssd)'
    r'|^(yolo3|siamrpn)|rcnn|(_coco|_voc|_pose_.*)_int8$'
)
"""Names of GluonCV that are not tried: videos, detectors, and 8-bit nets that it downloads."""

DENSE = re.compile(r'_(coco|voc|ade|citys|mhpv1)$|_pose_|^hrnet.*_s$')
"""Names of segmentation and pose nets."""

SIDES = {
    'cifar_': 32, 'squeezenet': 224, 'densenet': 224, 'googlenet': 224, 'shufflenet': 224,
    'inception': 299, 'residualattention': 224,
}  # fmt: skip
"""Beginning of a name -> side of its images; 64 for the others."""

GROUPS = {
    'gluon': "Classifiers of Gluon's zoo",
    'gluoncv': "Classifiers of GluonCV's zoo",
    'dense': "Segmentation and pose nets of GluonCV's zoo",
}

Row = dict[str, Any]


def family(name: str) -> str:
    """Return a name without its sizes."""
    group, _, short = name.partition('/')
    return f'{group}/' + re.sub(r'(?<=[a-z]{2})\d+(\.\d+)?|_w?[\d.]+$|(?<=_w)\d+', '', short)


def group(name: str) -> str:
    """Return the key of GROUPS."""
    before, _, short = name.partition('/')
    return 'dense' if DENSE.search(short) else before


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names, the smallest of each family first."""

    def numbers(name: str) -> list[Any]:
        return [float(each) for each in re.findall(r'\d+(?:\.\d+)?', name)]

    some = sorted(names, key=lambda name: (list(GROUPS).index(group(name)), numbers(name), name))
    first = {family(name): name for name in reversed(some)}.values()
    return sorted(some, key=lambda name: name not in first)


def names() -> list[str]:
    """Return zoo/name of all nets."""
    import d2l_ft_mxnet  # noqa: F401  # without it MXNet does not start on today's Python
    from gluoncv.model_zoo import model_zoo
    from mxnet.gluon.model_zoo import vision

    gluon = re.findall(r"'([\w.]+)': ", Path(vision.__file__).read_text())  # of get_model's table
    gluoncv = [name for name in model_zoo._models if not WITHOUT.search(name)]
    return [f'gluon/{name}' for name in gluon] + [f'gluoncv/{name}' for name in gluoncv]


def build(name: str, side: int) -> Any:
    """Return a net with random weights; a segmentation net with outputs of its images' size."""
    import mxnet as mx
    import numpy as np
    from gluoncv.model_zoo import get_model
    from mxnet.gluon.model_zoo import vision

    zoo, _, short = name.partition('/')
    mx.random.seed(0)
    np.random.seed(0)  # MXNet's initialisers draw from it
    if zoo == 'gluon':
        net = vision.get_model(short)
    elif DENSE.search(short) and not short.startswith('hrnet'):
        sizes = {} if 'pose' in short else {'crop_size': side}
        net = get_model(short, pretrained=False, pretrained_base=False, **sizes)
    else:
        net = get_model(short, pretrained=False)
    net.initialize(mx.init.Zero() if 'int8' in short else mx.init.Xavier())
    net(mx.nd.zeros((1, 3, side, side)))  # it finds out the shapes
    draws = np.random.default_rng(0)
    ranges = {
        'gamma': (0.5, 1.5), 'beta': (-0.2, 0.2), 'running_mean': (-0.2, 0.2),
        'running_var': (0.5, 1.5),
    }  # fmt: skip
    for each, parameter in sorted(net.collect_params().items()):
        for end, (low, high) in ranges.items():
            if each.endswith(end):
                parameter.set_data(mx.nd.array(draws.uniform(low, high, parameter.shape)))
    return net


def measure(name: str, large: bool) -> Row:
    """Return what is found out of one net."""
    import d2l_ft_mxnet  # noqa: F401
    import mxnet as mx
    import numpy as np
    from memory import peak

    from d2l_ft.convert.faults import Translation
    from d2l_ft.convert.formats import read_model
    from d2l_ft.convert.observe import Plan
    from d2l_ft.convert.package import read_package, write_package
    from d2l_ft.convert.source import problems
    from d2l_ft.convert.verify import Live, distance, prove
    from d2l_ft.convert.verify_command import translation_maker
    from d2l_ft.convert.witness import mxnet_maker
    from d2l_ft.errors import ModelError

    short = name.partition('/')[2]
    side = next((each for start, each in SIDES.items() if short.startswith(start)), 64)
    row: Row = {'side': side}
    try:
        net = build(name, side)
    except Exception as error:
        return {**row, 'verdict': 'not built', 'reason': brief(error)}
    size = sum(4 * np.prod(each.shape) for each in net.collect_params().values()) / 1e6
    row['megabytes'] = round(float(size), 1)
    if size > LARGE and not large:
        return {**row, 'verdict': 'left out', 'reason': f'more than {LARGE} MB of weights'}
    with tempfile.TemporaryDirectory() as place:
        prefix = Path(place) / 'net'
        try:
            net.hybridize()
            net(mx.nd.zeros((1, 3, side, side)))
            net.export(str(prefix))
        except Exception as error:
            return {**row, 'verdict': 'not exported', 'reason': brief(error)}
        start = time.perf_counter()
        model = read_model([prefix])
        assert model.graph is not None
        try:
            write_package(model, prefix, shape=(3, side, side))
        except ModelError as error:
            found = problems(model.graph, model.arrays) or [str(error)]
            return {**row, 'verdict': 'not convertible', 'reason': '; '.join(found)}
        row['convert'] = round(time.perf_counter() - start, 1)
        package = read_package(prefix)
    ends = package.record['ends']
    draws = np.random.default_rng(0)
    inputs = {
        each: draws.standard_normal((BATCH, *sides))
        for each, sides in package.record['inputs'].items()
    }

    names = package.record['names']
    ours = translation_maker(
        Translation(package.source, package.state, names, model.arrays), package
    )
    theirs = mxnet_maker(model, inputs, ends)

    start = time.perf_counter()
    proof = prove(ours, Live(theirs), Plan(inputs, ends, steps=0))
    row['verify'] = round(time.perf_counter() - start, 1)
    row['peak'] = round(peak())
    row['operators'] = sum(package.record['ops'].values())
    row['verdict'] = proof.verdict
    row['rows'] = {each.stage: [each.error, each.limit, each.state, each.where]
                   for each in proof.rows}  # fmt: skip
    row['defects'] = [vars(each) for each in proof.defects]
    both = [make('float64').forward(inputs, train=False, nodes=False) for make in (ours, theirs)]
    row['logits'] = max(distance(both[0][each], both[1][each]) for each in ends)
    return row


def brief(error: Exception) -> str:
    """Return an error's last line with words, of MXNet's many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[-1] if lines else ""}'[:300]


def child(name: str, large: bool) -> Row:
    """Measure a net in a process of its own."""
    command = [sys.executable, '-W', 'ignore', __file__, '--net', name]
    try:
        done = subprocess.run(
            command + ['--large'] * large, capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {'verdict': 'given up', 'reason': f'after {SECONDS} seconds'}
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines and lines[-1].startswith('{'):
        found: Row = json.loads(lines[-1])
        return found
    last = [line for line in done.stderr.splitlines() if line.strip()]
    why = f'exit code {done.returncode}: {last[-1].strip() if last else ""}'[:300]
    memory = re.search('MemoryError|bad_alloc|[Aa]llocate|std::bad', done.stderr)
    if memory:
        why = f'more than {GIGABYTES} GB of memory'
    return {'verdict': 'given up', 'reason': why}


def run(patterns: Sequence[str], large: bool, again: bool) -> None:
    """Measure what is not measured yet, and write the JSON after each net."""
    from bench import machine

    kept = json.loads(NUMBERS.read_text())['nets'] if NUMBERS.is_file() else {}
    every = in_order(names())
    wanted = [
        name
        for name in every
        if (not patterns or any(fnmatch(name, each) for each in patterns))
        and (again or name not in kept or (large and kept[name]['verdict'] == 'left out'))
    ]
    for name in (bar := tqdm(wanted, unit='net', disable=None)):
        bar.set_postfix_str(name)
        kept[name] = child(name, large)
        tqdm.write(f'{name}: {words(kept[name])}', file=sys.stderr)
        ordered = {each: kept[each] for each in sorted(kept, key=every.index)}
        NUMBERS.write_text(json.dumps({**machine(), 'nets': ordered}, indent=1) + '\n')


def words(row: Row) -> str:
    """Return a verdict with its reason."""
    if 'reason' in row:
        return f'{row["verdict"]}: {row["reason"]}'
    states = [f'{stage} {each[0]:.0e} at {each[3]}' for stage, each in row['rows'].items()
              if each[2] != 'equal']  # fmt: skip
    return f'{row["verdict"]}{": " * bool(states)}{", ".join(states)}'


COLUMNS = {
    'nodes': 'eval', 'training': 'train', 'gradients': 'gradient', 'statistics': 'statistic',
    'float32': 'float32',
}  # fmt: skip
"""Column of the table -> stage of the proof."""


def line(name: str, row: Row) -> str:
    """Return a net's line of the table."""
    short = name.partition('/')[2]
    if 'rows' not in row:
        return f'| {short} | {row["verdict"]}: {row["reason"].replace("|", "/")} |' + ' |' * 10
    numbers = [row['logits'], *(row['rows'].get(each, [None])[0] for each in COLUMNS.values())]
    cells = ' | '.join('' if each is None else f'{each:.0e}' for each in numbers)
    return (
        f'| {short} | {words(row)} | {row["side"]} | {row["operators"]} | {cells} '
        f'| {row["convert"]} | {row["verify"]} | {row["peak"] / 1024:.1f} |'
    )


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the medians and the largest values, in a table."""
    done = [row for row in rows if 'rows' in row]
    values = {'logits': [row['logits'] for row in done]} | {
        title: [row['rows'][stage][0] for row in done if stage in row['rows']]
        for title, stage in COLUMNS.items()
    }
    lines = ['| largest relative error of a net | nets | median | 90 % below | largest |',
             '|---|---|---|---|---|']  # fmt: skip
    for title, each in values.items():
        if each:
            some = sorted(each)
            lines.append(
                f'| {title} | {len(some)} | {statistics.median(some):.1e} '
                f'| {some[int(0.9 * (len(some) - 1))]:.1e} | {some[-1]:.1e} |'
            )
    for title, key, unit in (
        ('seconds to convert', 'convert', 1),
        ('seconds to verify', 'verify', 1),
        ('memory, GiB', 'peak', 1024),
    ):
        some = sorted(row[key] / unit for row in done)
        if some:
            lines.append(
                f'| {title} | {len(some)} | {statistics.median(some):.1f} '
                f'| {some[int(0.9 * (len(some) - 1))]:.1f} | {some[-1]:.1f} |'
            )
    return lines


def render() -> str:
    """Return the page."""
    from bench import describe

    result = json.loads(NUMBERS.read_text())
    nets: dict[str, Row] = result['nets']
    counts = Counter(row['verdict'] for row in nets.values())
    lines = [
        '<!-- written by benchmarks/zoo.py; do not edit -->',
        "# The zoos' nets",
        '',
        f'{len(nets)} nets with random weights, exported by MXNet, converted and compared: '
        + ', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())
        + f' ({describe(result)}).',
        '',
        f'A batch of {BATCH} random images of the given side; errors are relative to the largest '
        'value, in float64 but for the last, which is the distance of MXNet in float32 from '
        'float64. "Nodes" is the error that comes nearest to its limit, of all values inside the '
        'net; "training" that of the outputs in training mode, where the statistics of two images '
        'amplify rounding.',
        '',
        *summary(list(nets.values())),
    ]
    for key, title in GROUPS.items():
        mine = {name: row for name, row in nets.items() if group(name) == key}
        if not mine:
            continue
        heads = ['net', 'verdict', 'side', 'operators', 'logits', *COLUMNS, 'convert, s',
                 'verify, s', 'GiB']  # fmt: skip
        lines += ['', f'## {title}', '', f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
        lines += [line(name, row) for name, row in sorted(mine.items())]
    return '\n'.join([*lines, ''])


def main() -> None:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--only', action='append', default=[], metavar='PATTERN')
    parser.add_argument('--large', action='store_true', help=f'nets of more than {LARGE} MB, too')
    parser.add_argument('--again', action='store_true', help='measure what the JSON has already')
    parser.add_argument('--page', action='store_true', help='write the page alone')
    parser.add_argument('--check', action='store_true', help='write nothing')
    parser.add_argument('--net', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.net:
        resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 10**9, GIGABYTES * 10**9))
        print(json.dumps(measure(options.net, options.large)))
        return
    if options.check:
        fresh = PAGE.read_text() == render()
        sys.exit(0 if fresh else f'{PAGE} is stale: run {Path(__file__).name} --page')
    if not options.page:
        run(options.only, options.large, options.again)
    PAGE.write_text(render())


if __name__ == '__main__':
    main()
