"""Runs pages as they are printed: writes the files that they show, types their commands, compares what these print.

A block of code whose first line is a comment with a file's name is that file. In a block `console`, a line `$ COMMAND` is
typed (`\\` at its end continues it), and the lines below are what it prints, with `...` for what differs.
"""

import doctest
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def shell(tool, folder):
    """The environment of a shell where the tool and this Python are installed."""
    programs = Path(folder, "bin")
    programs.mkdir()
    (programs / "onnxseal").symlink_to(tool.binary)
    return {"PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])}


def files(page):
    """The files that a page shows: name and text."""
    for _, text in FENCE.findall(page):
        if named := re.match(r"# ([\w./-]+\.\w+)\n", text):
            yield named[1], text


def commands(page):
    """Gives each command that a page types, and the output that it shows."""
    for language, text in FENCE.findall(page):
        if language == "console":
            assert text.startswith("$ "), text
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
                command, printed = re.match(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", part, re.S).groups()
                yield command, printed


def run(page, folder, environment, replaced=None):
    """Runs a page's text in a folder. `replaced` has what is typed in place of what stands there."""
    for name, text in files(page):
        file = Path(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    typed = list(commands(page))
    assert typed
    script, mark = "", "== end of a command =="
    for command, _ in typed:
        for old, new in (replaced or {}).items():
            command = command.replace(old, new)
        script += f"{command}printf '%s\\n' '{mark}'\n"
    # What runs in the background holds the output open: a file does not wait for it.
    with open(Path(folder).with_suffix(".printed"), "w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            shell.wait(timeout=500)
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        output.seek(0)
        printed = output.read().split(f"{mark}\n")
    checker = doctest.OutputChecker()
    wrong = [
        f"$ {command}{got}the page says:\n{wanted}"
        for (command, wanted), got in zip(typed, printed)
        if not checker.check_output(wanted, got, SAME)
    ]
    assert wrong == [] and len(printed) == len(typed) + 1, "\n".join(wrong)
