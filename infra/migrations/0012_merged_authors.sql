-- Authors with so many followers that what they tell is merged into feeds when those are read (docs/decisions/feeds.md).
-- `settled`: all feeds know, and nothing of theirs is fanned out any more. `rise_id` is of this time that they rose: what
-- was under way of an earlier one settles nothing.
CREATE TABLE merged_authors (
    user_id bigint PRIMARY KEY REFERENCES users (id),
    rise_id bigint NOT NULL,
    settled boolean NOT NULL DEFAULT false
);
