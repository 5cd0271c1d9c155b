"""Identities from programs, as docs/KEYS.md has them: each store holds the tool's identity and gives it to the command.

A store whose programs are not installed is skipped; moto imitates AWS.
"""

import base64
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import boto3
import onnxseal
import pytest
from catalog import MODELS, ROOT
from store import free_port, wait_for

MODEL = MODELS / "digits_cnn.onnx"
STORES = ["pass", "tpm2_unseal", "aws secretsmanager", "sh -c 'aws kms"]


def documented():
    """The commands of the table in docs/KEYS.md, by their first words."""
    section = (ROOT / "docs" / "KEYS.md").read_text().split("## Where services keep keys")[1].split("\n## ")[0]
    rows = [line.replace("\\|", "|") for line in section.splitlines() if line.startswith("| ") and "` |" in line]
    commands = [row.split("`")[1] for row in rows if "| yes" in row]
    return {start: next(c for c in commands if c.startswith(start)) for start in STORES}, len(commands)


COMMANDS, N_COMMANDS = documented()


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*args, **options):
    return subprocess.run(args, check=True, capture_output=True, timeout=120, **options).stdout


def until_open(port):
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def sealed(tool, tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "sealed.onnx"
    tool.protect(MODEL, path)
    return path


@pytest.fixture
def key(tool, tmp_path):
    """The one line of the identity that is secret, as a file: a TPM takes no more than 128 bytes."""
    lines = tool.identity_file.read_text().splitlines(keepends=True)
    path = tmp_path / "key.txt"
    path.write_text(next(line for line in lines if line.startswith("AGE-SECRET-KEY-")))
    path.chmod(0o600)
    return path


@pytest.fixture
def opens(tool, sealed, tmp_path, monkeypatch):
    """Opens the model with a command, through the tool and through the package."""

    def check(command):
        monkeypatch.chdir(tmp_path)
        for number, given in enumerate([command, shlex.split(command)]):
            onnxseal.unprotect(sealed, tmp_path / f"{number}.onnx", identity=onnxseal.IdentityCommand(given))
            assert (tmp_path / f"{number}.onnx").read_bytes() == MODEL.read_bytes()
        done = subprocess.run(
            [tool.binary, "-q", "verify", sealed, "--identity-command", command], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")

    return check


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    need("aws")
    port = free_port()
    log = open(tmp_path_factory.mktemp("aws") / "log", "wb")
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    try:
        wait_for(environment["AWS_ENDPOINT_URL"], server)
        yield environment
    finally:
        server.terminate()
        server.wait(60)
        log.close()


@pytest.fixture
def client(aws, monkeypatch):
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    return boto3.client


def test_every_command_that_the_page_says_was_run_is_run_here():
    assert len(COMMANDS) == N_COMMANDS


def test_pass(opens, key, tmp_path, monkeypatch):
    need("pass", "gpg")
    # The path of gpg's socket may have about a hundred characters.
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    monkeypatch.setenv("PASSWORD_STORE_DIR", str(tmp_path / "store"))
    user = "onnxseal@example.org"
    run("gpg", "-q", "--batch", "--passphrase", "", "--quick-generate-key", user, "rsa2048", "encr", "never")
    try:
        run("pass", "init", user)
        run("pass", "insert", "-m", "onnxseal/model", input=key.read_bytes())
        opens(COMMANDS["pass"])
    finally:
        run("gpgconf", "--kill", "gpg-agent")


def test_a_tpm(opens, key, tmp_path, monkeypatch):
    need("swtpm", "tpm2_unseal")
    state = tmp_path / "state"
    state.mkdir()
    port = free_port()
    monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:port={port}")
    server, control = f"type=tcp,port={port}", f"type=tcp,port={port + 1}"
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", server, "--ctrl", control]
    tpm = subprocess.Popen([*command, "--flags", "not-need-init,startup-clear"], stderr=subprocess.PIPE)
    try:
        until_open(port + 1)
        page = (ROOT / "docs" / "KEYS.md").read_text()
        steps = [line.strip() for line in page.splitlines() if line.startswith("    tpm2_")]
        assert len(steps) == 4
        for step in steps:
            run(*shlex.split(step), cwd=tmp_path)
            # A resource manager, which a real TPM has, makes room by itself.
            run("tpm2_flushcontext", "-t")
        opens(COMMANDS["tpm2_unseal"])
    finally:
        tpm.terminate()
        tpm.wait(60)


def test_aws_secrets_manager(opens, client, tool):
    text = tool.identity_file.read_text()
    client("secretsmanager").create_secret(Name="onnxseal/model", SecretString=text)
    opens(COMMANDS["aws secretsmanager"])


def test_aws_kms(opens, client, tool, tmp_path):
    kms = client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=tool.identity_file.read_bytes())
    (tmp_path / "identity.kms").write_bytes(sealed["CiphertextBlob"])
    opens(COMMANDS["sh -c 'aws kms"])


def test_a_secret_as_kubernetes_mounts_it(tool, sealed, tmp_path):
    """As a link to a link, of which the cluster changes one at once."""
    version = tmp_path / "..2026"
    version.mkdir()
    shutil.copy(tool.identity_file, version / "key")
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "key").symlink_to("..data/key")
    tool("verify", sealed, "-i", tmp_path / "key")
    assert onnxseal.verify(sealed, identity=tmp_path / "key")["authenticated"]


def test_what_a_command_is():
    command = onnxseal.IdentityCommand(["vault", "token=secret"])
    assert repr(command) == 'IdentityCommand("vault", ..)'
    key = onnxseal.generate_identity().text().splitlines()[-1]
    assert key not in repr(onnxseal.IdentityCommand(key))
    for wrong in (b"cat", 1, ["cat", 1]):
        with pytest.raises(TypeError, match="a command is a list of words, or a string"):
            onnxseal.IdentityCommand(wrong)
    for wrong in ("", [], [""], "cat 'x"):
        with pytest.raises(onnxseal.UsageError, match="an identity command"):
            onnxseal.IdentityCommand(wrong)
    for wrong in (0, -1, 86401, float("nan"), float("inf")):
        with pytest.raises(onnxseal.UsageError, match="seconds"):
            onnxseal.IdentityCommand("cat", seconds=wrong)


def test_where_an_identity_goes_a_command_goes(sealed, tool, tmp_path):
    command = onnxseal.IdentityCommand(["cat", tool.identity_file])
    assert onnxseal.InferenceSession(sealed, identity=command).get_inputs()
    assert onnxseal.verify(sealed, identity=[onnxseal.generate_identity(), command])["authenticated"]
    code = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1]); print('opened')"
    (tmp_path / "app.py").write_text(code)
    line = shlex.join(["cat", str(tool.identity_file)])
    arguments = ["-m", "onnxseal", "run", "--identity-command", line, tmp_path / "app.py", sealed]
    assert run(sys.executable, *arguments) == b"opened\n"


def test_a_command_that_fails(sealed, tmp_path):
    begun = time.monotonic()
    for command, said in [
        (["sh", "-c", "echo hunter2; exit 3"], "the output of sh.*exit status: 3"),
        (["no-such-program"], "the output of no-such-program"),
        (["yes", "hunter2"], "262144 bytes"),
        (["sleep", "61"], "within 1 seconds"),
    ]:
        with pytest.raises(onnxseal.IoError, match=said) as raised:
            onnxseal.unprotect(
                sealed, tmp_path / "x.onnx", identity=onnxseal.IdentityCommand(command, seconds=1)
            )
        assert "hunter2" not in str(raised.value)
        assert not (tmp_path / "x.onnx").exists()
    assert time.monotonic() - begun < 30


def test_ctrl_c_ends_a_command(sealed, tmp_path):
    pid = tmp_path / "pid"
    command = onnxseal.IdentityCommand(["sh", "-c", 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 61', pid])

    def interrupt():
        while not pid.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        onnxseal.unprotect(sealed, tmp_path / "out.onnx", identity=command)
    thread.join()
    assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
