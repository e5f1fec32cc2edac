"""Accounts: signing up, signing in, sessions."""
