"""One's own devices: what one of them does with a chat has the others read anew, and is told to nobody else."""

import pytest

from infra.local.stack import Stack
from shared.chat import live as telling
from shared.chat import store
from shared.chat.model import ChatChanged
from shared.kernel import cache, db, ids
from tests.chat.talk import acknowledge, chats, write
from tests.client import PASSWORD, Live, Person
from tests.feed.merging import id_of
from tests.heard import wait_until_heard


def names(live: Live) -> list[str]:
    return [event["event"] for event in live.drain()]


@pytest.mark.parametrize("over", ["http", "socket"])
@pytest.mark.parametrize("what", ["accept", "decline", "clear"])
def test_they_read_a_chat_anew_and_the_other_s_hear_nothing(
    stack: Stack, alice: Person, bob: Person, what: str, over: str
) -> None:
    write(alice, bob, "Hello?")
    wait_until_heard(stack)
    with bob.live() as phone, bob.live() as laptop, alice.live() as other:
        for _ in range(2):
            # The second time there is nothing to change, and nothing to tell.
            if over == "socket":
                assert phone.act(f"{what}_chat", {"username": alice.username})["ok"]
            elif what == "clear":
                bob.delete(f"/v1/chats/{alice.username}")
            else:
                bob.put(f"/v1/chats/{alice.username}/{what}")
            laptop.event("resync")
            assert [len(chats(bob, box)) for box in ("inbox", "requests")] == [int(what == "accept"), 0]
        wait_until_heard(stack)
        assert (names(phone), names(laptop), names(other)) == (["resync"], ["resync"], [])
    seq = laptop.event("resync")["seq"]
    with bob.live() as late:
        # One that was away hears it as well.
        assert late.act("resume", {"after": seq - 1})["data"] == {"seq": seq, "resync": False}
        assert names(late) == ["resync"]


def test_each_change_is_told_once_however_often_and_late_its_event_comes(
    stack: Stack, alice: Person, bob: Person
) -> None:
    said = write(alice, bob, "Hello?")
    acknowledge(bob, alice, read_up_to=said)
    with bob.live() as laptop:
        for what in ("decline", "accept", "decline"):
            bob.put(f"/v1/chats/{alice.username}/{what}")
        wait_until_heard(stack)
        # Of some that come in another order the last is enough, and what was acknowledged may be outdated by the next.
        before = names(laptop).count("resync")
        assert before >= 1
        pair = (id_of(bob), id_of(alice))
        with db.connection() as conn:
            last = store.WATERMARKS.one(conn, user_id=pair[0], other_id=pair[1]).version
        for version in range(last + 1):
            telling.push_change(ChatChanged(*pair, version))
        assert names(laptop).count("resync") == before
        bob.put(f"/v1/chats/{alice.username}/accept")
        wait_until_heard(stack)
        assert names(laptop).count("resync") > before


def test_nobody_s_devices_are_told_of_an_account_that_is_gone(stack: Stack, alice: Person, bob: Person) -> None:
    write(alice, bob, "Hello?")
    gone = id_of(bob)
    assert bob.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    wait_until_heard(stack)
    telling.push_change(ChatChanged(gone, id_of(alice), 9))
    assert cache.run_sync(("EXISTS", f"inbox:{ids.encode(gone)}")) == [0]
