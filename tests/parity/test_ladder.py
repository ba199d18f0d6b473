"""The proof itself, on a small net, and every planted fault."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_command import command, start

from d2l_ft.data.synthetic.tasks import write_target
from d2l_ft.errors import ParityError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.parity import ladder
from d2l_ft.parity.faults import FAULTS, plant
from d2l_ft.parity.plan import Plan, perturb
from d2l_ft.parity.proof import prove, small
from d2l_ft.parity.report import page
from d2l_ft.parity.rungs import RUNGS

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


@pytest.fixture(scope='module')
def plan(tmp_path_factory):
    """Return a plan over some drawn pictures, with a source for whole runs."""
    import d2l_ft

    root = write_target(tmp_path_factory.mktemp('parity') / 'drawn', train=24, test=12)
    backend = d2l_ft.get_backend('pytorch')
    state = perturb(backend.get_state(backend.place(backend.build_net('resnet18', 3))), 5)
    source = root.parent / 'source.safetensors'
    save_checkpoint(source, Checkpoint(state, meta={'arch': 'resnet18'}))
    return Plan(str(root), rungs=tuple(RUNGS), source=str(source))


@pytest.fixture(scope='module')
def findings(plan, tmp_path_factory):
    """Plant every fault once."""
    return {each.fault: each for each in prove(plan, tmp_path_factory.mktemp('faults'), bar=False)}


@pytest.mark.parametrize('name', FAULTS)
def test_planted_fault_is_found_at_its_place(findings, name):
    finding = findings[name]
    assert finding.found, f'{finding.check or "no check failed"} at {finding.where!r}'


def test_every_rung_has_a_fault_that_it_is_the_first_to_see():
    assert {each.check.partition('/')[0] for each in FAULTS.values()} == set(RUNGS)


def test_an_unknown_fault_is_refused():
    with pytest.raises(ParityError, match='no fault'), plant('none', None):
        pass


def test_the_ladder_is_equal_and_its_page_is_self_contained(plan, tmp_path):
    checked = []
    whole = small(plan, RUNGS)
    result = ladder.run_ladder(whole, tmp_path, checked.append, bar=False)
    assert [each.name for each in checked if not each.ok] == []
    assert result.equal
    assert {each.name.partition('/')[0] for each in checked} == set(RUNGS)
    html = page(whole, result, tmp_path)
    assert 'Equal within the stated tolerances' in html
    assert html.count('<svg') == 3
    assert 'src="http' not in html
    assert 'href="http' not in html
    read = json.loads(result.to_json())
    assert read['equal'] is True
    assert set(read['checks'][0]) >= {
        'name', 'value', 'tolerance', 'unit', 'ok', 'where', 'cause',
    }  # fmt: skip


def test_comparing_loads_no_framework():
    code = (
        'import sys, d2l_ft.parity.ladder, d2l_ft.parity.report, d2l_ft.parity.proof\n'
        'print(sorted({"torch", "torchvision", "mxnet", "gluoncv"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_a_framework_that_cannot_be_traced_is_an_error_and_no_verdict(plan, tmp_path):
    bad = Plan(str(tmp_path / 'nowhere'), rungs=('samples',))
    with pytest.raises(ParityError, match='could not be traced'):
        ladder.run_ladder(bad, tmp_path, bar=False)


def test_an_interrupt_leaves_no_process(plan, tmp_path):
    process = start('parity', '--data', plan.root, '--rungs', 'trajectory', start_new_session=True)
    time.sleep(6)  # both children are at work
    assert process.poll() is None
    process.send_signal(signal.SIGINT)  # to the parent alone
    assert process.wait(timeout=30) == 130
    process.communicate()
    left = subprocess.run(
        ['pgrep', '-s', str(process.pid)], capture_output=True, text=True, check=False
    )
    assert left.stdout == ''


def test_the_command(plan, tmp_path):
    report, numbers = tmp_path / 'parity.html', tmp_path / 'parity.json'
    out, _ = command(
        'parity', '--data', plan.root, '--rungs', 'samples,update', '--heads', '2,10',
        '--report', report, '--json', numbers,
    )  # fmt: skip
    assert 'ok   backward/resnet18-10/gradients-float64' in out
    assert 'ok   update/resnet18-2/momentum' in out
    assert 'equal: ' in out
    assert json.loads(numbers.read_text())['equal'] is True
    assert report.read_text().startswith('<!doctype html>')
    _, err = command('parity', '--rungs', 'rope', code=2)
    assert "no rung is named 'rope'" in err
    out, _ = command('parity', '--tolerances')
    assert out.startswith('| check | at most |')
    assert not os.path.exists(tmp_path / 'plan.json')
