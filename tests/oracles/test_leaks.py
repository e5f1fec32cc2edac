"""`./dev leaks` finds none, knows every surface, and does find one where there is one."""

import re
from collections.abc import Iterator

import pytest

from infra import targets
from infra.leaks import look, present, walk
from infra.leaks.plant import id_of
from infra.leaks.surfaces import SURFACES
from infra.leaks.walk import Finding
from infra.leaks.world import World, make
from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.kernel.endpoint import ENDPOINTS
from shared.kernel.projection import put, put_fields
from tests.client import Person, wait_until
from tests.feed.merging import is_settled, merging_from

FAR_AHEAD = 10**9


@pytest.fixture(scope="module")
def world(stack: Stack) -> World:
    targets.load()
    return make(stack)


@pytest.fixture
def _as_it_was(world: World) -> Iterator[None]:
    yield
    cache.run_sync(("DEL", *[key for one in world.everybody for key in keys_of(one.person)]))


def keys_of(person: Person) -> list[str]:
    name = ids.encode(id_of(person))
    return [f"relations:{name}", f"card:{name}", f"profile:{name}"]


def by_relation(world: World, relation: str) -> Person:
    return next(one.person for one in world.everybody if one.relation == relation)


def test_every_endpoint_that_reads_is_a_surface() -> None:
    targets.load()
    assert SURFACES.keys() == {one.name for one in ENDPOINTS.values() if one.method == "GET"}
    whole = {"{post}": "{post_id}", "{comment}": "{comment_id}"}
    assert {
        name: re.sub(r"{(post|comment)}", lambda found: whole[found[0]], one.path) for name, one in SURFACES.items()
    } == {one.name: one.path for one in ENDPOINTS.values() if one.method == "GET"}


def test_nobody_sees_what_they_must_not_and_all_see_what_they_may(world: World, stack: Stack) -> None:
    assert look(world, stack) == []


@pytest.mark.usefixtures("_as_it_was")
def test_a_block_that_is_not_heeded_is_found_on_every_surface(world: World, stack: Stack) -> None:
    blocked = ids.encode(id_of(by_relation(world, "blocked")))
    viewer = ids.encode(id_of(world.viewer.person))
    cache.run_sync(put_fields(f"relations:{viewer}", [(blocked, FAR_AHEAD, b"f")]))
    found = {one.surface for one in walk.walk(world, stack) if (one.who, one.subject) == ("viewer", "blocked")}
    hidden = {name for name, surface in SURFACES.items() if not surface.forbidden and "{" in surface.path}
    own = {"get_feed", "list_saved_posts", "list_reacted_posts", "list_commented_posts", "list_mentioned_posts"}
    assert found >= hidden | own


@pytest.mark.usefixtures("_as_it_was")
def test_a_block_that_is_not_heeded_is_found_where_somebody_else_acted(world: World) -> None:
    viewer = ids.encode(id_of(world.viewer.person))
    blocking = ids.encode(id_of(by_relation(world, "blocking")))
    assert walk.between(world) == []
    cache.run_sync(put_fields(f"relations:{viewer}", [("!" + blocking, FAR_AHEAD, b"")]))
    shown = {"shows a reply to their comment by somebody else", "shows a reaction to their comment by somebody else"}
    assert set(walk.between(world)) == {Finding("list_notifications", "viewer", "blocking", what) for what in shown}


@pytest.mark.usefixtures("_as_it_was")
def test_a_block_that_is_not_heeded_is_found_by_who_is_here_and_types(world: World) -> None:
    assert present.present(world) == []
    blocked, viewer = ids.encode(id_of(by_relation(world, "blocked"))), ids.encode(id_of(world.viewer.person))
    cache.run_sync(put_fields(f"relations:{viewer}", [(blocked, FAR_AHEAD, b"")]))
    cache.run_sync(put_fields(f"relations:{blocked}", [("!" + viewer, FAR_AHEAD, b"")]))
    # What was let through just now is told again after a while.
    names = [ids.encode(id_of(one.person)) for one in world.everybody]
    cache.run_sync(("DEL", *[f"typing:told:{one}{other}" for one in names for other in names]))
    found = {(one.surface, one.who, one.subject) for one in present.present(world)}
    both = (("viewer", "blocked"), ("blocked", "viewer"))
    assert found == {(surface, *pair) for surface in (present.PRESENCE, present.TYPING) for pair in both}


@pytest.mark.usefixtures("_as_it_was")
def test_someone_gone_whose_card_is_still_there_is_found_by_everybody(world: World, stack: Stack) -> None:
    gone = by_relation(world, "suspended")
    key = f"card:{ids.encode(id_of(gone))}"
    cache.run_sync(put(key, FAR_AHEAD, b'{"username":"%b","name":"x","picture":null}' % gone.username.encode()))
    found = {(one.surface, one.who) for one in walk.walk(world, stack) if one.subject == "suspended"}
    assert found >= {("get_post", one.relation) for one in world.living()} | {("get_post", "visitor")}


@pytest.mark.usefixtures("_as_it_was")
def test_what_is_missing_is_found(world: World, stack: Stack) -> None:
    followed = ids.encode(id_of(by_relation(world, "followed")))
    viewer = ids.encode(id_of(world.viewer.person))
    cache.run_sync(put_fields(f"relations:{viewer}", [(followed, FAR_AHEAD, b"fm")]))
    assert Finding("get_feed", "viewer", "followed", "lacks the name") in walk.walk(world, stack)


def test_nor_does_anybody_where_all_who_are_followed_are_merged_into_feeds() -> None:
    targets.load()
    with merging_from(1) as stack:
        world = make(stack)
        wait_until(lambda: is_settled(id_of(by_relation(world, "followed"))))
        assert look(world, stack) == []
