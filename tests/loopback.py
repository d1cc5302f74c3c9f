"""A server on this machine's own address that stands in for those weights come from."""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Answer:
    """What a path answers. cut: bytes after which it hangs up."""

    body: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None


class Loopback:
    """Answers by path; `asked` notes (method, path, range)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Take nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, path: str, body: bytes, **settings) -> None:
        """Answer a path with these bytes."""
        self.answers[path] = Answer(body, **settings)

    def serve_model(self, repository: str, files: dict[str, bytes], cut: int | None = None) -> None:
        """A model on a hub; weights have a SHA-256 there, other files git's own digest."""
        rows = []
        for name, body in files.items():
            large = name.endswith((".safetensors", ".bin"))
            sha256 = hashlib.sha256(body).hexdigest()
            git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            row = {"rfilename": name, "size": len(body), "blobId": git}
            if large:
                row["lfs"] = {"sha256": sha256, "size": len(body), "pointerSize": 134}
            rows.append(row)
            headers = {"ETag": f'"{sha256 if large else git}"', "X-Repo-Commit": COMMIT}
            self.answers[f"/{repository}/resolve/{COMMIT}/{name}"] = Answer(
                body, headers=headers, cut=cut if large else None
            )
        info = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": rows}
        self.serve(f"/api/models/{repository}", json.dumps(info).encode())

    def _handler(self) -> type:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                span = self.headers.get("Range")
                outer.asked.append((self.command, path, span))
                answer = outer.answers.get(path, Answer(status=404))
                body, status = answer.body, answer.status
                if span:
                    first = int(span.removeprefix("bytes=").partition("-")[0])
                    body, status = body[first:], 206
                self.send_response(status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    with contextlib.suppress(OSError):
                        self.wfile.write(body[: answer.cut])

            do_HEAD = do_GET

            def log_message(self, *_words) -> None:
                pass

        return Handler
