"""What users do with posts and comments: react, save, repost."""
