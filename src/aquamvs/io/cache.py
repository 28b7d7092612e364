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
