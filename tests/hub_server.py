"""A hub on loopback: as much of the Hugging Face protocol as `snapshot_download` speaks.

GET  /api/models/OWNER/NAME/revision/main    files and commit of a model
GET  /api/models/OWNER/NAME/tree/COMMIT      files with size and git's hash
HEAD /OWNER/NAME/resolve/COMMIT/FILE         size, ETag and commit of a file
GET  /OWNER/NAME/resolve/COMMIT/FILE         its content, from an offset where asked
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_MODEL = re.compile(r"/api/models/([^/]+/[^/]+)/revision/[^/?]+")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/[^/?]+")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)")


@dataclass
class Hub:
    """models: id -> folder. fetched: paths of the files whose content was asked for, in order."""

    endpoint: str
    models: dict[str, Path]
    fetched: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def serving(models: dict[str, Path]) -> Iterator[Hub]:
    """Serve `models` on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}", models)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        self.hub.requests.append(format % args)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if found := _MODEL.match(self.path):
            self._model(found[1])
        elif (found := _TREE.match(self.path)) and found[1] in self.hub.models:
            self._tree(self.hub.models[found[1]])
        elif (found := _FILE.match(self.path)) and found[1] in self.hub.models:
            self._file(self.hub.models[found[1]] / found[2], found[2], body)
        else:
            self._send(404, b"Not Found", {"X-Error-Code": "RepoNotFound"})

    def _model(self, name: str) -> None:
        if name not in self.hub.models:
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        folder = self.hub.models[name]
        files = [{"rfilename": path} for path, _ in _files(folder)]
        self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": files})

    def _tree(self, folder: Path) -> None:
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _git_hash(content)}
                for path, content in _files(folder)
            ]
        )

    def _file(self, path: Path, relative: str, body: bool) -> None:
        if not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{_git_hash(content)}"', "X-Repo-Commit": COMMIT}
        if body:
            self.hub.fetched.append(relative)
        first = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", ""))
        start = int(first[1]) if first else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers, body=body)

    def _json(self, answer: object) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(content)


def _files(folder: Path) -> list[tuple[str, bytes]]:
    return [
        (p.relative_to(folder).as_posix(), p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()
    ]


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
