"""What the servers have, made small: the book's photographs, and weights of 1000 classes."""

import contextlib
import functools
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from d2l_ft.data.opencv import cv2
from d2l_ft.sources.zoo import IMAGENET

IMAGENET_CLASSES = 1000


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve a folder, and print nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield the URL before their names."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}/'
        finally:
            server.shutdown()


def write_photographs(folder: Path, train: int = 4, test: int = 2) -> str:
    """Write hotdog.zip as the book's server has it; return its SHA-1.

    Args:
        folder: Where to write it.
        train: Photographs a class to train on.
        test: The same to test on.
    """
    rng = np.random.default_rng(0)
    path = folder / 'hotdog.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for part, count in (('train', train), ('test', test)):
            for name, colour in (('hotdog', (60, 90, 200)), ('not-hotdog', (90, 170, 80))):
                for number in range(count):
                    height, width = rng.integers(230, 310, 2)
                    coarse = rng.normal(colour, 40, (height // 8, width // 8, 3)).clip(0, 255)
                    image = cv2.resize(coarse.astype(np.uint8), (int(width), int(height)))
                    encoded = cv2.imencode('.jpg', image)[1].tobytes()
                    archive.writestr(f'hotdog/{part}/{name}/{number}.jpg', encoded)
    return hashlib.sha1(path.read_bytes()).hexdigest()


def gluon_net(arch: str):
    """Return the net of GluonCV's zoo that IMAGENET names, with random weights and statistics."""
    import mxnet as mx
    from gluoncv import model_zoo

    net = model_zoo.get_model(IMAGENET['mxnet'][arch][0], classes=IMAGENET_CLASSES)
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 224, 224)))
    rng = np.random.default_rng(0)
    for name, parameter in net.collect_params().items():
        if name.endswith(('gamma', 'running_var')) and parameter.grad_req != 'null':
            parameter.set_data(mx.nd.array(rng.uniform(0.8, 1.2, parameter.shape)))
        elif name.endswith(('beta', 'bias', 'running_mean')) and parameter.grad_req != 'null':
            parameter.set_data(mx.nd.array(rng.normal(0, 0.1, parameter.shape)))
    return net


def write_gluon_weights(folder: Path, net, arch: str) -> tuple[str, str]:
    """Write a zoo's net as its server has it, a .params file in an archive; return its entry."""
    name = IMAGENET['mxnet'][arch][0]
    path = folder / f'{name}.params'
    net.save_parameters(str(path))
    digest = hashlib.sha1(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(folder / f'{name}-{digest[:8]}.zip', 'w') as archive:
        archive.write(path, f'{name}-{digest[:8]}.params')
    path.unlink()
    return name, digest


def write_torchvision_weights(folder: Path, net, arch: str) -> str:
    """Write torchvision's net as its server has it; return its entry, the SHA-256."""
    import torch

    path = folder / 'weights.pth'
    torch.save(net.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(folder / f'{arch}-{digest[:8]}.pth')
    return digest
