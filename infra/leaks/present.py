"""Looking as everybody whether others are here, and typing to them: whom it is hidden from is told as of nobody."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, Final

from infra.leaks.walk import Finding
from infra.leaks.world import Someone, World
from tests.client import Live

PRESENCE: Final = "presence"
TYPING: Final = "typing"


def present(world: World) -> list[Finding]:
    """What is wrong with who sees that somebody is here, and with who hears that they type, while all are."""
    with ExitStack() as sockets:
        here = [(who, sockets.enter_context(who.person.live())) for who in world.living()]
        found = [finding for who, live in here for finding in _look(world, who, live)]
        for one, live in here:
            found += _type(world, one, live)
        for who, live in here:
            wanted = {one.person.username for one, _ in here if world.are_in_touch(who, one)}
            with suppress(TimeoutError):
                while not wanted <= _typing(live):
                    live.receive()
            live.drain()
            for one in world.everybody:
                if one.person.username in _typing(live) ^ wanted:
                    what = f"{'lacks' if one.person.username in wanted else 'tells'} that they type"
                    found.append(Finding(TYPING, who.relation, one.relation, what))
        return found


def _look(world: World, who: Someone, live: Live) -> Iterator[Finding]:
    nobody = _refusal(live.act("subscribe", {"topics": ["presence:nobody_at_all"]}))
    for one in world.everybody:
        may = one is who or world.are_in_touch(who, one)
        answer = live.act("subscribe", {"topics": [f"presence:{one.person.username}"]})
        if answer["ok"] != may or not (may or _refusal(answer) == nobody):
            yield Finding(PRESENCE, who.relation, one.relation, "shows who is here" if answer["ok"] else "lacks it")
        profile = who.person.ask("GET", f"/v1/users/{one.person.username}").json()
        if ("presence" in profile) != may:
            what = f"the profile {'lacks' if may else 'shows'} that they are here"
            yield Finding(PRESENCE, who.relation, one.relation, what)


def _type(world: World, one: Someone, live: Live) -> Iterator[Finding]:
    nobody = _refusal(live.act("typing", {"to": "nobody_at_all", "on": True}))
    for other in world.everybody:
        if one is other:
            continue
        may = world.sees(one, other)
        answer = live.act("typing", {"to": other.person.username, "on": True})
        if answer["ok"] != may or not (may or _refusal(answer) == nobody):
            what = "shows who is there" if answer["ok"] else "can't be told"
            yield Finding(TYPING, one.relation, other.relation, what)


def _typing(live: Live) -> set[str]:
    return {event["data"]["from"] for event in live.events if event["event"] == "typing" and event["data"]["on"]}


def _refusal(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer tells, but for which request it was."""
    return {name: value for name, value in answer.get("error", {}).items() if name != "instance"}
