"""Engagement: its types, rules and events, and the statement that changes one, whichever table its subject is of."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from shared.kernel import codec
from shared.kernel.events import Event
from shared.kernel.pages import PageQuery
from shared.kernel.problems import FieldError
from shared.profiles.model import UserCard
from shared.visibility.model import SEEN_OF_SQL

Part = Literal["reaction", "save", "repost"]
# Without which an emoji is shown as text, and which keyboards leave out.
_EMOJI_STYLE: Final = "\ufe0f"
_FULLY_QUALIFIED: Final = 2
# The longest has ten code points.
Emoji = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


def emoji_of(text: str) -> str | None:
    """The one emoji that `text` is, in its fully qualified form; None if it is none, or more than one.

    Those of Unicode's emoji-test: so `❤` counts as `❤️`, and skin tones alone or half a flag are none.
    """
    return _qualified().get(text.replace(_EMOJI_STYLE, ""))


@cache
def _qualified() -> Mapping[str, str]:
    # Only who is given an emoji needs the table of them.
    from emoji import EMOJI_DATA

    whole = [text for text, facts in EMOJI_DATA.items() if facts["status"] == _FULLY_QUALIFIED]
    return {text.replace(_EMOJI_STYLE, ""): text for text in whole}


def _faults_of_emoji(text: str | None) -> list[FieldError]:
    return (
        [] if text is None or emoji_of(text) else [FieldError("emoji", "not_an_emoji", "Expected exactly one emoji.")]
    )


class NewReaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reaction: any one emoji. Forms that look alike (`❤`, `❤️`) are one."""

    RULES: ClassVar[codec.Rules] = {"emoji": _faults_of_emoji}

    emoji: Emoji


class ReactionQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """Which page of reactions; with `emoji`, of those alone."""

    RULES: ClassVar[codec.Rules] = {**PageQuery.RULES, "emoji": _faults_of_emoji}

    emoji: str | None = None

    def emoji_wanted(self) -> str | None:
        """The emoji asked for, fully qualified."""
        return None if self.emoji is None else emoji_of(self.emoji)


class Reaction(msgspec.Struct, frozen=True):
    """Who reacted, with what, and when."""

    user: UserCard
    emoji: str
    at: int


class Repost(msgspec.Struct, frozen=True):
    """Who reposted, and when."""

    user: UserCard
    at: int


class Engagement(msgspec.Struct, frozen=True):
    """What one user has done with one subject."""

    emoji: str | None = None
    saved: bool = False
    reposted: bool = False


NOTHING: Final = Engagement()


class Engaged(Event, frozen=True):
    """A part of an engagement was changed: the act `act_id` was done, undone, or its emoji changed."""

    part: ClassVar[Part]

    subject_id: int
    author_id: int
    user_id: int
    act_id: int
    version: int


class PostReacted(Engaged, frozen=True):
    """Somebody reacted to a post, otherwise than before, or no more."""

    part = "reaction"


class PostSaved(Engaged, frozen=True):
    """Somebody saved a post, or no more."""

    part = "save"


class PostReposted(Engaged, frozen=True):
    """Somebody reposted a post, or no more."""

    part = "repost"


# One statement, one round trip: the row, the counts of its subject, the event, and all that the answer shows. The
# subject is locked first, and its counts are made of what it is by then: made of what it was when the statement began,
# they can break its CHECKs before Postgres finds that it has changed since. What else is read may be from before it
# waited: where nothing was changed and the engagement isn't as wished either, another request changed it meanwhile, and
# who asks again sees it. Postgres makes every part of a statement ready each time, whether it comes to it or not, and
# that is most of what this costs: so nothing is read twice, and what is rarely needed is a function's.
_CHANGE = """
WITH target AS MATERIALIZED (
  SELECT s.*, u.username, u.name, u.picture, {visible} AS visible FROM {target} FOR NO KEY UPDATE OF s
), change AS (
  {change}
  RETURNING new.subject_id, old.emoji AS emoji_before, old.{part}_id AS act_before, new.{part}_id AS act_id,
            new.emoji, new.save_id, new.repost_id, new.version
), counted AS (
  UPDATE {table} s SET version = s.version + 1, {counts}
    FROM change c, target t WHERE s.id = t.id
  RETURNING {counted}
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT '{topic}',
         convert_to(CAST(json_build_object('subject_id', c.subject_id, 'author_id', target.author_id,
                                           'user_id', CAST(:user_id AS bigint),
                                           'act_id', coalesce(c.act_id, c.act_before), 'version', c.version)
                         AS text), 'UTF8'),
         :trace, :now
    FROM change c, target
)
SELECT {subject}, t.username, t.name, t.picture, c.version IS NOT NULL,
       CASE WHEN c.version IS NULL THEN e.emoji ELSE c.emoji END,
       CASE WHEN c.version IS NULL THEN e.save_id ELSE c.save_id END IS NOT NULL,
       CASE WHEN c.version IS NULL THEN e.repost_id ELSE c.repost_id END IS NOT NULL,
       coalesce(c.version, e.version, 0), coalesce(c.act_id, c.act_before, 0), t.visible, {seen}
  FROM target t LEFT JOIN change c ON true LEFT JOIN counted n ON true
  LEFT JOIN engagements e ON e.subject_id = t.id AND e.user_id = :user_id AND c.version IS NULL
"""
_REACT: Final = """INSERT INTO engagements AS e (subject_id, user_id, kind, emoji, reaction_id)
  SELECT id, :user_id, '{kind}', :emoji, :act_id FROM target
  ON CONFLICT (subject_id, user_id) DO UPDATE
     SET emoji = excluded.emoji, reaction_id = coalesce(e.reaction_id, excluded.reaction_id), version = e.version + 1
   WHERE e.emoji IS DISTINCT FROM excluded.emoji"""
_DO: Final = """INSERT INTO engagements AS e (subject_id, user_id, kind, {part}_id)
  SELECT id, :user_id, '{kind}', :act_id FROM target
  ON CONFLICT (subject_id, user_id) DO UPDATE SET {part}_id = excluded.{part}_id, version = e.version + 1
   WHERE e.{part}_id IS NULL"""
_UNDO: Final = """UPDATE engagements e SET {undone}, version = e.version + 1 FROM target
   WHERE e.subject_id = target.id AND e.user_id = :user_id AND e.{part}_id IS NOT NULL"""
_STEP: Final = """{part}_count = t.{part}_count + CAST(c.act_id IS NOT NULL AS integer)
                                       - CAST(c.act_before IS NOT NULL AS integer)"""
_TALLY: Final = "reactions = tally(tally(t.reactions, c.emoji_before, -1), c.emoji, 1)"


def change_sql(
    event: type[Engaged], *, undo: bool, kind: Literal["post", "comment"], there: str, visible: str, columns: str
) -> str:
    """The statement that does, or undoes, what `event` tells of, with a row of `{kind}s`.

    `there` is FROM and WHERE of the subject `:subject_id`, called s, with its author u; `visible` whether `:user_id`
    may see it: who may not can undo what they did all the same. `columns` are those of the subject that the answer
    shows. They come first in the row; then the author's username, name and picture; whether anything was changed;
    emoji, saved, reposted and version of the engagement; the act's id; `visible`; whom of those whom it mentions the
    user may see.
    """
    part = event.part
    is_reaction = part == "reaction"
    columns_of = [f"{part}_id", *(["emoji"] if is_reaction else [])]
    change = _UNDO if undo else _REACT if is_reaction else _DO
    counted = ["version", f"{part}_count", *(["reactions"] if is_reaction else [])]
    return _CHANGE.format(
        part=part,
        table=f"{kind}s",
        topic=event.topic,
        visible=visible if undo else "true",
        target=there if undo else f"{there} AND {visible}",
        subject=", ".join(
            f"coalesce(n.{column}, t.{column})" if column in counted else f"t.{column}"
            for column in columns.split(", ")
        ),
        counted=", ".join(f"s.{column}" for column in counted),
        change=change.format(part=part, kind=kind, undone=", ".join(f"{column} = NULL" for column in columns_of)),
        seen=SEEN_OF_SQL.format(names="t.mentions"),
        counts=", ".join([_STEP.format(part=part), *([_TALLY] if is_reaction else [])]),
    )
