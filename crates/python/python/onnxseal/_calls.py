"""The calls on files: what the command line has as subcommands. The native half takes their arguments by name.

For arguments not described here see the option of the same name in `onnxseal COMMAND --help`.
"""

from __future__ import annotations

from onnxseal import _onnxseal
from onnxseal._keywords import helps_with_keywords

# Type checkers take it for true; see `__init__.py`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike
    from typing import Any, Literal

    from onnxseal._onnxseal import (
        Assessment,
        Model,
        Passphrase,
        _Array,
        _Bytes,
        _Claims,
        _Data,
        _Identities,
        _Labels,
        _Metric,
        _Model,
        _Out,
        _Place,
        _Preset,
        _Progress,
        _Recipients,
        _Tier,
    )
    from onnxseal._report import Report

inspect = helps_with_keywords(_onnxseal.inspect)
is_protected = helps_with_keywords(_onnxseal.is_protected)
generate_identity = helps_with_keywords(_onnxseal.generate_identity)
generate_fingerprint_secret = helps_with_keywords(_onnxseal.generate_fingerprint_secret)


@helps_with_keywords
def protect(
    model: _Model,
    out: _Out | None = None,
    *,
    recipients: _Recipients,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    coefficients: Mapping[str, float] | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
    repack: bool = False,
    runnable: bool = False,
    external_data: str | None = None,
    comment: str | None = None,
    list_recipients: bool = False,
    claims: Mapping[str, str] | None = None,
    sign_key: str | PathLike[str] | None = None,
    sign_key_passphrase: Passphrase | None = None,
    fingerprint: str | None = None,
    fingerprint_secret: str | PathLike[str] | None = None,
    fingerprint_identity: _Identities = None,
    in_place: bool = False,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report:
    """Encrypts the weights of a model and authenticates all of it; returns the report.

    `preset` says how much. "full", the default, is everything but what the graph's shapes are computed from, and costs
    nothing on processors with AES instructions. What cannot be encrypted where it lies raises `PolicyNotMetError`:
    `repack=True` rewrites it (the original is then the rewritten model, equal in every value), `allow_clear` names what
    may stay in clear. "strong" (half of the bytes) and "balanced" (about a sixth) are for devices without these
    instructions, where they open in less time, and for tiers. What is not encrypted is in clear: an attacker who has
    the public model that yours was fine-tuned from gets much of yours back from a partial preset.

    Without the key, programs refuse the protected model. With `runnable=True` they run it, and get wrong answers.

    `fingerprint` is a customer, for whom the copy is marked first, with the secret in the file `fingerprint_secret`;
    `fingerprint_identity` opens that if it is encrypted. `trace_fingerprint` then tells whose copy leaked.
    """
    return _onnxseal._protect(locals())


@helps_with_keywords
def plan(
    model: _Model,
    *,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    coefficients: Mapping[str, float] | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
) -> Report:
    """Tells what `protect` would encrypt, without writing anything. The report's `violations` say where the plan falls
    short of the policy's requirements.
    """
    return _onnxseal._plan(locals())


@helps_with_keywords
def verify(
    model: _Model,
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
    progress: _Progress = None,
) -> Report:
    """Checks a protected model: its structure, a policy, and with an identity every byte."""
    return _onnxseal._verify(locals())


@helps_with_keywords
def unprotect(
    model: _Model,
    out: _Out,
    *,
    identity: _Identities = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    licence: str | PathLike[str] | None = None,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> None:
    """Restores the original of a protected model, byte for byte, or with `tier` the edition of that tier."""
    return _onnxseal._unprotect(locals())


@helps_with_keywords
def rekey(
    model: _Model,
    out: _Out | None = None,
    *,
    recipients: _Recipients,
    identity: _Identities = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report:
    """Wraps the data key of a protected model to other recipients, in a copy or in place. The weights stay as they are.
    Returns whether the identity still opens the result, as `still_opens`.
    """
    return _onnxseal._rekey(locals())


@helps_with_keywords
def rotate(
    model: _Model,
    out: _Out | None = None,
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
    external_data: str | None = None,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report:
    """Encrypts a protected model anew, under a new data key, to a new file or in place; returns the report.

    A model with external data is replaced in place if `external_data` names the new one; the old one stays, and the
    report's `left_files` name it.
    """
    return _onnxseal._rotate(locals())


@helps_with_keywords
def open(
    model: _Model,
    identity: _Identities = None,
    *,
    require_claims: _Claims = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    licence: str | PathLike[str] | None = None,
    external_files: Mapping[str, _Bytes] | None = None,
    inline: bool = False,
    progress: _Progress = None,
    _opening: Literal["at once", "auto", "on demand"] = "at once",
) -> Model:
    """Opens a protected model in memory: a path, a URL, bytes or a file. A model in memory may have `external_files`:
    bytes by relative path.

    `require_claims` lists claims that the model must make: "key=value", "key", "not-after", "not-before". `tier` is the
    tier that is accepted in place of the original, or "any". `licence` is the path of a licence to open the model with;
    without it, the file that ONNXSEAL_LICENCE names, or MODEL.licence if no identity opens the model itself. With `inline=True`, `model_bytes` have the external data
    too, for programs that take a model from memory in one piece; that takes the model's memory once more, and 2 GiB at
    most.
    """
    return _onnxseal._open(locals())


@helps_with_keywords
def assess(
    model: _Model,
    data: _Data | None = None,
    *,
    labels: _Labels | None = None,
    identities: _Identities = None,
    presets: _Preset | Iterable[_Preset] | None = None,
    policies: str | PathLike[str] | Iterable[str | PathLike[str]] | None = None,
    ranking: str | PathLike[str] | None = None,
    base: _Model | None = None,
    no_public_base: bool = False,
    metric: _Metric | None = None,
    attacker_samples: Sequence[int] | None = None,
    seed: int = 0,
    limit: int | None = None,
    output: str | None = None,
    scale: float | None = None,
    mean: float | Iterable[float] | None = None,
    std: float | Iterable[float] | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    bgr: bool = False,
    resize: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    label_first: bool = False,
    progress: _Progress = None,
) -> Assessment:
    """Attacks a model, to see what an attacker gets from it once it is protected.

    `data` are a path, or arrays by the names of inputs, one sample a row. `metric` is called with the model's outputs,
    one row a sample, and with the samples' indices; more must be better for the attacker. `holds` says whether all
    presets and policies that were named hold; without any, whether the default preset does. One that leaves weights in
    clear holds only if `base` was tried, the public model that this one was fine-tuned from, or `no_public_base` says
    that it was trained from scratch. Nothing holds on whole numbers for an input of floats unless `scale` is given,
    `scale=1` if the model takes them as they are. `attacker_samples` are 100 and 1000 labels if nothing is said.
    `progress` counts steps.
    """
    return _onnxseal._assess(locals())


@helps_with_keywords
def rank(
    model: _Model,
    path: str | PathLike[str],
    *,
    method: Literal["activation", "probabilistic"],
    data: _Data | None = None,
    labels: _Labels | None = None,
    identities: _Identities = None,
    unit: int = 256,
    masks: int = 256,
    share: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    output: str | None = None,
    scale: float = 1.0,
    replace: bool = False,
    progress: _Progress = None,
) -> dict[str, Any]:
    """Scores weights by how much the model would miss them, and writes a ranking file for `ranking=`. Returns the file's
    `method`, its `unit_bytes` and whether it is `partial`.
    """
    return _onnxseal._rank(locals())


@helps_with_keywords
def tune_tiers(
    model: _Model,
    path: str | PathLike[str],
    *,
    targets: Mapping[str, float],
    data: _Data,
    labels: _Labels | None = None,
    highest: str = "full",
    identities: _Identities = None,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    ranking: str | PathLike[str] | None = None,
    metric: _Metric | None = None,
    seed: int = 0,
    limit: int | None = None,
    output: str | None = None,
    scale: float = 1.0,
    replace: bool = False,
    progress: _Progress = None,
) -> Report:
    """Finds shares that give tiers the accuracies that you want, and writes a policy with them to `path`.

    `targets` are tiers and the accuracy (or other metric) that their editions shall have, the least tier first.
    `highest` names the tier that opens everything. The policy is the file `policy`, or `preset`, with tiers. The result
    is what `onnxseal tiers tune --json` prints.
    """
    return _onnxseal._tune_tiers(locals())


@helps_with_keywords
def protect_labels(
    model: _Model,
    out: _Out,
    *,
    authority: str | PathLike[str],
    identity: _Identities = None,
    data: _Data | None = None,
    codewords: int = 8,
    traces: int = 0,
    targets: str | PathLike[str] | None = None,
    output: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    scale: float = 1.0,
    check: bool = True,
    replace: bool = False,
    sync: bool | None = None,
) -> dict[str, Any]:
    """Encrypts the labels of a classifier: it answers with shares, and label keys turn these into classes.

    `authority` is the path of the authority's file, in which the model is noted; `identity` opens it if it is
    encrypted. `data` has samples, for `traces` and for the comparison: a path, or arrays by the names of inputs.
    `targets` is the file that the model was trained with, if it was trained with one. ONNX Runtime runs the original
    and the result to compare them, unless `check=False`. The result has `node`, `rows`, `classes`, `traces`, `firing`
    (the share of held-out samples that fire a trace) and `difference` (of decoded answers from the original's, as a
    share of the largest; None if they were not compared).

    Whoever has the result in plain gets the classifier up to the names of its classes: protect it, too.
    """
    return _onnxseal._protect_labels(locals())


@helps_with_keywords
def trace_labels(
    model: _Model,
    ask: Callable[[dict[str, _Array]], _Array | Sequence[int]],
    *,
    authority: str | PathLike[str],
    identity: _Identities = None,
) -> Report:
    """Finds out whose key a service uses, by its answers to the inputs of traces.

    `ask` is a function. It gets a dict of arrays by the names of the model's inputs, one trace per row, and returns the
    class of each row, or a row of numbers for each. The result has `accused`, `suspects`, `threshold`, `traces` and
    `probability_of_an_innocent`, as `onnxseal labels trace --json` prints them.
    """
    return _onnxseal._trace_labels(locals())


@helps_with_keywords
def apply_fingerprint(
    model: _Model,
    out: _Out,
    *,
    customer: str,
    secret: str | PathLike[str],
    identity: _Identities = None,
    strength: float | None = None,
    data: _Data | None = None,
    labels: _Labels | None = None,
    output: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    scale: float = 1.0,
    check: bool = True,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report:
    """Makes a customer's copy of a model: with a mark in its weights that only the secret shows.

    `secret` is the path of the file that `generate_fingerprint_secret` made; `identity` opens it if it is encrypted.
    `strength` is the deviation of the mark, as a share of that of the weights. ONNX Runtime runs the original and the
    copy on `data`, or on random numbers, unless `check=False`. The result is what `onnxseal fingerprint apply --json`
    prints: `comparison` says how far the outputs are from the original's, and `is_moved` whether that is more than
    chance explains; without ONNX Runtime it is None, and `not_compared` says why.
    """
    return _onnxseal._apply_fingerprint(locals())


@helps_with_keywords
def trace_fingerprint(
    leak: _Model,
    *,
    original: _Model,
    secret: str | PathLike[str],
    customers: str | Iterable[str],
    identity: _Identities = None,
    progress: _Progress = None,
) -> Report:
    """Finds out whose mark a leaked model has, of `customers`, who have copies of `original`.

    The result is what `onnxseal fingerprint trace --json` prints: `suspects` are all customers, by descending `z`. That
    nobody is `accused` does not mean that no customer leaked it: a mark may have been removed.
    """
    return _onnxseal._trace_fingerprint(locals())
