"""Run by Alembic: migrates over the connection, and in the transaction, that the caller holds."""

from alembic import context

from services.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="bulk_schema",
)
context.run_migrations()
