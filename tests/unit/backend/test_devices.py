"""How devices are asked for, and the request that gives those that were named."""

import pytest

from d2l_ft.backend.devices import as_request, parse_devices
from d2l_ft.errors import DeviceError


class OneGpu:
    """The part of a backend that tells its devices."""

    def devices(self, request):
        return ['cpu'] if request == 'cpu' else ['cuda:0', 'cuda:1']

    def is_gpu(self, device):
        return device.startswith('cuda')


@pytest.mark.parametrize(
    ('devices', 'request_'),
    [
        ('auto', 'auto'), (['cpu'], 'cpu:1'), (['cpu', 'cpu'], 'cpu:2'), (['cuda:1'], 'gpu:1'),
        (('cuda:1', 'cuda:0'), 'gpu:1,0'),
    ],
)  # fmt: skip
def test_devices_are_kept_as_the_request_that_gives_them(devices, request_):
    assert as_request(OneGpu(), devices) == request_


@pytest.mark.parametrize('devices', [[], ['cpu', 'cuda:0'], ['cuda'], ['cuda:7']])
def test_devices_that_no_request_gives_are_refused(devices):
    with pytest.raises(DeviceError, match='with their numbers'):
        as_request(OneGpu(), devices)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('auto', ('auto', [])), (' CPU ', ('cpu', [0])), ('cpu:2', ('cpu', [0, 1])),
        ('gpu', ('gpu', [])), ('gpu:0,2', ('gpu', [0, 2])),
    ],
)  # fmt: skip
def test_parse_devices(text, expected):
    assert parse_devices(text) == expected


@pytest.mark.parametrize('text', ['', 'cpu:0', 'cpu:x', 'gpu:1,1', 'gpu:-1', 'tpu'])
def test_parse_devices_refuses(text):
    with pytest.raises(DeviceError):
        parse_devices(text)
