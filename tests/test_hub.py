"""Downloads from the Hugging Face hub, played by a server on this machine."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest

REPOSITORY = "timm/tiny.test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``files`` as huggingface.co does; ``fault`` may be "cut" or "changed"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
        self.fault = None
        self.asked = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.server.asked.append(self.path)
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository != REPOSITORY:
            return self.refuse(404, "RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if name not in self.server.files:
            return self.refuse(404, "EntryNotFound")
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            if self.server.fault == "cut":
                content = content[: len(content) // 2]
            if self.server.fault == "changed":
                content = content[:-1] + b"?"
            self.wfile.write(content)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


DOWNLOAD = """
import sys
from kcls.errors import KclsError
from kcls.weights.hub import download, revision_of, verified
repository, name, revision = sys.argv[1:]
try:
    file = download(repository, name, revision or None)
    print(file, verified(file), revision_of(file))
except KclsError as error:
    print("KclsError:", error)
"""


@pytest.fixture
def fetch(hub, tmp_path):
    """Downloads a file in a process of its own, because the hub's library reads the environment once."""

    def fetch(name="model.safetensors", repository=REPOSITORY, revision="", **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        ours = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", DOWNLOAD, repository, name, revision],
            env={**kept, **ours, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return fetch


def whole_files(folder):
    return [p.name for p in folder.rglob("snapshots/*/*")] if folder.exists() else []


def test_a_file_comes_into_the_cache_and_is_read_offline_from_there(hub, fetch, tmp_path):
    answer = fetch()
    path, digest, revision = answer.split()
    assert path.startswith(str(tmp_path / "hf"))
    assert digest == hashlib.sha256(WEIGHTS).hexdigest()
    assert revision == COMMIT
    hub.asked.clear()
    assert fetch(HF_HUB_OFFLINE="1") == answer
    assert not hub.asked


def test_a_revision_is_asked_for(hub, fetch):
    assert fetch(revision="v1").endswith(COMMIT)
    assert any("/resolve/v1/" in path for path in hub.asked)
    assert not any("/resolve/main/" in path for path in hub.asked)


def test_what_is_not_there_is_named(hub, fetch):
    assert (
        fetch(repository="timm/other.test")
        == f"KclsError: there is no {hub.endpoint}/timm/other.test (or it needs HF_TOKEN)"
    )
    assert fetch(revision="v2") == f"KclsError: {hub.endpoint}/{REPOSITORY} has no revision 'v2'"
    assert fetch("pytorch.bin") == f"KclsError: {hub.endpoint}/{REPOSITORY} has no file pytorch.bin"


def test_offline_without_the_file_says_so(fetch, tmp_path):
    expected = f"HF_HUB_OFFLINE is set and {REPOSITORY}/model.safetensors is not in the cache {tmp_path / 'hf' / 'hub'}"
    assert fetch(HF_HUB_OFFLINE="1") == f"KclsError: {expected}"


@pytest.mark.heavy  # the hub's library waits 23 s between its six tries, and has no setting for that
def test_an_unreachable_hub_says_so(fetch):
    answer = fetch(HF_ENDPOINT="http://127.0.0.1:9")  # the discard port: nothing listens
    assert answer.startswith(f"KclsError: the hub cannot be reached and {REPOSITORY}/model.safetensors is not in")


def test_an_unreachable_hub_does_no_harm_to_what_is_in_the_cache(fetch):
    answer = fetch()
    assert fetch(HF_ENDPOINT="http://127.0.0.1:9") == answer


@pytest.mark.heavy
def test_an_interrupted_download_leaves_nothing_that_looks_whole(hub, fetch, tmp_path):
    hub.fault = "cut"
    assert fetch().startswith("KclsError: ")
    assert not whole_files(tmp_path)
    hub.fault = None
    assert fetch().split()[1] == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_file_that_is_not_what_the_hub_promised_is_refused(hub, fetch):
    hub.fault = "changed"
    answer = fetch()
    assert "is damaged: its SHA-256 is" in answer
    assert "remove it" in answer


def test_a_cache_that_cannot_be_written_is_named(hub, fetch):
    answer = fetch(HF_HOME="/dev/null/cache")
    assert answer.startswith("KclsError: cannot")
    assert "/dev/null" in answer
