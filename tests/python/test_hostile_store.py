"""Stores that want credentials, that say too much or that never end; and credentials in places where they show."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from catalog import EXIT_CODES
from store import KEY_ID, SECRET, environment

TOKEN = "session-token-never-shown"


class Hostile(ThreadingHTTPServer):
    """Answers every request as `answer(handler)` says, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.seen = answer, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """The tool may have had enough."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def any(self):
        self.server.seen.append(dict(self.headers))
        # What is sent as chunks is not read.
        self.close_connection = True
        self.server.answer(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = any

    def log_message(self, *_):
        pass


def say(handler, status, body=b"", **headers):
    handler.send_response_only(status)
    for name, value in {"Content-Length": len(body), **headers}.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@pytest.fixture
def ask(tool, tmp_path):
    """Runs the tool with a store that answers so; returns what it says in its errors."""

    def run(answer, *command, **more):
        server = Hostile(answer)
        env = environment(server.url, tmp_path) | {"AWS_SESSION_TOKEN": TOKEN} | more
        done = tool.run(*command, env=env)
        server.shutdown()
        server.server_close()
        assert done.returncode == EXIT_CODES["io"], done.stderr
        assert not any(word in done.stdout + done.stderr for word in (KEY_ID, SECRET, TOKEN))
        return done.stderr

    return run


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, ask):
    other = Hostile(lambda handler: say(handler, 200))
    elsewhere = other.url.replace("127.0.0.1", "localhost") + "/key?X-Amz-Signature=signed"
    for command in (["inspect", "s3://bucket/m.onnx"], ["verify", "--require-protected", "s3://bucket/folder/"]):
        said = ask(lambda handler: say(handler, status, Location=elsewhere), *command)
        assert "redirects to localhost, and redirects are not followed" in said and "signed" not in said
    assert other.seen == []


def test_a_refusal_is_shown_in_a_line(ask):
    body = f"\x1b[2J{TOKEN} {SECRET} {KEY_ID}\r\nhttp://user:password@host/?X-Amz-Signature=signed ".encode()
    for refusal in (body + b"\xff" * (8 << 20), b"<Error><Code>No</Code><Message>" + body * 10_000 + b"</Message></Error>"):
        said = ask(lambda handler, refusal=refusal: say(handler, 400, refusal), "verify", "--require-protected", "s3://bucket/folder/")
        assert len(said) < 4096 and "\x1b" not in said and "\r" not in said
        assert "password" not in said and "signed" not in said


def page(keys, token):
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>9</Size><LastModified>2020-01-01T00:00:00Z</LastModified></Contents>" for key in keys
    )
    after = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return f"<ListBucketResult>{contents}{after}</ListBucketResult>".encode()


def test_a_listing_ends(ask):
    command = ["verify", "--require-protected", "s3://bucket/folder/"]
    said = ask(lambda handler: say(handler, 200, page(["folder/a"], "again")), *command)
    assert "the listing repeats itself" in said
    count = iter(range(1 << 30))
    said = ask(lambda handler: say(handler, 200, page([], f"next{next(count)}")), *command)
    assert "the listing has 100 pages without an object" in said

    def endless(handler):
        handler.send_response_only(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"<ListBucketResult><Contents><Key>")
        while True:
            handler.wfile.write(b"k" * (1 << 20))

    said = ask(endless, *command)
    assert "the answer has more than 16777216 bytes, the limit" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SESSION_TOKEN", TOKEN + "\n"),
        ("AWS_ACCESS_KEY_ID", KEY_ID + "\nX-Other: header"),
        ("AWS_REGION", "us-\N{LATIN SMALL LETTER E WITH ACUTE}ast-1"),
        ("AWS_ENDPOINT_URL", f"http://{KEY_ID}:{SECRET}@127.0.0.1:9/"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:9/?token={TOKEN}"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9"),
    ],
)
def test_what_the_environment_says_is_checked_first(name, value, ask):
    said = ask(lambda handler: say(handler, 200), "inspect", "s3://bucket/m.onnx", **{name: value})
    assert f"the variable {name} " in said and "panicked" not in said


def test_passwords_in_urls_are_not_repeated(tool, tmp_path):
    urls = ["s3://user:password@bucket/key", "s3://user:password@bucket", "https://user:password@host/key"]
    urls += ["https://host/key?X-Amz-Signature=password", "s3://bucket/key?X-Amz-Credential=a&X-Amz-Signature=password"]
    output = tmp_path / "out"
    for url in urls:
        for command in (
            ["inspect", url],
            ["verify", url],
            ["protect", url, "-o", output],
            ["batch", "verify", url],
            ["inspect", "one.onnx", url],
            ["unprotect", "one.onnx", "-o", url],
            ["verify", "one.onnx", "-i", url],
        ):
            done = tool.run(*command)
            assert done.returncode in (EXIT_CODES["usage"], EXIT_CODES["io"]), done.stderr
            assert "password" not in done.stdout + done.stderr, command
        listed = tmp_path / "list"
        listed.write_text(url)
        done = tool.run("verify", "--list", listed)
        assert done.returncode == EXIT_CODES["usage"] and "password" not in done.stderr, done.stderr
