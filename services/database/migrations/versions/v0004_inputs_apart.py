"""The input of a portion in a table of its own, so that a lease is a small row."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, move what waits there, and drop the column."""
    op.create_table(
        "bulk_inputs",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        sa.Column("first_row", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.execute(
        "INSERT INTO bulk_inputs (batch_id, first_row, content) "
        "SELECT batch_id, first_row, input FROM bulk_portions WHERE input IS NOT NULL"
    )
    op.drop_column("bulk_portions", "input")


def downgrade() -> None:
    """Move it back."""
    op.add_column("bulk_portions", sa.Column("input", sa.LargeBinary))
    op.execute(
        "UPDATE bulk_portions SET input = (SELECT content FROM bulk_inputs "
        "WHERE bulk_inputs.batch_id = bulk_portions.batch_id "
        "AND bulk_inputs.first_row = bulk_portions.first_row)"
    )
    op.drop_table("bulk_inputs")
