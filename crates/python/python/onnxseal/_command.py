"""The console script `onnxseal`: the whole command, in the process of the interpreter."""

import os
import signal
import sys

from onnxseal._onnxseal import _run_command


def main():
    """Carries out the command line; returns the exit code."""
    # What a program of Rust does when it starts: a file that is opened must not become standard output.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python's own handler would only set a flag, and be called when the command has ended.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _run_command(["onnxseal", *sys.argv[1:]], sys.path)
