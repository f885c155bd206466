"""`monitoring`: what Grafana and Prometheus need to know of us."""

from __future__ import annotations

from importlib.resources import files

import typer

group = typer.Typer(no_args_is_help=True, help="What Prometheus and Grafana need to know.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="monitoring")


@group.command("dashboard")
def dashboard() -> None:
    """Print the Grafana dashboard (JSON), to be imported there."""
    typer.echo(_shipped("dashboard.json"), nl=False)


@group.command("rules")
def rules() -> None:
    """Print Prometheus's alert rules (YAML), to be named in its rule_files."""
    typer.echo(_shipped("rules.yaml"), nl=False)


def _shipped(name: str) -> str:
    return files("core.doors").joinpath("shipped", name).read_text(encoding="utf-8")
