"""Operations on many models at once, as `onnxseal batch` has them.

    report = onnxseal.batch.protect("zoo", "sealed", recipients="age1...", preset="full")
    for model in report["models"]:
        if model["outcome"] == "failed":
            print(model["source"], model["error"]["message"])

Each function returns the report that `onnxseal batch --report` writes. **A model that fails is a row of the report and
raises nothing**: the others go on, and `report["totals"]["failed"]` counts. What prevents the whole batch raises, as a
source that does not exist.

`sources` are paths of models, folders to search, globs and URLs: one, or several. `out` is the folder for the results.
Other arguments are those of the call of the same name on one model, and these:

    lists       files with more sources, one a line
    jobs        how many models at once; None: the number of cores
    memory      the most memory to use, in bytes; None: half of what is available
    checksum    take BLAKE3 digests of all files
    fail_fast   start no more models once one has failed
    shard       (i, n): only part i of n, from 0
    progress    as for other calls, for all models together. An exception from it, and Ctrl-C, end the batch: models that
                are not finished get no output, and `resume=True` goes on

and, for what writes models:

    resume      skip models that an earlier run finished
    records     False: keep no records, by which a later run could resume
    replace     replace files that no earlier run made
    sync        True: wait for the disk; False: never wait; None: wait where a file is replaced
"""

from __future__ import annotations

from onnxseal._keywords import unexpected
from onnxseal._onnxseal import _batch

# Type checkers take it for true; see `__init__.py`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike
    from typing import TypedDict, Unpack

    from onnxseal._onnxseal import Passphrase, _Claims, _Identities, _Place, _Preset, _Progress, _Recipients, _Tier
    from onnxseal._report import Report

    _Sources = _Place | Iterable[_Place]

    class _Course(TypedDict, total=False):
        lists: Iterable[str | PathLike[str]]
        jobs: int | None
        memory: int | None
        checksum: bool
        fail_fast: bool
        shard: tuple[int, int] | None
        progress: _Progress

    class _Writing(_Course, total=False):
        resume: bool
        records: bool
        replace: bool
        sync: bool | None


__all__ = ["protect", "rekey", "rotate", "unprotect", "verify"]


def protect(
    sources: _Sources,
    out: _Place,
    *,
    recipients: _Recipients,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    coefficients: Mapping[str, float] | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
    repack: bool = False,
    runnable: bool = False,
    comment: str | None = None,
    list_recipients: bool = False,
    claims: Mapping[str, str] | None = None,
    sign_key: str | PathLike[str] | None = None,
    sign_key_passphrase: Passphrase | None = None,
    **course: Unpack[_Writing],
) -> Report:
    """Protects models, as `onnxseal.protect` does one."""
    return _run("protect", locals(), _WRITING)


def unprotect(
    sources: _Sources,
    out: _Place,
    *,
    identity: _Identities = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    licence: str | PathLike[str] | None = None,
    **course: Unpack[_Writing],
) -> Report:
    """Restores the originals of protected models, as `onnxseal.unprotect` does one."""
    return _run("unprotect", locals(), _WRITING)


def rekey(
    sources: _Sources,
    out: _Place | None = None,
    *,
    recipients: _Recipients,
    identity: _Identities = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    **course: Unpack[_Writing],
) -> Report:
    """Wraps the data keys of protected models to other recipients, as `onnxseal.rekey` does; without `out` in place."""
    return _run("rekey", locals(), _WRITING)


def rotate(
    sources: _Sources,
    out: _Place | None = None,
    *,
    recipients: _Recipients,
    identity: _Identities = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    coefficients: Mapping[str, float] | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
    runnable: bool = False,
    claims: Mapping[str, str] | None = None,
    sign_key: str | PathLike[str] | None = None,
    sign_key_passphrase: Passphrase | None = None,
    drop_signature: bool = False,
    **course: Unpack[_Writing],
) -> Report:
    """Encrypts protected models anew, under new data keys, as `onnxseal.rotate` does; without `out` in place."""
    return _run("rotate", locals(), _WRITING)


def verify(
    sources: _Sources,
    *,
    identity: _Identities = None,
    require_claims: _Claims = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    licence: str | PathLike[str] | None = None,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
    **course: Unpack[_Course],
) -> Report:
    """Checks protected models, as `onnxseal.verify` does one; writes nothing."""
    return _run("verify", locals(), _COURSE)


# The arguments of all operations, and of those that write, with their defaults.
_COURSE = {
    "lists": (),
    "jobs": None,
    "memory": None,
    "checksum": False,
    "fail_fast": False,
    "shard": None,
    "progress": None,
}
_WRITING = _COURSE | {"resume": False, "records": True, "replace": False, "sync": None}


def _run(operation, arguments, allowed):
    course = arguments.pop("course")
    for name in course:
        if name not in allowed:
            raise unexpected(operation, name, [*arguments, *allowed])
    return _batch(operation, _WRITING | arguments | course)
