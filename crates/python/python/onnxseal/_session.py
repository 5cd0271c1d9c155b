"""Sessions of ONNX Runtime on protected models."""

import builtins
import functools
import os
import re
import sys
import threading
import weakref

from onnxseal._calls import inspect, is_protected, open
from onnxseal._errors import Error, MalformedError, OnnxRuntimeError, UsageError
from onnxseal._inputs import keyed_inputs
from onnxseal._keywords import unexpected
from onnxseal._labels import TABLE, SessionLabels
from onnxseal._native import check_runs, is_of_onnxruntime, native
from onnxseal._onnxseal import Model, _is_marked
from onnxseal._tensors import array

# Since this version, ONNX Runtime looks for external data only where the skeleton says: nowhere.
_MINIMUM = (1, 22)


def _import():
    """ONNX Runtime, if it is there and new enough."""
    wanted = ".".join(map(str, _MINIMUM))
    install = f"install it: pip install 'onnxruntime>={wanted}' (or onnxruntime-gpu, or another of its packages)"
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxRuntimeError(f"InferenceSession needs ONNX Runtime {wanted} or newer; {install}") from error
    found = getattr(onnxruntime, "__version__", "an unknown version")
    parts = re.match(r"(\d+)\.(\d+)", found)
    if parts is None or tuple(map(int, parts.groups())) < _MINIMUM:
        raise OnnxRuntimeError(f"ONNX Runtime {wanted} or newer is needed, not {found}; {install}")
    return onnxruntime


onnxruntime = _import()

# Providers that use the process's memory, and so weights where they lie.
_PROCESSORS = {"CPUExecutionProvider", "AzureExecutionProvider"}

# Entries of options that make ONNX Runtime write decrypted models to files, and the values that do.
_WRITING = {"ep.context_enable": "1", "session.debug_layout_transformation": "1"}

# Keywords that ONNX Runtime's class takes beside its parameters.
_KEYWORDS = frozenset(("disabled_optimizers", "enable_fallback", "read_config_from_model"))

# The entry of options that keeps ONNX Runtime from packing copies of matrices.
_UNPACKED = ("session.disable_prepacking", "1")

# The entry that marks options with weights of a model. The weights stay in the options, and ONNX
# Runtime knows them by name alone.
_WEIGHTS = "onnxseal.weights"

# The entry of options that names the folder of external data, for models that are bytes.
_FOLDER = "session.model_external_initializers_file_folder_path"

# Options with weights, and the memory where these lie: ONNX Runtime does not keep it alive.
_used = weakref.WeakKeyDictionary()


# A model with one Identity node. To copy options, `_copied` makes a session object of it, and never
# initializes it.
_TINY = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


class _NotCopied(Exception):
    """ONNX Runtime does not tell all settings of options."""


def _copied(options):
    """Options with the same settings, or None if ONNX Runtime does not tell all settings.

    A session object has a copy of its options. The copy has no execution providers and no libraries of custom operators.
    """
    # With profiling on, a session object begins a file. Versions before 1.23 do not tell whether
    # options have providers.
    if options.enable_profiling or getattr(options, "has_providers", lambda: True)():
        return None
    try:
        return native().InferenceSession(options, _TINY, False, False).session_options
    except Exception as error:
        if not is_of_onnxruntime(error):
            raise
        return None


def _holders(make):
    """What a function makes, and how many references to it there are."""
    made = make()
    return made, sys.getrefcount(made)


# The count for an object that nobody else holds.
_ALONE = _holders(onnxruntime.SessionOptions)[1]


def _external_files(model, options):
    """The external data files of a protected model in memory, from the folder that options name, or None."""
    folder = options and _entry(options, _FOLDER)
    # An object that could not be copied keeps the folder that an earlier session put there.
    if not folder or folder == "/dev/null":
        return None
    files = {}
    for path in (file["path"] for file in inspect(model)["files"] if file["path"]):
        with builtins.open(os.path.join(folder, path), "rb") as file:
            files[path] = file.read()
    return files


class Unpatched(onnxruntime.InferenceSession):
    """A session that `onnxseal.patch` leaves alone."""


class InferenceSession(Unpatched):
    """An `onnxruntime.InferenceSession` on a protected model, which is opened in memory.

        session = onnxseal.InferenceSession("sealed.onnx", identity="id.txt", providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"input": images})

    Parameters:
        path_or_bytes: A path, a URL, bytes or a file, as for `onnxseal.open`, or the `onnxseal.Model` that it returned.
        sess_options: None, an `onnxruntime.SessionOptions`, or a function without arguments that makes new ones.
            ONNX Runtime uses weights where they lie as far as it can, and copies the others. An options object stays
            free of weights and serves for any number of models: a copy of it gets them. An object that cannot be
            copied, because it has execution providers, custom operators that the model needs, or profiling, takes more
            memory: ONNX Runtime then gets the model in one piece, with all its weights.
        providers, provider_options: As for ONNX Runtime. Only the processor uses weights where they lie.
        identity: The key that opens the model: the path of an identity file, its text, an `onnxseal.Identity`, an
            `onnxseal.IdentityCommand`, an `onnxseal.Passphrase`, or several of these. The default is the one that ONNXSEAL_IDENTITY names.
        require_claims: Claims that the model must make: "key=value", "key", "not-after", "not-before".
        allowed_signers: The path of an `allowed_signers` file. A key of the file must have signed the model.
        signer: The signer in that file, such as "release@example.com", who must have signed.
        tier: The tier to open of a model with tiers, or "any" for the highest that the identity opens. Without it, a
            tier below the highest is refused, because it is not the original. `onnxseal.open` gives a model that says
            which tier it is.
        licence: The path of a licence to open the model with. The default is the file that ONNXSEAL_LICENCE names, or
            MODEL.licence beside the model if no identity opens the model itself.
        external_files: The external data files of a model in memory: bytes by relative path. Without them, the files
            are read from the folder that options name by `session.model_external_initializers_file_folder_path`.
        progress: True for a bar, or a function of the bytes done and the total. All weights are then decrypted before
            ONNX Runtime begins, and take their memory once more for as long as the session lives.
        input_key: An `onnxseal.InputKey` for a rewritten model: `run` transforms the images that it is fed. If several
            inputs have 4 axes, name the input: {name: key}. A model that is not protected needs `allow_plain` too.
        label_key: The path of a label key, or the bytes of its file, for a model whose labels are protected: the
            session answers as the original did. `identity` opens a label key that is encrypted.
        prepack: False to let ONNX Runtime use large matrices as they lie, without packed copies of them
            (`session.disable_prepacking`). The start takes a fraction of the time; large batches run slower, and matrices
            of 4 and 8 bits (MatMulNBits) much slower.
        allow_plain: Whether to open a model that is not protected too, as ONNX Runtime opens it. With
            `require_claims`, `allowed_signers` or the name of a tier such a model is always refused.
        allow_plaintext_on_disk: Whether options may make ONNX Runtime write the decrypted model to files, such as
            `optimized_model_filepath`. Such options are refused otherwise.

    On Linux the session takes the memory of a plain model's: weights are decrypted when ONNX Runtime touches them. The
    model's files stay open. If one is overwritten in place, calls that need it fail; replacing it changes nothing.

    Raises the errors of `onnxseal.open`, and ONNX Runtime's own exceptions. All methods work except `set_providers`,
    which would need the model again.
    """

    def __init__(
        self,
        path_or_bytes,
        sess_options=None,
        providers=None,
        provider_options=None,
        *,
        identity=None,
        require_claims=None,
        allowed_signers=None,
        signer=None,
        tier=None,
        licence=None,
        external_files=None,
        progress=None,
        input_key=None,
        label_key=None,
        prepack=True,
        allow_plain=False,
        allow_plaintext_on_disk=False,
        **kwargs,
    ):
        # ONNX Runtime ignores what it does not know: a misspelt demand would be none.
        if unknown := kwargs.keys() - _KEYWORDS:
            known = [*InferenceSession.__init__.__kwdefaults__, *_KEYWORDS]
            raise unexpected("InferenceSession", min(unknown), known)
        make_session(
            self,
            super().__init__,
            path_or_bytes,
            sess_options,
            providers,
            provider_options,
            identity=identity,
            require_claims=require_claims,
            allowed_signers=allowed_signers,
            signer=signer,
            tier=tier,
            licence=licence,
            external_files=external_files,
            progress=progress,
            input_key=input_key,
            label_key=label_key,
            prepack=prepack,
            allow_plain=allow_plain,
            allow_plaintext_on_disk=allow_plaintext_on_disk,
            **kwargs,
        )
        if label_key is not None and self._onnxseal_labels is None:
            raise UsageError("the model's labels are not protected: leave out label_key")


def make_session(
    self,
    initialize,
    path_or_bytes,
    sess_options,
    providers,
    provider_options,
    *,
    identity,
    require_claims,
    allowed_signers,
    signer,
    tier,
    licence,
    progress,
    label_key,
    prepack,
    allow_plain,
    allow_plaintext_on_disk,
    external_files=None,
    input_key=None,
    **kwargs,
):
    """Makes a session of any class of ONNX Runtime's, whose own `__init__` is `initialize`.

    The other arguments are those of `InferenceSession`. A label key is for a model that has a
    table of labels.
    """
    given = isinstance(sess_options, onnxruntime.SessionOptions)
    if not given and sess_options is not None and not callable(sess_options):
        raise TypeError("sess_options is an onnxruntime.SessionOptions, or a function that makes one")
    model, path = path_or_bytes, None
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
    elif hasattr(model, "read"):
        model = model.read()
    self._onnxseal_keys, self._onnxseal_labels = {}, None
    demands = bool(require_claims or allowed_signers or signer or tier not in (None, "any"))
    self._onnxseal_plain = not isinstance(model, Model) and _is_plain(model, allow_plain and not demands)
    self._onnxseal_make = self._onnxseal_shared = None
    if self._onnxseal_plain:
        name = "the model" if path is None else path
        if demands:
            raise UsageError(f"{name} is not protected, so it is not what require_claims=, allowed_signers= or tier= demands")
        if not allow_plain:
            raise UsageError(f"{name} is not protected: allow_plain=True opens such models too")
        if external_files:
            raise UsageError("external_files work only with protected models: save this one, and give its path")
        if not given and sess_options is not None:
            sess_options = sess_options()
        if sess_options is not None:
            _check_unused(sess_options)
        if not prepack:
            own = onnxruntime.SessionOptions() if sess_options is None else _copied(sess_options)
            sess_options = own or sess_options
            sess_options.add_session_config_entry(*_UNPACKED)
        initialize(_plain(model), sess_options, providers, provider_options, **kwargs)
        _use_keys(self, input_key, label_key, identity, path)
        return
    if not isinstance(model, Model):
        if path is None and external_files is None:
            options = sess_options() if sess_options is not None and not given else sess_options
            external_files = _external_files(model, options)
        model = open(
            model,
            identity,
            # A bar has to be done before ONNX Runtime begins.
            _opening="at once" if progress else "auto",
            require_claims=require_claims,
            allowed_signers=allowed_signers,
            signer=signer,
            tier=tier,
            licence=licence,
            external_files=external_files,
            progress=progress,
        )

    def create(options, how):
        _check_unused(options)
        if not prepack:
            options.add_session_config_entry(*_UNPACKED)
        if not allow_plaintext_on_disk:
            _check_writes_nothing(options)
        if options.optimized_model_filepath:
            # What ONNX Runtime writes has the weights that it was given in one piece.
            how = "inline"
        elif how == "share" and not allow_plaintext_on_disk:
            # What ONNX Runtime writes to files must be there.
            how = "begin"
        skeleton, entries, shared, injected = model._prepare(how)
        for key, value in entries:
            # ONNX Runtime warns of an entry that takes another's place.
            if _entry(options, key) != value:
                options.add_session_config_entry(key, value)
        shared = [(name, _value(*described)) for name, *described in shared]
        injected = [(name, _value(*described)) for name, *described in injected]
        if shared or injected:
            _used[options] = (model, shared, injected)
        for name, value in shared:
            options.add_initializer(name, value)
        if injected:
            names, values = map(list, zip(*injected, strict=True))
            options.add_external_initializers(names, values)
        # ONNX Runtime copies the injected values meanwhile, and uses the shared ones to the end.
        self._onnxseal_shared = (model, shared) if shared else None
        try:
            initialize(skeleton, options, providers, provider_options, **kwargs)
        finally:
            # Whatever ONNX Runtime says of weights that were changed does not matter.
            if how == "begin":
                try:
                    model._finish()
                except BaseException:
                    self._sess = None
                    raise
        if how == "begin" and shared:
            check_runs(self._sess, model)

    def create_with_new(make):
        """Makes a session with new options, unless somebody else holds them: then returns them."""
        for how in ("share", "copy"):
            options, n_holders = _holders(make)
            if not isinstance(options, onnxruntime.SessionOptions):
                raise TypeError("sess_options must make an onnxruntime.SessionOptions")
            if n_holders > _ALONE:
                return options
            if how == "share" and not _is_for_processors(options, providers):
                how = "copy"
            self._onnxseal_make, self._onnxseal_shared = make, None
            try:
                return create(options, how)
            except Exception as error:
                if self._onnxseal_shared is None or not is_of_onnxruntime(error):
                    raise

    def create_with_copy(options):
        """Makes a session with a copy of the options; returns whether that worked.

        It fails if there is no copy, and for models with custom operators, which a copy lacks.
        """

        def copied():
            if (made := _copied(options)) is None:
                raise _NotCopied
            return made

        try:
            create_with_new(copied)
        except _NotCopied:
            return False
        except Exception as error:
            if not is_of_onnxruntime(error):
                raise
            self._onnxseal_make = None
            return False
        return True

    held = sess_options if given else create_with_new(sess_options or onnxruntime.SessionOptions)
    if held is not None and not create_with_copy(held):
        try:
            create(held, "inline")
        except MalformedError:
            # The model may be too large for one piece. The options then serve for it alone.
            create(held, "copy")
    # The last attribute is released last: the memory after the session that uses it.
    self._onnxseal_shared = self.__dict__.pop("_onnxseal_shared")
    # Only set_providers would use these.
    self._model_bytes = self._sess_options_initial = None
    # Other packages find the model's folder by it.
    self._model_path = path
    if self._onnxseal_make is not None:
        # ONNX Runtime's copy, which has the weights.
        self._sess_options = None
    # The whole file is authenticated: the table of labels belongs to the rows.
    _use_keys(self, input_key, label_key, identity, None)


def _use_keys(self, input_key, label_key, identity, path):
    """Remembers a session's keys; a label key only if the model has a table of labels.

    `path` is given for a model that is not protected as a whole: the table must then belong to the
    rows in this file, because nothing else authenticates them.
    """
    # ONNX Runtime's methods: those of a derived class may need attributes that it sets later.
    own = super(onnxruntime.InferenceSession, self)
    if input_key is not None:
        self._onnxseal_keys = keyed_inputs(input_key, own.get_inputs())
    table = None if label_key is None else own.get_modelmeta().custom_metadata_map.get(TABLE)
    if table is not None:
        if self._onnxseal_plain and path is None:
            raise UsageError("a label key for a model that is not protected needs the path of its file")
        self._onnxseal_labels = SessionLabels(table, own.get_outputs(), label_key, identity, path, Unpatched)


class _Methods:
    """Methods of sessions that `make_session` made; `call` is ONNX Runtime's own method."""

    def get_outputs(self, call):
        """Like ONNX Runtime's. With a label key, those of the original."""
        return call() if self._onnxseal_labels is None else self._onnxseal_labels.outputs

    def run(self, call, output_names, input_feed, run_options=None):
        """Like ONNX Runtime's. An input key transforms images first; a label key decodes answers."""
        if self._onnxseal_keys:
            keyed = {name: key._feed(_pixels(input_feed[name])) for name, key in self._onnxseal_keys.items() if name in input_feed}
            input_feed = {**input_feed, **keyed}
        if self._onnxseal_labels is not None:
            decoded = self._onnxseal_labels.run
            return decoded(lambda names: call(names, input_feed, run_options), output_names)
        return call(output_names, input_feed, run_options)

    def run_with_iobinding(self, call, iobinding, run_options=None):
        """Like ONNX Runtime's; not with an input key."""
        _refuse_keys(self, "run_with_iobinding")
        return call(iobinding, run_options)

    def run_with_ort_values(self, call, output_names, input_dict_ort_values, run_options=None):
        """Like ONNX Runtime's; not with an input key."""
        _refuse_keys(self, "run_with_ort_values")
        return call(output_names, input_dict_ort_values, run_options)

    def run_with_ortvaluevector(self, call, *arguments, **named):
        """Like ONNX Runtime's; not with an input key."""
        _refuse_keys(self, "run_with_ortvaluevector")
        return call(*arguments, **named)

    def get_session_options(self, call):
        """Options like those that the session was made with. They have no weights, so they serve for other models."""
        return call() if self._onnxseal_make is None else self._onnxseal_make()

    def run_async(self, call, output_names, input_feed, callback, user_data, run_options=None):
        """Like ONNX Runtime's, but on a thread of its own. The session stays until the call has ended.

        ONNX Runtime's own threads cannot do that: a session released while one of them calls back waits for ever.
        """
        self._validate_input(list(input_feed.keys()))

        def answer():
            try:
                results, error = self.run(output_names, input_feed, run_options), ""
            except Exception as raised:
                results, error = [], str(raised)
            callback(results, user_data, error)

        threading.Thread(target=answer, name="onnxseal.run_async").start()

    def set_providers(self, call, providers=None, provider_options=None):
        """Refused on a protected model: a new session would need the model, which is not kept."""
        if self._onnxseal_plain:
            return call(providers, provider_options)
        raise UsageError("a session on a protected model keeps its providers: make a new one with providers=...")


def _refuse_keys(self, method):
    if self._onnxseal_keys:
        raise UsageError(f"{method} takes memory as it is: make the session without input_key, and give it key.apply(images)")
    if self._onnxseal_labels is not None:
        raise UsageError(f"{method} gives memory as it is: make the session without label_key, and give the answers to onnxseal.LabelDecoder")


def _give_methods(cls, original_of, serves):
    """Gives a class our methods, for sessions that `make_session` made and `serves` accepts."""

    def replaced(name, instead):
        original = original_of(name)

        @functools.wraps(instead if cls is InferenceSession else original)
        def method(self, *arguments, **more):
            call = functools.partial(original, self)
            if "_onnxseal_make" in self.__dict__ and serves(self):
                return instead(self, call, *arguments, **more)
            return call(*arguments, **more)

        return method

    for name, instead in vars(_Methods).items():
        if callable(instead):
            setattr(cls, name, replaced(name, instead))


def _inherited(name):
    def method(self, *arguments, **more):
        return getattr(super(InferenceSession, self), name)(*arguments, **more)

    return method


_give_methods(InferenceSession, _inherited, lambda session: True)


@functools.cache
def give_methods_to_all():
    """Gives ONNX Runtime's own class our methods, once.

    They stay, because sessions that were made need them; other sessions do not notice.
    """
    own = onnxruntime.InferenceSession

    def serves(session):
        # Our class has the methods itself.
        return not isinstance(session, Unpatched)

    _give_methods(own, lambda name: getattr(own, name), serves)


def _pixels(value):
    """A value that a session is fed, as an array."""
    return value.numpy() if isinstance(value, onnxruntime.OrtValue) else value


def _is_plain(model, is_any_file):
    """Whether a model is surely not protected. `is_any_file`: also of what onnxseal takes for no model, as ONNX Runtime may."""
    try:
        return not is_protected(model)
    except Error:
        is_elsewhere = isinstance(model, (str, os.PathLike)) and "://" in os.fspath(model)
        return is_any_file and not is_elsewhere and not _is_marked(model)


def _plain(model):
    """A model that is not protected as ONNX Runtime takes it."""
    if isinstance(model, (str, os.PathLike)):
        if "://" in os.fspath(model):
            raise UsageError(f"{model} is not protected: ONNX Runtime opens such models by path, not by URL")
        return model
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    return getattr(model, "model_proto", model).SerializeToString()


def _entry(options, key):
    """The value of a configuration entry, or None."""
    try:
        return options.get_session_config_entry(key)
    except RuntimeError as error:
        if not is_of_onnxruntime(error):
            raise
        return None


def _check_unused(options):
    if _entry(options, _WEIGHTS) is not None:
        raise UsageError("these sess_options have the weights of a protected model already: make new ones")


def _check_writes_nothing(options):
    writing = [key for key, on in _WRITING.items() if _entry(options, key) == on]
    if options.optimized_model_filepath:
        writing.append("optimized_model_filepath")
    if writing:
        raise UsageError(
            f"sess_options have {writing[0]}, which writes the decrypted model to a file: leave it out, or allow it with "
            "allow_plaintext_on_disk=True"
        )


def _is_for_processors(options, providers):
    """Whether all execution providers that a session may have use the memory of the process."""
    # Versions before 1.23 do not tell.
    if getattr(options, "has_providers", bool)():
        return False
    names = providers or onnxruntime.get_available_providers()
    return all((name if isinstance(name, str) else name[0]) in _PROCESSORS for name in names)


def _value(data_type, dims, view):
    """An OrtValue over the memory of a tensor, without a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array(data_type, dims, view))
