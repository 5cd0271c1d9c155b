"""Encrypted labels: answers become those of the original again."""

from types import SimpleNamespace

from onnxseal._errors import MalformedError, UsageError
from onnxseal._onnxseal import _RawLabelDecoder

# The key of `metadata_props` that has the table.
TABLE = "onnxseal-labels"


class LabelDecoder:
    """Decodes the answers of a model whose labels are protected, without ONNX Runtime.

        decoder = onnxseal.LabelDecoder("model.onnx", "acme.key")
        logits = decoder.decode(answers)

    Parameters:
        table: The path of the model, plain or protected, or the text of its table:
            `session.get_modelmeta().custom_metadata_map["onnxseal-labels"]`.
        key: The path of a label key, or the bytes of its file.
        identity: What opens a key that is encrypted with age, as `onnxseal.open` takes it.
    """

    def __init__(self, table, key, identity=None, *, _path=None):
        self._raw = _RawLabelDecoder(table, key, identity, _path)

    @property
    def user(self):
        """The name in the key."""
        return self._raw.user

    def decode(self, answers):
        """Logits of answers: a float32 array whose axis of rows has become one of classes."""
        import numpy as np

        answers = np.ascontiguousarray(answers, np.float32)
        logits = np.empty(self._raw.shape(list(answers.shape)), np.float32)
        if logits.size:
            self._raw.decode(list(answers.shape), answers.reshape(-1).view(np.uint8), logits.reshape(-1).view(np.uint8))
        return logits

    def classify(self, answers):
        """The class of each sample and the probabilities of all classes: integers, and softmax of the logits as float32."""
        import numpy as np

        logits = self.decode(answers)
        # The axis of rows has become shorter: each class had several.
        axis = next(axis for axis, (rows, classes) in enumerate(zip(np.shape(answers), logits.shape, strict=True)) if rows != classes)
        powers = np.exp(logits.astype(np.float64) - logits.max(axis, keepdims=True))
        return logits.argmax(axis), (powers / powers.sum(axis, keepdims=True)).astype(np.float32)

    def __repr__(self):
        return f"<onnxseal.LabelDecoder of user {self.user!r}>"

    def __reduce__(self):
        raise TypeError("a LabelDecoder holds what a secret key decrypts, and is not pickled")


class SessionLabels:
    """What a session does with labels: decodes, and runs what follows decoding, in a session of the class `session`."""

    def __init__(self, table, outputs, key, identity, path, session):
        import onnxruntime

        self.decoder = LabelDecoder(table, key, identity, _path=path)
        raw = self.decoder._raw
        self.answers, self.logits, self.names = raw.answers, raw.logits, raw.outputs
        self.tail = None
        if raw.tail:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            # It is small, and threads of its own would wait for work beside those of the model.
            options.intra_op_num_threads = 1
            self.tail = session(raw.tail, options, providers=["CPUExecutionProvider"])
        of_tail = {output.name: output for output in self.tail.get_outputs()} if self.tail else {}
        of_model = {output.name: output for output in outputs}
        known = of_tail.keys() | of_model.keys() | {self.logits}
        if self.answers not in of_model or not known.issuperset(self.names):
            raise MalformedError("the model's table of labels names outputs that the model does not have")
        self.of_tail = set(of_tail)
        # Of the logits alone, the shape is that of the answers, with classes in the place of rows.
        answers = of_model[self.answers]
        known = [size if isinstance(size, int) else 0 for size in answers.shape]
        decoded = raw.shape(known)
        shape = [new if new != old else given for given, old, new in zip(answers.shape, known, decoded, strict=True)]
        own = SimpleNamespace(name=self.logits, shape=shape, type="tensor(float)")
        self.outputs = [of_tail.get(name) or (own if name == self.logits else of_model[name]) for name in self.names]

    def run(self, run, names):
        """The outputs called `names`; `run` gives those of the model itself."""
        names = list(names) if names else self.names
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise UsageError(f"the model has no output {unknown[0]!r}: it has {', '.join(self.names)}")
        behind = [name for name in names if name in self.of_tail]
        is_decoded = bool(behind) or self.logits in names
        direct = [name for name in dict.fromkeys(names) if name not in self.of_tail and name != self.logits]
        values = run(direct + [self.answers] * is_decoded)
        found = dict(zip(direct, values, strict=False))
        if is_decoded:
            logits = self.decoder.decode(values[-1])
            found.setdefault(self.logits, logits)
            if behind:
                found.update(zip(behind, self.tail.run(behind, {self.logits: logits}), strict=True))
        return [found[name] for name in names]
