"""Alembic migrations of the tables; ``services.database.connection`` applies them at start."""
