"""Alembic's entry: runs on the connection and inside the transaction that `bot.store.schema` opened."""

from alembic import context

from bot.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
