"""A server on this machine that offers weights, and entries of the registry for them."""

import hashlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mlip.pretrained.entry import PretrainedEntry


class WeightsServer(ThreadingHTTPServer):
    """Serves `files` by their path; `answer`, if set, is called with the handler instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.answer = None


class Handler(BaseHTTPRequestHandler):
    server: WeightsServer

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.answer is not None:
            return self.server.answer(self)
        content = self.server.files.get(self.path)
        if content is None:
            return self.reply(404, b"no such file")
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        return self.reply(206 if start else 200, content[start:], span)

    def reply(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        for name, value in {"ETag": '"one"', **dict(headers)}.items():
            self.send_header(name, value)
        if length is not False:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):  # the other side has seen enough
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry_of(files: dict[str, bytes], **changes) -> PretrainedEntry:
    """An entry of a potential called `tiny`, whose publisher nobody can reach."""
    weights = [
        {
            "name": name,
            "urls": [f"https://publisher.invalid/{name}"],
            "bytes": len(content),
            "sha256": digest_of(content),
        }
        for name, content in files.items()
    ]
    values = {
        "name": "tiny",
        "title": "Tiny",
        "aliases": ["smallest"],
        "family": "M3GNet",
        "functional": "PBE",
        "elements": 3,
        "training_data": "none",
        "citation": ["doi:10.0/0"],
        "license": {"id": "MIT", "url": "https://publisher.invalid/LICENSE", "redistribution": "anyone"},
        "source": {"homepage": "https://publisher.invalid", "files": weights},
        "converter": "m3gnet",
    }
    return PretrainedEntry.model_validate(values | changes)
