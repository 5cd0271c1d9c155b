"""The classes of errors, which are never mixed. The native half raises them by these names."""


class Error(Exception):
    """An error of onnxseal; the message has all its causes."""

    kind = "internal"
    """The class in one word, the same as in the JSON of the command line."""


class UsageError(Error, ValueError):
    """The call cannot be carried out as asked."""

    kind = "usage"


class MalformedError(Error):
    """The input is malformed or exceeds a limit."""

    kind = "malformed"


class AuthenticationError(Error):
    """Something was changed since it was protected, or is not signed as demanded."""

    kind = "authentication"


class NoMatchingKeyError(Error):
    """No identity opens the data key."""

    kind = "no_matching_key"


class PolicyNotMetError(Error):
    """The model, its protection or its claims do not meet the demands."""

    kind = "policy_not_met"


class NotInForceError(Error):
    """The model or licence opens from a later date, or opened until an earlier one."""

    kind = "not_in_force"


class IoError(Error, OSError):
    """The system failed to read or write; `errno` says how, if the system told."""

    kind = "io"


class InternalError(Error):
    """An internal fault, or something that others failed to give: randomness, memory, a plugin's answer."""

    kind = "internal"


class OnnxRuntimeError(Error, ImportError):
    """ONNX Runtime is missing, or too old."""

    kind = "runtime"
