"""uvicorn as Firedoor runs it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from bot.errors import ConfigError
from bot.web.http import App

KEEP_ALIVE = 75  # seconds: senders keep idle connections for a minute, and must not meet one that was just closed
GRACE = 15  # seconds for answers under way
BACKLOG = 2048


def serve(
    app: App,
    host: str,
    port: int,
    ready: Callable[[str], object] = str,
    ending: Callable[[], object] = bool,
) -> None:
    """Serves in the main thread until SIGTERM or SIGINT, finishes what is under way, and returns. `ready` is told the
    URL once it answers; `ending` is called when no new requests come, to end those that are held. Raises ConfigError
    where the address is taken."""
    _Uvicorn(_configured(app), ready, ending).run(sockets=[_bound(host, port)])


class Server:
    """The same in a thread of its own on a free port of 127.0.0.1 (tests, drills, benchmarks)."""

    def __init__(self, app: App, ending: Callable[[], object] = bool) -> None:
        self._server = _Uvicorn(_configured(app), ending=ending)
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Its URL, once it answers."""
        listening = _bound("127.0.0.1", 0)
        host, port = listening.getsockname()[:2]
        listening.listen(BACKLOG)  # from now on callers wait in the backlog instead of being refused
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="web", daemon=True)
        self._thread.start()
        return f"http://{host}:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread:
            self._thread.join(GRACE + 5)


class _Uvicorn(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, ready: Callable[[str], object] = str, ending: Callable[[], object] = bool
    ) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's own, but a signal that stopped it is not raised again: the engine behind it still has to hand
        over what it holds."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def _configured(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # addresses hold acknowledge links
        server_header=False,
        proxy_headers=False,  # nobody here asks where a request comes from
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=64 * 1024,
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        problem = f"cannot listen on {host}:{port}: {error.strerror}."
        raise ConfigError("firedoor.yaml: listen", problem, "Choose another port, or stop what uses it.") from None
    listening.setblocking(False)
    return listening
