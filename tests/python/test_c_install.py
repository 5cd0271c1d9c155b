"""How the C library is installed: which files install.sh takes, and what CMake finds afterwards."""

import json
import os
import shutil
import stat
import struct
import subprocess

import c_library
import pytest
from catalog import MODELS

INSTALL = c_library.CAPI / "install.sh"
ELF = {"x86_64": 62, "aarch64": 183}
MACH_O = {"x86_64": 0x01000007, "aarch64": 0x0100000C}


def library(processor, suffix):
    """The beginning of a shared library."""
    if suffix == "dylib":
        return bytes.fromhex("cffaedfe") + struct.pack("<I", MACH_O[processor]) + bytes(24)
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 3, ELF[processor], 1) + bytes(40)


@pytest.fixture
def install(tmp_path):
    """Runs install.sh with a cargo that has built `made`, a shared library, where `folder` is, and one for this machine elsewhere."""

    def run(made, suffix, *options, folder="elsewhere"):
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        (target / f"libonnxseal.{suffix}").write_bytes(made)
        (target / "libonnxseal.a").write_bytes(b"!<arch>\n" + made)
        message = {
            "reason": "compiler-artifact",
            "package_id": "path+file:///x/crates/capi#onnxseal-capi@0.1.0",
            "filenames": [str(target / name) for name in ("libonnxseal.a", f"libonnxseal.{suffix}", "libonnxseal.rlib")],
        }
        bin = tmp_path / "bin"
        bin.mkdir(exist_ok=True)
        (bin / "message").write_text(json.dumps(message, separators=(",", ":")) + "\n")
        cargo = bin / "cargo"
        said = "note: native-static-libs: -lgcc_s -framework Security -lc"
        cargo.write_text(
            f'#!/bin/sh\ncase $1 in pkgid) echo "path+file:///x#onnxseal-capi@0.1.0" ;; '
            f'*) echo "$@" >"{bin}/arguments"; cat "{bin}/message"; echo "{said}" >&2 ;; esac\n'
        )
        rustc = bin / "rustc"
        rustc.write_text("#!/bin/sh\necho host: x86_64-unknown-linux-gnu\n")
        for program in (cargo, rustc):
            program.chmod(stat.S_IRWXU)
        prefix = tmp_path / "prefix"
        shutil.rmtree(prefix, ignore_errors=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith("CARGO")}
        env["PATH"] = f"{bin}:{env['PATH']}"
        done = subprocess.run([INSTALL, prefix, *options], env=env, capture_output=True, text=True)
        return done, prefix, (bin / "arguments").read_text().split()

    return run


@pytest.mark.parametrize(
    ("processor", "suffix", "options"),
    [
        ("x86_64", "so", []),
        ("aarch64", "so", ["--target", "aarch64-unknown-linux-gnu"]),
        ("aarch64", "so", ["--features", "object-store", "--target=aarch64-unknown-linux-gnu"]),
        ("aarch64", "dylib", ["--target", "aarch64-apple-darwin"]),
        ("x86_64", "dylib", ["--target", "x86_64-apple-darwin"]),
    ],
)
def test_what_cargo_built_is_installed(processor, suffix, options, install):
    made = library(processor, suffix)
    done, prefix, arguments = install(made, suffix, *options)
    assert done.returncode == 0, done.stderr
    assert all(option in arguments for option in options)
    assert (prefix / "lib" / f"libonnxseal.{suffix}").read_bytes() == made
    assert (prefix / "lib" / "libonnxseal.a").read_bytes().endswith(made)
    versioned = "libonnxseal.so.0.1.0" if suffix == "so" else "libonnxseal.0.1.0.dylib"
    assert (prefix / "lib" / versioned).is_file() and (prefix / "include" / "onnxseal.h").is_file()
    config = (prefix / "lib" / "cmake" / "onnxseal" / "onnxseal-config.cmake").read_text()
    assert f"/lib/{versioned}" in config and '"-lgcc_s;-framework Security;-lc"' in config and "@V" not in config
    assert "-lgcc_s -framework Security -lc" in (prefix / "lib" / "pkgconfig" / "onnxseal.pc").read_text()


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (library("x86_64", "so"), ["--target", "aarch64-unknown-linux-gnu"]),
        (library("aarch64", "so"), []),
        (library("aarch64", "dylib"), ["--target=x86_64-apple-darwin"]),
        (b"no library at all, and long enough for one", []),
    ],
)
def test_a_library_for_another_machine_is_refused(made, options, install):
    done, prefix, _ = install(made, "so", *options)
    assert done.returncode == 1 and "was wanted" in done.stderr
    assert not prefix.joinpath("lib").exists()


def test_cmake_finds_both_libraries(installed, tool, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is absent")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(programs C)\nset(CMAKE_C_STANDARD 11)\n"
        "find_package(onnxseal 0.1 REQUIRED)\nfind_package(onnxseal 0.1 REQUIRED)\n"
        f"add_executable(shared {c_library.CAPI}/examples/claims.c)\ntarget_link_libraries(shared onnxseal::onnxseal)\n"
        f"add_executable(static {c_library.CAPI}/examples/claims.c)\ntarget_link_libraries(static onnxseal::static)\n"
        "find_package(onnxseal 99 QUIET)\nif(onnxseal_FOUND)\n  message(FATAL_ERROR too new)\nendif()\n"
    )
    # From another place than that into which it was installed.
    moved = shutil.copytree(installed, tmp_path / "moved", symlinks=True)
    for command in (["-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={moved}"], ["--build", tmp_path / "build"]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    model = tmp_path / "model.onnx"
    tool.protect(MODELS / "tiny_int4.onnx", model, "--claim", "customer=acme")
    for program in ("shared", "static"):
        done = subprocess.run([tmp_path / "build" / program, model, tool.identity_file], capture_output=True, text=True)
        assert done.returncode == 0 and "claim customer=acme" in done.stdout, done.stderr
