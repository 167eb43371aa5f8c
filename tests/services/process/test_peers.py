from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.process.peers import Peers
from tests.services.conftest import Rig

FRAUD = "/v2/models/fraud/infer"
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "peers"


@pytest.fixture
async def make_peers(folder: Path) -> AsyncIterator[Callable[..., Peers]]:
    made: list[Peers] = []

    def make(**answers: Callable[[object], object]) -> Peers:
        made.append(Peers(folder, answers))
        return made[-1]

    yield make
    for peers in made:
        await peers.stop()


async def test_each_worker_hears_the_others_and_not_itself(
    make_peers: Callable[..., Peers],
) -> None:
    workers = [make_peers(double=lambda x, own=own: [own, 2 * x]) for own in range(3)]  # type: ignore[operator]
    for worker in workers:
        await worker.start()
    assert sorted(await workers[1].ask("double", 21)) == [[0, 42], [2, 42]]


async def test_who_has_gone_or_does_not_know_the_question_is_left_out(
    make_peers: Callable[..., Peers], folder: Path
) -> None:
    asking, knowing, ignorant = make_peers(), make_peers(one=lambda _: 1), make_peers()
    for worker in (asking, knowing, ignorant):
        await worker.start()
    assert await asking.ask("one") == [1]
    await knowing.stop()
    (folder / "killed.000000").touch()  # a socket file that nobody listens on
    assert await asking.ask("one") == []


async def test_the_folder_is_for_this_user_only_and_goes_with_the_last(
    make_peers: Callable[..., Peers], folder: Path
) -> None:
    first, second = make_peers(), make_peers()
    await first.start()
    await second.start()
    assert folder.stat().st_mode & 0o777 == 0o700
    await first.stop()
    assert folder.exists()
    await second.stop()
    assert not folder.exists()


async def test_any_worker_answers_for_a_decision_and_takes_feedback(
    make_rig: Callable[..., Rig], folder: Path
) -> None:
    rigs = [make_rig(), make_rig()]
    for rig in rigs:
        await rig.plane.fleet.settled()
        rig.plane.peers = Peers(folder, rig.plane.answers_to_peers())
        await rig.plane.peers.start()
    here, there = rigs
    reply = await here.client.post(FRAUD, json=ROW)
    decision_id = reply.headers["x-turnout-decision"]
    said = await there.client.post(
        "/v1/feedback", json={"decision_id": decision_id, "score": 1, "comment": None}
    )
    assert said.status_code == 202
    answers = [(await r.client.get(f"/v1/decisions/{decision_id}")).json() for r in rigs]
    assert answers[0] == answers[1]
    assert answers[0]["feedback"] == [{"score": 1.0, "comment": None}]
    assert (await there.client.get("/v1/decisions/req-none")).status_code == 404
    for rig in rigs:
        assert rig.plane.peers is not None
        await rig.plane.peers.stop()
