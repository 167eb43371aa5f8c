"""The aliases of one gateway's models: read from their store, followed, and changed by trials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from routing.rollout.canary import CanaryTest
from routing.rollout.traffic_split import Rollout, rollouts_of
from services.rollouts.aliases import Aliases, AliasRow, incoming, initial_rows
from services.rollouts.steps import Step, promote_canary, reject_canary
from services.rollouts.store import AliasStore, ExclusiveStore, MemoryAliasStore, Rows, now_iso
from services.rollouts.trials import Trial, Trials
from turnout.catalog import Canary, Catalog, Versioned, model_name, realiased, split
from turnout.errors import CapacityError, ConfigError, InvalidRequest, TurnoutError

logger = logging.getLogger("turnout.rollouts")

_BEAT_S = 0.5
_FIRST_READ_S = 3.0
_STORE_LIMIT_S = 5.0
_RETRY_AFTER_S = 5.0


async def _is_ready(model: str) -> None:
    del model


class RolloutController:
    """The aliases and trials of one process.

    Until ``open`` the aliases are kept in memory; after it, in a store that is read every half
    second. A canary gets its share only once the rows of the present catalog are in the store.

    Args:
        catalog: as its file says.
        changed: called when an alias has changed.
        taken_back: called with each canary that was worse: model, version and in what.
        came_in: called with each plain model that is production or canary now, before ``changed``.
    """

    def __init__(
        self,
        catalog: Catalog,
        changed: Callable[[], None] = lambda: None,
        taken_back: Callable[[str, str, str], None] = lambda name, version, why: None,
        came_in: Callable[[str], None] = lambda model: None,
    ) -> None:
        self._changed = changed
        self._taken_back = taken_back
        self._came_in = came_in
        self._store = ExclusiveStore(MemoryAliasStore, _STORE_LIMIT_S)
        self._is_open = False
        self._is_begun = True
        self._file_catalog = catalog
        self._rows: dict[str, AliasRow] = {}
        self._trials = Trials()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.problem: str | None = None
        self.adopt(catalog)

    # -- the present state ---------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether any model has versions."""
        return bool(self._rows)

    @property
    def trials(self) -> Mapping[str, tuple[Canary, CanaryTest]]:
        """The canaries on trial, by model."""
        return {name: (trial.canary, trial.test) for name, trial in self._trials}

    def catalog(self) -> Catalog:
        """The catalog with the present aliases."""
        catalog = self._file_catalog
        for name, (_, aliases) in self._rows.items():
            catalog = realiased(catalog, name, aliases.production, aliases.canary)
        return catalog

    def on_trial(self, catalog: Catalog) -> dict[str, Rollout]:
        """The canaries that get their share now, by the model of their production version.

        None before the store was read: a canary that was taken back must not come back.
        """
        return rollouts_of(catalog, self._trials.tests) if self._is_begun else {}

    def state(self, name: str) -> dict[str, Any]:
        """The aliases of a model, and the evidence on its canary.

        Raises:
            UnknownModel, InvalidRequest: it is no model with versions.
        """
        self._check(name)
        trial = self._trials.get(name)
        return {
            "name": name,
            "versions": list(self._file_catalog.versioned[name].versions),
            **self._rows[name].aliases.as_json(),
            "trial": None if trial is None else trial.test.state(),
            "problem": self.problem,
        }

    def _check(self, name: str) -> None:
        if name in self._rows:
            return
        model, version = split(name)
        if model in self._rows:
            raise InvalidRequest(
                f"name the model, {model!r}, and give version {version!r} beside it", param="model"
            )
        if name not in self._file_catalog.models:
            raise self._file_catalog.no_model(name, self._rows)
        raise InvalidRequest(
            f"model {name!r} has no versions; list them under `versions` in the catalog",
            param="model",
        )

    # -- life ----------------------------------------------------------------------------

    async def open(
        self,
        make: Callable[[], AliasStore],
        patience_s: float = _FIRST_READ_S,
        limit_s: float = _STORE_LIMIT_S,
    ) -> None:
        """Keep the aliases in this store from now on, and follow it.

        A store that cannot be read is tried again; until it is read no canary gets a share.

        Args:
            make: opens the store, on a thread; called once there is a model with versions.
            patience_s: how long to wait for its first reading.
            limit_s: how long to wait for any other answer of the store.
        """
        self._store = ExclusiveStore(make, limit_s)
        self._is_open, self._is_begun = True, not self._rows
        if self._rows:
            self._changed()
        loop = asyncio.get_running_loop()
        first = loop.create_task(self.beat())
        self._tasks = first, loop.create_task(self._follow(first))
        await asyncio.wait([first], timeout=patience_s)

    async def close(self) -> None:
        """Stop following the store, and close it; does not wait for one that hangs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def _follow(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait([first])
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self.beat()
            except Exception:
                logger.exception("aliases could not be looked after; trying again")

    async def beat(self) -> None:
        """Once: apply what others have changed, and act on what the trials have shown."""
        if not self._rows:
            return
        try:
            async with self._store.use() as store:
                is_begun = self._is_begun
                rows = await (store.read() if is_begun else store.begin(dict(self._rows)))
                self._is_begun = True
                self._apply(rows, always=not is_begun)
                await self._judge(store)
            self.problem = None
        except TurnoutError as error:
            if self.problem is None:
                logger.error("aliases stay as they are for now: %s", error)
            self.problem = str(error)

    # -- changes -------------------------------------------------------------------------

    def adopt(self, catalog: Catalog) -> Catalog:
        """Take over a catalog as its file says.

        Aliases of models of which it says the same as before stay.

        Returns:
            The catalog with the present aliases.
        """
        self._file_catalog = catalog
        rows = initial_rows(catalog)
        for name, row in rows.items():
            old = self._rows.get(name)
            if old is not None and old.basis == row.basis:
                rows[name] = old
            elif old is not None:
                self._bring_in(name, old.aliases, row.aliases)
        if rows != self._rows:
            self._is_begun = not self._is_open
        self._rows = rows
        self._update_trials()
        return self.catalog()

    async def change(
        self, name: str, step: Step, ready: Callable[[str], Awaitable[None]] = _is_ready
    ) -> dict[str, Any]:
        """Change the aliases of a model, here and wherever the store is read.

        Only the store knows which version a step brings in. So the step is tried there; the
        versions it would bring in are made ready; and it is taken once it brings in no others.

        Args:
            name: of the model.
            step: the change.
            ready: makes a plain model ready to answer; an error it raises ends the change.

        Returns:
            See ``state``.

        Raises:
            UnknownModel, InvalidRequest: there is no such model, or no such step.
            CapacityError: the store cannot be reached now.
        """
        self._check(name)
        prepared: set[str] = set()
        while missing := await self._take_if_prepared(name, step, prepared):
            for version in missing:
                await ready(model_name(name, version))
            prepared |= missing
        return self.state(name)

    async def _take_if_prepared(self, name: str, step: Step, prepared: set[str]) -> set[str]:
        """Take a step if it brings in only these versions; the versions it lacks."""
        missing: set[str] = set()

        def take(old: Aliases, versioned: Versioned) -> Aliases:
            new = step(old, versioned)
            missing.clear()
            missing.update(incoming(old, new) - prepared)
            return old if missing else new

        try:
            async with self._store.use() as store:
                await self._take(store, name, take)
        except ConfigError as error:
            raise CapacityError(str(error), retry_after_s=_RETRY_AFTER_S) from error
        return missing

    async def _take(self, store: AliasStore, name: str, step: Step) -> bool:
        """Take a step in the store and apply it; whether it changed anything."""
        versioned = self._file_catalog.versioned[name]
        basis, current = self._rows[name]
        is_changed = False

        def stamped(old: Aliases) -> Aliases:
            nonlocal is_changed
            new = step(old, versioned)
            is_changed = new is not old
            return replace(new, at=now_iso()) if is_changed else old

        self._apply({name: AliasRow(basis, await store.change(name, basis, current, stamped))})
        return is_changed

    async def _judge(self, store: AliasStore) -> None:
        """Take back the canaries that are worse, and promote those that have passed."""
        for name, trial in self._trials:
            if trial.test.worse is not None:
                await self._reject(store, name, trial, trial.test.worse)
            elif trial.is_passed:
                version, why = trial.canary.version, trial.test.why
                if await self._take(store, name, promote_canary(version, why)):
                    logger.warning("canary %s@%s is promoted: %s", name, version, why)

    async def _reject(self, store: AliasStore, name: str, trial: Trial, worse: str) -> None:
        version, why = trial.canary.version, trial.test.why
        if await self._take(store, name, reject_canary(version, why)):
            logger.error("canary %s@%s is taken back: %s", name, version, why)
            self._taken_back(name, version, worse)

    def _apply(self, rows: Rows, *, always: bool = False) -> None:
        """Take over the aliases of these rows where they have our basis.

        Args:
            rows: from the store.
            always: report a change even where there is none.
        """
        is_changed = always
        for name, row in rows.items():
            old = self._rows.get(name)
            if old is None or old.basis != row.basis or old == row:
                continue
            logger.info("model %s: %s", name, row.aliases.why)
            self._rows[name] = row
            self._bring_in(name, old.aliases, row.aliases)
            is_changed = True
        if is_changed:
            self._update_trials()
            self._changed()

    def _bring_in(self, name: str, old: Aliases, new: Aliases) -> None:
        for version in incoming(old, new):
            self._came_in(model_name(name, version))

    def _update_trials(self) -> None:
        self._trials.update(self._rows, self._file_catalog.gateway.workers)
