"""The Python package: sessions whose weights are decrypted when ONNX Runtime touches them."""

import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import onnxruntime
import onnxseal
import pytest
from demand import FEED, N_BYTES, folder, on_demand, runs  # noqa: F401
from onnx import TensorProto, helper, numpy_helper
from onnxseal._onnxseal import _obstacle
from wheel import options

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="userfaultfd(2) is of Linux")


@pytest.fixture(scope="module")
def expected(folder):
    return onnxruntime.InferenceSession(folder / "plain.onnx").run(None, FEED)


@on_demand
def test_a_session_takes_the_memory_of_a_plain_one(folder):
    for of in ("session()", "session(prepack=False)", "session(make)"):
        runs(
            folder,
            f"""
            make = onnxruntime.SessionOptions
            before = status("VmRSS")
            s = {of}
            peak, after = status("VmHWM") - before, status("VmRSS") - before
            # The packed weights, or those that lie there, and what ONNX Runtime needs besides.
            assert after < {N_BYTES} * 1.4, after
            # Two or three weights more, of 4 MiB.
            assert peak < {N_BYTES} * 1.4 + (16 << 20), peak
            s.run(None, FEED)
            assert status("VmHWM") - before < {N_BYTES} * 1.4 + (24 << 20)
            """.replace("session(make)", "onnxseal.InferenceSession('sealed.onnx', make, identity='id.txt')"),
        )


def test_outputs_are_those_of_the_plain_model(folder, expected):
    for more in ({}, {"prepack": False}, {"progress": lambda done, total: None}):
        for sess_options in (None, options, options()):
            found = onnxseal.InferenceSession(
                folder / "sealed.onnx", sess_options, identity=folder / "id.txt", **more
            ).run(None, FEED)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@on_demand
def test_a_file_that_is_overwritten_under_a_session_makes_its_calls_fail(folder, tmp_path):
    for name in ("sealed.onnx", "sealed.bin", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    runs(
        tmp_path,
        """
        s = session()
        def two_threads():
            made = options()
            made.intra_op_num_threads = 2
            return made
        other = onnxseal.InferenceSession("sealed.onnx", two_threads, identity="id.txt")
        size = os.path.getsize("sealed.bin")
        with open("sealed.bin", "r+b") as file:
            file.write(bytes(size))
        binding = s.io_binding()
        binding.bind_cpu_input("x", FEED["x"]), binding.bind_cpu_input("ids", FEED["ids"])
        for name in ("y", "row"):
            binding.bind_output(name)
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in FEED.items()}
        vector = onnxruntime.capi.onnxruntime_pybind11_state.OrtValueVector
        fetches, fed = vector(), vector()
        for value in values.values():
            fed.push_back(value._ortvalue)
        vectors = list(values), fed, ["y", "row"], fetches
        devices = [onnxruntime.OrtDevice.make("cpu", 0)._get_c_device()] * 2
        # The methods of ONNX Runtime's own class lead to the same check.
        calls = [
            call
            for of in (onnxseal.InferenceSession, onnxruntime.InferenceSession)
            for call in (
                lambda: of.run(s, None, FEED),
                lambda: of.run_with_iobinding(s, binding),
                lambda: of.run_with_ort_values(s, None, values),
                lambda: of.run_with_ortvaluevector(s, onnxruntime.RunOptions(), *vectors, devices),
            )
        ]
        # And again: it is never well again.
        for call in calls + calls:
            try:
                call()
            except onnxseal.AuthenticationError as error:
                assert "was changed in bytes" in str(error), error
            else:
                raise AssertionError("an output that nobody vouches for")
        # ONNX Runtime's own way needs a second thread.
        for of, it in ((onnxseal.InferenceSession, s), (onnxruntime.InferenceSession, other)):
            answers, ended = [], threading.Event()
            of.run_async(it, ["y", "row"], FEED, lambda *answer: (answers.append(answer), ended.set()), None)
            assert ended.wait(60)
            assert answers[0][0] == [] and "was changed in bytes" in answers[0][2], answers
        """,
    )


def test_a_file_that_is_replaced_under_a_session_changes_nothing(folder, tmp_path):
    for name in ("sealed.onnx", "sealed.bin", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    runs(
        tmp_path,
        """
        s = session()
        expected = session().run(None, FEED)
        for name in ("sealed.bin", "sealed.onnx"):
            open("other", "wb").write(bytes(os.path.getsize(name)))
            os.replace("other", name)
        for one, other in zip(s.run(None, FEED), expected):
            assert (one == other).all()
        """,
    )


def test_weights_that_were_changed_make_no_session(folder, tmp_path):
    for name in ("sealed.onnx", "sealed.bin", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    content = (tmp_path / "sealed.bin").read_bytes()
    for at in (0, N_BYTES // 2, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "sealed.bin").write_bytes(changed)
        for sess_options in (None, options, options()):
            with pytest.raises(onnxseal.AuthenticationError, match="was changed in bytes"):
                onnxseal.InferenceSession(tmp_path / "sealed.onnx", sess_options, identity=tmp_path / "id.txt")
        with pytest.raises(onnxseal.AuthenticationError, match="was changed in bytes"):
            onnxseal.open(tmp_path / "sealed.onnx", tmp_path / "id.txt")


def test_a_child_of_the_process_has_the_weights(folder):
    said = runs(
        folder,
        """
        s = session()
        expected = s.run(None, FEED)
        s = session()
        child = os.fork()
        found = s.run(None, FEED)
        same = all((one == other).all() for one, other in zip(found, expected))
        if child == 0:
            print("child", same, flush=True)
            del s
            gc.collect()
            # ONNX Runtime's own end waits for ever in a child.
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent", same)
        """,
    )
    assert "child True" in said and "parent True" in said


def test_a_child_of_the_process_makes_sessions(folder):
    runs(
        folder,
        """
        # A model that is opened as for a session, which the parent has begun to use.
        model = onnxseal.open("sealed.onnx", "id.txt", _opening="on demand")
        expected = session().run(None, FEED)
        first = onnxseal.InferenceSession(model, options)
        child = os.fork()
        second = onnxseal.InferenceSession(model, options)
        for s in (first, second, session()):
            assert all((one == other).all() for one, other in zip(s.run(None, FEED), expected))
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
    )


def test_a_session_whose_weights_were_changed_is_of_no_use(folder, tmp_path):
    for name in ("sealed.onnx", "sealed.bin", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with open(tmp_path / "sealed.bin", "r+b") as file:
        file.seek(N_BYTES // 2)
        file.write(bytes(100))
    session = onnxseal.InferenceSession.__new__(onnxseal.InferenceSession)
    with pytest.raises(onnxseal.AuthenticationError):
        session.__init__(tmp_path / "sealed.onnx", identity=tmp_path / "id.txt")
    with pytest.raises(Exception):
        session.run(None, FEED)


def test_a_child_that_is_made_while_a_session_is_made(folder):
    runs(
        folder,
        """
        made = []
        def make():
            made.append(session().run(None, FEED))
        thread = threading.Thread(target=make)
        thread.start()
        children = []
        while thread.is_alive():
            child = os.fork()
            if child == 0:
                os._exit(0)
            children.append(child)
            thread.join(0.02)
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        assert made
        """,
    )


def test_threads_that_make_and_use_sessions_at_once(folder, expected):
    failures = []

    def work():
        try:
            for _ in range(3):
                found = onnxseal.InferenceSession(folder / "sealed.onnx", identity=folder / "id.txt").run(None, FEED)
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Too small to be decrypted on demand, and large enough.
@pytest.mark.parametrize("rows, n_sessions", [(256, 1000), (10_000, 200)])
def test_many_sessions_leave_nothing(rows, n_sessions, folder, tmp_path):
    small = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 512])],
        [numpy_helper.from_array(np.ones((rows, 512), np.float32), "w")],
    )
    onnx.save(helper.make_model(small, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "s.onnx")
    onnxseal.protect(tmp_path / "s.onnx", tmp_path / "sealed.onnx", recipients=(folder / "recipient").read_text())
    (tmp_path / "id.txt").write_bytes((folder / "id.txt").read_bytes())
    runs(
        tmp_path,
        f"""
        memory = []
        for i in range({n_sessions}):
            session().run(None, {{"x": np.ones((1, {rows}), np.float32)}})
            memory.append(status("VmRSS"))
            if i == {n_sessions} // 5:
                before = counts()
        assert counts() == before, (counts(), before)
        # Each has half a megabyte of weights or more. The allocator keeps the weights of one or two sessions at
        # times, and gives them back at others, so medians are compared, and the weights of one are allowed.
        fifth = len(memory) // 5
        grown = statistics.median(memory[-fifth:]) - statistics.median(memory[fifth:2 * fifth])
        assert grown < (8 << 20) + {rows} * 512 * 4, memory
        """,
    )


def test_a_program_ends_while_sessions_are_used(folder):
    # While a session is made, too. (After sys.exit, ONNX Runtime aborts if daemon threads use it.)
    busy = "[threading.Thread(target=work, daemon=True).start() for work in (run, run, session)]"
    for end in ("sys.exit(3)", f"{busy}; os._exit(3)"):
        runs(
            folder,
            f"""
            s = session()
            def run():
                while True:
                    s.run(None, FEED)
            run_once = s.run(None, FEED)
            {end}
            """,
            expected=3,
        )


# Makes userfaultfd(2) fail with EPERM, as container runtimes do, and runs a program.
REFUSED = """
import ctypes, os, struct, sys
number = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(lines), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the system call has another number")
def test_where_the_system_refuses_weights_are_decrypted_first(folder, tmp_path):
    refused = [sys.executable, "-c", REFUSED]
    said = runs(
        folder,
        """
        expected = session(progress=lambda done, total: None).run(None, FEED)
        before = status("VmRSS")
        s = session()
        assert status("VmRSS") - before > 1.6 * %d
        assert all((one == other).all() for one, other in zip(s.run(None, FEED), expected))
        """
        % N_BYTES,
        before=refused,
    )
    doctor = [sys.executable, "-m", "onnxseal", "doctor"]
    said = subprocess.run([*refused, *doctor], capture_output=True, text=True, check=True).stdout
    assert "all decrypted first" in said and "userfaultfd: Operation not permitted" in said
    # Changed weights are found as early as ever.
    for name in ("sealed.onnx", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    changed = bytearray((folder / "sealed.bin").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "sealed.bin").write_bytes(changed)
    runs(
        tmp_path,
        """
        try:
            session()
        except onnxseal.AuthenticationError:
            sys.exit(5)
        """,
        expected=5,
        before=refused,
    )


def test_the_doctor_tells_how_sessions_get_their_weights():
    doctor = [sys.executable, "-m", "onnxseal", "doctor"]
    said = subprocess.run(doctor, capture_output=True, text=True, check=True).stdout
    assert f"ONNX Runtime {onnxruntime.__version__}" in said
    assert ("decrypted when ONNX Runtime touches them" in said) == (_obstacle() is None)


@on_demand
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_without_rights_has_it_too(folder):
    runs(
        folder,
        """
        from onnxseal._onnxseal import _obstacle
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        assert _obstacle() is None, _obstacle()
        """,
    )


@on_demand
def test_a_process_that_is_killed_leaves_no_core_with_weights(folder):
    runs(
        folder,
        f"""
        s = session(prepack=False)
        s.run(None, FEED)
        kept, flags = 0, ""
        for line in open("/proc/self/smaps"):
            if line.startswith("Rss:"):
                size = int(line.split()[1]) * 1024
            if line.startswith("VmFlags:") and " dd" in line and " um" in line:
                kept += size
        # All that lies there is memory that no core dump has.
        assert kept >= {N_BYTES}, kept
        """,
    )
