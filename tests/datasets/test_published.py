"""Fetching by DOI, against a local server in the place of doi.org and the repository."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from aquamvs.datasets import fetch_published
from aquamvs.datasets.published import ARCHIVE, DOI
from aquamvs.errors import DataError
from aquamvs.io import CACHE_VARIABLE

RECORD = DOI.rsplit(".", 1)[1]


@dataclass
class Repository:
    """What the server hands out, and what it was asked for."""

    archive: bytes
    name: str = ARCHIVE
    checksum: str | None = None
    requests: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes | None:
        self.requests.append(path)
        if path == f"/api/records/{RECORD}":
            digest = self.checksum or hashlib.md5(self.archive).hexdigest()  # noqa: S324
            link = f"https://zenodo.org/api/records/{RECORD}/files/{self.name}/content"
            entry = {"key": self.name, "checksum": f"md5:{digest}", "links": {"self": link}}
            return json.dumps({"id": int(RECORD), "files": [entry]}).encode()
        if path.startswith(f"/api/records/{RECORD}/files/{ARCHIVE}"):
            return self.archive
        return b"" if path in (f"/records/{RECORD}", f"/{DOI}") else None


def dataset_zip(prefix: str = "", **extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("config.yaml", "calibration.json", "images/cam0/frame_000000.png"):
            file.writestr(prefix + name, name)
        for name, content in extra.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Repository], None]]:
    """Start a server for a repository and send all requests there."""
    servers: list[ThreadingHTTPServer] = []

    def start(repository: Repository) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = repository.answer(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        real_get = requests.get

        def get(url: str, **options: object) -> requests.Response:
            host = f"http://127.0.0.1:{server.server_port}"
            local = url.replace("https://doi.org", host).replace("https://zenodo.org", host)
            assert local.startswith(host), f"unexpected request to {url}"
            response = real_get(local, **options)  # type: ignore[arg-type]
            # The DOI resolver redirects to the repository's record page.
            response.url = f"https://zenodo.org/records/{RECORD}" if "doi.org" in url else url
            return response

        monkeypatch.setattr(requests, "get", get)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_dataset_is_fetched_by_doi_unzipped_and_cached(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    repository = Repository(dataset_zip())
    serve(repository)
    folder = fetch_published(tmp_path / "cache", progress=False)
    assert folder == tmp_path / "cache" / "aquamvs-example-dataset"
    assert (folder / "config.yaml").read_text() == "config.yaml"
    assert (folder / "images" / "cam0" / "frame_000000.png").is_file()
    asked = len(repository.requests)
    assert sum("/files/" in request for request in repository.requests) == 1
    assert fetch_published(tmp_path / "cache", progress=False) == folder
    assert len(repository.requests) == asked


def test_a_dataset_packed_in_a_folder_of_its_own_is_found(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    serve(Repository(dataset_zip("aquamvs-example/", **{"__MACOSX/x": b""})))
    folder = fetch_published(tmp_path, progress=False)
    assert folder.name == "aquamvs-example"
    assert (folder / "config.yaml").is_file()


def test_the_cache_folder_is_taken_from_the_environment(
    serve: Callable[[Repository], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Repository(dataset_zip()))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert fetch_published(progress=False).is_relative_to(tmp_path / "elsewhere")


def test_a_progress_bar_is_shown_on_request(
    serve: Callable[[Repository], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serve(Repository(dataset_zip()))
    fetch_published(tmp_path / "loud", progress=True)
    assert "100%" in capfd.readouterr().err
    fetch_published(tmp_path / "quiet", progress=False)
    assert capfd.readouterr().err == ""


def test_an_altered_archive_is_refused_and_not_kept(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    serve(Repository(dataset_zip(), checksum="0" * 32))
    with pytest.raises(DataError, match="not what its record says"):
        fetch_published(tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_leaves_its_folder_is_refused(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    serve(Repository(dataset_zip(**{"../evil.txt": b"evil"})))
    with pytest.raises(DataError, match="evil"):
        fetch_published(tmp_path / "cache", progress=False)
    assert not (tmp_path / "evil.txt").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [ARCHIVE]


def test_a_record_without_the_archive_names_what_it_has(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    serve(Repository(dataset_zip(), name="other.zip"))
    with pytest.raises(DataError, match=r"no file aquamvs-example-dataset\.zip; it has other\.zip"):
        fetch_published(tmp_path, progress=False)


def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, **_: object) -> requests.Response:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", offline)
    with pytest.raises(DataError) as caught:
        fetch_published(tmp_path, progress=False)
    for part in ("no route to host", f"https://doi.org/{DOI}", str(tmp_path), "aquamvs example"):
        assert part in str(caught.value)


def test_a_repository_that_fails_is_an_error(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    class Broken(Repository):
        def answer(self, path: str) -> bytes | None:  # noqa: ARG002
            return None

    serve(Broken(dataset_zip()))
    with pytest.raises(DataError, match="cannot fetch"):
        fetch_published(tmp_path, progress=False)


def test_an_answer_that_is_no_record_is_an_error(
    serve: Callable[[Repository], None], tmp_path: Path
) -> None:
    class Busy(Repository):
        def answer(self, path: str) -> bytes | None:
            return b'{"status": 429, "message": "too many requests"}' if "api" in path else b""

    serve(Busy(dataset_zip()))
    with pytest.raises(DataError, match="not what its record says"):
        fetch_published(tmp_path, progress=False)
