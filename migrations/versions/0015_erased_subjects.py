"""The register of subjects of the sealed log that were erased."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE ops.erased_subjects (
    subject_id   uuid        NOT NULL,
    erasure_id   uuid        NOT NULL,
    tenant_id    text        NOT NULL,
    destroyed_at timestamptz,
    CONSTRAINT erased_subjects_pkey PRIMARY KEY (subject_id, erasure_id)
)""",
    "GRANT SELECT, INSERT, UPDATE (destroyed_at) ON ops.erased_subjects TO footfall_writer",
)
COMMENTS = {
    "TABLE ops.erased_subjects": "Subjects of the sealed log whose users were erased; they name nobody.",
    "COLUMN ops.erased_subjects.erasure_id": "The request, as in ops.erasures.",
    "COLUMN ops.erased_subjects.destroyed_at": "When the key store had no key of it any more; null: not yet.",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")


def downgrade() -> None:
    """Refuses while a subject is erased: a restored key store could bring it back."""
    op.execute(
        """DO $$ BEGIN IF EXISTS (SELECT FROM ops.erased_subjects) THEN
        RAISE EXCEPTION 'users of the sealed log were erased; an earlier version would not know'; END IF; END $$"""
    )
    op.execute("DROP TABLE ops.erased_subjects")
