"""Alembic migrations of the bulk path's tables, applied at start by ``services.database.connection``."""
