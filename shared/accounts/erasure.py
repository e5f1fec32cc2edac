"""Deleting an account: hidden at once, erased in the background in small steps, a receipt at the end.

Each batch is a transaction that counts what it erases in the receipt. An event does as much as fits in a turn and hands
the rest on to the next; killed, repeated or out of order, the work goes on from what is left.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from shared.accounts import erasure_store as store
from shared.accounts import model, sessions
from shared.accounts.model import AccountErased, ErasureDue
from shared.graph import actions as graph
from shared.kernel import cache, clock, db, events, ids, log, storage
from shared.kernel.endpoint import Caller, Client
from shared.media import actions as media
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged

_BATCH: Final = 200
TURN_MS: Final = 5_000
# By then whatever was under way at the end has come: requests, events and their repeats.
LOOK_AGAIN_MS: Final = 24 * 3600 * 1000
_LOOK_AGAIN_BATCH: Final = 100
# What Redis holds of one user, by their id. What it holds beside that ends by itself, and says that they are gone:
# their card, the marks of sessions that have ended.
REDIS_KEYS: Final = (
    "feed:{}",
    "feed:building:{}",
    "told:{}",
    "told:building:{}",
    "posts:{}",
    "posts:building:{}",
    "followers:{}",
    "followers:building:{}",
    "following:{}",
    "following:building:{}",
    "blocked:{}",
    "blocked:building:{}",
    "muted:{}",
    "muted:building:{}",
    "engaged:{}",
    "followed_by:{}",
    "saved:{}",
    "reacted:{}",
    "chats:{}",
    "chat_requests:{}",
    "commented:{}",
    "mentioning:{}",
    "notifications:{}",
    "relations:{}",
    "inbox:{}",
    "inbox:floor:{}",
    "inbox:missed:{}",
    "presence:{}",
)


def delete_account(caller: Caller, client: Client, body: model.Confirmation) -> None:
    """Delete the caller's account: hidden everywhere from now on. Raises Forbidden, TooManyRequests."""
    owner = sessions.confirm(caller, client, body.password)
    erasure_id, now = ids.new_id(), clock.now_ms()
    with db.transaction() as conn:
        if store.HIDE.maybe(conn, user_id=owner.id, password_hash=owner.password_hash) is None:
            raise sessions.wrong_password()  # changed meanwhile
        store.BEGIN.run(conn, id=erasure_id, user_id=owner.id, email=owner.email, now=now)
        ended = sessions.end_all(conn, owner.id)
        events.emit(conn, UserChanged(owner.id), ErasureDue(erasure_id, 0))
    gone, _ = profiles.fresh([owner.id])
    events.after_commit(*gone, *ended)


def erase(event: ErasureDue) -> None:
    """Do one turn's work of an erasure. Raises what a store raises: then it is done again."""
    with db.connection() as conn:
        erasure = store.UNDER_WAY.maybe(conn, id=event.erasure_id, turn=event.turn)
    if erasure is None:
        return  # over, or further on
    until = clock.now_ms() + TURN_MS
    # As long as anything is found: what was under way when it began may have come behind it.
    while _pass(erasure, until):
        if clock.now_ms() >= until:
            _hand_on(erasure)
            return
    _count(erasure, "redis keys", cache.run_sync(("UNLINK", *_redis_keys(erasure.user_id)))[0])
    _count(erasure, "graph users", graph.forget(erasure.user_id))
    with db.transaction() as conn:
        if store.END.run(conn, id=erasure.id, turn=erasure.turn, now=clock.now_ms()):
            events.emit(conn, AccountErased(erasure.id))
    events.after_commit()


def _pass(erasure: store.ErasureRow, until: int) -> bool:
    """Go through all that there is, until time is up; whether anything was found."""
    batches: list[Callable[[], int]] = [partial(_erase_rows, erasure, step) for step in _steps(erasure)]
    batches += [partial(_erase_uploads, erasure), partial(_erase_exports, erasure)]
    found = False
    for batch in batches:
        while batch():
            found = True
            if clock.now_ms() >= until:
                return found
    return found


def _steps(erasure: store.ErasureRow) -> tuple[store.Step, ...]:
    return store.STEPS if erasure.looks == 1 else store.LATER


def _hand_on(erasure: store.ErasureRow) -> None:
    # Once a turn, however often its event comes: else each repeat would start a train of copies.
    with db.transaction() as conn:
        if store.TURN.run(conn, id=erasure.id, turn=erasure.turn):
            events.emit(conn, ErasureDue(erasure.id, erasure.turn + 1))
    events.after_commit()


def _erase_rows(erasure: store.ErasureRow, step: store.Step) -> int:
    email = model.normalise_email(erasure.email or "")
    params: dict[str, object] = {
        "user_id": erasure.user_id,
        "email": email,
        "begun": erasure.begun_at,
        "subjects": sessions.account_subjects(erasure.username, email),
        "scope": f"user:{erasure.user_id}",
        "limit": _BATCH,
        "now": clock.now_ms(),
        "trace": log.trace_id.get() or None,
    }
    return db.retrying(_erase_batch, erasure.id, step, params)


def _erase_batch(erasure_id: int, step: store.Step, params: dict[str, object]) -> int:
    with db.transaction() as conn:
        if store.LOCK.maybe(conn, id=erasure_id) is None:
            return 0
        if step.lock is not None:
            step.lock.one(conn, **params)
        erased = step.erase.one(conn, **params).count
        if erased:
            store.COUNT.run(conn, id=erasure_id, name=step.name, more=erased)
    return erased


def _erase_uploads(erasure: store.ErasureRow) -> int:
    """A batch of the user's objects: from storage first, so that none is left behind by its row."""
    young = clock.now_ms() - media.EXPIRES_SECONDS * 1000
    with db.connection() as conn:
        found = store.UPLOADS.all(conn, user_id=erasure.user_id, young=young, limit=_BATCH)
    objects = [row.object for row in found]
    media.delete(objects)
    return _forget_objects(
        erasure,
        "media",
        objects,
        partial(store.LEAVE_TO_SWEEP.run, young=young),
        partial(store.DELETE_UPLOADS.run, young=young),
    )


def _erase_exports(erasure: store.ErasureRow) -> int:
    with db.connection() as conn:
        found = store.EXPORTS.all(conn, user_id=erasure.user_id, limit=_BATCH)
    objects = [row.object for row in found]
    storage.delete(objects, private=True)
    return _forget_objects(erasure, "archives", objects, store.DELETE_EXPORTS.run)


def _forget_objects(erasure: store.ErasureRow, name: str, objects: list[str], *forget: Callable[..., int]) -> int:
    if not objects:
        return 0
    with db.transaction() as conn:
        if store.LOCK.maybe(conn, id=erasure.id) is None:
            return 0
        forgotten = sum(run(conn, objects=objects) for run in forget)
        store.COUNT.run(conn, id=erasure.id, name=name, more=forgotten)
    return forgotten


def _count(erasure: store.ErasureRow, name: str, more: int) -> None:
    with db.connection() as conn:
        store.COUNT.run(conn, id=erasure.id, name=name, more=more)


def _redis_keys(user_id: int) -> list[str]:
    return [key.format(ids.encode(user_id)) for key in REDIS_KEYS]


def look_again() -> None:
    """Have what was erased a day ago looked through once more: a request may have been under way at the time."""
    due = _LOOK_AGAIN_BATCH
    while due == _LOOK_AGAIN_BATCH:
        with db.connection() as conn:
            due = store.LOOK_AGAIN.one(
                conn,
                before=clock.now_ms() - LOOK_AGAIN_MS,
                limit=_LOOK_AGAIN_BATCH,
                now=clock.now_ms(),
                trace=log.trace_id.get() or None,
            ).count


def former_address(event: AccountErased) -> str | None:
    """Where the last mail goes; None when it has gone."""
    with db.connection() as conn:
        found = store.FORMER_ADDRESS.maybe(conn, id=event.erasure_id)
    return found.email if found else None


def forget_address(event: AccountErased) -> None:
    """The last mail has gone: the address is not kept longer."""
    with db.connection() as conn:
        store.FORGET_ADDRESS.run(conn, id=event.erasure_id)
