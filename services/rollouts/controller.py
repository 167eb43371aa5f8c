"""The aliases of one gateway's models: read where they are kept, followed, and moved by trials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from routing.rollout.canary import CanaryTest
from routing.rollout.traffic_split import Rollout, rollouts_of
from services.rollouts.aliases import (
    Aliases,
    Step,
    as_written,
    basis_of,
    coming_in,
    promoting_sound,
    taking_back,
)
from services.rollouts.store import AliasStore, MemoryAliasStore, Rows, now_iso
from turnout.catalog import Canary, Catalog, Versioned, model_name, realiased, split
from turnout.errors import CapacityError, ConfigError, InvalidRequest, TurnoutError

logger = logging.getLogger("turnout.rollouts")

_BEAT_S = 0.5
_PATIENCE_S = 3.0
_LIMIT_S = 5.0
_AGAIN_S = 5.0


async def _as_it_is(model: str) -> None:
    del model


@dataclass(slots=True)
class _Running:
    """A trial, and what it is a trial of.

    Attributes:
        basis: what the catalog said.
        number: of the trials of this model.
        canary: the version and its share now.
        trial: the evidence.
    """

    basis: str
    number: int
    canary: Canary
    trial: CanaryTest


class RolloutController:
    """The aliases and trials of one process.

    Args:
        catalog: as its file says.
        changed: told when an alias has moved.
        taken_back: told of each canary that was worse: model, version and in what.
        came_in: told of each plain model that production or canary now is, before ``changed``.
    """

    def __init__(
        self,
        catalog: Catalog,
        changed: Callable[[], None] = lambda: None,
        taken_back: Callable[[str, str, str], None] = lambda name, version, why: None,
        came_in: Callable[[str], None] = lambda model: None,
    ) -> None:
        self._came_in = came_in
        self._taken_back = taken_back
        self._changed = changed
        self._make: Callable[[], AliasStore] | None = None
        self._book: AliasStore | None = MemoryAliasStore()
        self._written = catalog
        self._rows: dict[str, tuple[str, Aliases]] = {}
        self._running: dict[str, _Running] = {}
        self._begun = True
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._limit_s = _LIMIT_S
        self._moving = asyncio.Lock()  # a read that began before a change must not undo it
        self.problem: str | None = None
        self.adopt(catalog)

    @property
    def any(self) -> bool:
        """Whether any model has versions."""
        return bool(self._rows)

    # -- what holds now ------------------------------------------------------------------

    def adopt(self, catalog: Catalog) -> Catalog:
        """Take over a catalog as its file says.

        Aliases of models of which it says the same as before stay where they are.

        Returns:
            The catalog with the aliases of now.
        """
        self._written = catalog
        rows: dict[str, tuple[str, Aliases]] = {}
        for name, known in catalog.versioned.items():
            basis = basis_of(catalog, name)
            kept = self._rows.get(name)
            same = kept is not None and kept[0] == basis
            rows[name] = kept if same and kept else (basis, as_written(known))
            if kept is not None:
                self._bring_in(name, kept[1], rows[name][1])
        if rows != self._rows:
            self._begun = self._make is None
        self._rows = rows
        self._retry()
        return self.catalog()

    def catalog(self) -> Catalog:
        """The catalog with the aliases of now."""
        catalog = self._written
        for name, (_, aliases) in self._rows.items():
            catalog = realiased(catalog, name, aliases.production, aliases.canary)
        return catalog

    def on_trial(self, catalog: Catalog) -> dict[str, Rollout]:
        """The canaries that get their share now, by the model of their production version.

        None before it is known where the aliases are: one that was taken back must not come back.
        """
        if not self._begun:
            return {}
        return rollouts_of(catalog, {name: one.trial for name, one in self._running.items()})

    def state(self, name: str) -> dict[str, Any]:
        """Where a model's aliases are, and the evidence on its canary.

        Raises:
            UnknownModel, InvalidRequest: it is no model with versions.
        """
        self._known(name)
        aliases, running = self._rows[name][1], self._running.get(name)
        return {
            "name": name,
            "versions": list(self._written.versioned[name].versions),
            **aliases.as_json(),
            "trial": None if running is None else running.trial.state(),
            "problem": self.problem,
        }

    @property
    def trials(self) -> Mapping[str, tuple[Canary, CanaryTest]]:
        """The canaries on trial, by model."""
        return {name: (one.canary, one.trial) for name, one in self._running.items()}

    # -- how it changes ------------------------------------------------------------------

    async def open(
        self,
        make: Callable[[], AliasStore],
        patience_s: float = _PATIENCE_S,
        limit_s: float = _LIMIT_S,
    ) -> None:
        """Keep the aliases in this book from now on, and follow it.

        A book that cannot be read is tried again, and waited for no longer than a moment; until
        it is read no canary gets a share.

        Args:
            make: opens the book, on a thread; called once there is a model with versions.
            patience_s: how long to wait for its first reading.
            limit_s: how long to wait for whatever else is asked of it.
        """
        self._limit_s = limit_s
        self._make, self._book, self._begun = make, None, not self._rows
        if self._rows:
            self._changed()
        first = asyncio.get_running_loop().create_task(self.beat())
        following = asyncio.get_running_loop().create_task(self._follow(first))
        self._tasks = first, following
        await asyncio.wait([first], timeout=patience_s)

    async def close(self) -> None:
        """Follow no more; a book that hangs is left to itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._book is not None:
            try:
                await asyncio.wait_for(self._book.close(), self._limit_s)
            except TimeoutError:
                logger.warning("what keeps the aliases could not be closed in time")

    async def change(
        self, name: str, step: Step, ready: Callable[[str], Awaitable[None]] = _as_it_is
    ) -> dict[str, Any]:
        """Move the aliases of a model, here and wherever the book is read.

        Which version a step brings in is known from the book alone: the step is tried there, what
        would come in is made ready, and it is taken once nothing else would.

        Args:
            name: of the model.
            step: what to do.
            ready: makes a plain model ready to answer; what it raises ends the change.

        Returns:
            See ``state``.

        Raises:
            UnknownModel, InvalidRequest: there is no such model, or no such step.
            CapacityError: the book cannot be reached now.
        """
        self._known(name)
        had: set[str] = set()
        while missing := await self._change(name, step, had):
            for version in missing:
                await ready(model_name(name, version))
            had |= missing
        return self.state(name)

    async def _change(self, name: str, step: Step, ready: set[str]) -> set[str]:
        """Take a step if it brings in none but these versions; else say which it would."""
        missing: set[str] = set()

        def careful(old: Aliases, known: Versioned) -> Aliases:
            new = step(old, known)
            missing.clear()
            missing.update(coming_in(old, new) - ready)
            return old if missing else new

        try:
            async with self._alone():
                await self._move(name, careful)
        except ConfigError as error:
            raise CapacityError(str(error), retry_after_s=_AGAIN_S) from error
        return missing

    async def _move(self, name: str, step: Step) -> bool:
        """Take a step in the book and heed it; whether that moved anything."""
        known = self._written.versioned[name]
        basis, now = self._rows[name]
        moved = False

        def stamped(old: Aliases) -> Aliases:
            nonlocal moved
            new = step(old, known)
            moved = new is not old
            return replace(new, at=now_iso()) if moved else old

        book = await self._opened()
        self._heed({name: (basis, await book.change(name, basis, now, stamped))})
        return moved

    async def beat(self) -> None:
        """Once: heed what others have changed, and act on what the trials have shown."""
        if not self._rows:
            return
        try:
            async with self._alone():
                begun, book = self._begun, await self._opened()
                rows = await (book.read() if begun else book.begin(dict(self._rows)))
                self._begun = True
                self._heed(rows, anyway=not begun)
                await self._judge()
            self.problem = None
        except TurnoutError as error:
            if self.problem is None:
                logger.error("aliases stay as they are for now: %s", error)
            self.problem = str(error)

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        """Nobody else asks the book meanwhile, and its answers are not waited for any longer.

        Raises:
            ConfigError: it has not answered. What it was asked to keep it may still keep: then the
                next reading says so.
        """
        try:
            async with asyncio.timeout(self._limit_s), self._moving:
                yield
        except TimeoutError as error:
            raise ConfigError(
                "the aliases of models cannot be read or kept: the database has not answered for "
                f"{self._limit_s:g} s; see TURNOUT_DATABASE_URL, and look where the aliases are "
                "before you try again"
            ) from error

    async def _opened(self) -> AliasStore:
        if self._book is None:
            make = self._make or MemoryAliasStore
            self._book = await asyncio.to_thread(make)
        return self._book

    async def _judge(self) -> None:
        for name, running in list(self._running.items()):
            trial, version = running.trial, running.canary.version
            enough = running.canary.promote_after
            if trial.worse is not None:
                if await self._move(name, taking_back(version, trial.why)):
                    logger.error("canary %s@%s is taken back: %s", name, version, trial.why)
                    self._taken_back(name, version, trial.worse)
            elif (
                enough is not None
                and trial.verdict == "sound"
                and trial.requests["canary"] >= enough
                and await self._move(name, promoting_sound(version, trial.why))
            ):
                logger.warning("canary %s@%s is promoted: %s", name, version, trial.why)

    async def _follow(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait([first])
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self.beat()
            except Exception:
                logger.exception("aliases could not be looked after; trying again")

    def _heed(self, rows: Rows, *, anyway: bool = False) -> None:
        """Move aliases to where the book says, where its rows are of our basis."""
        moved = anyway
        for name, (basis, aliases) in rows.items():
            kept = self._rows.get(name)
            if kept is None or kept[0] != basis or kept[1] == aliases:
                continue
            logger.info("model %s: %s", name, aliases.why)
            self._rows[name] = basis, aliases
            self._bring_in(name, kept[1], aliases)
            moved = True
        if moved:
            self._retry()
            self._changed()

    def _bring_in(self, name: str, old: Aliases, new: Aliases) -> None:
        for version in coming_in(old, new):
            self._came_in(model_name(name, version))

    def _retry(self) -> None:
        """A trial for each canary: the one that runs, or a new one."""
        running: dict[str, _Running] = {}
        for name, (basis, aliases) in self._rows.items():
            if aliases.canary is None:
                continue
            old = self._running.get(name)
            if old is not None and (old.basis, old.number) == (basis, aliases.trials):
                running[name] = replace(old, canary=aliases.canary)
            else:
                trial = CanaryTest(aliases.canary.rollback, self._written.gateway.workers)
                running[name] = _Running(basis, aliases.trials, aliases.canary, trial)
        self._running = running

    def _known(self, name: str) -> None:
        if name in self._rows:
            return
        own, version = split(name)
        if own in self._rows:
            raise InvalidRequest(
                f"name the model, {own!r}, and give version {version!r} beside it", param="model"
            )
        if name not in self._written.models:
            raise self._written.no_model(name, self._rows)
        raise InvalidRequest(
            f"model {name!r} has no versions; list them under `versions` in the catalog",
            param="model",
        )
