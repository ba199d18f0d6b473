"""The commands that bring a net out of MXNet, in processes of their own and in this one."""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import symbols
from click.testing import CliRunner
from conftest import make_folder

from d2l_ft.cli.main import main
from d2l_ft.convert.package import read_package
from d2l_ft.convert.report import VERDICTS

SIDE = 20


def run(*words, code=0):
    """Run a command in this process, and return its lines."""
    done = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    assert code != 2 or done.output.count('\n') == 1
    return done.output.splitlines()


def probe_of(folder):
    """Return the arrays of a folder's probe."""
    with np.load(folder / 'probe.npz') as probe:
        return dict(probe)


@pytest.fixture
def net(tmp_path):
    """Return the prefix of a small net on images."""
    symbols.write(tmp_path / 'net', *symbols.images())
    return tmp_path / 'net'


@pytest.fixture
def folder(net, tmp_path):
    """Return the folder that it was translated to."""
    run('convert', net, '--to', tmp_path / 'out', '--input-shape', f'3,{SIDE},{SIDE}')
    return tmp_path / 'out'


class TestInspect:
    """Files of every kind."""

    def test_a_net(self, net):
        lines = run('inspect', net)
        names = [line.partition(' ')[0] for line in lines]
        assert names == [
            'file', 'file', 'parameters', 'names', 'operators', 'output', 'input', 'head',
            'convert',
        ]  # fmt: skip
        text = '\n'.join(lines)
        assert '3 arrays, 118 values, float32' in text
        assert 'output      softmax (SoftmaxOutput, which is cut: logits come out)' in text
        assert 'input       3 channels' in text
        assert 'head        fc: 2 outputs' in text
        assert lines[-1] == 'convert     every operator has a rule'

    def test_a_part_of_a_net(self, net):
        assert run('inspect', f'{net}-symbol.json')[-1].startswith('parameters  none: give the ')
        assert run('inspect', f'{net}-0000.params')[-1].startswith('graph       none: no net of ')

    def test_a_net_that_cannot_be_converted(self, tmp_path):
        text = symbols.symbol('data', *symbols.dense('fc', 'data'), ('RNN', 'r', ['fc'], {}))
        symbols.write(tmp_path / 'net', text)
        assert run('inspect', tmp_path / 'net')[-2:] == [
            'no rule     RNN: 1 node, the first is r',
            'convert     not as a whole: --until NODE takes what comes before',
        ]

    def test_names_that_would_drive_a_terminal_are_shown_as_text(self, tmp_path):
        text = symbols.symbol('data', *symbols.dense('\x1b[2Jfc\n', 'data'))
        stored = symbols.arrays(**{'\x1b[2Jfc\n_weight': (2, 3), '\x1b[2Jfc\n_bias': (2,)})
        symbols.write(tmp_path / 'net', text, stored)
        lines = run('inspect', tmp_path / 'net')
        assert all(line.isprintable() for line in lines)
        assert r'output      \x1b[2Jfc\n (FullyConnected)' in lines

    def test_what_is_something_else_is_said_without_an_error(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({'a': np.ones(3, np.float32)}, tmp_path / 'a.safetensors')
        (tmp_path / 'empty').write_bytes(b'')
        (tmp_path / 'page.params').write_text('<!doctype html>')
        (tmp_path / 'words').write_text('words')
        for name, what in (
            ('a.safetensors', 'a safetensors file'), ('empty', 'an empty file'),
            ('page.params', 'a page of HTML, as a download that failed leaves'),
            ('words', 'of an unknown kind'),
        ):  # fmt: skip
            assert run('inspect', tmp_path / name) == [f'{tmp_path / name} is {what}; not of MXNet']

    def test_an_archive_and_a_list_without_names(self, net, tmp_path):
        with tarfile.open(tmp_path / 'x.tar.gz', 'w:gz') as archive:
            archive.add(f'{net}-symbol.json', 'm/net-symbol.json')
            archive.add(f'{net}-0000.params', 'm/net-0000.params')
        lines = run('inspect', tmp_path / 'x.tar.gz')
        assert lines[0].startswith(f'file        {tmp_path / "x.tar.gz"} (SHA-256 ')
        assert lines[-1] == 'convert     every operator has a rule'

    def test_a_file_that_is_damaged_is_an_error_of_one_line(self, tmp_path):
        (tmp_path / 'x-symbol.json').write_text('{}')
        (line,) = run('inspect', tmp_path / 'x-symbol.json', code=2)
        assert line.endswith('has): give the -symbol.json of a net')


@pytest.mark.needs('pytorch')
class TestConvert:
    """The folder and what is said of it."""

    def test_a_folder_with_all_files_and_the_line_that_proves_it(self, net, folder, tmp_path):
        assert sorted(path.name for path in folder.iterdir()) == [
            'check.py', 'model.py', 'model.safetensors', 'names.json', 'preprocess.json',
            'probe.npz', 'symbol.json',
        ]  # fmt: skip
        package = read_package(folder)
        assert package.record['inputs'] == {'data': [3, SIDE, SIDE]}
        assert package.record['head'] == 'fc'
        assert package.preprocess['size'] == [SIDE, SIDE]
        files = [f'{net}-symbol.json', f'{net}-0000.params']
        lines = run('convert', *files, '--to', tmp_path / 'a b', '--input-shape', '3x20x20')
        words = shlex.split(lines[-1].partition('  ')[2])
        assert words == [
            'd2l-ft', 'verify', str(tmp_path / 'a b'), '--against', files[0], '--against', files[1],
        ]  # fmt: skip
        check = [sys.executable, 'check.py']
        assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 0

    def test_the_usual_size_is_found(self, net, tmp_path):
        run('convert', net, '--to', tmp_path / 'x')
        assert read_package(tmp_path / 'x').record['inputs'] == {'data': [3, 224, 224]}

    def test_a_shape_that_does_not_fit_or_is_none(self, net, tmp_path):
        for shape, text in (
            ('4,20,20', 'the net does not take --input-shape (4, 20, 20): '),
            ('20', 'the net does not take --input-shape (20,): '),
            ('a', "--input-shape 'a' is no shape: give one such as 3,224,224"),
        ):
            (line,) = run('convert', net, '--to', tmp_path / 'x', '--input-shape', shape, code=2)
            assert line.startswith(f'd2l-ft: {text}')
        assert not (tmp_path / 'x').exists()

    def test_the_softmax_is_kept(self, net, tmp_path):
        run('convert', net, '--to', tmp_path / 'x', '--keep-softmax', '--input-shape', '3,9,9')
        assert 'F.softmax(' in (tmp_path / 'x' / 'model.py').read_text()
        outputs = probe_of(tmp_path / 'x')['output0']
        assert np.allclose(outputs.sum(1), 1)

    def test_a_net_ends_in_a_node(self, net, tmp_path):
        lines = run(
            'convert', net, '--to', tmp_path / 'x', '--until', 'flat', '--input-shape', '3,9,9'
        )
        assert 'fc_weight is not used: no output needs it' in lines
        assert read_package(tmp_path / 'x').record['until'] == 'flat'
        assert probe_of(tmp_path / 'x')['output0'].shape == (2, 4)
        (line,) = run('convert', net, '--to', tmp_path / 'y', '--until', 'none', code=2)
        assert "no node 'none'" in line

    def test_a_folder_that_is_not_empty_stays_as_it_is(self, net, folder):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        (line,) = run('convert', net, '--to', folder, code=2)
        assert line == f'd2l-ft: {folder} is not an empty folder: give a new one'
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_an_empty_folder_is_filled(self, net, tmp_path):
        (tmp_path / 'x').mkdir()
        run('convert', net, '--to', tmp_path / 'x', '--input-shape', '3,9,9')
        assert (tmp_path / 'x' / 'model.py').is_file()

    def test_two_outputs_of_one_node_are_two_in_the_probe(self, tmp_path):
        text = symbols.symbol(
            'data', *symbols.dense('fc', 'data'),
            ('SliceChannel', 's', ['fc'], {'num_outputs': '2'}), heads=[('s', 1), ('s', 0)],
        )  # fmt: skip
        symbols.write(tmp_path / 'net', text)
        run('convert', tmp_path / 'net', '--to', tmp_path / 'x')
        probe = probe_of(tmp_path / 'x')
        weight, bias = symbols.DENSE_ARRAYS['fc_weight'], symbols.DENSE_ARRAYS['fc_bias']
        wanted = probe['input0'] @ weight.astype(np.float64).T + bias.astype(np.float64)
        assert np.allclose(probe['output0'], wanted[:, 1:])
        assert np.allclose(probe['output1'], wanted[:, :1])
        done = subprocess.run([sys.executable, 'check.py'], cwd=tmp_path / 'x', capture_output=True)
        assert done.returncode == 0


QUICK = ('--no-faults', '--steps', 2)


@pytest.mark.slow
@pytest.mark.needs('mxnet', 'pytorch')
class TestVerify:
    """Exit codes, and the files that are written."""

    def test_equal_is_0_and_both_files_are_written(self, net, folder, tmp_path):
        page, numbers = tmp_path / 'proof.html', tmp_path / 'proof.json'
        page.write_text('old')
        lines = run('verify', folder, '--against', net, '--report', page, '--json', numbers,
                    '--steps', 2)  # fmt: skip
        assert VERDICTS['equal'] in lines
        assert lines[-2:] == [f'numbers: {numbers}', f'report: {page}']
        found = json.loads(numbers.read_text())
        assert found['verdict'] == 'equal'
        assert found['facts']['inputs'] == {'data': [4, 3, SIDE, SIDE]}
        assert any(found['faults'].values())
        assert page.read_text().startswith('<!doctype html>')
        assert VERDICTS['equal'] in page.read_text()
        assert {path.name for path in tmp_path.iterdir()} == {
            'net-symbol.json', 'net-0000.params', 'out', 'proof.html', 'proof.json',
        }  # fmt: skip

    def test_another_net_parts_and_is_1(self, net, folder, tmp_path):
        text, stored = symbols.images()
        files = symbols.write(
            tmp_path / 'other', text, {**stored, 'fc_bias': stored['fc_bias'] + 1}
        )
        numbers = tmp_path / 'proof.json'
        lines = run('verify', folder, '--against', files[0], '--against', files[1], *QUICK,
                    '--json', numbers, code=1)  # fmt: skip
        assert lines[0].startswith('part      value of each node')
        assert lines[0].endswith('at fc')
        assert VERDICTS['part'] in lines
        assert json.loads(numbers.read_text())['verdict'] == 'part'

    def test_an_output_of_another_shape_parts_in_numbers_that_any_json_reader_takes(
        self, net, folder, tmp_path
    ):
        text = (folder / 'model.py').read_text()
        (folder / 'model.py').write_text(text.replace('return x\n', 'return x[:, :1]\n', 1))
        numbers = tmp_path / 'proof.json'
        run('verify', folder, '--against', net, '--no-faults', '--steps', 0, '--json', numbers,
            code=1)  # fmt: skip
        found = json.loads(numbers.read_text(), parse_constant=pytest.fail)
        assert found['rows'][0]['error'] is None
        assert found['rows'][0]['where'] == 'fc'

    def test_a_net_that_amplifies_its_rounding_is_undecided_and_3(self, tmp_path):
        steps = [('_mul_scalar', 'wide', ['fc'], {'scalar': '1e12'}), ('sin', 's', ['wide'], {})]
        text = symbols.symbol('data', *symbols.dense('fc', 'data'), *steps)
        files = symbols.write(tmp_path / 'net', text)
        run('convert', *files, '--to', tmp_path / 'x')
        lines = run('verify', tmp_path / 'x', '--against', tmp_path / 'net', '--no-faults',
                    '--steps', 0, code=3)  # fmt: skip
        assert VERDICTS['undecided'] in lines

    def test_a_net_of_nan_is_undecided_whatever_is_equal(self, tmp_path):
        stored = {**symbols.DENSE_ARRAYS, 'fc_bias': np.full(2, np.nan, np.float32)}
        symbols.write(tmp_path / 'net', symbols.DENSE, stored)
        run('convert', tmp_path / 'net', '--to', tmp_path / 'x')
        run('verify', tmp_path / 'x', '--against', tmp_path / 'net', *QUICK, code=3)

    @pytest.mark.parametrize(
        'heads', [('fc', 'fc'), ('fc', 'p'), (('s', 1), ('s', 0)), ('data', 'fc')]
    )
    def test_heads_of_every_kind_are_proved_equal(self, heads, tmp_path):
        text = symbols.symbol(
            'data', *symbols.dense('fc', 'data'), ('softmax', 'p', ['fc'], {}),
            ('SliceChannel', 's', ['fc'], {'num_outputs': '2'}), heads=heads,
        )  # fmt: skip
        symbols.write(tmp_path / 'net', text)
        run('convert', tmp_path / 'net', '--to', tmp_path / 'x')
        run('verify', tmp_path / 'x', '--against', tmp_path / 'net', *QUICK)
        run('verify', tmp_path / 'x', '--against', tmp_path / 'net', '--steps', 0)

    def test_images_are_computed_with_beside_random_values(self, net, folder, tmp_path):
        photos, numbers = make_folder(tmp_path / 'photos', train=2, test=1), tmp_path / 'x.json'
        lines = run('verify', folder, '--against', net, *QUICK, '--batch', 3, '--size', 12,
                    '--images', photos / 'train', '--images', f'{photos}/test/*/*.jpg',
                    '--json', numbers)  # fmt: skip
        facts = json.loads(numbers.read_text())['facts']
        assert facts['inputs'] == {'data': [3 + 4 + 2, 3, 12, 12]}
        assert not any('no images were given' in line for line in lines)

    def test_what_cannot_be_read_or_written_is_2(self, net, folder, tmp_path):
        bad = tmp_path / 'bad.jpg'
        bad.write_bytes(b'no image')
        (tmp_path / 'file').write_text('')
        for words, cause in (
            ((tmp_path / 'none', '--against', net), 'none has no names.json'),
            ((folder, '--against', tmp_path / 'nothing'), 'there is no'),
            ((folder, '--against', f'{net}-symbol.json'), 'needs its parameters'),
            ((folder, '--against', net, '--images', tmp_path / 'none.jpg'), 'none.jpg'),
            ((folder, '--against', net, '--images', bad), 'bad.jpg'),
            ((folder, '--against', net, '--images', folder), 'has no image'),
            ((folder, '--against', net, *QUICK, '--json', tmp_path / 'file' / 'x'), 'file'),
            ((folder,), '--against'),
            ((folder, '--against', net, '--batch', '1'), '--batch'),
        ):
            done = CliRunner().invoke(main, ['verify', *map(str, words)], catch_exceptions=False)
            assert done.exit_code == 2, done.output
            assert cause in done.stderr
            assert done.stderr.count('\n') == 1

    def test_in_processes_of_their_own(self, net, tmp_path):
        def d2l_ft(*words, code=0, **extra):
            done = subprocess.run(
                [sys.executable, '-m', 'd2l_ft', *map(str, words)],
                capture_output=True, text=True, env={**os.environ, **extra},
            )  # fmt: skip
            assert done.returncode == code, done.stdout + done.stderr
            return done

        out = tmp_path / 'out'
        d2l_ft('inspect', net)
        d2l_ft('convert', net, '--to', out, '--input-shape', '3,12,12')
        done = d2l_ft('verify', out, '--against', net, *QUICK)
        assert VERDICTS['equal'] in done.stdout
        done = d2l_ft('verify', out, '--against', tmp_path / 'none', code=2)
        assert (done.stdout, done.stderr.count('\n')) == ('', 1)
        done = d2l_ft('--debug', 'verify', out, '--against', tmp_path / 'none', code=1)
        assert 'Traceback' in done.stderr


@pytest.mark.parametrize('name', ['inspect', 'convert', 'verify'])
def test_each_help_has_examples_and_every_option_a_text(name):
    text = '\n'.join(run(name, '--help'))
    assert re.search(rf'\n  Examples?:\n    d2l-ft {name} ', text)
    for option in main.commands[name].params:
        if option.param_type_name == 'option':
            assert option.help
            assert option.opts[0] in text


def test_nothing_of_a_framework_is_loaded_to_inspect(net):
    code = (
        'import sys\n'
        'from d2l_ft.cli.main import main\n'
        f'main(["inspect", {str(net)!r}], standalone_mode=False)\n'
        'assert not {"torch", "mxnet"} & set(sys.modules)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'every operator has a rule' in done.stdout
