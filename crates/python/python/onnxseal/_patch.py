"""Patches ONNX Runtime: its own class of sessions opens protected models."""

from __future__ import annotations

import functools
import os
import stat
import threading
from contextlib import contextmanager

from onnxseal._keywords import helps_with_keywords, unexpected
from onnxseal._onnxseal import Model, _is_secret

# What `typing` has by this name: it takes time to import, and the command does not need it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from onnxseal._onnxseal import _Claims, _Identity, _Place, _Progress, _Tier


@helps_with_keywords
def patch(
    *,
    identity: _Identity | Iterable[_Identity] | None = None,
    require_claims: _Claims = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    licence: str | os.PathLike[str] | None = None,
    label_key: str | os.PathLike[str] | bytes | None = None,
    progress: _Progress = None,
    prepack: bool = True,
    allow_plain: bool = True,
    allow_plaintext_on_disk: bool = False,
) -> None:
    """Makes `onnxruntime.InferenceSession` open protected models, in the whole process.

        onnxseal.patch(identity="id.txt")
        session = onnxruntime.InferenceSession("sealed.onnx")

    The class stays the same object, so the patch reaches modules that have imported it and classes
    derived from it. Arguments mean what they mean for `onnxseal.InferenceSession`. `label_key` is
    for models whose labels are protected. `allow_plain=False` refuses models that are not
    protected.

    Relative paths, also in ONNXSEAL_IDENTITY, start at the folder that is current now; commands run
    in the folder that is current when a model is opened. Files that are not of onnxseal get ONNX
    Runtime's own errors.

    The last call counts, until `unpatch`. Sessions that exist stay as they are. Processes that
    begin later, such as those of `multiprocessing` with "spawn", have to call `patch` themselves.
    """
    settings = locals()
    with _lock:
        unpatch()
        _begin(_Patch(_kept(settings), is_lasting=True))


_DEFAULTS = patch.__wrapped__.__kwdefaults__


def unpatch() -> None:
    """Undoes `patch`. Sessions that were made stay as they are, and so do blocks of `patched`."""
    with _lock:
        for patch in _patches:
            if patch.is_lasting:
                _end(patch)


@contextmanager
def patched(**settings: Any) -> Iterator[None]:
    """Patches ONNX Runtime until the block ends; takes the arguments of `patch`.

        with onnxseal.patched(identity="id.txt"):
            program()

    It applies to all threads of the process. Of several blocks, the one that began last counts.
    """
    # Its defaults are those of `patch`, and it refuses what `patch` does not know.
    settings = {**_DEFAULTS, **settings}
    unknown = settings.keys() - _DEFAULTS.keys()
    if unknown:
        raise unexpected("patched", min(unknown), _DEFAULTS)
    ours = _Patch(_kept(settings), is_lasting=False)
    with _lock:
        _begin(ours)
    try:
        yield
    finally:
        with _lock:
            _end(ours)


class _Patch:
    def __init__(self, settings: dict[str, Any], is_lasting: bool):
        self.settings, self.is_lasting = settings, is_lasting


_lock = threading.RLock()

# Patches that have not ended; the last counts. Sessions read it without the lock: it is replaced,
# never changed.
_patches: tuple[_Patch, ...] = ()

# Our `__init__` of the class, and the one that it replaced.
_installed: tuple[Any, Any] = (None, None)


def _begin(patch: _Patch) -> None:
    global _patches, _installed
    from onnxseal._session import onnxruntime

    sessions = onnxruntime.InferenceSession
    if sessions.__init__ is not _installed[0]:
        # Others may have patched the class since: our old `__init__` below theirs does nothing.
        _installed = (_replacement(sessions.__init__), sessions.__init__)
        sessions.__init__ = _installed[0]
    _patches = (*_patches, patch)


def _end(patch: _Patch) -> None:
    global _patches
    from onnxseal._session import onnxruntime

    _patches = tuple(other for other in _patches if other is not patch)
    ours, before = _installed
    if not _patches and onnxruntime.InferenceSession.__init__ is ours:
        onnxruntime.InferenceSession.__init__ = before


def _replacement(original: Any) -> Any:
    from onnxseal import _session

    @functools.wraps(original)
    def __init__(
        self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs
    ):
        def initialize(model, *rest, **more):
            # By name, and only what there is: another's `__init__` may set these itself.
            names = ("sess_options", "providers", "provider_options")
            given = zip(names, rest, strict=True)
            more.update((name, value) for name, value in given if value is not None)
            original(self, model, **more)

        patches = _patches
        is_ours = isinstance(self, _session.Unpatched) or _installed[0] is not __init__
        if not patches or is_ours or _is_left(path_or_bytes):
            initialize(path_or_bytes, sess_options, providers, provider_options, **kwargs)
            return
        settings = {**patches[-1].settings, **kwargs}
        _session.make_session(
            self, initialize, path_or_bytes, sess_options, providers, provider_options, **settings
        )
        if not self._onnxseal_plain or self._onnxseal_labels is not None:
            _session.give_methods_to_all()

    return __init__


def _is_left(model: Any) -> bool:
    """Whether the call goes to ONNX Runtime for its own error: a value of another type, or a path without a readable file."""
    if not isinstance(model, (str, os.PathLike)):
        kinds = (bytes, bytearray, memoryview, Model)
        has = functools.partial(hasattr, model)
        return not isinstance(model, kinds) and not any(map(has, ("read", "SerializeToString", "model_proto")))
    path = os.fspath(model)
    is_readable = os.path.exists(path) and not os.path.isdir(path) and os.access(path, os.R_OK)
    return not is_readable and "://" not in path


def _kept(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for any number of sessions: a pipe can be read only once, and a program may change its folder."""
    identity = settings["identity"]
    if identity is None:
        named = os.environ.get("ONNXSEAL_IDENTITY", "")
        if named.startswith("fd:"):
            identity = _text_of_pipe(f"/dev/fd/{named[3:]}")
        elif named:
            identity = _kept_identity(named)
    elif isinstance(identity, (bytes, str, os.PathLike)) or not hasattr(identity, "__iter__"):
        identity = _kept_identity(identity)
    else:
        identity = [_kept_identity(one) for one in identity]
    files = {name: _absolute(settings[name]) for name in ("allowed_signers", "label_key", "licence")}
    return {**settings, **files, "identity": identity}


def _kept_identity(identity: Any) -> Any:
    if isinstance(identity, str) and _is_secret(identity):
        return identity
    return _text_of_pipe(identity) or _absolute(identity)


def _absolute(path: Any) -> Any:
    """A path, from the root; anything else as it is."""
    if not isinstance(path, (str, os.PathLike)) or os.path.isabs(path):
        return path
    # `abspath` would take `..` for the parent of a link.
    return os.path.join(os.getcwd(), path)


def _text_of_pipe(identity: Any) -> bytes | None:
    """The contents of the pipe at this path; None if there is no pipe."""
    try:
        if not stat.S_ISFIFO(os.stat(identity).st_mode):
            return None
    except (OSError, TypeError, ValueError):
        return None
    with open(identity, "rb") as pipe:
        return pipe.read()
