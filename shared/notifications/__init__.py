"""Notifications: grouped, revocable, told live."""
