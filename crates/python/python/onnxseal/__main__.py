"""Runs a program that uses ONNX Runtime: `python -m onnxseal run --identity id.txt app.py`.

`python -m onnxseal doctor` tells what the package finds on this machine.
"""

import argparse
import io
import os
import platform
import runpy
import sys
import types
import zipfile

from onnxseal import Error, IdentityCommand, __version__, patch
from onnxseal._onnxseal import _obstacle


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m onnxseal", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="tell what onnxseal finds here: ONNX Runtime, and how sessions get their weights",
    )
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        usage="python -m onnxseal run [OPTION]... (FILE | -m MODULE) [ARGUMENT]...",
        help="run a Python program; its sessions of ONNX Runtime open protected models",
        description="Runs a Python program as `python FILE` and `python -m MODULE` do. "
        "Its sessions of ONNX Runtime open protected models, and others too.",
    )
    # The destinations are the arguments of `patch`.
    run.add_argument(
        "-i",
        "--identity",
        action="append",
        metavar="FILE",
        help="identity file that opens the models; may be given several times (default: the one "
        "that ONNXSEAL_IDENTITY names)",
    )
    run.add_argument(
        "--identity-command",
        action="append",
        metavar="COMMAND",
        help="program that prints an identity file, and its arguments; it runs without a shell, for "
        "each model that is opened; may be given several times",
    )
    run.add_argument(
        "--require-claim",
        dest="require_claims",
        action="append",
        metavar="CLAIM",
        help="claim that each model must make, as KEY or KEY=VALUE",
    )
    run.add_argument(
        "--allowed-signers",
        metavar="FILE",
        help="allowed_signers file: a signer in it must have signed each model",
    )
    run.add_argument(
        "--signer",
        metavar="PRINCIPAL",
        help="signer in that file, such as release@example.com, who must have signed",
    )
    run.add_argument("--tier", metavar="TIER", help='tier to open of models with tiers, or "any"')
    run.add_argument("--licence", metavar="FILE", help="licence to open the models with")
    run.add_argument(
        "--label-key", metavar="FILE", help="label key, for models whose labels are protected"
    )
    run.add_argument(
        "--no-plain",
        dest="allow_plain",
        action="store_false",
        help="refuse models that are not protected",
    )
    run.add_argument(
        "--no-prepack",
        dest="prepack",
        action="store_false",
        help="let ONNX Runtime use matrices as they lie: models start faster, and large batches "
        "run slower",
    )
    run.add_argument(
        "--allow-plaintext-on-disk",
        action="store_true",
        help="let session options make ONNX Runtime write decrypted models to files",
    )
    run.add_argument("-m", dest="is_module", action="store_true", help="run a module")
    run.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="FILE",
        help="program to run, with its arguments",
    )
    given = vars(parser.parse_args())
    if given.pop("command") == "doctor":
        return None
    if not given["program"]:
        run.error("no program to run: name a file, or a module with -m")
    return given.pop("program"), given.pop("is_module"), given


def _doctor():
    """Prints the versions that are found, and how sessions get their weights."""
    print(f"onnxseal {__version__}, Python {platform.python_version()}")
    try:
        from onnxseal._session import onnxruntime

        print(f"ONNX Runtime {onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}")
    except Error as error:
        print(error)
    obstacle = _obstacle()
    if obstacle is None:
        print("weights of a session: decrypted when ONNX Runtime touches them")
    else:
        print(f"weights of a session: all decrypted first, which takes their memory once more ({obstacle})")


def main():
    arguments = _arguments()
    if arguments is None:
        return _doctor()
    (program, *rest), is_module, settings = arguments
    path = os.path.realpath(program)
    # `python -m` has put the caller's folder there; `python FILE` puts the file's.
    if not is_module and not sys.flags.safe_path:
        sys.path[0] = path if os.path.isdir(path) else os.path.dirname(path)
    try:
        commands = map(IdentityCommand, settings.pop("identity_command") or [])
        settings["identity"] = [*(settings["identity"] or []), *commands] or None
        patch(**settings)
    except Error as error:
        sys.exit(f"onnxseal: {error}")
    sys.argv[:] = [program, *rest]
    if is_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif os.path.isdir(path) or zipfile.is_zipfile(path):
        runpy.run_path(os.path.abspath(program), run_name="__main__")
    else:
        _run_file(os.path.abspath(program))


def _run_file(path):
    """Runs a file. `runpy` would give it another `sys.argv[0]` or another `__file__`."""
    try:
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec")
    except OSError as error:
        print(f"onnxseal: cannot open {path}: {error.strerror}", file=sys.stderr)
        # As `python FILE` does.
        sys.exit(2)
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(code, vars(module))


if __name__ == "__main__":
    main()
