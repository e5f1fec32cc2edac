-- A chat of two, made by its first message. Who sends locks the row: so each message gets an id greater than those before
-- it, and what has a smaller id was committed before.
CREATE TABLE chats (
    id bigint PRIMARY KEY,
    lower_id bigint NOT NULL REFERENCES users (id),
    higher_id bigint NOT NULL REFERENCES users (id),
    last_message_id bigint NOT NULL,
    UNIQUE (lower_id, higher_id),
    CHECK (lower_id < higher_id)
) WITH (fillfactor = 80);

-- How a chat stands with one of its two.
CREATE TABLE chat_members (
    user_id bigint NOT NULL REFERENCES users (id),
    other_id bigint NOT NULL REFERENCES users (id),
    chat_id bigint NOT NULL REFERENCES chats (id),
    box text NOT NULL CHECK (box IN ('inbox', 'requests', 'declined')),
    -- Orders the list: the newest message when it was sent; null when cleared, until another comes.
    position bigint,
    delivered_up_to bigint NOT NULL DEFAULT 0,
    read_up_to bigint NOT NULL DEFAULT 0,
    cleared_up_to bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (user_id, other_id),
    CHECK (read_up_to <= delivered_up_to)
) WITH (fillfactor = 80);
CREATE INDEX chat_members_list ON chat_members (user_id, box, position) WHERE position IS NOT NULL;

-- When a message was sent is in its id. There are two who may hide it or react to it: a column each, so that all of it
-- changes in one row.
CREATE TABLE messages (
    id bigint PRIMARY KEY,
    chat_id bigint NOT NULL REFERENCES chats (id),
    sender_id bigint NOT NULL REFERENCES users (id),
    recipient_id bigint NOT NULL REFERENCES users (id),
    -- What the sender's device calls it: sent twice, it is one.
    client_id text NOT NULL,
    -- As it was sent, objects by name; null when deleted for both.
    content jsonb,
    reply_to_id bigint REFERENCES messages (id),
    sender_emoji text,
    recipient_emoji text,
    hidden_by_sender boolean NOT NULL DEFAULT false,
    hidden_by_recipient boolean NOT NULL DEFAULT false,
    -- As told to the sender: of a request nothing is.
    delivered_at bigint,
    read_at bigint,
    edited_at bigint,
    deleted_at bigint,
    version bigint NOT NULL DEFAULT 1,
    UNIQUE (chat_id, sender_id, client_id),
    CHECK (sender_id <> recipient_id),
    CHECK ((content IS NULL) = (deleted_at IS NOT NULL)),
    CHECK (read_at IS NULL OR delivered_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX messages_of_chat ON messages (chat_id, id);
-- For the archive, and for erasing.
CREATE INDEX messages_sender ON messages (sender_id, id);
CREATE INDEX messages_reacted ON messages (recipient_id) WHERE recipient_emoji IS NOT NULL;
-- What an acknowledgement has to look at.
CREATE INDEX messages_unread ON messages (recipient_id, chat_id, id) WHERE read_at IS NULL;
