"""The one cache folder: downloaded weights and datasets."""

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "AQUAMVS_CACHE"
"""Environment variable that names the cache folder."""


def cache_folder(chosen: str | Path | None = None) -> Path:
    """Cache folder: ``chosen``, else ``$AQUAMVS_CACHE``, else in the user's cache folder.

    Example:
        >>> from aquamvs.io import cache_folder
        >>> cache_folder("weights").name
        'weights'
    """
    place = chosen or os.environ.get(CACHE_VARIABLE)
    if place:
        return Path(place).expanduser()
    import pooch

    return Path(pooch.os_cache("aquamvs"))


def failure_reason(error: BaseException) -> str:
    """Why a download failed, in the words of what failed first.

    Requests wraps the fault of the connection in two others, each of which quotes it at length.

    Example:
        >>> from aquamvs.io.cache import failure_reason
        >>> failure_reason(OSError(ConnectionError("no route to host")))
        'no route to host'
    """
    while True:
        causes = (getattr(error, "reason", None), *error.args)
        cause = next((each for each in causes if isinstance(each, BaseException)), None)
        if cause is None:
            return " ".join(str(error).split())
        error = cause
