"""Write d2l_ft/convert/zoo.json.xz: the graphs of the nets of Gluon's and GluonCV's zoos.

With them a file of parameters alone is converted on a machine without MXNet. Takes a quarter of a
minute:

    python benchmarks/zoo_graphs.py
"""

import inspect
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import d2l_ft_mxnet  # noqa: F401  # gives GluonCV what it misses
import mxnet as mx
from gluoncv.model_zoo import model_zoo as gluoncv_zoo
from mxnet.gluon.model_zoo import vision

import d2l_ft  # noqa: F401  # lets MXNet and GluonCV start on today's Python

TARGET = Path(__file__).parents[1] / 'd2l_ft/convert/zoo.json.xz'

CLASSES = 1000

NO_CLASSIFIERS = re.compile(
    'int8|_gn$|kinetics|custom|hmdb|ucf|sthsth|coco|voc|ade|citys|mhpv|otb|pose|rcnn|ssd_|yolo|'
    'i3d|c3d|p3d|r2plus|slowfast|monodepth|siamrpn|danet|_s$|center_net'
)
"""GluonCV's names of detectors, segmentation, pose, video, quantised nets, and those of GroupNorm,
which MXNet does not export."""


def nets() -> Iterator[tuple[str, Any]]:
    """Yield (name, net) of every classifier; the nets have no values yet."""
    names = re.findall(r"'([\w.]+)': ", inspect.getsource(vision.get_model))
    for name in names:
        yield f'gluon/{name}', vision.get_model(name, classes=CLASSES)
    for name, make in sorted(gluoncv_zoo._models.items()):
        if not NO_CLASSIFIERS.search(name):
            yield f'gluoncv/{name}', make(classes=CLASSES, pretrained=False)


def entry(net: Any) -> dict[str, Any]:
    """Return a net's graph, short: a variable is [structural name, name], a node the rest."""
    symbol = net(mx.sym.var('data'))
    if isinstance(symbol, list | tuple):
        symbol = mx.sym.Group(list(symbol))
    structural = {each.name: name for name, each in net._collect_params_with_prefix().items()}
    graph = json.loads(symbol.tojson())
    nodes: list[list[Any]] = []
    for node in graph['nodes']:
        short = node['name'].removeprefix(net.prefix)
        if node['op'] == 'null':
            nodes.append([structural.get(node['name'], short), short])
        else:
            inputs = [each[:2] if each[1] else each[0] for each in node['inputs']]
            nodes.append([node['op'], short, node.get('attrs', {}), inputs])
    return {'nodes': nodes, 'heads': [each[:2] for each in graph['heads']]}


def main() -> None:
    """Write the file."""
    found = {name: entry(net) for name, net in nets()}
    data = lzma.compress(json.dumps(found, separators=(',', ':')).encode(), preset=9)
    TARGET.write_bytes(data)
    print(f'{TARGET}: {len(found)} graphs, {len(data)} bytes')


if __name__ == '__main__':
    main()
