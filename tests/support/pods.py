"""As much of a Kubernetes API server as snakemake-executor-plugin-kubernetes talks to: jobs and secrets.

The container of a job becomes a process in an empty directory of its own, which sees nothing of the others:
whatever a job needs and does not declare is missing. Images and limits are recorded, not acted upon.
"""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Pods:
    """The jobs that were created, in order, and their processes."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.created: list[dict[str, Any]] = []
        self.secrets: dict[str, dict[str, str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def create(self, job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        place = self.folder / name
        place.mkdir()
        variables = {
            entry["name"]: self._secret(**entry["valueFrom"]["secretKeyRef"]) for entry in container["env"]
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=place,
                env=self.environment | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.created.append(job)

    def _secret(self, name: str, key: str) -> str:
        return base64.b64decode(self.secrets[name][key]).decode()

    def status(self, name: str) -> dict[str, int]:
        code = self._processes[name].poll()
        return {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextmanager
def api_server(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[Pods, Path]]:
    """Yield the pods and the path of a kubeconfig that leads to them."""
    folder.mkdir()
    pods = Pods(folder, environment)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/secrets"):
                pods.secrets[body["metadata"]["name"]] = body["data"]
            elif self.path.endswith("/jobs"):
                pods.create(body)
            else:
                return self.answer(404, {"kind": "Status", "message": self.path})
            self.answer(201, body)

        def do_GET(self) -> None:
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[-1] == "pods":
                return self.answer(200, {"kind": "PodList", "items": []})
            if parts[-3] == "jobs" and parts[-1] == "status":
                return self.answer(200, {"kind": "Job", "status": pods.status(parts[-2])})
            self.answer(404, {"kind": "Status", "message": self.path})

        def do_DELETE(self) -> None:
            self.answer(200, {"kind": "Status", "status": "Success"})

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "kubeconfig.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
                ],
                "users": [{"name": "test", "user": {}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    try:
        yield pods, config
    finally:
        server.shutdown()
        server.server_close()
        pods.end()
