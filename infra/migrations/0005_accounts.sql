-- An address is proven with a mailed code to reset a password as it is to sign up. The tokens and codes of one purpose are
-- unknown to the other.
ALTER TABLE signups ADD COLUMN purpose text NOT NULL DEFAULT 'signup' CHECK (purpose IN ('signup', 'password_reset'));

-- All of a user's sessions: listed, ended together, erased.
CREATE INDEX sessions_of_user ON sessions (user_id, id);
DROP INDEX sessions_user;
