"""The commands that bring a net out of MXNet: inspect, convert, witness, verify."""

from pathlib import Path
from typing import Any

import click

from d2l_ft.cli.options import FILE, say_flags
from d2l_ft.errors import OptionError


def read_shape(text: str | None) -> tuple[int, ...] | None:
    """Return the shape that an option gives, such as '3,224,224'.

    Raises:
        OptionError: It is none.
    """
    if text is None:
        return None
    try:
        sides = tuple(int(each) for each in text.replace('x', ',').split(','))
    except ValueError:
        sides = ()
    if not sides or min(sides) < 1:
        raise OptionError(f'`input_shape` {text!r} is no shape: give one such as 3,224,224')
    return sides


arch_option = click.option(
    '--arch', help='Net of the zoo that parameters alone are of, such as resnet50_v2.'
)


@click.command()
@click.argument('files', nargs=-1, required=True, type=FILE)
@arch_option
def inspect(files: tuple[Path, ...], arch: str | None) -> None:
    """Say what the files of a net are, and whether they can be converted.

    \b
    Examples:
      d2l-ft inspect resnet-symbol.json resnet-0010.params
      d2l-ft inspect model.tar.gz           as SageMaker writes it
      d2l-ft inspect models/resnet          the prefix of both files
      d2l-ft inspect net.params             of Gluon's or GluonCV's zoo, which is found out

    Nothing is executed, and MXNet is not needed.
    """
    from d2l_ft.convert import command

    for line in command.inspect(files, arch):
        say_flags(line)


def is_run(path: Path) -> bool:
    """Tell whether a path is a run directory, and no net of MXNet."""
    return (path / 'config.json').is_file()


@click.command()
@click.argument('model', nargs=-1, required=True, type=FILE)
@click.option(
    '--to', 'target', required=True, type=FILE, help='The new folder, or the file of a run.'
)
@click.option(
    '--input-shape',
    help='Of an example, such as 3,224,224.  [default: found out, 224 before others]',
)
@arch_option
@click.option('--keep-softmax', is_flag=True, help='Leave a softmax at the end; logits otherwise.')
@click.option('--until', metavar='NODE', help='End the net in this node of the graph.')
def convert(
    model: tuple[Path, ...],
    target: Path,
    arch: str | None,
    input_shape: str | None,
    keep_softmax: bool,
    until: str | None,
) -> None:
    """Translate a trained net of MXNet into a plain PyTorch module.

    \b
    Examples:
      d2l-ft convert resnet-symbol.json resnet-0010.params --to resnet
      d2l-ft convert model.tar.gz --to resnet
      d2l-ft convert net.params --to resnet                      Gluon's save_parameters
      d2l-ft convert models/resnet --to resnet --until flatten0
      d2l-ft convert runs/mine --to mine.params                  .safetensors, .pth, .onnx too

    MODEL is a symbol file with its parameters, a folder, an archive, the prefix of both files'
    names, or parameters alone of a net of Gluon's or GluonCV's zoo. The new folder has model.py, a
    line a layer, model.safetensors, names.json (MXNet's names), preprocess.json, probe.npz and
    check.py; it needs torch, safetensors and numpy, and nothing of d2l-ft. MXNet is not needed to
    convert.

    Of a run directory, the best net is written: its weights as .params for Gluon's
    load_parameters, .safetensors or .pth for torchvision's net, or the net itself as .onnx.
    """
    if len(model) == 1 and is_run(model[0]):
        from d2l_ft.runs.directory import Run
        from d2l_ft.runs.export import export_weights

        say_flags(export_weights(Run.open(model[0]), target))
        return
    from d2l_ft.convert import command

    lines = command.convert(
        model,
        target,
        arch=arch,
        input_shape=read_shape(input_shape),
        keep_softmax=keep_softmax,
        until=until,
    )
    for line in lines:
        say_flags(line)


@click.command()
@click.argument('model', nargs=-1, required=True, type=FILE)
@click.option('--out', required=True, type=FILE, help='The witness (.npz), or the program (.py).')
@click.option('--input-shape', help='As for convert.')
@arch_option
@click.option('--keep-softmax', is_flag=True, help='As for convert.')
@click.option('--until', metavar='NODE', help='As for convert.')
@click.option(
    '--steps', default=20, show_default=True, type=click.IntRange(0), help='Steps of SGD.'
)
@click.option(
    '--batch', default=4, show_default=True, type=click.IntRange(2), help='Random examples.'
)
def witness(model: tuple[Path, ...], out: Path, input_shape: str | None, **options: Any) -> None:
    """Write down what MXNet computes with a net, for a proof where there is no MXNet.

    \b
    Examples:
      d2l-ft witness models/resnet --out witness.npz       where d2l-ft and MXNet are
      d2l-ft witness models/resnet --out witness.py        for an old machine, on which then
      python witness.py resnet-symbol.json resnet-0010.params
      d2l-ft verify resnet --against witness.npz           anywhere, without MXNet

    The program is one file that needs mxnet (1.0 or newer), numpy and Python 3.6 or newer;
    `python witness.py --help` tells what it takes, such as a batch of your own inputs. A witness
    has the inputs, up to 4096 values of each array that a proof compares, and the hashes of the
    net's files.
    """
    from d2l_ft.convert import command

    for line in command.witness(model, out, input_shape=read_shape(input_shape), **options):
        say_flags(line)


@click.command()
@click.argument('folder', type=FILE)
@click.option(
    '--against', 'model', multiple=True, required=True, type=FILE,
    help='The net of MXNet, as convert takes it, or a witness of it; can be given twice.',
)  # fmt: skip
@arch_option
@click.option('--images', multiple=True, help='Images to compute with, or folders of them.')
@click.option(
    '--steps', default=20, show_default=True, type=click.IntRange(0), help='Steps of SGD to follow.'
)
@click.option(
    '--batch', default=4, show_default=True, type=click.IntRange(2), help='Random examples.'
)
@click.option('--size', type=click.IntRange(1), help="Side of the images.  [default: the folder's]")
@click.option('--faults/--no-faults', default=True, help='Plant faults, to see what would be seen.')
@click.option(
    '--as-mxnet',
    is_flag=True,
    help="Give the translation MXNet's known defect, where it is met.",
)
@click.option('--report', type=FILE, help='Write an HTML page.')
@click.option('--json', 'json_file', type=FILE, help='Write all numbers.')
@click.pass_context
def verify(ctx: click.Context, /, folder: Path, model: tuple[Path, ...], **options: Any) -> None:
    """Prove that a folder of convert computes what the net of MXNet computes.

    \b
    Examples:
      d2l-ft verify resnet --against resnet-symbol.json --against resnet-0010.params
      d2l-ft verify resnet --against models/resnet --images photos --report proof.html
      d2l-ft verify resnet --against witness.npz           MXNet is not needed

    Both frameworks compute the value of each node, the gradient of each parameter, BatchNorm's
    statistics and steps of SGD, in float64, where a difference is an error and no rounding; and
    the outputs in float32. The code of model.py is run: verify only what you trust. The exit code
    is 0 if they are equal, 1 if they part, 3 if it cannot be decided.
    """
    from d2l_ft.convert import verify_command

    choices = verify_command.VerifyOptions(**options)
    ctx.exit(verify_command.verify(folder, model, choices, say_flags))
