"""Real servers of object stores on this machine, and a proxy before one that fails requests when told to."""

import base64
import hashlib
import hmac
import http.client
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, SOCK_STREAM, socket

import boto3
import requests
from catalog import files_below, files_of

BUCKET = "models"
KEY_ID, SECRET = "test-key-id", "test-secret-never-shown"


class Server:
    """The S3 of moto, in a process of its own."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_for(self.url, self.process)
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)

    def client(self, service):
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **keys)

    def keys(self, prefix=""):
        """What anybody sees who looks into the bucket."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return sorted(found["Key"] for found in listed.get("Contents", []))

    def read(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key, content):
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def uploads(self):
        """Keys of uploads that were begun and not ended."""
        listed = self.s3.list_multipart_uploads(Bucket=BUCKET)
        return sorted(found["Key"] for found in listed.get("Uploads", []))

    def guard(self):
        """From now on, every request needs a signature that is right."""
        requests.post(f"{self.url}/moto-api/reset-auth", data="0", timeout=30).raise_for_status()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


class AzureServer:
    """Azurite's blobs, where it is installed, with the account and the key that every Azurite has."""

    ACCOUNT = "devstoreaccount1"
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, binary, folder):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/{self.ACCOUNT}"
        command = [binary, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
        command += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        wait_for(self.url, self.process)
        self.create_container()

    def create_container(self):
        """https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key"""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
        lines += [f"/{self.ACCOUNT}/{self.ACCOUNT}/{BUCKET}", "restype:container"]
        digest = hmac.digest(base64.b64decode(self.KEY), "\n".join(lines).encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.ACCOUNT}:{base64.b64encode(digest).decode()}"
        url = f"{self.url}/{BUCKET}?restype=container"
        requests.put(url, headers=headers, timeout=30).raise_for_status()

    def environment(self):
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": self.KEY,
            "AZURE_STORAGE_ENDPOINT": self.url,
            "AZURE_ALLOW_HTTP": "true",
        }

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


def wait_for(url, process):
    for _ in range(600):
        try:
            requests.get(url, timeout=1)
            return
        except requests.RequestException:
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
    raise TimeoutError(url)


def environment(url, folder, key_id=KEY_ID, secret=SECRET):
    """For a tool that shall know this store and no other, and have only `folder` to write to."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HTTP", "http"))}
    aws = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        # Should a key be missing, nobody outside is asked for one.
        "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
    }
    return kept | aws | {"TMPDIR": str(folder), "HOME": str(folder)}


@contextmanager
def proxy(server, judge):
    """Hands requests on to `server`, but for those to which `judge(method, path)` gives a status, or `"cut"` for none.

    Yields the URL to use in place of the server's, and a list of all requests: method, path, headers."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path, dict(self.headers)))
            verdict = judge(self.command, self.path)
            if verdict == "cut":
                self.close_connection = True
                return
            if verdict is not None:
                self.answer(verdict, {}, b"")
                return
            upstream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                # The signature covers the Host header, which stays that of the proxy.
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                self.answer(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                upstream.close()

        def answer(self, status, headers, body):
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """The tool may be killed in the middle of a request."""

    listening = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}", seen
    finally:
        listening.shutdown()
        listening.server_close()


def free_port():
    with socket(AF_INET, SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Remote:
    """The tool, in an empty folder, with a store; the folder must stay as empty as it was."""

    def __init__(self, tool, url, folder):
        self.tool, self.folder = tool, folder
        self.environment = environment(url, folder)
        folder.mkdir(exist_ok=True)

    def __call__(self, *arguments, code=0):
        """Runs the tool; `code` is the exit code that it ends with, or a tuple of those it may."""
        done = self.run(*arguments)
        codes = code if isinstance(code, tuple) else (code,)
        assert done.returncode in codes, f"{arguments}: exit code {done.returncode}, not {code}\n{done.stderr}"
        return done

    def start(self, *arguments):
        command, pipe = [str(self.tool.binary), *map(str, arguments)], subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=self.folder, env=self.environment)

    def run(self, *arguments):
        started = self.start(*arguments)
        out, err = started.communicate(timeout=300)
        assert files_below(self.folder) == [], "a file was written where there should be none"
        assert SECRET not in out + err
        return subprocess.CompletedProcess(arguments, started.returncode, out, err)

    def protect(self, model, out, *options, **expect):
        return self("protect", model, "-o", out, "-r", self.tool.recipient, "-q", *options, **expect)

    def unprotect(self, model, out, *options, **expect):
        return self("unprotect", model, "-i", self.tool.identity_file, "-o", out, *options, **expect)


def upload(server, model, prefix):
    """Puts a model's files in the store, as they are."""
    for path, content in files_of(model).items():
        server.write(f"{prefix}/{path or model.name}", content)


def files_in(server, model, prefix):
    """What the store has of a model whose original is `model`."""
    return {path: server.read(f"{prefix}/{path or model.name}") for path in files_of(model)}


def forget_uploads(server):
    """What a lifecycle rule does."""
    for left in server.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        server.s3.abort_multipart_upload(Bucket=BUCKET, Key=left["Key"], UploadId=left["UploadId"])
