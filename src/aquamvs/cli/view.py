"""``aquamvs view``: results in the browser, from this machine to this machine."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from .arguments import Commands, add_command, add_verbosity
from .exit_codes import EXIT_DONE
from .output import print_result


def add_view(commands: Commands) -> None:
    """Describe ``view``."""
    parser = add_command(
        commands,
        "view",
        "Show clouds, meshes, height maps, images and the rig in the browser. Listens on this "
        "machine's loopback address only and serves one folder only; ends with Ctrl+C.",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="output folder, or a configuration file: its output folder, and the rig",
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port (default: any free one)"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address and open nothing"
    )
    add_verbosity(parser)


def view(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from ..calibration import load_calibration_data
    from ..config import PipelineConfig
    from ..errors import DataError
    from ..viewer import ViewServer

    folder, calibration = options.source, None
    if not folder.exists():
        raise DataError(f"{folder} does not exist; expected an output folder or a configuration")
    if not folder.is_dir():
        config = PipelineConfig.from_yaml(options.source)
        folder, calibration = config.output_dir, load_calibration_data(config.calibration_path)
    server = ViewServer(folder, calibration=calibration, port=options.port)
    try:
        print_result(options, {"url": server.url, "folder": server.folder}, server.url)
        if not options.no_browser:
            webbrowser.open(server.url)
        server.serve()
    except KeyboardInterrupt:  # the way to end it, from the moment that the address is known
        return EXIT_DONE
    finally:
        server.close()
    return EXIT_DONE
