"""Alembic runs inside the transaction that `core.store.migrate` opened."""

from alembic import context

from core.store.migrate import VERSION_TABLE
from core.store.schema import ours

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=ours,
    version_table=VERSION_TABLE,
    transaction_per_migration=False,
)
context.run_migrations()
