"""A hub on this machine: the few addresses of the Hugging Face hub that fetching a model asks."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["FakeHub", "fake_hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Models are folders under `root`; `fetched` are the files that were sent, in order; `asked`: every address that
    was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def fake_hub(root: Path) -> Iterator[FakeHub]:
    hub = FakeHub(root)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            parts = path.split("/")
            hub.asked.append(path)
            if parts[:2] == ["api", "models"]:
                self.model("/".join(parts[2:4]), parts[4:])
            elif len(parts) > 4 and parts[2] == "resolve":
                self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
            else:
                self.refuse("EntryNotFound")

        def model(self, name: str, rest: list[str]) -> None:
            folder = hub.root / name
            if name == "org/gated":
                self.refuse("GatedRepo", 403)
            elif not folder.is_dir():
                self.refuse("RepoNotFound", 401)
            elif rest[1:2] and rest[1] not in ("main", COMMIT):
                self.refuse("RevisionNotFound")
            else:
                files = sorted(path for path in folder.rglob("*") if path.is_file())
                names = [path.relative_to(folder).as_posix() for path in files]
                if rest[:1] == ["tree"]:
                    entries = [
                        {"type": "file", "path": name, "size": file.stat().st_size, "oid": etag(file)}
                        for name, file in zip(names, files, strict=True)
                    ]
                    self.send_json(entries)
                else:
                    self.send_json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})

        def file(self, name: str, revision: str, path: str, body: bool) -> None:
            file = hub.root / name / path
            if not file.is_file() or revision != COMMIT:
                self.refuse("EntryNotFound")
                return
            content = file.read_bytes()
            if body:
                hub.fetched.append(path)
            self.send_response(200)
            self.send_header("ETag", f'"{etag(file)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def refuse(self, code: str, status: int = 404) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send_json(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
