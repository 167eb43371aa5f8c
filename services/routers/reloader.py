"""Loading of trained routers from folders whose files may be replaced while they serve.

A router that appears in its folder, or replaces another, is loaded beside the serving one and takes
over between two requests. A router that cannot be read is refused and the old one stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from turnout.errors import ArtifactInvalid

logger = logging.getLogger("turnout.routers")

Read = TypeVar("Read")
Loaded = TypeVar("Loaded")
Stamp: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class RouterFolder(Generic[Loaded]):
    """The folder of one router, and the router loaded from it.

    Attributes:
        label: name of the router in the log.
        folder: path of the folder.
        files: its files, the card first; the card holds the hashes of the others.
        loaded: the router; None before the first that can be read.
        digest: digest of the card of ``loaded``; empty without one.
        stamp: times and sizes of the files that were last tried.
        problem: reason why the last try was refused; None when it was not.
    """

    label: str
    folder: Path
    files: tuple[str, ...]
    loaded: Loaded | None = None
    digest: str = ""
    stamp: Stamp | None = None
    problem: str | None = None

    def stamp_now(self) -> Stamp | None:
        """Return times and sizes of the files; None while one is missing."""
        try:
            stats = [(self.folder / name).stat() for name in self.files]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)

    def changed(self) -> bool:
        """Return whether the folder holds other files than those last tried."""
        return self.stamp_now() != self.stamp


class Reloader:
    """Loads routers again. Files are read on a thread, and catalogs adopted beside it.

    Attributes:
        lock: held while a loaded router is replaced.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def reload(
        self,
        part: RouterFolder[Loaded],
        read: Callable[[], Read],
        adapt: Callable[[Read, str], Loaded],
    ) -> None:
        """Load a router if its files have changed, or if some are missing.

        Args:
            part: the router's folder.
            read: reads the files. Raises ArtifactInvalid where they are refused.
            adapt: fits the router read, of this digest, to the catalog; called under the lock,
                since a catalog may have been adopted while the files were read.
        """
        stamp = part.stamp_now()
        if stamp == part.stamp and stamp is not None:
            return
        try:
            router = read()
        except ArtifactInvalid as error:
            stays = "" if part.loaded is None else ", the old one stays"
            logger.error("%s refused%s: %s", part.label, stays, error)
            with self.lock:
                part.stamp, part.problem = stamp, str(error)
            return
        digest = hashlib.sha256((part.folder / part.files[0]).read_bytes()).hexdigest()[:12]
        if digest != part.digest:
            logger.info("%s is %s from %s", part.label, digest, part.folder)
        with self.lock:
            part.loaded, part.digest = adapt(router, digest), digest
            part.stamp, part.problem = stamp, None
