"""Where our tables are declared, and the type of their keys."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

ours = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A 64-bit key that is SQLite's own rowid there.
Id = BigInteger().with_variant(Integer, "sqlite")
