"""Asking the hub: a server on this machine stands in for it, in a process that is allowed to connect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from billhook import hub

ASK = """
import json, sys
from billhook import hub
print(json.dumps([hub.ask(*question) for question in json.loads(sys.argv[1])]))
"""


class _Hub(BaseHTTPRequestHandler):
    """Has the model ``owner/there`` and the data set ``owner/texts``."""

    def do_HEAD(self) -> None:
        known = self.path.startswith(("/owner/there/", "/datasets/owner/texts/"))
        if known and self.path.endswith(("config.json", "README.md")):
            self.send_response(200)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "2")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def answers(endpoint: str, *questions: tuple[str, ...]) -> list[tuple[str, str]]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", ASK, json.dumps(questions)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [(answer, reason) for answer, reason in json.loads(done.stdout)]


def test_the_hub_tells_names_and_files_apart(endpoint: str) -> None:
    asked = (
        ("owner/there", "config.json"),
        ("owner/there", "nothing.json"),
        ("owner/gone", "config.json"),
        ("not a name/at all", "config.json"),
        ("owner/texts", "README.md", "dataset"),
        ("owner/texts", "README.md", "model"),
    )
    assert [answer for answer, _ in answers(endpoint, *asked)] == [
        "found",
        "no such file",
        "no such name",
        "no such name",
        "found",
        "no such name",
    ]


def test_a_hub_that_does_not_answer_is_given_up_at_once() -> None:
    began = time.perf_counter()
    ((answer, reason),) = answers("http://127.0.0.1:9", ("owner/there", "config.json"))  # nobody listens there
    assert answer == "unreachable"
    assert reason
    assert time.perf_counter() - began < hub.HUB_SECONDS  # its own client retries for 23 seconds


def test_offline_mode_counts_as_unreachable() -> None:
    answer, reason = hub.ask("owner/there", "config.json")  # conftest.py has switched it on
    assert (answer, "offline" in reason.lower()) == ("unreachable", True)


def test_the_cache_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not hub.is_cached("owner/there", "config.json")
    repository = tmp_path / "models--owner--there"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert hub.is_cached("owner/there", "config.json")
    assert not hub.is_cached("owner/there", "config.json", "dataset")
