"""The kit for readers that others write: it passes sound ones, and says in which cases others fail."""

import re
import subprocess
import sys

import onnxseal_second as second
import pytest
from catalog import ROOT

KIT = ROOT / "fixtures" / "conformance.py"
SECOND = [sys.executable, second.__file__]
# Readers as programs in Python: they get the model first, and last the path to write to.
HEAD = "import shutil, subprocess, sys; model, out = sys.argv[1], sys.argv[-1]; "
RELAY = HEAD + f"code = subprocess.run([*{SECOND!r}, *sys.argv[1:]]).returncode; "


def check(*arguments):
    """The kit's exit code, what it says, and how many cases it ran, found failing and left out."""
    done = subprocess.run([sys.executable, KIT, *arguments], capture_output=True, text=True)
    last = done.stdout.splitlines()[-1]
    return done.returncode, done.stdout, tuple(map(int, re.fullmatch(r"(\d+) cases, (\d+) failed, (\d+) left out", last).groups()))


def test_the_command_passes(tool):
    code, said, (ran, failed, left_out) = check("--without", "now", tool.binary, "unprotect")
    assert code == failed == 0, said
    assert ran > 900 and left_out > 50


# What the tests of the second reader do not ask it as a program: all kinds of cases, few of each.
@pytest.mark.parametrize("text", ["shuffle.onnx", "until_a_day.onnx", "external", "signed_for_others", "unwritten"])
def test_the_second_reader_passes(text):
    code, said, (ran, *_) = check("-k", text, *SECOND)
    assert code == 0 and ran, said


@pytest.mark.parametrize(
    "reader, case, complaint",
    [
        (HEAD, "valid/tiny_int4.onnx -i", "missing or different: the model"),
        (HEAD + "shutil.copy(model, out)", "valid/tiny_int4.onnx -i", "missing or different: the model"),
        (HEAD + "shutil.copy(model, out)", "invalid/mac_changed.onnx", "exit code 0, not 4"),
        (HEAD + "sys.exit('no')", "valid/tiny_int4.onnx -i", "exit code 1, not 0: no"),
        (HEAD + "sys.exit(3)", "invalid/mac_31_bytes.onnx", "refused without a message"),
        (RELAY + "open(out, 'a'); sys.exit(code)", "invalid/mac_31_bytes.onnx", "refused, and left model.onnx"),
        (RELAY + "shutil.rmtree(out[:-10] + 'tiny')", "valid/tiny_external", "missing or different: tiny/weights.bin"),
        (RELAY + "sys.exit(code and 3)", "invalid/mac_changed.onnx", "exit code 3, not 4"),
    ],
)
def test_others_fail(reader, case, complaint):
    code, said, _ = check("-k", case, sys.executable, "-c", reader)
    assert code == 1 and f"{case.split()[0]}" in said and complaint in said, said


def test_a_filter_that_finds_nothing_fails():
    assert check("-k", "no such case", *SECOND)[0] == 1
