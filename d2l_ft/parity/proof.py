"""The proof of the proof: plant every fault and see which check finds it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d2l_ft.errors import ParityError
from d2l_ft.parity.faults import FAULTS
from d2l_ft.parity.ladder import PAIR, compare, start, trace_pair, wait
from d2l_ft.parity.plan import Plan, Trace


def small(plan: Plan, rungs: Collection[str]) -> Plan:
    """Return a small plan that still finds each fault: one net, few steps."""
    return replace(
        plan,
        archs=('resnet18',),
        heads=(2,),
        steps=8,
        image_size=48,
        images=40,
        epochs=2,
        run_epochs=1,
        rungs=tuple(rung for rung in plan.rungs if rung in rungs),
    )


@dataclass(frozen=True)
class Finding:
    """The result for one fault.

    Attributes:
        fault: Its name.
        text: What was done wrong.
        found: Whether the first check that failed is the one expected, at the expected place.
        check: Name of the first check that failed; '' if none did.
        where: The place that it named.
    """

    fault: str
    text: str
    found: bool
    check: str
    where: str


def prove(
    plan: Plan, folder: Path, names: Sequence[str] = tuple(FAULTS), bar: bool = True
) -> list[Finding]:
    """Plant faults in PyTorch's process (some in both) and compare with a clean MXNet.

    Args:
        plan: Gives the images, the source and the threads; ``small`` sets the rest.
        folder: Where the traces go.
        names: Faults.
        bar: Whether to show progress; it needs a terminal too.

    Raises:
        ParityError: The clean frameworks differ already, or a process failed.
    """
    rungs = {rung for name in names for rung in FAULTS[name].rungs}
    plan = small(plan, rungs)
    trace_pair(plan, folder, bar)
    clean = Trace(folder / PAIR[0])
    failures = [
        each.name for each in compare(plan, clean, Trace(folder / PAIR[1]))[0] if each.fails
    ]
    if failures:
        raise ParityError(f'the frameworks differ before any fault is planted: {failures[0]}')
    halves = [list(names)[number::2] for number in range(2)]
    processes = [
        start(plan, folder, PAIR[1], '--faults', ','.join(half), '--again', clean.folder)
        for half in halves
        if half
    ]
    wait(processes, 'plant', len(names), bar)
    if both := [name for name in names if FAULTS[name].both]:
        wait([start(plan, folder, PAIR[0], '--faults', ','.join(both))])
    return [find(plan, folder, name) for name in names]


def find(plan: Plan, folder: Path, name: str) -> Finding:
    """Compare the trace of a fault with that of the clean framework."""
    fault = FAULTS[name]
    left = folder / name / PAIR[0] if fault.both else folder / PAIR[0]
    right = Trace(folder / name / PAIR[1])
    plan = replace(plan, rungs=tuple(sorted(fault.rungs, key=plan.rungs.index)))
    checks, _ = compare(plan, Trace(left), right)
    first = next((each for each in checks if each.fails), None)
    if first is None:
        return Finding(name, fault.text, False, '', '')
    found = first.name.startswith(fault.check) and fault.where in first.where
    return Finding(name, fault.text, found, first.name, first.where)
