"""Protects the weights of ONNX models, and opens protected models straight into ONNX Runtime.

    identity = onnxseal.generate_identity()
    onnxseal.protect("model.onnx", "sealed.onnx", recipients=identity)
    session = onnxseal.InferenceSession("sealed.onnx", identity=identity)
    session.run(None, inputs)

Programs that use ONNX Runtime open protected models after `onnxseal.patch(identity="id.txt")`, or
when they are run as `python -m onnxseal run --identity id.txt app.py`.

`onnxseal.batch` has the same operations for many models.

Reports are dictionaries: the JSON of the command line, described in docs/JSON.md. Long calls let
other threads run. Ctrl-C or an exception from `progress` ends them, and nothing is left behind.
"""

from onnxseal import batch
from onnxseal._calls import (
    apply_fingerprint,
    assess,
    generate_fingerprint_secret,
    generate_identity,
    inspect,
    is_protected,
    open,
    plan,
    protect,
    protect_labels,
    rank,
    rekey,
    rotate,
    trace_fingerprint,
    trace_labels,
    tune_tiers,
    unprotect,
    verify,
)
from onnxseal._errors import (
    AuthenticationError,
    Error,
    InternalError,
    IoError,
    MalformedError,
    NoMatchingKeyError,
    NotInForceError,
    OnnxRuntimeError,
    PolicyNotMetError,
    UsageError,
)
from onnxseal._inputs import ApplyInputKey, InputKey
from onnxseal._labels import LabelDecoder
from onnxseal._onnxseal import Assessment, Identity, IdentityCommand, Model, Passphrase, __version__
from onnxseal._patch import patch, patched, unpatch

# Type checkers take it for true. To import it from `typing` would take a third of the time that this package takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from onnxseal._session import InferenceSession

__all__ = [
    "ApplyInputKey",
    "Assessment",
    "AuthenticationError",
    "Error",
    "Identity",
    "IdentityCommand",
    "InferenceSession",
    "InputKey",
    "InternalError",
    "IoError",
    "LabelDecoder",
    "MalformedError",
    "Model",
    "NoMatchingKeyError",
    "NotInForceError",
    "OnnxRuntimeError",
    "Passphrase",
    "PolicyNotMetError",
    "UsageError",
    "__version__",
    "apply_fingerprint",
    "assess",
    "batch",
    "generate_fingerprint_secret",
    "generate_identity",
    "inspect",
    "is_protected",
    "open",
    "patch",
    "patched",
    "plan",
    "protect",
    "protect_labels",
    "rank",
    "rekey",
    "rotate",
    "trace_fingerprint",
    "trace_labels",
    "tune_tiers",
    "unpatch",
    "unprotect",
    "verify",
]


def __getattr__(name):
    # Only what runs models needs ONNX Runtime.
    if name == "InferenceSession":
        from onnxseal._session import InferenceSession

        globals()[name] = InferenceSession
        return InferenceSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "InferenceSession"})
