"""The inside of each backend, which the parity proof reads: same names, same signatures."""

import inspect

import pytest

from d2l_ft.backend.probe import Probe, get_probe
from d2l_ft.errors import ParityError


def functions():
    """Return the functions of the Protocol."""
    return {
        name: each for name, each in vars(Probe).items()
        if inspect.isfunction(each) and not name.startswith('_')
    }  # fmt: skip


@pytest.mark.parametrize('name', functions())
def test_signature_is_the_protocols(framework, name):
    def parameters(function, skip=0):
        listed = list(inspect.signature(function).parameters.values())[skip:]
        return [(each.name, each.kind, each.default) for each in listed]

    assert parameters(getattr(get_probe(framework), name)) == parameters(functions()[name], 1)


def test_a_backend_without_a_probe_is_told():
    import reference_backend

    with pytest.raises(ParityError, match='has no module probe'):
        get_probe(reference_backend)
