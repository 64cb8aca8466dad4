"""Find the files of a data set, fetch missing ones, and describe how to get them."""

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from lt_rebalance.data.spec import DATA_DIR_VARIABLE, DatasetSpec
from lt_rebalance.ground.errors import DataError

DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist installs its .gz files."""
EMBEDDED_DIR = Path(__file__).parent / "sample"


def locate_data_dir(data_dir: str | Path | None) -> Path:
    """Return the absolute data directory: the one given, else the environment's, else "data" here."""
    named = Path(data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or "data")
    try:
        return named.expanduser().absolute()
    except RuntimeError:
        raise DataError(f"{named}: no home is known of this user; write the path in full") from None


def have_files(spec: DatasetSpec, root: Path, *, download: bool) -> dict[str, Path]:
    """Return the paths of the files of an entry, by name and in its order, in a data directory or DEBIAN_DIR.

    With `download`, torchvision fetches what is missing. Raises DataError.
    """
    remedies = _describe_remedies(spec, root)
    paths = _find_files(spec, root)
    if download and not spec.is_embedded and len(paths) < len(spec.checksum_by_file):
        if not spec.can_download:
            raise DataError(f"{spec.name}: --download needs a set that torchvision fetches; {remedies}")
        try:
            _download(spec, root)
        except Exception as error:  # urllib, ssl, zlib and torchvision raise many kinds; each means: no data
            raise DataError(f"{spec.name}: download failed ({_say(error)}); {remedies}") from error
        paths = _find_files(spec, root)
    missing = [file for file in spec.checksum_by_file if file not in paths]
    if missing:
        places = " and ".join(map(str, _list_places(spec, root)))
        note = " (an unpacked copy alone is refused: only the .gz has a published checksum)"
        places += note if missing[0].endswith(".gz") else ""
        raise DataError(f"{spec.name}: {', '.join(missing)} missing in {places}; {remedies}")
    return paths


def misfit(spec: DatasetSpec, root: Path, paths: Iterable[Path], error: Exception) -> DataError:
    """Return the error for files that do not have the layout of their entry."""
    places = " and ".join(map(str, paths))
    mending = describe_mending(spec, root)
    return DataError(f"{spec.name}: {places}: not in layout {spec.layout!r} ({_say(error)}); {mending}")


def _say(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _download(spec: DatasetSpec, root: Path) -> None:
    """Fetch the files of a data set with torchvision into its data directory."""
    import torchvision.datasets  # here, not above: it takes seconds, and only a download needs it
    from torchvision.datasets.utils import download_url

    if not spec.urls:
        getattr(torchvision.datasets, str(spec.torchvision_name))(root=str(root), download=True)
    for url, md5 in spec.urls.items():
        if spec.layout != "cifar":
            download_url(url, str(root / spec.folder), md5=md5)
        else:
            download_url(url, str(root), md5=md5)
            _unpack_tar(root / url.rpartition("/")[2], spec, root / spec.folder)


def _unpack_tar(archive: Path, spec: DatasetSpec, place: Path) -> None:
    """Unpack the missing files of an entry from its archive, and no other members."""
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for file in spec.checksum_by_file:
            member = tar.getmember(f"{spec.folder}/{file}")
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise ValueError(f"{member.name} in {archive} is not a regular file")
            if not (place / file).exists():
                (place / file).write_bytes(content.read())


def _list_places(spec: DatasetSpec, root: Path) -> list[Path]:
    if spec.is_embedded:
        return [EMBEDDED_DIR]
    return [root / spec.folder] + ([DEBIAN_DIR] if spec.debian_package else [])


def _find_files(spec: DatasetSpec, root: Path) -> dict[str, Path]:
    """Return the paths of the files: each in the first place that has it, unpacked or else .gz."""
    found: dict[str, Path] = {}
    for file in spec.checksum_by_file:
        is_packed_only = spec.is_embedded or spec.layout != "idx" or file.endswith(".gz")
        forms = [file] if is_packed_only else [file, f"{file}.gz"]
        candidates = [place / form for place in _list_places(spec, root) for form in forms]
        existing = [path for path in candidates if os.path.isfile(path)]
        if existing:
            found[file] = existing[0]
    return found


def _describe_remedies(spec: DatasetSpec, root: Path) -> str:
    if spec.is_embedded:
        return "reinstall lt_rebalance"
    what = f"the files of {' and '.join(spec.urls)}" if spec.urls else "the files"
    has = f"with {spec.folder}" if spec.folder else "with them"
    remedies = [f"place {what} in {root / spec.folder} or set {DATA_DIR_VARIABLE} to a directory {has}"]
    if spec.debian_package:
        remedies.append(f"apt install {spec.debian_package}")
    return ", or ".join([*remedies, "give a sweep --download"] if spec.can_download else remedies)


def describe_mending(spec: DatasetSpec, root: Path) -> str:
    """Return the remedy for a file that differs from its entry; remove only what can be fetched again."""
    remedies = _describe_remedies(spec, root)
    if spec.can_download or spec.is_embedded:
        return f"remove it, then {remedies}"
    return (
        f"keep it and correct the entry of {spec.name} in DATASETS if the file is right; if not, {remedies}"
    )
