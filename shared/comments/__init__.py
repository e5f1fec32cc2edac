"""Comments on posts, and replies."""
