"""Watching who is here, in the words of the tests."""

import time
from typing import Any

from shared.kernel.config import settings
from tests.client import Live, Person

NOTHING = {"topics": ["post:0000000000000"]}
ONLINE = {"presence": "online", "last_seen": None}
HIDDEN = {"presence": "offline", "last_seen": None}


def away_seconds() -> int:
    return settings().live_away_seconds


def presence_of(viewer: Person, owner: Person) -> dict[str, Any] | None:
    """As the profile shows it."""
    return viewer.get(f"/v1/users/{owner.username}").get("presence")


def heard(live: Live, owner: Person) -> list[dict[str, Any]]:
    """What came of somebody's presence so far."""
    live.drain()
    return came(live, owner)


def came(live: Live, owner: Person) -> list[dict[str, Any]]:
    found = [event for event in live.events if event["event"] == "presence.changed"]
    assert all("seq" not in event for event in found)
    assert all(event["data"].keys() == {"username", "presence", "last_seen"} for event in found)
    return [event["data"] for event in found if event["data"]["username"] == owner.username]


def comes(live: Live, owner: Person, *wanted: str) -> list[dict[str, Any]]:
    """All that came of somebody's presence, once that is as many as are wanted: just these, in order."""
    until = time.monotonic() + away_seconds() + 10
    while len(came(live, owner)) < len(wanted):
        live.receive(until - time.monotonic())
    found = heard(live, owner)
    assert [one["presence"] for one in found] == list(wanted)
    return found


def subscribe(live: Live, owner: Person) -> None:
    name = f"presence:{owner.username}"
    reply = live.act("subscribe", {"topics": [name]})
    assert reply["ok"], reply
    assert name in reply["data"]["topics"]


def is_refused(live: Live, owner: Person) -> bool:
    """Whether somebody's presence is hidden, just as that of nobody is."""
    names = [f"presence:{owner.username}", "presence:nobody_at_all"]
    errors = live.act("subscribe", {"topics": names})["error"]["errors"]
    return [(error["field"], error["code"]) for error in errors] == [(f"topics[{at}]", "not_found") for at in (0, 1)]


def subscriptions(live: Live) -> list[str]:
    return live.act("unsubscribe", NOTHING)["data"]["topics"]
