"""`onnxseal run` where links, mounts and the caller's settings are unusual, and the tool where `/proc` is missing."""

import hashlib
import subprocess

from catalog import MODELS
from serving import ORIGINALS, memory, mounts

MODEL = MODELS / "digits_cnn.onnx"


@mounts
def test_the_identity_is_hidden_wherever_its_folder_is_mounted(served, tmp_path):
    """And nobody can write to what hides it, which takes memory without a limit."""
    keys, second, file = tmp_path / "my keys", tmp_path / "no \udcff text", tmp_path / "file"
    keys.mkdir()
    second.mkdir()
    file.touch()
    identity = served.identity.rename(keys / "id.txt")
    mounted = 'mount --bind "$1" "$2" && mount --bind "$1/id.txt" "$3" && shift 3 && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", mounted, "sh", keys, second, file]
    paths = [identity, second / "id.txt", file]
    shown = 'exec 2>/dev/null; for file; do cat "$file"; echo more >"$file" && echo written; done; true'
    command = ["sh", "-c", shown, "sh", *paths]
    assert served.output("-i", identity, before=before, command=command) == ""
    assert served.output("-i", second / "id.txt", before=before, command=command) == ""
    assert "AGE-SECRET-KEY" in identity.read_text()


@mounts
def test_a_link_in_the_folder_may_lead_nowhere(served):
    dangling = served.model("digits").with_name("gone.onnx")
    dangling.symlink_to("/nowhere/model.onnx")
    found = served.output("-i", served.identity, command=["sh", "-c", f"readlink {dangling}; ls {dangling.parent}"])
    assert found == "/nowhere/model.onnx\ngone.onnx\nmodel.onnx\n"


@memory
def test_a_copied_folder_leaves_out_a_link_that_leads_nowhere(served, shm):
    served.model("digits").with_name("gone.onnx").symlink_to("/nowhere/model.onnx")
    options = ["-i", served.identity, "--into", shm, "--allow-swap"]
    assert served.output(*options, command=["ls", "{}/digits/1"]) == "model.onnx\n"


@mounts
def test_too_little_memory_has_the_code_that_the_page_says(served):
    error = served.fails(7, "-i", served.identity, "--size", "64K")
    assert "No space left" in error


@mounts
def test_the_tool_needs_no_proc_to_write_models(tool, tmp_path):
    sealed, out = tmp_path / "sealed.onnx", tmp_path / "out.onnx"
    tool.protect(MODEL, sealed)
    hidden = 'mount -t tmpfs none /proc && exec "$@"'
    command = [tool.binary, "-q", "unprotect", sealed, "-i", tool.identity_file, "-o", out]
    for more in [], ["--force"]:
        done = subprocess.run(["unshare", "--mount", "sh", "-c", hidden, "sh", *command, *more], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == MODEL.read_bytes()


def test_urls_of_files_are_paths_for_every_output(tool, tmp_path):
    """And URLs of objects are refused where no model goes."""
    report = tmp_path / "report.json"
    sealed = tmp_path / "out" / "model.onnx"
    tool.protect(MODEL, sealed)
    batch = ["-q", "batch", "verify", sealed.parent, "-i", tool.identity_file, "--report"]
    tool(*batch, f"file://{report}")
    assert report.is_file()
    assert "only models go to stores" in tool(*batch, "s3://bucket/report.json", code=2).stderr
    assert "secret" not in tool(*batch, "s3://key:secret@bucket/report.json", code=2).stderr


@mounts
def test_the_cache_of_hugging_face_is_served(served, tmp_path):
    """A model and its data that are links, as a program finds them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in served.model("external").parent.iterdir():
        file.rename(blobs / f"sha-{file.name}")
        (snapshot / file.name).symlink_to(f"../../../blobs/sha-{file.name}")
    model = snapshot / "model.onnx"
    (data,) = ORIGINALS["external"].parent.glob(f"{ORIGINALS['external'].name}.data")
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ORIGINALS["external"], data)]
    for models in [model], [snapshot]:
        found = served.output("-i", served.identity, models=models, command=["sha256sum", model, snapshot / data.name])
        assert [line.split()[0] for line in found.splitlines()] == expected
