"""The server behind ``aquamvs view``: this machine only, one folder only, reading only.

It listens on the loopback address. That alone does not keep other pages in the user's browser out:
a page elsewhere may send requests here, and a name of its own may be made to resolve to the
loopback address. So the Host header must name this server, and an Origin, where there is one, must
be its own.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ..calibration import CalibrationData
from ..errors import AquaMVSError, DataError
from ..files import check_file, check_folder
from .geometry import encode_file, encode_rig, is_viewable

LOOPBACK = "127.0.0.1"
_MAX_FILES = 10_000
_MAX_IMAGE_BYTES = 1 << 28
_TIMEOUT_S = 30
_STATIC = {"/": ("page.html", "text/html"), "/viewer.js": ("viewer.js", "text/javascript")}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ViewServer:
    """Serves a page with the results below a folder.

    Args:
        folder: Output folder; nothing outside of it is read, not through links either.
        calibration: Rig to show as well.
        port: Port on the loopback address; 0: any free one.

    Raises:
        DataError: The folder does not exist, or the port is taken.

    Example:
        >>> from aquamvs.viewer import ViewServer
        >>> server = ViewServer(folder)
        >>> server.url.startswith("http:")
        True
        >>> server.close()
    """

    def __init__(
        self, folder: str | Path, *, calibration: CalibrationData | None = None, port: int = 0
    ) -> None:
        self.folder = Path(folder).resolve()
        check_folder(self.folder, "output folder of a run")
        self.calibration = calibration
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, self))
        except (OSError, OverflowError) as error:
            raise DataError(f"cannot listen on port {port} of {LOOPBACK}: {error}") from None
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.port}/"

    def serve(self) -> None:
        """Answer requests until :meth:`stop` or an interrupt."""
        self._server.serve_forever()

    def stop(self) -> None:
        """End :meth:`serve`, from another thread, and free the port."""
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Free the port."""
        self._server.server_close()

    def viewable(self) -> list[str]:
        """Paths of the files that can be shown, relative to the folder."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            shown = is_viewable(path) and path.is_file() and not path.name.startswith(".")
            if shown and path.resolve().is_relative_to(self.folder):  # else a link leads out
                found.append(path.relative_to(self.folder).as_posix())
            if len(found) == _MAX_FILES:
                break
        return found

    def resolve(self, name: str) -> Path:
        """The file of a relative path.

        Raises:
            DataError: It is outside of the folder, or of no kind that is shown.
        """
        try:
            path = (self.folder / name).resolve()
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links that lead in a circle
            raise DataError("no such file") from None
        if not (path.is_relative_to(self.folder) and is_viewable(path)):
            raise DataError("no such file")
        check_file(path, "file", max_bytes=1 << 33)
        return path


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server_version = "aquamvs"
    sys_version = ""
    timeout = _TIMEOUT_S

    def __init__(self, view: ViewServer, *arguments: object) -> None:
        self._view = view
        super().__init__(*arguments)  # type: ignore[arg-type]  # as socketserver calls it

    def handle(self) -> None:
        """Answer; a page that is closed or loaded anew before it has its answer is no fault."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answer with the page, the list of files, or what is to be drawn of one."""
        own = {f"{name}:{self._view.port}" for name in (LOOPBACK, "localhost")}
        hosts = self.headers.get_all("Host", [])
        origins = self.headers.get_all("Origin", [])
        if (
            len(hosts) != 1
            or hosts[0] not in own
            or {*origins} - {f"http://{host}" for host in own}
        ):
            self._answer(HTTPStatus.FORBIDDEN, b"this server answers its own page only\n")
            return
        try:
            content, kind = self._content(*self._asked())
        except AquaMVSError as error:
            self._answer(HTTPStatus.NOT_FOUND, f"{error}\n".encode())
            return
        self._answer(HTTPStatus.OK, content, kind)

    def _asked(self) -> tuple[str, str]:
        """The route, and the file that is named in it."""
        try:
            url = urlsplit(self.path)
            return url.path, parse_qs(url.query).get("file", [""])[0]
        except ValueError:  # brackets that do not match
            raise DataError("no such page") from None

    def _content(self, route: str, name: str) -> tuple[bytes, str]:
        if route in _STATIC:
            resource, kind = _STATIC[route]
            return files(__package__).joinpath(resource).read_bytes(), f"{kind}; charset=utf-8"
        if route == "/files":
            rig = self._view.calibration is not None
            listing = {"files": self._view.viewable(), "rig": rig}
            return json.dumps(listing).encode(), "application/json"
        if route == "/rig" and self._view.calibration is not None:
            return encode_rig(self._view.calibration), "application/octet-stream"
        if route == "/geometry":
            return encode_file(self._view.resolve(name)), "application/octet-stream"
        if route == "/image":
            path = self._view.resolve(name)
            if path.suffix.lower() != ".png":
                raise DataError("no such image")
            check_file(path, "image", max_bytes=_MAX_IMAGE_BYTES)
            return path.read_bytes(), "image/png"
        raise DataError("no such page")

    def _answer(
        self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep the terminal quiet; the browser shows what fails."""
