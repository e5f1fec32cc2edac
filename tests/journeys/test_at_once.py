"""Many at once: nobody waits for ever, and what is counted is what is there."""

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.client import Person, decoded

PEOPLE = 8
THREADS = 16


def test_everyone_follows_and_unfollows_everyone(person: Callable[[], Person]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        people = list(threads.map(lambda _: person(), range(PEOPLE)))
        pairs = list(itertools.permutations(people, 2))
        dice = random.Random(7)
        acts = [(a, b, dice.choice(("PUT", "PUT", "DELETE"))) for a, b in dice.sample(pairs * 3, len(pairs) * 3)]
        answers = list(threads.map(lambda act: act[0].ask(act[2], f"/v1/users/{act[1].username}/follow"), acts))
        assert {answer.status_code for answer in answers} == {200}
        seen = list(threads.map(lambda pair: pair[0].get(f"/v1/users/{pair[1].username}"), pairs))
    follows = sum(profile["viewer"]["following"] for profile in seen)
    counts = [someone.get("/v1/me")["counts"] for someone in people]
    assert sum(count["followers"] for count in counts) == sum(count["following"] for count in counts) == follows
    for (a, b), profile in zip(pairs, seen, strict=True):
        assert b.get(f"/v1/users/{a.username}")["viewer"]["followed_by"] == profile["viewer"]["following"]


def test_everyone_follows_one(person: Callable[[], Person]) -> None:
    """Everyone follows one at once: the celebrity's row is the one they all want."""
    with ThreadPoolExecutor(THREADS) as threads:
        celebrity, *fans = threads.map(lambda _: person(), range(PEOPLE))
        answers = list(threads.map(lambda fan: fan.ask("PUT", f"/v1/users/{celebrity.username}/follow"), fans))
    assert [answer.status_code for answer in answers] == [200] * len(fans)
    assert celebrity.get("/v1/me")["counts"]["followers"] == len(fans)


def test_a_tap_that_comes_twice_is_answered_as_one(alice: Person, bob: Person) -> None:
    path = f"/v1/users/{bob.username}/follow"
    with ThreadPoolExecutor(2) as threads:
        for _ in range(15):
            for method, following in (("PUT", True), ("DELETE", False)):
                answers = [decoded(answer) for answer in threads.map(alice.ask, [method] * 2, [path] * 2)]
                assert [answer["viewer"]["following"] for answer in answers] == [following] * 2
                assert [answer["counts"]["followers"] for answer in answers] == [int(following)] * 2
                assert alice.get(f"/v1/users/{bob.username}") == answers[0]
