"""The shop platform's own three tables, as far as we read or write them. Other columns and tables are left alone."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, MetaData, Table, Text

from core.store.sealing import TokenText
from core.store.types import PlatformMoment

platform = MetaData()

user = Table(
    "User",
    platform,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
)
app = Table(
    "App",
    platform,
    Column("id", Text, primary_key=True),
    Column("appId", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("userId", Text, ForeignKey("User.id"), nullable=False, index=True),
)
app_settings = Table(
    "AppSettings",
    platform,
    Column("id", Text, primary_key=True),
    Column("appId", Text, ForeignKey("App.id"), nullable=False, unique=True),
    Column("metaPixelId", Text),
    Column("metaAccessToken", TokenText),
    Column("metaTokenExpiresAt", PlatformMoment),
    Column("metaPixelEnabled", Boolean),
    Column("metaTestEventCode", Text),
)
# Columns of the platform that are honoured where they exist; the others must exist.
OPTIONAL_COLUMNS = {("AppSettings", "id"), ("AppSettings", "metaPixelEnabled"), ("AppSettings", "metaTestEventCode")}
