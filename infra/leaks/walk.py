"""Walking every surface as everybody, and saying what is there that must not be, and what is missing."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx

from infra.leaks.surfaces import SURFACES, Surface
from infra.leaks.world import Someone, World, act, speak, talk, told_about
from infra.local.stack import Stack
from shared.kernel import ids
from shared.kernel.endpoint import ENDPOINTS
from tests.client import Live, Visitor, wait_until

# Less than there is to hide, so that pages have to be refilled.
LIMIT = 2
LIVE = "live"
COUNTS = "counts"
# The types of notifications that acts on somebody's first post and comment make, with what they are about.
TOLD = (("reaction", "post"), ("comment", "post"), ("repost", "post"), ("reply", "comment"), ("reaction", "comment"))


class Finding(NamedTuple):
    """Something wrong on a surface: who looked, at whom, and what it was."""

    surface: str
    who: str
    subject: str
    what: str


def walk(world: World, stack: Stack) -> list[Finding]:
    """What is wrong on any endpoint's surface, for anyone."""
    visitor = Visitor(stack.api)
    found: list[Finding] = []
    for who in [*world.living(), None]:
        client = visitor if who is None else who.person
        for name, surface in SURFACES.items():
            found += _look(world, who, client, name, surface)
    for who in world.everybody:
        if who.is_gone and (status := who.person.ask("GET", "/v1/me").status_code) != 401:
            found.append(Finding("get_me", who.relation, who.relation, f"signed in still: {status}"))
    visitor.close()
    return found


def _look(world: World, who: Someone | None, client: Visitor, name: str, surface: Surface) -> Iterator[Finding]:
    looker = "visitor" if who is None else who.relation
    if who is None and ENDPOINTS[name].auth == "caller":
        answer = client.ask("GET", surface.path.format(username="x", post="x", comment="x"))
        if answer.status_code != 401:
            yield Finding(name, looker, "anyone", f"{answer.status_code} for a visitor")
    elif surface.forbidden:
        if (status := client.ask("GET", surface.path).status_code) != 403:
            yield Finding(name, looker, "anyone", f"{status} for what is forbidden")
    elif "{" not in surface.path:
        pages, faults = _pages(client, surface.path)
        yield from (Finding(name, looker, "anyone", fault) for fault in faults)
        for subject in world.everybody:
            yield from _words(world, who, name, surface, subject, pages)
    else:
        for subject in world.everybody:
            if surface.between and subject is who:
                continue
            yield from _look_at(world, who, client, name, surface, subject)


def _look_at(
    world: World, who: Someone | None, client: Visitor, name: str, surface: Surface, owner: Someone
) -> Iterator[Finding]:
    looker = "visitor" if who is None else who.relation
    nothing = ids.encode(ids.new_id())
    absent = client.ask("GET", surface.path.format(username="nobody_at_all", post=nothing, comment=nothing))
    for number, (path, others) in enumerate(_paths(world, surface, owner)):
        answer = client.ask("GET", path)
        # All acted on the first of somebody's, and answered it.
        is_first = number == 0
        stays = surface.outlives and owner.relation == "deleted"
        if not all(surface.may(world, who, one) for one in (*others, *([] if stays else [owner]))):
            if _told(answer) != _told(absent):
                yield Finding(name, looker, owner.relation, f"{answer.status_code}, unlike what is absent")
        elif answer.status_code != 200:
            yield Finding(name, looker, owner.relation, f"{answer.status_code} for what may be seen")
        else:
            text, faults = _pages(client, path) if "items" in answer.json() else (answer.text, [])
            yield from (Finding(name, looker, owner.relation, fault) for fault in faults)
            for subject in world.everybody:
                listed = surface.lists is not None and surface.lists(world, owner, subject)
                yield from _words(world, who, name, surface, subject, text, expected=listed and is_first)
            if name == "get_post" and owner.posts[number].word not in text:
                yield Finding(name, looker, owner.relation, "lacks the post")


def _paths(world: World, surface: Surface, owner: Someone) -> Iterator[tuple[str, list[Someone]]]:
    """The paths to what is the owner's, each with those who have to be seen too for it to be."""
    if "{post}" in surface.path:
        yield from ((surface.path.format(post=post.id), []) for post in owner.posts)
    elif "{comment}" in surface.path:
        for comment in owner.comments:
            yield surface.path.format(comment=comment.id), [world.named(comment.on)]
    else:
        yield surface.path.format(username=owner.person.username), []


def _told(answer: httpx.Response) -> tuple[int, Any]:
    """What an answer tells, but for which request it was."""
    body = answer.json()
    body.pop("instance", None)
    return answer.status_code, body


def _pages(client: Visitor, path: str) -> tuple[str, list[str]]:
    """The text of all pages, or of the one answer where there are none; and which pages were short."""
    answer = client.get(path)
    if "items" not in answer:
        return json.dumps(answer, separators=(",", ":")), []
    text, faults, cursor = "", [], {}
    while True:
        page = client.get(path, limit=LIMIT, **cursor)
        text += json.dumps(page, separators=(",", ":"))
        if page["next_cursor"] is None:
            return text, faults
        if len(page["items"]) < LIMIT:
            faults.append(f"a page of {len(page['items'])} where {LIMIT} were asked for and more follow")
        cursor = {"cursor": page["next_cursor"]}


def _words(
    world: World,
    who: Someone | None,
    name: str,
    surface: Surface,
    subject: Someone,
    text: str,
    *,
    expected: bool = True,
) -> Iterator[Finding]:
    looker = "visitor" if who is None else who.relation
    everything = subject.words | {f"post {number + 1}": post.word for number, post in enumerate(subject.posts)}
    may, must = surface.may(world, who, subject), expected and surface.must(world, who, subject)
    for what, word in everything.items():
        belongs = what in surface.words or (what.startswith("post ") and "posts" in surface.words)
        # Those whom one may see name whomever they like, also one who is muted.
        if word in text and not (world.sees(who, subject) if what == "mention" else may):
            yield Finding(name, looker, subject.relation, f"shows the {what}")
        elif belongs and word not in text and must:
            yield Finding(name, looker, subject.relation, f"lacks the {what}")


def counts(world: World) -> list[Finding]:
    """Counts that tell of someone whom the list beside them hides."""
    found: list[Finding] = []
    for who in world.living():
        listed = list(who.person.items("/v1/notifications"))
        unread, told = sum(group["unread"] for group in listed), who.person.get("/v1/me")["unread"]["notifications"]
        if unread != told:
            found.append(Finding(COUNTS, who.relation, "anyone", f"{told} unread, of which {unread} are listed"))
        chats = sum(chat["unread_count"] > 0 for chat in who.person.items("/v1/chats"))
        if (told := who.person.get("/v1/me")["unread"]["chats"]) != chats:
            found.append(Finding(COUNTS, who.relation, "anyone", f"{told} chats unread, of which {chats} are listed"))
        followers = sum(world.follows(one, who) and world.hears(who, one) for one in world.everybody)
        shown = sum(group["actor_count"] for group in listed if group["type"] == "follow")
        if shown != followers:
            found.append(Finding(COUNTS, who.relation, "anyone", f"{shown} followers told of, {followers} to be seen"))
        for kind, subject in TOLD:
            did = world.said_below if (kind, subject) == ("comment", "post") else world.acted
            actors = sum(one is not who and did(one, who) and world.hears(who, one) for one in world.everybody)
            about = {"post": who.posts[0].id, "comment": who.comments[0].id}[subject]
            of_it = [group for group in listed if (group["type"], group["subject"]["id"]) == (kind, about)]
            if (shown := sum(group["actor_count"] for group in of_it)) != actors:
                what = f"{shown} told of by {kind} on their {subject}, {actors} to be seen"
                found.append(Finding(COUNTS, who.relation, "anyone", what))
    return found


def between(world: World) -> list[Finding]:
    """What a third person did where somebody is hidden from whose post it is, or doesn't show where they are not."""
    found: list[Finding] = []
    for who in world.living():
        for kind in ("reply", "reaction"):
            told = told_about(who, kind)
            for comment in world.between(who):
                owner = world.named(comment.on)
                if (comment.id in told) != world.sees(who, owner):
                    what = f"{'shows' if comment.id in told else 'lacks'} a {kind} to their comment by somebody else"
                    found.append(Finding("list_notifications", who.relation, owner.relation, what))
    return found


def listen(world: World) -> list[Finding]:
    """What is wrong with what everybody hears live while all speak, and do what they can, again."""
    with ExitStack() as sockets:
        heard = [(who, sockets.enter_context(who.person.live())) for who in world.living()]
        # Events come in any order: once those of another round are here, what went wrong in the first is, too.
        for _ in range(2):
            speak(world)
            for one in world.living():
                for owner in world.living():
                    if world.acted(one, owner) and world.sees(one, owner):
                        act(one, owner, post=-1)
                    if one is world.viewer and world.hears(one, owner):
                        talk(one, owner)
            for who, live in heard:
                words = [word for one in world.living() for word in _expected(world, who, one)]
                wait_until(lambda live=live, words=words: all(word in _text(live) for word in words))
        return [finding for who, live in heard for finding in _overheard(world, who, _text(live))]


def _expected(world: World, who: Someone, subject: Someone) -> list[str]:
    """What `who` hears of a round in which `subject` spoke, and did what they could."""
    fed = who is not subject and world.is_fed(who, subject)
    words = [subject.posts[-1].id] if fed or world.is_addressed(who, subject) else []
    words += [subject.words["message"]] if world.is_addressed(who, subject) and world.hears(subject, who) else []
    if world.acted(subject, who) and world.hears(who, subject):
        about = f'"subject":{{"type":"post","id":"{who.posts[-1].id}"}}'
        words += [f'"type":"{kind}",{about}' for kind in ("reaction", "comment", "repost")]
    return words


def _text(live: Live) -> str:
    return json.dumps(live.drain(), separators=(",", ":"))


def _overheard(world: World, who: Someone, text: str) -> Iterator[Finding]:
    for subject in world.everybody:
        secrets = [*subject.words.items(), *[("post", post.word) for post in subject.posts]]
        for what, word in secrets:
            may = world.sees(who, subject) if what == "mention" else world.hears(who, subject)
            if who is not subject and word in text and not may:
                yield Finding(LIVE, who.relation, subject.relation, f"tells the {what}")
