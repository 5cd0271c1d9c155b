"""The second implementation as a program."""

import subprocess
import sys

import onnxseal_open
import onnxseal_seal
import onnxseal_second
import pytest
from catalog import MODELS, ROOT, SEALED, files_below, files_of

SCRIPT = ROOT / "fixtures" / "reference" / "onnxseal_open.py"
IDENTITY_FILE = SEALED / "keys" / "id.txt"


def run(model, out, identity=IDENTITY_FILE):
    command = [sys.executable, SCRIPT, SEALED / model, "-i", identity, "-o", out]
    return subprocess.run(command, capture_output=True, text=True)


def test_opens_to_a_folder(tmp_path):
    assert run("valid/tiny_external/model.onnx", tmp_path).returncode == 0
    assert files_below(tmp_path) == ["model.onnx", "tiny/weights.bin"]
    assert files_of(tmp_path / "model.onnx") == files_of(MODELS / "tiny_external.onnx")


def test_opens_to_a_file(tmp_path):
    assert run("valid/digits_cnn.onnx", tmp_path / "a.onnx").returncode == 0
    assert (tmp_path / "a.onnx").read_bytes() == (MODELS / "digits_cnn.onnx").read_bytes()
    assert run("valid/digits_cnn.onnx", tmp_path / "a.onnx").returncode == 2, "wrote over a file"


@pytest.mark.parametrize(
    "model, code",
    [
        ("invalid/trailing_graph.onnx", 3),
        ("invalid/ciphertext_changed.onnx", 4),
        ("invalid/key_for_somebody_else.onnx", 5),
        ("invalid/external_missing/model.onnx", 7),
        ("no_such_file.onnx", 7),
    ],
)
def test_exit_codes(model, code, tmp_path):
    done = run(model, tmp_path)
    assert done.returncode == code and done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_the_other_identity(tmp_path):
    assert run("valid/tiny_int4.onnx", tmp_path, SEALED / "keys" / "other.txt").returncode == 5
    assert run("invalid/key_for_somebody_else.onnx", tmp_path, SEALED / "keys" / "other.txt").returncode == 0


def manifest_with(*tensors):
    files = [{"path": "", "bytes": 1000}, {"path": "w", "bytes": 2**40}]
    return onnxseal_seal.manifest_of({}, tensors) | {"files": files}


def tensor_of(at="a", data_type="FLOAT", dims=(8, 8), offset=0, unit=8, runs=(0, 1), **more):
    return onnxseal_seal.tensor_of("w", at, data_type, dims, offset, unit, runs, **more)


def test_sub_byte_and_strided_spans():
    tensor = tensor_of(data_type="INT4", dims=[3, 5], offset=10, unit=4, runs=[1, 1, 1, 1])
    assert list(onnxseal_open.tensor_spans(tensor)) == [(12, 14), (16, 18)]
    tensor = tensor_of(dims=[5], offset=10, unit=2, runs=[2, 1], stride=5)
    assert list(onnxseal_open.tensor_spans(tensor)) == [(30, 34)]
    assert onnxseal_open.cut([(2, 4), (7, 12)], 3, 10) == ([(3, 4), (7, 10)], [(4, 7)])


def test_rules_that_no_fixture_can_break_alone():
    six_bits = tensor_of("b", "FLOAT6E2M3", [5], offset=996, unit=4)
    onnxseal_open.check_manifest(manifest_with(tensor_of(), six_bits, tensor_of("c", file=1)))
    assert list(onnxseal_open.tensor_spans(six_bits)) == [(996, 999)]
    pieces = 2**24
    as_many_as_can_be = tensor_of(dims=[2 * pieces], unit=pieces, file=1, stride=5)
    onnxseal_open.check_manifest(manifest_with(as_many_as_can_be))
    for tensors in [
        [tensor_of(file=1), tensor_of("b")],
        [tensor_of("b", "FLOAT6E2M3", [6], offset=996, unit=4)],
        [as_many_as_can_be, tensor_of("b", file=1)],
    ]:
        with pytest.raises(onnxseal_open.Malformed):
            onnxseal_open.check_manifest(manifest_with(*tensors))


def test_the_lock_is_what_the_page_says():
    field = lambda number, value: bytes([number << 3 | 2]) + onnxseal_open.encode_varint(len(value)) + value
    node = field(2, b"onnxseal.locked") + field(3, b"The weights are encrypted: open the model with onnxseal first")
    node += field(4, b"ProtectedModel_OpenItWithOnnxseal") + field(7, b"onnxseal")
    output = field(1, b"onnxseal.locked") + field(2, field(1, bytes([1 << 3, 1]) + field(2, b"")))
    opset = field(1, b"onnxseal") + bytes([2 << 3, 1])
    lock = field(8, opset) + field(7, field(1, node) + field(12, output))
    assert onnxseal_open.LOCK == onnxseal_second.LOCK == lock and len(lock) == 171
