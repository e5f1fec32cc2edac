"""Uploads: authorised, attached, swept."""
