"""Runs a command on a terminal of its own and types an answer to each thing it asks for without echo.

    python3 type_on_terminal.py ANSWER... -- COMMAND ARGUMENT...

Prints what the command showed there, and exits as it does.
"""

import os
import pty
import sys
import termios
import time

split = sys.argv.index("--")
answers, command = sys.argv[1:split], sys.argv[split + 1 :]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)

shown = b""


def read():
    """Reads more of what is shown; False at the end, which Linux tells by an error."""
    global shown
    try:
        more = os.read(terminal, 4096)
    except OSError:
        return False
    shown += more
    return more != b""


def waits_for_an_answer():
    """Whether it asks: a command prints its question, then silences the terminal. False if it ended."""
    seen = len(shown)
    while b": " not in shown[seen:]:
        if not read():
            return False
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.01)
    return True


for answer in answers:
    if not waits_for_an_answer():
        break
    os.write(terminal, answer.encode() + b"\n")
while read():
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
