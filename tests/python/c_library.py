"""libonnxseal as C programs have it: installed into a folder, called by ctypes, and linked with what is compiled here."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import onnxruntime
from catalog import ROOT

KINDS = ["ok", "internal", "usage", "malformed", "authentication", "no_matching_key", "policy", "io", "runtime", "not_in_force"]
CAPI = ROOT / "crates" / "capi"
HEADERS = ROOT / "target" / "ort-headers"


class File(ctypes.Structure):
    _fields_ = [("path", ctypes.c_char_p), ("bytes", ctypes.c_char_p), ("length_bytes", ctypes.c_size_t)]


class Claim(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("value", ctypes.c_char_p)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("data_type", ctypes.c_int32),
        ("n_dims", ctypes.c_size_t),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_void_p),
        ("length_bytes", ctypes.c_size_t),
    ]  # fmt: skip


class Refused(Exception):
    """An error of the library."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class Library:
    """The shared library by ctypes."""

    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))

    def __call__(self, name, *arguments):
        """Calls `onnxseal_NAME`, which returns a pointer or a number of a pointer's width."""
        function = getattr(self.c, f"onnxseal_{name}")
        function.restype = ctypes.c_void_p
        return function(*(passed(argument) for argument in arguments))

    def check(self, name, *arguments):
        """Calls a function that can fail."""
        error = self(name, *arguments)
        if error is not None:
            kind = KINDS[self.c.onnxseal_error_kind(ctypes.c_void_p(error))]
            message = ctypes.string_at(self("error_message", error)).decode()
            self("error_release", error)
            raise Refused(kind, message)

    def make(self, name, *arguments):
        """Calls a function that leaves what it makes in a place of ours."""
        place = ctypes.c_void_p(1)
        try:
            self.check(name, *arguments, ctypes.byref(place))
        except Refused:
            assert place.value is None, f"{name} failed, and left {place.value}"
            raise
        return place.value

    def text(self, name, *arguments):
        """Calls a function that returns text, or `NULL`."""
        found = self(name, *arguments)
        return None if found is None else ctypes.string_at(found).decode()

    def struct(self, kind, name, *arguments):
        """Calls a function that returns a pointer to a struct, or `NULL`."""
        found = self(name, *arguments)
        return None if found is None else kind.from_address(found)

    def bytes(self, name, owner):
        """Calls a function that returns bytes, and their number in a place of ours."""
        length = ctypes.c_size_t()
        return ctypes.string_at(self(name, owner, ctypes.byref(length)), length.value)

    def identities(self, *files):
        identities = self("identities_new")
        for file in files:
            self.check("identities_add_file", identities, str(file).encode(), None)
        return identities

    def open(self, model, identities, options=None):
        return self.make("model_open", str(model).encode(), identities, options)


def passed(argument):
    """Numbers as wide as pointers: ctypes would cut them to an int."""
    return ctypes.c_void_p(argument) if argument is None or isinstance(argument, int) else argument


def install(folder):
    """Installs the library by the script that users run, with object stores: so most of its crates are built already."""
    subprocess.run([CAPI / "install.sh", folder, "--features", "object-store"], check=True, capture_output=True, text=True)
    return folder


def missing_program():
    """Which of the programs that these tests need is absent."""
    return next((name for name in ("cargo", "gcc", "g++", "pkg-config") if shutil.which(name) is None), None)


def headers():
    """ONNX Runtime's headers, fetched once; `None` where they cannot be had."""
    done = subprocess.run([ROOT / "tests" / "ort_headers.sh", HEADERS], capture_output=True, text=True)
    return HEADERS if done.returncode == 0 else None


def runtime_library(folder):
    """ONNX Runtime's library of the Python package, under the names that linkers and loaders look for."""
    folder.mkdir()
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    return folder


class Compiler:
    """gcc and g++ with what is installed in `folder`, as pkg-config tells it."""

    def __init__(self, folder, out):
        self.folder, self.out = folder, out

    def config(self, *arguments):
        env = os.environ | {"PKG_CONFIG_PATH": str(self.folder / "lib" / "pkgconfig")}
        done = subprocess.run(["pkg-config", *arguments, "onnxseal"], env=env, capture_output=True, text=True, check=True)
        return done.stdout.split()

    def __call__(self, name, source, *options, static=False):
        """Compiles a program, in C or C++ as its source says, with every warning an error."""
        program = self.out / name
        compiler = ["gcc", "-std=c11", "-pedantic"] if source.suffix == ".c" else ["g++", "-std=c++17"]
        library = self.config("--variable=static_libs") if static else self.config("--libs")
        warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
        command = [*compiler, "-g", *warnings, source, *self.config("--cflags"), *options, *library, "-o", program]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return program
