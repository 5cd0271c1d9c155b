"""The Python package: what happens to a process that has sessions, from outside and from within it."""

import os
import signal
import subprocess
import sys
import textwrap

import onnx
import onnxseal_open
import onnxseal_tiers
import pyrage
import pytest
from demand import folder, on_demand, runs, starts  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system calls have other numbers")

# Refuses system calls with an error, for the calling thread or for all.
FILTER = """
def refuse(errors, all_threads):
    lines = [(0x20, 0, 0, 0)]
    for number, error in errors.items():
        lines += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]
    lines.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(lines), ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.syscall(317, 1, 1 if all_threads else 0, ctypes.byref(program)) == 0, os.strerror(ctypes.get_errno())
"""


def with_filter(program):
    """A program that may call `refuse`."""
    return FILTER + textwrap.dedent(program)


@pytest.fixture
def copies(folder, tmp_path):
    """The model and the identity in a folder of their own."""
    for name in ("sealed.onnx", "sealed.bin", "id.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


@on_demand
@x86_64
def test_a_child_that_nothing_prepared_crashes_or_computes_the_same(folder):
    said = runs(
        folder,
        """
        expected = session().run(None, FEED)
        libc = ctypes.CDLL(None)
        forks = [lambda: libc.syscall(56, int(signal.SIGCHLD), 0, 0, 0, 0), getattr(libc, "_Fork", None), os.fork]
        for fork in filter(None, forks):
            s = session()
            # A clone after a fork, too.
            for again in range(2):
                child = fork()
                if child == 0:
                    os._exit(0 if same(s.run(None, FEED), expected) else 7)
                status = os.waitpid(child, 0)[1]
                print(status)
                assert status in (0, signal.SIGSEGV), status
                assert status == 0 or fork is not os.fork
                assert same(s.run(None, FEED), expected)
        # What was made whole for a child is whole for all.
        os.waitpid(os.fork() or os._exit(0), 0)
        child = forks[0]()
        if child == 0:
            os._exit(0 if same(s.run(None, FEED), expected) else 7)
        assert os.waitpid(child, 0)[1] == 0
        """,
    )
    assert str(int(signal.SIGSEGV)) in said.split(), "the test shows nothing: no child lacked memory"


@on_demand
def test_sessions_outlive_the_descriptors_of_the_process(folder):
    runs(
        folder,
        """
        expected = session().run(None, FEED)
        unpacked = session(prepack=False).run(None, FEED)
        some = [session(), session(prepack=False)]
        os.closerange(3, 400)
        # Others get the numbers.
        pipes = [os.pipe() for _ in range(40)]
        for _, end in pipes:
            os.write(end, b"theirs")
        assert same(some[0].run(None, FEED), expected)
        assert same(some[1].run(None, FEED), unpacked)
        before = time.process_time()
        time.sleep(1)
        assert time.process_time() - before < 0.5
        # Its memory is filled for a child, too.
        child = os.fork()
        if child == 0:
            os._exit(0 if same(some[0].run(None, FEED), expected) else 7)
        assert os.waitpid(child, 0)[1] == 0
        del some
        gc.collect()
        for start, end in pipes:
            assert os.read(start, 100) == b"theirs"
            os.write(end, b"still")
        assert same(session().run(None, FEED), expected)
        assert {os.read(start, 100) for start, _ in pipes} == {b"still"}
        """,
    )


@on_demand
def test_no_descriptor_of_the_process_is_needed_to_fill_memory(folder):
    runs(
        folder,
        """
        session()
        def names():
            folder = "/proc/self/fd"
            links = (os.path.join(folder, number) for number in os.listdir(folder))
            return sorted(os.path.basename(os.readlink(link)) for link in links if os.path.lexists(link))
        before, files = counts(), names()
        s = session()
        assert names() == sorted([*files, "sealed.bin", "sealed.onnx"]), (files, names())
        assert counts()[0] == before[0] + 1
        # No signal is delivered to the new thread.
        numbers = sorted(int(task) for task in os.listdir("/proc/self/task"))
        masks = [line.split()[1] for line in open(f"/proc/self/task/{numbers[-1]}/status") if line.startswith("SigBlk:")]
        assert int(masks[0], 16) & (1 << signal.SIGTERM - 1) and int(masks[0], 16) & (1 << signal.SIGCHLD - 1)
        """,
    )


@on_demand
@x86_64
def test_what_the_system_refuses_later_is_an_exception(copies):
    # By number: pread64, ioctl, madvise.
    for numbers in ((17,), (16,), (28,), (16, 28)):
        for all_threads in (True, False):
            runs(
                copies,
                with_filter(f"""
                expected = session().run(None, FEED)
                s = session()
                refuse({{number: 1 for number in {numbers}}}, {all_threads})
                for _ in range(2):
                    try:
                        found = s.run(None, FEED)
                    except Exception as error:
                        print(type(error), error)
                    else:
                        assert same(found, expected)
                del s
                gc.collect()
                """),
            )


@on_demand
def test_a_limit_of_memory_that_comes_later_is_an_exception(folder):
    program = """
        import resource
        expected = session().run(None, FEED)
        s = session()
        def limit(margin):
            resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + margin, resource.RLIM_INFINITY))
        MARGIN
        try:
            TRY
        except Exception as error:
            print(type(error), error)
        else:
            assert same(found, expected)
    """
    for margin in (0, 1, 4, 64):
        runs(folder, program.replace("MARGIN", f"limit({margin} << 20)").replace("TRY", "found = s.run(None, FEED)"))
    for margin in (0, 1, 4, 32, 64, 66, 70, 80, 100, 130, 160, 200, 300):
        made = "del s; gc.collect(); found = session().run(None, FEED)"
        runs(folder, program.replace("MARGIN", f"limit({margin} << 20)").replace("TRY", made))


@x86_64
def test_a_process_without_threads_works_or_gets_exceptions(folder, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    said = runs(
        folder,
        with_filter(f"""
        s = session()
        expected = s.run(None, FEED)
        # clone3 is not there, and clone fails.
        refuse({{435: 38, 56: 11}}, False)
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            pass
        else:
            raise AssertionError("the test shows nothing")
        passphrase = onnxseal.Passphrase("long enough for a test")
        calls = [
            lambda: s.run(None, FEED),
            lambda: onnxseal.open("sealed.onnx", "id.txt"),
            lambda: onnxseal.verify("sealed.onnx", identity="id.txt"),
            lambda: onnxseal.inspect("sealed.onnx"),
            lambda: onnxseal.plan("plain.onnx"),
            lambda: onnxseal.protect("plain.onnx", {str(tmp_path / "a" / "m.onnx")!r}, recipients=passphrase),
            lambda: onnxseal.unprotect("sealed.onnx", {str(tmp_path / "b" / "m.onnx")!r}, identity="id.txt"),
        ]
        for call in calls:
            call()
        # These need a thread.
        for call in (
            lambda: onnxseal.open("sealed.onnx", "id.txt", progress=print),
            lambda: onnxseal.unprotect("sealed.onnx", open(os.devnull, "wb"), identity="id.txt"),
        ):
            try:
                call()
            except OSError as error:
                print(type(error).__name__, error)
            else:
                raise AssertionError("the test shows nothing")
        assert same(session().run(None, FEED), expected)
        assert same(s.run(None, FEED), expected)
        """),
    )
    assert "PanicException" not in said and "panicked" not in said, said


def test_an_exception_of_a_signal_is_not_swallowed(folder):
    runs(
        folder,
        """
        fired = 0
        def late(number, frame):
            global fired
            fired += 1
            raise error("late")
        signal.signal(signal.SIGALRM, late)
        begun = time.monotonic()
        session()
        took = time.monotonic() - begun
        # ONNX Runtime itself tries again for RuntimeError.
        for error in (TimeoutError, AssertionError, type("Late", (Exception,), {})):
            for i in range(20):
                before = fired
                # CPython prints, and drops, an error raised while it frees an object.
                made = None
                try:
                    signal.setitimer(signal.ITIMER_REAL, took * (i + 0.5) / 20)
                    try:
                        made = session()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except error:
                    assert fired == before + 1
                else:
                    assert fired == before, (i, "swallowed")
        assert fired > 20, fired
        # Other threads raise errors that have no frame of their own.
        raised, main = 0, ctypes.c_ulong(threading.get_ident())
        for i in range(20):
            asked = threading.Event()
            def ask():
                asked.set()
                ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(error))
            timer = threading.Timer(took * (i + 0.5) / 20, ask)
            made = None
            try:
                timer.start()
                made = session()
                timer.cancel()
                timer.join()
                time.sleep(0)
            except error:
                raised += 1
            else:
                assert not asked.is_set(), (i, "swallowed")
            timer.join()
        assert raised > 5, raised
        """,
    )


@on_demand
def test_a_fork_after_a_cut_takes_nothing_from_the_parent(copies):
    runs(
        copies,
        """
        import subprocess
        s = session()
        expected = s.run(None, FEED)
        os.truncate("sealed.bin", 4096)
        assert same(s.run(None, FEED), expected)
        subprocess.run(["true"], preexec_fn=lambda: None, check=True)
        child = os.fork()
        if child == 0:
            os._exit(0 if same(s.run(None, FEED), expected) else 7)
        assert os.waitpid(child, 0)[1] == 0
        assert same(s.run(None, FEED), expected)
        """,
    )


def memory_of(process):
    """The memory of a process: whether core dumps have it, what it is, and its bytes."""
    with open(f"/proc/{process}/smaps") as smaps, open(f"/proc/{process}/mem", "rb", 0) as memory:
        for line in smaps:
            words = line.split()
            if not words[0].endswith(":"):
                start, end = (int(number, 16) for number in words[0].split("-"))
                what = line.strip()
            # Nobody reads memory that is filled on demand from outside.
            elif words[0] == "VmFlags:" and "rd" in words and not {"io", "um"} & set(words):
                memory.seek(start)
                yield "dd" not in words, what, memory.read(end - start)


@on_demand
def test_keys_that_are_held_are_in_no_core_dump(folder):
    program = """
        s = session()
        s.run(None, FEED)
        print("there", flush=True)
        sys.stdin.read()
    """
    held = starts(folder, program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert held.stdout.readline() == b"there\n"
        path = folder / "sealed.onnx"
        entries = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
        identity = onnxseal_open.read_identities(folder / "id.txt")[0]
        data_key = pyrage.decrypt(entries["onnxseal.key.1"].encode(), [identity])
        keys = onnxseal_tiers.TierKeys(data_key, 1, entries["onnxseal.manifest"].encode())
        secrets = {
            "data key": data_key,
            "chunk key": keys.chunk_key,
            "MAC key": keys.mac_key,
            "blobs key": onnxseal_tiers.derive(data_key, None, b"onnxseal/v1/blobs"),
        }
        parts = [
            (is_dumped, name, what)
            for is_dumped, what, part in memory_of(held.pid)
            for name, key in secrets.items()
            if key in part
        ]
        assert not [part for part in parts if part[0]], parts
        # The test finds what there is.
        assert {name for _, name, _ in parts} == {"chunk key", "blobs key"}, parts
    finally:
        held.communicate()
