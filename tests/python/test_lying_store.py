"""A store that does not show the same object twice: what is concluded from one answer must hold for the others."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from catalog import EXIT_CODES, MODELS
from store import environment

MODEL = MODELS / "digits_cnn.onnx"


class Liar(ThreadingHTTPServer):
    """One object, shown as `first` to the requests for its beginning so many times, then as `then`."""

    daemon_threads = True

    def __init__(self, first, then, times=1):
        super().__init__(("127.0.0.1", 0), Answers)
        self.first, self.then, self.left = first, then, times
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """The tool may have had enough."""


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.begin(200, len(self.server.then))

    def do_GET(self):
        start, end = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        shown = self.server.first if self.server.left > 0 else self.server.then
        self.server.left -= 1
        body = shown[start : end + 1]
        self.begin(206, len(body), f"bytes {start}-{start + len(body) - 1}/{len(shown)}")
        self.wfile.write(body)

    def begin(self, status, length, content_range=None):
        self.send_response_only(status)
        for name, value in {
            "Content-Length": length,
            "ETag": '"same"',
            "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
            "Content-Range": content_range,
        }.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def protected(tool, tmp_path):
    out = tmp_path / "sealed.onnx"
    tool.protect(MODEL, out, "--preset", "full")
    return out.read_bytes()


def with_other_operators(model):
    """A graph of operators that no policy knows: nothing of it would be encrypted."""
    forged = model
    for op_type in (b"Conv", b"Gemm"):
        field = b"\x22\x04" + op_type
        assert field in forged
        forged = forged.replace(field, b"\x22\x04X" + op_type[1:])
    return forged


@pytest.mark.parametrize("times", [1, 2, 3])
def test_no_plan_comes_from_a_graph_that_was_not_authenticated(times, tool, protected, tmp_path):
    server = Liar(with_other_operators(protected), protected, times)
    env = environment(server.url, tmp_path)
    out, identity = tmp_path / "rotated.onnx", tool.identity_file
    for command in (
        ["rotate", "s3://bucket/m.onnx", "-o", out, "-i", identity, "-r", tool.recipient, "--preset", "full"],
        ["verify", "s3://bucket/m.onnx", "-i", identity, "--preset", "full"],
    ):
        server.left = times
        done = tool.run(*command, env=env)
        assert done.returncode in (EXIT_CODES["authentication"], EXIT_CODES["io"]), done.stderr
        assert not out.exists()
    # The same server, once it tells the truth.
    server.left = 0
    tool("verify", "s3://bucket/m.onnx", "-i", identity, "--preset", "full", env=env)


def test_an_answer_is_read_as_far_as_was_asked(tool, protected, tmp_path):
    class Endless(Answers):
        def do_GET(self):
            self.send_response_only(206)
            self.send_header("ETag", '"same"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", str(1 << 40))
            self.send_header("Content-Range", f"bytes 0-{len(protected) - 1}/{len(protected)}")
            self.end_headers()
            sent = 0
            try:
                while sent < 1 << 30:
                    sent += self.wfile.write(bytes(1 << 20))
            finally:
                server.sent.append(sent)

    server = Liar(protected, protected)
    server.RequestHandlerClass, server.sent = Endless, []
    done = tool.run("inspect", "s3://bucket/m.onnx", env=environment(server.url, tmp_path))
    assert done.returncode == EXIT_CODES["io"], done.stderr
    # Sockets have buffers; a gigabyte they have not.
    assert all(sent < 64 << 20 for sent in server.sent), server.sent
