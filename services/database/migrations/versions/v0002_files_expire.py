"""Files that are deleted when their time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when files expire."""
    op.add_column("bulk_files", sa.Column("expires_at", sa.Float))
    op.add_column("bulk_batches", sa.Column("output_expires_s", sa.Float))
    op.create_index("bulk_files_by_expiry", "bulk_files", ["expires_at"])


def downgrade() -> None:
    """Keep every file for good."""
    op.drop_index("bulk_files_by_expiry", "bulk_files")
    op.drop_column("bulk_batches", "output_expires_s")
    op.drop_column("bulk_files", "expires_at")
