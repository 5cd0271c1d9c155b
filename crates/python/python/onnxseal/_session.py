"""Sessions of ONNX Runtime on protected models."""

import re
import weakref

from onnxseal._errors import OnnxRuntimeError, UsageError
from onnxseal._onnxseal import Model, open
from onnxseal._tensors import array

# From here on it looks for external data only where the skeleton says: that is, nowhere.
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

# Options that were given ready made, and the values that they refer to: ONNX Runtime keeps no count of those.
_used = weakref.WeakKeyDictionary()


class InferenceSession(onnxruntime.InferenceSession):
    """An `onnxruntime.InferenceSession` on a protected model, which is opened in memory.

    `path_or_bytes` is what `onnxseal.open` takes, or what it gave. `identity`, `require`, `signed_by`,
    `external_files`, `memory` and `progress` are its too; everything else goes to ONNX Runtime.

    Where `sess_options` is None, or a function without arguments that makes them, ONNX Runtime uses weights where
    they lie as far as it can. If it refuses the model that way, which it may log as an error, the session is made
    once more with new options, and weights that it copies. Where `sess_options` is an `onnxruntime.SessionOptions`,
    it copies all weights, which takes longer and more memory: what is tried cannot be taken out of options again.
    For the same reason such options serve for one session on a protected model, and keep it in memory.

    All methods work but `set_providers`, which would need the model anew.
    """

    def __init__(
        self,
        path_or_bytes,
        sess_options=None,
        providers=None,
        provider_options=None,
        *,
        identity=None,
        require=None,
        signed_by=None,
        external_files=None,
        memory="auto",
        progress=None,
        **kwargs,
    ):
        given = isinstance(sess_options, onnxruntime.SessionOptions)
        if not given and sess_options is not None and not callable(sess_options):
            raise TypeError("sess_options is an onnxruntime.SessionOptions, or a function that makes one")
        if given and sess_options in _used:
            raise UsageError(
                "these sess_options have the weights of another protected model: give a function that makes new ones"
            )
        model = path_or_bytes
        if not isinstance(model, Model):
            model = open(
                model,
                identity,
                require=require,
                signed_by=signed_by,
                external_files=external_files,
                memory=memory,
                progress=progress,
            )

        def create(options, share):
            skeleton, entries, shared, injected = model._prepare(share)
            for key, value in entries:
                options.add_session_config_entry(key, value)
            shared = [(name, _value(*described)) for name, *described in shared]
            injected = [(name, _value(*described)) for name, *described in injected]
            for name, value in shared:
                options.add_initializer(name, value)
            if injected:
                names, values = map(list, zip(*injected, strict=True))
                options.add_external_initializers(names, values)
            if given:
                _used[options] = (model, injected)
            # ONNX Runtime copies the injected values meanwhile, and uses the shared ones to the end.
            self._onnxseal_shared = (model, shared) if shared else None
            super(InferenceSession, self).__init__(skeleton, options, providers, provider_options, **kwargs)

        if given:
            create(sess_options, share=False)
        else:
            make = sess_options or onnxruntime.SessionOptions
            try:
                create(make(), share=True)
            except Exception:
                if self._onnxseal_shared is None:
                    raise
                create(make(), share=False)
        model.check_unchanged()
        # The last attribute is released last: the memory after the session that uses it.
        self._onnxseal_shared = self.__dict__.pop("_onnxseal_shared")
        # For set_providers alone.
        self._model_bytes = self._sess_options_initial = None

    def set_providers(self, providers=None, provider_options=None):
        """Cannot work: the session would be made anew, and the model is not kept for that."""
        raise UsageError("a session on a protected model keeps its providers: make a new one with providers=...")


def _value(data_type, dims, view):
    """An OrtValue over the memory of a tensor, without a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array(data_type, dims, view))
