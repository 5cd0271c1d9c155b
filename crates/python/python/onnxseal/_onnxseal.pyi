"""The native half. For arguments not described here see the option of the same name in `onnxseal COMMAND --help`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, final

import numpy as np

from onnxseal._report import Report

__version__: str

class _ModelProto(Protocol):
    def SerializeToString(self) -> bytes: ...

class _ONNXProgram(Protocol):
    @property
    def model_proto(self) -> _ModelProto: ...

_Place: TypeAlias = str | PathLike[str]
"""A path, or a URL: `file://`, and if the package is built with object stores `s3://`, `gs://`, `az://`."""
_Bytes: TypeAlias = bytes | bytearray | memoryview
_Out: TypeAlias = _Place | BinaryIO
"""A path, a URL, or a file that is open for writing: it gets a model without external data once all of it is right."""
_Model: TypeAlias = _Place | _Bytes | BinaryIO | _ModelProto | _ONNXProgram
_Preset: TypeAlias = Literal["full", "strong", "balanced", "light"]
_Recipient: TypeAlias = str | PathLike[str] | Identity | Passphrase
"""A recipient (`age1...`, `ssh-ed25519 ...`), the path of a file of recipients (not as a string), an identity or a passphrase."""
_Recipients: TypeAlias = _Recipient | Iterable[_Recipient] | Mapping[str, _Recipient | Iterable[_Recipient]]
"""One or several; for a model with tiers those of each tier, by its name."""
_Tier: TypeAlias = str | None
"""The tier to open, by its name: exactly this edition, by its own key or a higher one. "any": the highest that the identity
opens. None: the original; a tier below the highest is refused."""
_Identity: TypeAlias = str | PathLike[str] | bytes | Identity | IdentityCommand | Passphrase
"""The path of an identity file or an ssh private key, its text, or a program that prints it. A passphrase opens models protected to it, and
encrypted files among the identities."""
_Claims: TypeAlias = Sequence[str] | None
"""Claims that a model must make: "key=value", "key", "not-after", "not-before". An identity or allowed signers prove them."""
_Progress: TypeAlias = bool | Callable[[int, int], object] | None
"""True: a bar, if tqdm is installed. A function is called with the bytes done and the total, on the thread of
the call, before the first byte and after the last. An exception from it ends the call."""

_Array: TypeAlias = np.ndarray[Any, Any]
_Data: TypeAlias = str | PathLike[str] | dict[str, _Array]
_Labels: TypeAlias = str | PathLike[str] | _Array | Sequence[int]

@final
class Passphrase:
    def __new__(cls, text: str) -> Passphrase: ...

@final
class Identity:
    @property
    def recipient(self) -> str: ...
    def text(self, passphrase: Passphrase | None = None) -> str: ...
    def save(self, path: str | PathLike[str], passphrase: Passphrase | None = None) -> None: ...

@final
class IdentityCommand:
    def __new__(cls, command: str | Sequence[str | PathLike[str]], *, seconds: float = 30.0) -> IdentityCommand: ...

def generate_identity(*, pq: bool = False) -> Identity: ...

@final
class _RawLabelDecoder:
    def __new__(
        cls,
        table: str | PathLike[str],
        key: bytes | str | PathLike[str],
        identity: _Identity | Iterable[_Identity] | None = None,
        path: str | PathLike[str] | None = None,
    ) -> _RawLabelDecoder: ...
    @property
    def user(self) -> str: ...
    @property
    def answers(self) -> str: ...
    @property
    def logits(self) -> str: ...
    @property
    def outputs(self) -> list[str]: ...
    @property
    def tail(self) -> bytes: ...
    def shape(self, shape: list[int]) -> list[int]: ...
    def decode(self, shape: list[int], answers: Any, logits: Any) -> None: ...

class _RawInputKey:
    @staticmethod
    def generate(spec: dict[str, Any]) -> _RawInputKey: ...
    @staticmethod
    def open(path: str | PathLike[str], identity: _Identity | Iterable[_Identity] | None = None) -> _RawInputKey: ...
    @staticmethod
    def parse(text: bytes, identity: _Identity | Iterable[_Identity] | None = None) -> _RawInputKey: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    def text(self, recipients: _Recipients | None = None) -> str: ...
    def save(self, path: str | PathLike[str], recipients: _Recipients | None = None) -> None: ...
    def rewrite(
        self,
        model: _Model,
        out: _Out,
        old: _RawInputKey | None,
        input: str | None,
        check: bool,
        replace: bool,
        sync: bool | None,
    ) -> dict[str, Any]: ...
    def types(self, of: str, inverse: bool) -> list[str]: ...
    def convert(
        self, shape: list[int], of: tuple[_Array, str], to: tuple[_Array, str] | None, inverse: bool, normalised: bool
    ) -> None: ...

@final
class Model:
    @property
    def claims(self) -> dict[str, str]: ...
    @property
    def tier(self) -> str | None: ...
    @property
    def is_original(self) -> bool: ...
    @property
    def model_bytes(self) -> memoryview: ...
    @property
    def external_files(self) -> dict[str, memoryview]: ...
    @property
    def tensors(self) -> Mapping[str, np.ndarray[Any, Any]]: ...
    @property
    def is_locked(self) -> bool: ...
    def _prepare(
        self, how: Literal["begin", "share", "copy", "inline"]
    ) -> tuple[
        bytes,
        list[tuple[str, str]],
        list[tuple[str, int, list[int], memoryview]],
        list[tuple[str, int, list[int], memoryview]],
    ]: ...
    def _finish(self) -> None: ...
    def _check(self) -> None: ...

def _obstacle() -> str | None: ...
def _is_secret(text: str) -> bool: ...
def _is_marked(model: _Model) -> bool: ...
def open(
    model: _Model,
    identity: _Identity | Iterable[_Identity] | None = None,
    *,
    require_claims: _Claims = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    external_files: Mapping[str, _Bytes] | None = None,
    inline: bool = False,
    progress: _Progress = None,
    _opening: Literal["at once", "auto", "on demand"] = "at once",
) -> Model: ...
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
    in_place: bool = False,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report: ...
def plan(
    model: _Model,
    *,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    coefficients: Mapping[str, float] | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
) -> Report: ...
def inspect(model: _Model) -> Report: ...
def is_protected(model: _Model) -> bool: ...
def verify(
    model: _Model,
    *,
    identity: _Identity | Iterable[_Identity] | None = None,
    require_claims: _Claims = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    ranking: str | PathLike[str] | None = None,
    allow_clear: Sequence[str] | None = None,
    progress: _Progress = None,
) -> Report: ...
def unprotect(
    model: _Model,
    out: _Out,
    *,
    identity: _Identity | Iterable[_Identity] | None = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    tier: _Tier = None,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> None: ...
def rekey(
    model: _Model,
    out: _Out | None = None,
    *,
    recipients: _Recipients,
    identity: _Identity | Iterable[_Identity] | None = None,
    allowed_signers: _Place | None = None,
    signer: str | None = None,
    replace: bool = False,
    sync: bool | None = None,
    progress: _Progress = None,
) -> Report: ...
def rotate(
    model: _Model,
    out: _Out | None = None,
    *,
    recipients: _Recipients,
    identity: _Identity | Iterable[_Identity] | None = None,
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
) -> Report: ...

@final
class Assessment:
    @property
    def holds(self) -> bool: ...
    def table(self) -> str: ...
    def json(self) -> dict[str, Any]: ...
    def save(self, path: str | PathLike[str], *, replace: bool = False) -> None: ...
    def _repr_html_(self) -> str: ...

def assess(
    model: _Model,
    data: _Data | None = None,
    *,
    labels: _Labels | None = None,
    identities: _Identity | Iterable[_Identity] | None = None,
    presets: _Preset | Iterable[_Preset] | None = None,
    policies: str | PathLike[str] | Iterable[str | PathLike[str]] | None = None,
    ranking: str | PathLike[str] | None = None,
    base: _Model | None = None,
    no_public_base: bool = False,
    metric: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], float] | None = None,
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
    clear holds only if `base` was tried, the public model that this one was fine-tuned from, or `no_public_base` says that
    it was trained from scratch. Nothing holds on whole numbers for an input of floats unless `scale` is given, `scale=1` if
    the model takes them as they are. `attacker_samples` are 100 and 1000 labels if nothing is said. `progress` counts steps.
    """

def rank(
    model: _Model,
    path: str | PathLike[str],
    *,
    method: Literal["activation", "probabilistic"],
    data: _Data | None = None,
    labels: _Labels | None = None,
    identities: _Identity | Iterable[_Identity] | None = None,
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
    """Scores weights by how much the model would miss them; writes a ranking file for `ranking=`."""

def tune_tiers(
    model: _Model,
    path: str | PathLike[str],
    *,
    targets: Mapping[str, float],
    data: _Data,
    labels: _Labels | None = None,
    highest: str = "full",
    identities: _Identity | Iterable[_Identity] | None = None,
    policy: str | PathLike[str] | None = None,
    preset: _Preset | None = None,
    ranking: str | PathLike[str] | None = None,
    metric: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], float] | None = None,
    seed: int = 0,
    limit: int | None = None,
    output: str | None = None,
    scale: float = 1.0,
    replace: bool = False,
    progress: _Progress = None,
) -> Report:
    """Finds shares that give tiers the accuracies that you want, and writes a policy with them to `path`.

    `targets` are tiers and the accuracy (or other metric) that their editions shall have, the least tier first. `highest`
    names the tier that opens everything. The policy is the file `policy`, or `preset`, with tiers. The result is what
    `onnxseal tiers tune --json` prints.
    """

def protect_labels(
    model: _Model,
    out: _Out,
    *,
    authority: str | PathLike[str],
    identity: _Identity | Iterable[_Identity] | None = None,
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

    `authority` is the path of the authority's file, in which the model is noted; `identity` opens
    it if it is encrypted. `data` has samples, for `traces` and for the comparison. `targets` is the
    file that the model was trained with, if it was trained with one. ONNX Runtime runs the original
    and the result to compare them, unless `check=False`. The result has `node`, `rows`, `classes`,
    `traces`, `firing` (the share of held-out samples that fire a trace) and `difference` (of
    decoded answers from the original's, as a share of the largest; None if they were not compared).
    Whoever has the result in plain gets the classifier up to the names of its classes: protect it, too.
    """

def trace_labels(
    model: _Model,
    ask: Callable[[dict[str, _Array]], _Array | Sequence[int]],
    *,
    authority: str | PathLike[str],
    identity: _Identity | Iterable[_Identity] | None = None,
) -> Report:
    """Finds out whose key a service uses, by its answers to the inputs of traces.

    `ask` is a function. It gets a dict of arrays by the names of the model's inputs, one trace per
    row, and returns the class of each row, or a row of numbers for each. The result has `accused`, `suspects`, `threshold`, `traces` and `probability_of_an_innocent`.
    """
