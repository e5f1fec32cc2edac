-- Comments deleted before their author's account is: their text is erased then.
CREATE INDEX comments_deleted_with_content ON comments (author_id)
    WHERE deleted_at IS NOT NULL AND (text <> '' OR attachment IS NOT NULL);
