"""Input keys: what they do to arrays, in training loops and in sessions."""

import os
import sys

from onnxseal._errors import UsageError
from onnxseal._onnxseal import _RawInputKey

# The names of numpy's types that pixels may have, and ours.
_TYPES = {"uint8": "u8", "uint16": "u16", "int8": "i8", "float16": "f16", "float32": "f32"}
_NAMES = {ours: name for name, ours in _TYPES.items()}


class InputKey:
    """A key that images are transformed with, and models rewritten for.

        key = onnxseal.InputKey.open("key.txt")
        keyed = key.apply(images)  # uint8, uint16, int8, float16 or float32: [n, 3, 224, 224], or one image
        session = onnxseal.InferenceSession("rewritten.onnx", input_key=key)

    It does not keep images confidential: docs/INPUTS.md says what it stops.
    """

    def __init__(self, raw):
        if not isinstance(raw, _RawInputKey):
            raise TypeError("use InputKey.open, InputKey.parse or InputKey.generate")
        self._raw = raw

    @classmethod
    def open(cls, path, identity=None):
        """Opens a key file. One that is encrypted with age needs an identity, as `onnxseal.open` takes it."""
        return cls(_RawInputKey.open(path, identity))

    @classmethod
    def parse(cls, text, identity=None):
        """Reads the text of a key file."""
        return cls(_RawInputKey.parse(text.encode() if isinstance(text, str) else bytes(text), identity))

    @classmethod
    def generate(
        cls,
        transforms=("shuffle", "negative"),
        *,
        block,
        channels=3,
        layout="nchw",
        order="rgb",
        range=(0.0, 255.0),
        mean=None,
        std=None,
    ):
        """Makes a new key, as `onnxseal inputs keygen` does."""
        transforms = [transforms] if isinstance(transforms, str) else list(transforms)
        spec = {"transforms": transforms, "block": block, "channels": channels, "layout": layout, "order": order}
        return cls(_RawInputKey.generate({**spec, "range": tuple(range), "mean": _numbers(mean), "std": _numbers(std)}))

    @property
    def spec(self):
        """What of the key is not secret, as a dictionary; `key_bits` is the number of keys as a power of two."""
        return self._raw.spec

    def text(self, recipients=None):
        """The text of the key file, which is secret; encrypted with age if there are recipients."""
        return self._raw.text(recipients)

    def save(self, path, recipients=None):
        """Writes a key file, readable by its owner alone; never over an existing file."""
        self._raw.save(path, recipients)

    def apply(self, images, out=None, *, dtype=None, normalised=False):
        """Makes keyed images: of one image or several, with axes in the order of the key's layout.

        Parameters:
            images: An array, of uint8, uint16, int8, float16 or float32. Floats are in the key's range.
            out: The array for the result; `images` itself, to transform in place. The default is a new array.
            dtype: The type of a new array, where there is a choice: with `ffx`, uint8 becomes uint16 or float32.
            normalised: Whether the floats are `(x - mean) / std` already, with the key's mean and std.
        """
        return self._convert(images, out, dtype, normalised, False)

    def invert(self, images, out=None, *, dtype=None, normalised=False):
        """Makes plain images of keyed ones. The arguments are those of `apply`."""
        return self._convert(images, out, dtype, normalised, True)

    def rewrite(self, model, out, *, old_key=None, input=None, check=True, replace=False, sync=None):
        """Changes a trained model so that it takes images made with this key.

        Returns a dict: the `input` that takes keyed images, the `tensors` that changed, whether the result is `exact` by
        construction, and the `difference` of its outputs from the original's, by the largest (None if it was not run).

        Parameters:
            model: The model, as `onnxseal.protect` takes it.
            out: Where the result goes.
            old_key: The InputKey that the model was rewritten for, if it takes keyed images already.
            input: The input that takes images, if there are several.
            check: Run the original and the result on ONNX Runtime, and write nothing if they differ.
            replace: Whether an existing file is replaced.
        """
        return self._raw.rewrite(locals() | {"old_key": None if old_key is None else old_key._raw})

    def _convert(self, images, out, dtype, normalised, inverse):
        import numpy as np

        images = np.asarray(images)
        of = _type(images.dtype)
        shape = list(images.shape)
        if out is None:
            possible = self._raw.types(of, inverse)
            into = _type(np.dtype(dtype)) if dtype is not None else (possible or [of])[0]
            out = np.empty(images.shape, _NAMES[into])
        elif not isinstance(out, np.ndarray) or out.shape != images.shape:
            raise UsageError(f"out must be a numpy array of shape {tuple(shape)}")
        elif not out.dtype.isnative or not out.flags.c_contiguous or not out.flags.aligned or not out.flags.writeable:
            raise UsageError("out must be contiguous in memory, aligned, in native byte order, and writable")
        into = _type(out.dtype)
        # Native, contiguous and aligned, in a copy if it has to be.
        plain = np.require(images, images.dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])
        if plain is out or (plain.ctypes.data == out.ctypes.data and of == into):
            self._raw.convert(shape, (_bytes(out), into), None, inverse, normalised)
            return out
        if np.shares_memory(plain, out):
            plain = plain.copy()
        self._raw.convert(shape, (_bytes(plain), of), (_bytes(out), into), inverse, normalised)
        return out

    def _feed(self, images):
        """What a rewritten model is fed, of what the original would be fed. Integers are pixels, and never normalised."""
        import numpy as np

        is_normalised = self.spec["mean"] is not None and np.asarray(images).dtype.kind == "f"
        return self.apply(images, normalised=is_normalised)

    def __repr__(self):
        spec = self.spec
        return f"<onnxseal.InputKey {','.join(spec['transforms'])}, block {spec['block']}, {spec['channels']} channels>"

    def __reduce__(self):
        raise TypeError("an InputKey is secret and is not pickled: give the path of its file to ApplyInputKey")


class ApplyInputKey:
    """A transform of images for training loops, in the manner of torchvision's.

        transforms.Compose([transforms.ToTensor(), onnxseal.ApplyInputKey("key.txt"), transforms.Normalize(mean, std)])

    It takes PIL images, torch tensors [..., C, H, W] and numpy arrays in the key's layout, and gives the same. With floats,
    the key's range must be theirs: 0..1 after ToTensor. Put it before Normalize, or give `normalised=True` to put it after.
    With a path, each worker process opens the key file itself.
    """

    def __init__(self, key, *, identity=None, normalised=False):
        self.key, self.identity, self.normalised = key, identity, normalised
        self._opened = key if isinstance(key, InputKey) else None
        if self._opened is None:
            # At once, so that a wrong path fails here and not in a worker.
            self._opened = InputKey.open(os.fspath(key), identity)

    def __call__(self, image):
        if self._opened is None:
            self._opened = InputKey.open(os.fspath(self.key), self.identity)
        import numpy as np

        key = self._opened
        kind = type(image).__module__.partition(".")[0]
        if kind == "PIL":
            pixels = np.asarray(image)
            pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
            # Files have red, green, blue.
            flip = slice(None, None, -1) if key.spec["order"] == "bgr" else slice(None)
            keyed = self._apply(pixels[:, :, flip], "nhwc")[:, :, flip]
            keyed = np.ascontiguousarray(keyed)
            return sys.modules["PIL.Image"].fromarray(keyed[:, :, 0] if keyed.shape[2] == 1 else keyed)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(image, torch.Tensor):
            keyed = self._apply(image.detach().cpu().numpy(), "nchw")
            return torch.from_numpy(np.ascontiguousarray(keyed)).to(image.device)
        return key.apply(image, normalised=self.normalised)

    def _apply(self, pixels, layout):
        """Keyed images of ones with axes in this order."""
        import numpy as np

        key, (here, there) = self._opened, (-3, -1)
        if key.spec["layout"] == layout:
            return key.apply(pixels, normalised=self.normalised)
        if layout == "nhwc":
            here, there = there, here
        return np.moveaxis(key.apply(np.moveaxis(pixels, here, there), normalised=self.normalised), there, here)

    def __getstate__(self):
        if isinstance(self.key, InputKey):
            raise TypeError("an InputKey is secret and is not pickled: give its path to ApplyInputKey")
        return {**self.__dict__, "_opened": None}

    def __repr__(self):
        return f"ApplyInputKey({self.key!r})"


def keyed_inputs(input_key, inputs):
    """The key of each input, by its name: of one key or a dictionary, and of a session's inputs."""
    if input_key is None:
        return {}
    names = [value.name for value in inputs]
    if isinstance(input_key, dict):
        for name, key in input_key.items():
            if name not in names:
                raise UsageError(f"input_key is for {name!r}, which the model lacks: its inputs are {', '.join(names)}")
            _check_key(key)
        return dict(input_key)
    _check_key(input_key)
    images = [value.name for value in inputs if value.shape is not None and len(value.shape) == 4]
    if len(images) != 1:
        raise UsageError(f"the model has {len(images)} inputs of 4 axes: say which the key is for, as input_key={{name: key}}")
    return {images[0]: input_key}


def _check_key(key):
    if not isinstance(key, InputKey):
        raise TypeError("input_key is an onnxseal.InputKey, or a dictionary of them by the names of inputs")


def _type(dtype):
    if dtype.name not in _TYPES:
        raise UsageError(f"pixels are {', '.join(_TYPES)}, not {dtype.name}: convert them first")
    return _TYPES[dtype.name]


def _bytes(array):
    """The memory of a contiguous array."""
    import numpy as np

    return array.reshape(-1).view(np.uint8)


def _numbers(numbers):
    if numbers is None:
        return None
    return [float(numbers)] if isinstance(numbers, (int, float)) else [float(number) for number in numbers]
