"""A stand-in for the Hugging Face Hub on loopback: the few endpoints that reading and writing a model repository need.

HubStandIn() as hub: hub.url, hub.repos {"org/name": {path: bytes}}, hub.requests [(method, path, authorization)]. Repositories named
in hub.private ask for TOKEN, those in hub.gated refuse; hub.status makes every answer an error, hub.silent never answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "StandInTokenThatMustNeverBeSeen"
COMMIT = "c0ffee" * 6 + "c0ff"


class HubStandIn:
    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.made_private: dict[str, bool] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.uploads: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.status: int | None = None
        self.silent = False

        class Bound(Handler):
            hub = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fetched(self) -> list[str]:
        """The files that were downloaded, in the order of asking."""
        asked = [
            p.split("/resolve/", 1)[1].split("/", 1)[1] for m, p, _ in self.requests if m == "GET" and "/resolve/" in p
        ]
        return [unquote(name) for name in asked]


class Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubStandIn]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while (size := int(self.rfile.readline(), 16)) > 0:
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        said = self.headers.get("Authorization", "")
        body = self.body()
        hub.requests.append((self.command, path, said))
        if hub.silent:
            time.sleep(30)
            return
        if hub.status is not None:
            return self.answer(hub.status, {"error": "no"})
        allowed = said == f"Bearer {TOKEN}"
        if self.command in ("POST", "PUT"):
            return self.write(path, body, allowed)
        if path.startswith("/api/models/"):
            words = path.removeprefix("/api/models/").split("/")
            repo = "/".join(words[:2])
            if (problem := self.closed(repo, allowed)) is not None:
                return problem
            if len(words) > 3 and words[3] not in ("main", COMMIT):
                return self.answer(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
            names = sorted(hub.repos[repo])
            if len(words) > 2 and words[2] == "tree":
                return self.answer(200, [self.entry(repo, name) for name in names])
            return self.answer(200, {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        _, _, name = rest.partition("/")
        if (problem := self.closed(repo, allowed)) is not None:
            return problem
        content = hub.repos[repo].get(unquote(name))
        if content is None:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        return self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def entry(self, repo: str, name: str) -> dict[str, Any]:
        content = self.hub.repos[repo][name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def closed(self, repo: str, allowed: bool) -> bool | None:
        if repo in self.hub.gated:
            self.answer(403, {"error": "no"}, X_Error_Code="GatedRepo")
            return True
        if repo not in self.hub.repos or (repo in self.hub.private and not allowed):
            self.answer(404 if allowed else 401, {"error": "no"}, X_Error_Code="RepoNotFound")
            return True
        return None

    def write(self, path: str, body: bytes, allowed: bool) -> None:
        hub = self.hub
        if path.startswith("/upload/"):
            hub.uploads[path.removeprefix("/upload/")] = body
            return self.answer(200)
        if not allowed:
            return self.answer(401, {"error": "no"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if repo in hub.repos:
                return self.answer(409, {"error": "exists", "url": f"{hub.url}/{repo}"})
            hub.repos[repo] = {".gitattributes": b""}
            hub.made_private[repo] = bool(asked.get("private") or asked.get("visibility") == "private")
            return self.answer(200, {"url": f"{hub.url}/{repo}", "name": repo, "id": "1"})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{hub.url}/upload/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return self.answer(
                200, {"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json"
            )
        repo, _, what = path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")
        if what == "preupload":
            files = json.loads(body)["files"]
            large = ".safetensors"
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(large) else "regular",
                    "shouldIgnore": False,
                }
                for f in files
            ]
            return self.answer(200, {"files": modes})
        assert what == "commit", path
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = hub.uploads[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                hub.repos[repo][value["path"]] = content
        return self.answer(200, {"commitUrl": f"{hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any
