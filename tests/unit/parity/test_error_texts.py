"""What the errors of the proof say."""

import subprocess
import sys

from conftest import says

from d2l_ft.errors import ParityError
from d2l_ft.parity import command as parity
from d2l_ft.parity import proof
from d2l_ft.parity.faults import plant
from d2l_ft.parity.ladder import Result, wait
from d2l_ft.parity.plan import Check, Plan, Trace
from d2l_ft.parity.tolerances import row
from d2l_ft.parity.trace import begin


def test_a_comparison_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, 'PAIR', ())  # so that no framework is needed
    for options, text in (
        ({'rungs': 'none'}, "no rung is named 'none': choose of "),
        ({'heads': 'two'}, "cannot read the heads 'two': write 2,10,1000"),
        ({'heads': '1,10'}, 'a head needs at least 2 classes'),
    ):
        assert says(ParityError, parity.make_plan, **options).startswith(text)


def test_a_comparison_of_nothing():
    empty = Result({}, [], [])
    assert says(ParityError, parity.verdict, empty, print) == 'nothing was compared'


def test_a_fault_and_a_tolerance_that_are_unknown():
    assert says(ParityError, plant('none', None).__enter__).startswith(
        "no fault is named 'none': choose one of "
    )
    assert says(ParityError, row, 'forward', 'smell') == (
        'the table of tolerances has no row for forward, smell'
    )


def test_a_trace_that_is_not_there(tmp_path):
    assert f'the trace {tmp_path} has no forward (' in says(
        ParityError, Trace(tmp_path).arrays, 'forward'
    )
    assert f'the trace {tmp_path} has no forward (' in says(
        ParityError, Trace(tmp_path).facts, 'forward'
    )
    assert f'{tmp_path} has no good plan.json (' in says(ParityError, begin, tmp_path, 'mxnet')


def test_a_framework_that_cannot_be_traced(monkeypatch):
    command = [sys.executable, '-c', 'raise SystemExit("out of memory")']
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    assert says(ParityError, wait, [subprocess.Popen(command, **pipes)]) == (
        'a framework could not be traced: out of memory'
    )


def test_frameworks_that_differ_before_a_fault_is_planted(tmp_path, monkeypatch):
    wrong = Check('forward/resnet18-2/logits', 1.0, 0.1, '', False, 'conv1')
    monkeypatch.setattr(proof, 'trace_pair', lambda *_: None)  # minutes
    monkeypatch.setattr(proof, 'compare', lambda *_: ([wrong], []))
    assert says(ParityError, proof.prove, Plan(str(tmp_path)), tmp_path) == (
        'the frameworks differ before any fault is planted: forward/resnet18-2/logits'
    )
