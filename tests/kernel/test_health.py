"""Health: however many ask, the stores are asked once a second at most, and what goes down is noticed."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.storage_signer import make_signer
from shared.kernel import cache, health, ledger, storage
from tests.servers import Servers, using


def run(main: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        try:
            await main
        finally:
            cache.disconnect()

    asyncio.run(whole())


@pytest.fixture(autouse=True)
def _storage_is_away(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(storage, "_connected", None)  # and afterwards again the one of this process
    make_signer(tmp_path / "signer.json")
    with using({"STORAGE_SIGNER_FILE": str(tmp_path / "signer.json")}):
        yield


async def until(status: int) -> None:
    for _ in range(400):
        if (await health.answer("/readyz")).status == status:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it was never {status}")


def test_fifty_at_once_and_fifty_more_ask_the_stores_once() -> None:
    async def main() -> None:
        trips = ledger.open_ledger()
        for _ in range(2):
            answers = await asyncio.gather(*[health.answer("/readyz") for _ in range(50)])
            assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
        assert trips["postgres"].trips == trips["redis"].trips == 1
        await asyncio.sleep(health.REMEMBERED_SECONDS)
        await health.answer("/readyz")
        assert trips["postgres"].trips == trips["redis"].trips == 2

    run(main())


def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    async def main() -> None:
        first, second = (asyncio.create_task(health.answer("/readyz")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status == 200

    run(main())


def test_postgres_going_down_and_coming_back_is_noticed(servers: Servers) -> None:
    async def main() -> None:
        assert (await health.answer("/readyz")).status == 200
        servers.postgres.kill()
        await until(503)
        servers.postgres.start()
        await until(200)

    run(main())
