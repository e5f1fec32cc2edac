"""Posts put straight into Postgres: more of them than a test has time to make."""

from shared.kernel import clock, db, ids
from shared.profiles import reads as profiles
from tests.client import Person

INSERT = db.Statement(
    """INSERT INTO posts (id, author_id, type, media, description, created_at)
       SELECT id, :author, 'photo:square', '[]', '', :now FROM unnest(CAST(:ids AS bigint[])) AS made (id)"""
)


def insert_posts(author: Person, count: int, *, days_ago: int) -> list[str]:
    """Their ids, newest first."""
    first = (clock.now_ms() - ids.EPOCH_MS - days_ago * 86_400_000) << ids.RANDOM_BITS
    made = [first + n for n in range(count)]
    with db.connection() as conn:
        INSERT.run(conn, author=profiles.named([author.username])[author.username], ids=made, now=clock.now_ms())
    return [ids.encode(post_id) for post_id in reversed(made)]
