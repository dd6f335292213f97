"""A server with the Hugging Face Hub's routes for fetching one repository."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Hub:
    """The server's repository, and the requests that it received."""

    folders: dict[str, Path]
    """Commit -> folder of files."""
    branches: dict[str, str]
    """Branch or tag -> commit."""
    repo: str
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)
    cut_after_bytes: int | None = None
    """Close the connection of the next download after this many bytes."""
    refuse: re.Pattern[str] | None = None
    """Answer requests that match with an error."""
    refusal: int = 503
    card: dict[str, Any] | None = None
    """The metadata of the model card."""
    tags: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    """The Hub's routes for fetching; see huggingface_hub's `hf_api.py` and `file_download.py`."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        request = f"{self.command} {self.path}"
        self.hub.asked.append(f"{request} {self.headers.get('Range', '')}".strip())
        if self.hub.refuse and self.hub.refuse.search(request):
            self._send(self.hub.refusal, b"", {}, with_body=with_body)
        elif info := re.fullmatch(rf"/api/models/{self.hub.repo}(?:/revision/(.+?))?(?:\?.*)?", self.path):
            self._send_info(unquote(info[1] or "main"), with_body)
        elif file := re.fullmatch(rf"/{self.hub.repo}/resolve/([^/]+)/(.+)", self.path):
            self._send_file(file[1], file[2], with_body)
        else:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self._send(404, b'{"error": "Repository not found"}', headers, with_body=with_body)

    def _send_info(self, revision: str, with_body: bool) -> None:
        commit = self.hub.branches.get(revision, revision)
        if commit not in self.hub.folders:
            headers = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            self._send(404, b'{"error": "Invalid rev id"}', headers, with_body=with_body)
            return
        files = [{"rfilename": file.name} for file in sorted(self.hub.folders[commit].iterdir())]
        info = {
            "_id": "0",
            "id": self.hub.repo,
            "modelId": self.hub.repo,
            "sha": commit,
            "private": False,
            "tags": self.hub.tags,
            **({"cardData": self.hub.card} if self.hub.card is not None else {}),
            "siblings": files,
        }
        headers = {"Content-Type": "application/json"}
        self._send(200, json.dumps(info).encode(), headers, with_body=with_body)

    def _send_file(self, revision: str, name: str, with_body: bool) -> None:
        commit = self.hub.branches.get(revision, revision)
        file = self.hub.folders[commit] / name
        if not file.exists():
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._send(404, b"", headers, with_body=with_body)
            return
        content = file.read_bytes()
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        status = 200
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            headers["Content-Range"] = f"bytes {wanted[1]}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[int(wanted[1]) :]
        self._send(status, content, headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if self.hub.cut_after_bytes is not None and len(body) > self.hub.cut_after_bytes:
            self.wfile.write(body[: self.hub.cut_after_bytes])
            self.hub.cut_after_bytes = None
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the standard library)
        """Do not log, because the test records the requests."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    handler = type("Answers", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
