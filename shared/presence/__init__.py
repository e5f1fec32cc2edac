"""Presence: who is here just now, who was last here when, and who is typing."""
