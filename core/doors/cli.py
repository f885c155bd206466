"""`capi-console`: the shell's way into everything. One command group per module; errors are one line."""

from __future__ import annotations

import importlib
import logging
from typing import Annotated, Any

import typer

from core import __version__, logs
from core import settings as house_settings
from core.desk import system_facts
from core.doors import (
    cli_alerts,
    cli_apps,
    cli_cases,
    cli_doctor,
    cli_drill,
    cli_event,
    cli_events,
    cli_export,
    cli_keys,
    cli_ledger,
    cli_monitoring,
    cli_operator,
    cli_tokens,
    wiring,
)
from core.doors.cli_shell import META_APP, AsJson, Shell, load, say, show
from core.store import database, migrate, rekey

log = logging.getLogger("cli")

app = typer.Typer(
    cls=Shell,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Keeps Conversions API events flowing when Meta access tokens expire.",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"capi-console {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def up(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Try it out: a stand-in for Meta, a scratch database, some 60 shops.")
    ] = False,
) -> None:
    """Start endpoint, worker and console together; Ctrl-C stops all."""
    from core.doors import supervisor

    settings = house_settings.load(supervisor.sandbox_environment() if sandbox else None)
    logs.keep_out(settings.secrets())
    settings.require(*META_APP)
    raise typer.Exit(supervisor.up(settings, sandbox=sandbox))


@app.command()
def endpoint() -> None:
    """Take tracking calls and webhooks, until stopped."""
    from core.doors import endpoint as door

    settings = load(require=META_APP)
    wiring.start_logs(settings)
    engine = wiring.open_store(settings)
    service = wiring.make_service(settings, engine, kind="endpoint")
    if not settings.shopify_api_secret:
        log.warning("webhooks are refused: SHOPIFY_API_SECRET is not set")

    def refresh_user(user_id: str) -> int:
        return sum(one.usable for one in service.refresh_all_user_tokens(user_id, trigger="api", by="api"))

    parts: dict[str, Any] = {"refresh_user": refresh_user, "reconnect": wiring.make_reconnect(settings, service)}
    if settings.endpoint_metrics_port:
        from core.doors import monitoring

        served = monitoring.watch_endpoint(settings, engine, parts)
    else:
        served = door.create_app(engine, settings, **parts)
    door.run(served, host=settings.endpoint_host, port=settings.endpoint_port)


@app.command()
def worker(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=128, help="Requests to Meta at a time; else CAPI_WORKER_THREADS.")
    ] = None,
) -> None:
    """Deliver events and refresh tokens, until stopped. Any number may run on one database."""
    from core.doors import worker as door

    settings = load(require=META_APP)
    wiring.start_logs(settings)
    door.run(settings.model_copy(update={"worker_threads": concurrency}) if concurrency else settings)


@app.command()
def console() -> None:
    """Serve the console, until stopped."""
    settings = load()
    wiring.start_logs(settings)
    # By name: the other commands must not load Streamlit and pandas, not even by way of an import statement.
    importlib.import_module("core.doors.console").run(settings)


@app.command()
def sandbox() -> None:
    """Serve the stand-in for Meta's Graph API, until stopped."""
    from core.doors.supervisor import free_port
    from core.sandbox.app import run
    from core.sandbox.state import State

    settings = load()
    wiring.start_logs(settings)
    free_port("CAPI_SANDBOX_PORT", "127.0.0.1", settings.sandbox_port)
    known = {"app_id": settings.facebook_app_id, "app_secret": settings.facebook_app_secret}
    state = State(**{name: value for name, value in known.items() if value})  # type: ignore[arg-type]
    log.info("sandbox listens", extra={"host": "127.0.0.1", "port": settings.sandbox_port})
    run("127.0.0.1", settings.sandbox_port, state)


@app.command("migrate")
def migrate_() -> None:
    """Bring the database to this version's tables."""
    settings = load()
    logs.setup("WARNING")
    engine = database.open_engine(settings.database_url)
    migrate.migrate(engine)
    rekey.use(engine, settings.encryption_keys)
    say(f"{database.shown(engine.url)} is at revision {migrate.newest()}")
    engine.dispose()


@app.command("settings")
def settings_(as_json: AsJson = False) -> None:
    """Print every setting, where it comes from and what it is for; secrets stay hidden."""
    rows = [
        {"name": row.name, "value": row.value, "source": row.source, "description": row.words}
        for row in system_facts.setting_rows(load())
    ]
    show(rows, as_json=as_json, empty="")


cli_apps.add_to(app)
cli_tokens.add_to(app)
cli_events.add_to(app)
cli_event.add_to(app)
cli_ledger.add_to(app)
cli_export.add_to(app)
cli_cases.add_to(app)
cli_alerts.add_to(app)
cli_keys.add_to(app)
cli_operator.add_to(app)
cli_monitoring.add_to(app)
cli_doctor.add_to(app)
cli_drill.add_to(app)


def main() -> None:
    app(prog_name="capi-console")


if __name__ == "__main__":
    main()
