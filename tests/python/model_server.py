"""A model server: ONNX Runtime on a repository laid out as Triton's, behind a part of the V2 protocol that Triton speaks.

Stands in for Triton, which the tests cannot have: a process of its own that opens models by path, external data too.

    python model_server.py REPOSITORY PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime

DATA_TYPES = {"FP32": np.float32, "INT64": np.int64}


def load(repository):
    """`{name: session}`: of each model the newest version."""
    versions = {}
    for model in Path(repository).glob("*/*/model.onnx"):
        versions.setdefault(model.parts[-3], {})[int(model.parts[-2])] = model
    return {name: open_session(models[max(models)]) for name, models in versions.items()}


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def infer(session, request):
    feed = {}
    for value in request["inputs"]:
        feed[value["name"]] = np.array(value["data"], DATA_TYPES[value["datatype"]]).reshape(value["shape"])
    outputs = zip(session.get_outputs(), session.run(None, feed), strict=True)
    return {"outputs": [{"name": o.name, "shape": v.shape, "data": v.ravel().tolist()} for o, v in outputs]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/v2/health/ready" else 404, {})

    def do_POST(self):
        _, _, _, name, _ = self.path.split("/")
        if name not in self.server.sessions:
            self.answer(404, {"error": f"no model {name}"})
            return
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, infer(self.server.sessions[name], request))

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    server.sessions = load(sys.argv[1])
    server.serve_forever()
