"""Alembic's migrations of the store. A released one never changes."""
