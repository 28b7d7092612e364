"""The published example dataset: fetched by DOI, checked, unzipped once, cached."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from ..io import cache_folder
from ..io.cache import failure_reason
from ..io.storage import new_folder
from .archive import extract_zip

DOI = "10.5281/zenodo.18702024"
ARCHIVE = "aquamvs-example-dataset.zip"


def fetch_published(cache_dir: str | Path | None = None, progress: bool = True) -> Path:
    """The published example dataset, downloaded on the first call.

    Args:
        cache_dir: Folder for archive and dataset (see :func:`~aquamvs.io.cache_folder`).
        progress: Show a progress bar while downloading.

    Returns:
        The unzipped dataset's folder.

    Raises:
        DataError: There is no network and no cached copy, the archive does not match the checksum
            of its DOI, or it holds what no dataset holds.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.datasets import fetch_published
        >>> unzipped = Path("cache/aquamvs-example-dataset")
        >>> unzipped.mkdir(parents=True)
        >>> config.to_yaml(unzipped / "config.yaml")  # as a download would leave it
        >>> fetch_published("cache").name
        'aquamvs-example-dataset'
    """
    cache = cache_folder(cache_dir)
    folder = cache / Path(ARCHIVE).stem
    if not folder.is_dir() or not any(folder.iterdir()):
        archive = _download(cache, progress=progress)
        with new_folder(folder) as temporary:
            extract_zip(archive, temporary)
    return _dataset_root(folder)


def _download(cache: Path, *, progress: bool) -> Path:
    """Archive in the cache, downloaded if it is not there and checked against the DOI's record."""
    import pooch
    import requests

    fetcher = pooch.create(path=cache, base_url=f"doi:{DOI}", registry=None)
    try:
        fetcher.load_registry_from_doi()
        if ARCHIVE not in fetcher.registry:
            raise DataError(
                f"doi:{DOI} has no file {ARCHIVE}; it has {', '.join(fetcher.registry) or 'none'}"
            )
        downloader = pooch.DOIDownloader(progressbar=progress)
        with _quiet(pooch.get_logger(), wanted=not progress):
            return Path(fetcher.fetch(ARCHIVE, downloader=downloader))
    except (requests.RequestException, OSError) as error:
        raise DataError(
            f"cannot fetch {ARCHIVE} of doi:{DOI}: {failure_reason(error)}; connect to the "
            f"network, or download it from https://doi.org/{DOI} and unzip it into "
            f"{cache / Path(ARCHIVE).stem}, or make a "
            "rendered dataset with `aquamvs example`"
        ) from None
    except (ValueError, KeyError) as error:  # a wrong checksum; an answer that is no record
        raise DataError(
            f"{ARCHIVE} of doi:{DOI} is not what its record says: {error}; try again later"
        ) from None


@contextmanager
def _quiet(logger: logging.Logger, *, wanted: bool) -> Iterator[None]:
    """Keep Pooch's line about the download off the screen."""
    level = logger.level
    logger.setLevel(logging.WARNING if wanted else level)
    try:
        yield
    finally:
        logger.setLevel(level)


def _dataset_root(folder: Path) -> Path:
    """The dataset in an unzipped archive, which may have packed it into a folder of its own."""
    content = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return content[0] if len(content) == 1 and content[0].is_dir() else folder
