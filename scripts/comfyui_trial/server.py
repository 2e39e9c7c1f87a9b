"""Talks to a running ComfyUI."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

__all__ = ["Server", "WorkflowFailed"]


class WorkflowFailed(Exception):
    """A workflow did not end as it should."""


@dataclass(frozen=True)
class Server:
    """A running ComfyUI.

    Attributes:
        url: such as "http://127.0.0.1:8188".
    """

    url: str

    def call(self, path: str, data: Any = None) -> Any:
        """The JSON answer to a request."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise WorkflowFailed(f"{path}: {error.read().decode()[:2000]}") from error
        return json.loads(content) if content else None

    def wait_until_up(self, seconds: float) -> None:
        """Wait until it answers."""
        ends = time.monotonic() + seconds
        while True:
            try:
                self.call("/system_stats")
            except OSError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)
            else:
                return

    def start(self, workflow: dict[str, Any]) -> str:
        """Queue a workflow, and give its id."""
        return str(self.call("/prompt", {"prompt": workflow})["prompt_id"])

    def end_of(self, identity: str, seconds: float = 120) -> dict[str, Any]:
        """The history entry of a workflow that has ended."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            history = self.call(f"/history/{identity}")
            if history:
                entry: dict[str, Any] = history[identity]
                return entry
            time.sleep(0.1)
        raise WorkflowFailed(f"workflow {identity} did not end within {seconds} s")

    def run(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """The outputs by node of a workflow that has to succeed."""
        entry = self.end_of(self.start(workflow))
        if entry["status"]["status_str"] != "success":
            raise WorkflowFailed(json.dumps(entry["status"]["messages"])[-3000:])
        outputs: dict[str, Any] = entry["outputs"]
        return outputs
