-- Whether others may see when a user is here, and the user when others are.
ALTER TABLE users ADD COLUMN shows_presence boolean NOT NULL DEFAULT true;
