"""The browser view: what it draws, and to whom it answers."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from aquamvs.datasets import make_rig
from aquamvs.errors import DataError
from aquamvs.io import save_height_map, save_mesh, save_point_cloud, write_image
from aquamvs.types import HeightMap, Mesh, PointCloud
from aquamvs.viewer import ViewServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with one of each, links that lead out of it, and a secret beside it."""
    folder = tmp_path / "output"
    rows = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    unknown = torch.full((1, 3), torch.nan)
    points = torch.cat([rows, unknown])
    ones = torch.ones(51)
    colors = torch.ones(51, 3)
    save_point_cloud(
        folder / "cloud.ply", PointCloud(points, colors, colors, ones, ones, ones.int())
    )
    faces = torch.arange(48).reshape(16, 3)
    save_mesh(folder / "mesh" / "surface.ply", Mesh(rows, faces, rows, rows))
    plane = torch.full((6, 8), 1.5)
    color = torch.ones(6, 8, 3)
    save_height_map(
        folder / "surface" / "height_map.npz",
        HeightMap(0.0, 0.0, 0.01, plane, plane, torch.ones(6, 8), plane.int(), color),
    )
    write_image(folder / "photo.png", torch.rand(4, 4, 3))
    write_image(tmp_path / "secret.png", torch.rand(4, 4, 3))
    (folder / "report.json").write_text("{}")
    (folder / "way_out.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "damaged.ply").write_bytes(b"ply\nnonsense")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[ViewServer]:
    server = ViewServer(folder, calibration=make_rig("small5"))
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.stop()
    thread.join()


def ask(
    server: ViewServer, path: str, *, host: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    named = {"Host": f"127.0.0.1:{server.port}" if host is None else host, **headers}
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def decode(content: bytes) -> tuple[dict, np.ndarray, np.ndarray]:
    """Header, positions and indices of a message."""
    length = int(np.frombuffer(content, "<u4", 1)[0])
    header = json.loads(content[4 : 4 + length])
    count, start = header["vertices"], 4 + length
    positions = np.frombuffer(content, "<f4", 3 * count, start).reshape(-1, 3)
    indices = np.frombuffer(content, "<u4", header["indices"], start + 16 * count)
    assert len(content) == start + 16 * count + 4 * header["indices"]
    return header, positions, indices


def test_the_page_loads_nothing_from_elsewhere(server: ViewServer) -> None:
    for path, kind in (("/", "text/html"), ("/viewer.js", "text/javascript")):
        status, content, headers = ask(server, path)
        assert (status, headers.get_content_type()) == (200, kind)
        assert b"http://" not in content
        assert b"https://" not in content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_files_are_listed_and_drawn(server: ViewServer) -> None:
    listing = json.loads(ask(server, "/files")[1])
    assert listing["rig"]
    names = ["cloud.ply", "mesh/surface.ply", "surface/height_map.npz", "photo.png"]
    assert set(names) <= set(listing["files"])
    assert not {"report.json", "way_out.png", "circle.png"} & set(listing["files"])
    header, positions, _ = decode(ask(server, "/geometry?file=cloud.ply")[1])
    assert (header["kind"], header["vertices"], header["total"]) == ("points", 50, 51)
    assert header["low"] == pytest.approx(positions.min(0).tolist())
    header, _, indices = decode(ask(server, "/geometry?file=mesh/surface.ply")[1])
    assert (header["kind"], indices.tolist()) == ("triangles", list(range(48)))
    header, positions, _ = decode(ask(server, "/geometry?file=surface%2Fheight_map.npz")[1])
    assert header["total"] == 2 * 5 * 7
    assert (positions[:, 2] == 1.5).all()
    assert ask(server, "/image?file=photo.png")[1].startswith(b"\x89PNG")


def test_the_rig_stands_above_its_water(server: ViewServer) -> None:
    header, positions, indices = decode(ask(server, "/rig")[1])
    rig = make_rig("small5")
    assert header["kind"] == "lines"
    cameras, water = positions[: 5 * len(rig.cameras)], positions[5 * len(rig.cameras) :]
    centers = torch.stack(list(rig.camera_positions().values())).numpy()
    np.testing.assert_allclose(cameras[::5], centers, atol=1e-6)
    np.testing.assert_allclose(water[:, 2], rig.water_z, atol=1e-6)
    looking = cameras.reshape(-1, 5, 3)
    assert (looking[:, 1:, 2] > looking[:, :1, 2]).all()  # down, towards the water
    assert indices.max() == len(positions) - 1


@pytest.mark.parametrize(
    "path",
    [
        *("/geometry?file=../secret.png", "/image?file=../secret.png", "/image?file=way_out.png"),
        *("/image?file=/etc/hostname", "/image?file=%2e%2e%2fsecret.png", "/image?file=none.png"),
        *("/image?file=circle.png", "//[", "http://[::1"),
        *("/image?file=report.json", "/image?file=cloud.ply", "/image?file=%00", "/image", "/.."),
        *("/geometry?file=damaged.ply", "/geometry?file=photo.png", "/image?file=" + "a" * 5000),
    ],
)
def test_nothing_outside_of_the_folder_and_nothing_damaged_is_served(
    server: ViewServer, path: str
) -> None:
    status, content, _ = ask(server, path)
    assert status == 404
    assert not content.startswith(b"\x89PNG")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "[::1]"])
def test_other_hosts_are_refused(server: ViewServer, host: str) -> None:
    assert ask(server, "/files", host=host)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_other_origins_are_refused(server: ViewServer, origin: str) -> None:
    assert ask(server, "/files", Origin=origin)[0] == 403
    assert ask(server, "/files", Origin=f"http://localhost:{server.port}")[0] == 200


def test_two_hosts_are_refused(server: ViewServer) -> None:
    own = f"Host: 127.0.0.1:{server.port}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET /files HTTP/1.1\r\n{own}Host: evil.example\r\n\r\n".encode())
        assert b" 403 " in connection.recv(100)


def test_a_page_that_is_closed_too_early_is_no_fault(
    server: ViewServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    with monkeypatch.context() as patched:
        patched.setattr("aquamvs.viewer.server._Handler.end_headers", gone)
        with pytest.raises(http.client.HTTPException):
            ask(server, "/files")
    assert ask(server, "/files")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(server: ViewServer, method: str) -> None:
    assert ask(server, "/files", method=method)[0] == 501


def test_it_listens_on_the_loopback_address_only(server: ViewServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/"
    with pytest.raises(DataError, match="cannot listen on port"):
        ViewServer(server.folder, port=server.port)
    with pytest.raises(DataError, match="is not a folder"):
        ViewServer(server.folder / "photo.png")


def test_the_command_prints_its_address_and_ends_when_interrupted(folder: Path) -> None:
    command = [sys.executable, "-m", "aquamvs", "view", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()  # or leaving the block waits for it, where interrupts are ignored


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataError, match="cannot read the folder"):
        ViewServer(tmp_path)
