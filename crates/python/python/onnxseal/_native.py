"""ONNX Runtime's native code: which errors are its own, and checks of what it computes."""

import functools
import weakref

# What native code raises besides ONNX Runtime's own classes.
_NATIVE = (RuntimeError, ValueError, TypeError, MemoryError)

# Models whose weights are decrypted on demand, by the native sessions that use them.
_models = weakref.WeakKeyDictionary()


def native():
    """ONNX Runtime's module of native code."""
    from onnxruntime.capi import _pybind_state

    return _pybind_state


def is_of_onnxruntime(error):
    """Whether ONNX Runtime raised an error. Time limits (handlers of signals, other threads) raise any error at any line."""
    if type(error).__module__.partition(".")[0] == "onnxruntime":
        return True
    if type(error) not in _NATIVE:
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    # Native code has no frame: the last one is that of its caller.
    where = trace.tb_frame.f_globals.get("__name__", "")
    return where == "onnxseal._session" or where.partition(".")[0] == "onnxruntime"


def check_runs(session, model):
    """Has every run of a native session raise an error if it touched weights that are not authentic any more."""
    _give_checks()
    _models[session] = model


@functools.cache
def _give_checks():
    """Gives the native class of sessions methods that check, once: all ways to run a session lead to these.

    Other sessions do not notice.
    """
    sessions = native().InferenceSession

    def checked(original):
        @functools.wraps(original)
        def run(self, *arguments, **named):
            try:
                return original(self, *arguments, **named)
            finally:
                if (model := _models.get(self)) is not None:
                    model._check()

        return run

    def checked_later(original):
        @functools.wraps(original)
        def run_async(self, output_names, input_feed, callback, user_data, run_options=None):
            def checking(results, user_data, error):
                try:
                    model._check()
                except Exception as raised:
                    results, error = [], str(raised)
                callback(results, user_data, error)

            model = _models.get(self)
            return original(self, output_names, input_feed, checking if model else callback, user_data, run_options)

        return run_async

    for name in ("run", "run_with_iobinding", "run_with_ort_values", "run_with_ortvaluevector"):
        setattr(sessions, name, checked(getattr(sessions, name)))
    sessions.run_async = checked_later(sessions.run_async)
