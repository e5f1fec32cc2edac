"""What nobody attaches is swept; what is attached stays."""

import httpx

from infra.local.stack import Stack
from shared.kernel import clock, db
from shared.kernel.storage import public_url
from shared.media.model import ORPHAN_MS, OrphansDue
from tests.client import Person, wait_until

AGE = db.Statement("UPDATE uploads SET created_at = :at WHERE object = ANY(CAST(:objects AS text[]))")
DUE = db.Statement("UPDATE schedules SET next_at = 0 WHERE topic = :topic")


def test_uploads_that_nobody_attached_within_a_day_are_deleted(stack: Stack, alice: Person) -> None:
    post = alice.post_photo("Stays")
    old, fresh = alice.upload_photo(1), alice.upload_photo(2)
    objects = [old["actual"], old["placeholder"]]
    attached = [medium["url"].rpartition("/post/")[2] for medium in post["media"]]
    with db.connection() as conn:
        aged = [*objects, *[f"post/{name}" for name in attached]]
        assert AGE.run(conn, at=clock.now_ms() - ORPHAN_MS - 1, objects=aged) == 3
        assert DUE.run(conn, topic=OrphansDue.topic) == 1
    wait_until(lambda: all(httpx.get(public_url(name), trust_env=False).status_code == 404 for name in objects))
    assert httpx.get(public_url(fresh["actual"]), trust_env=False).status_code == 200
    assert httpx.get(post["media"][0]["url"], trust_env=False).status_code == 200
    body = {"type": "photo:square", "media": [old], "description": ""}
    refused = alice.ask("POST", "/v1/posts", body).json()
    assert {error["code"] for error in refused["errors"]} == {"not_found"}
