"""A replica in a process of its own, for being killed: `python -m tests.slack.replica` reads one line of JSON, connects
to the workspace, says "ready", and dies by SIGKILL where it is told to: `before` it records the first thing that
somebody says, or `after`, before anybody hears of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bot.sandbox.workspace import WorkspaceServer
from bot.slack.door import Door
from bot.store import Signer
from tests.slack.desk import SOON, Desk, Loop, by_socket


def main() -> None:
    order = json.loads(sys.stdin.readline())
    server = cast(WorkspaceServer, SimpleNamespace(**order["server"]))  # the addresses and tokens of one
    desk = Desk(order["store"], server, rooms=order["rooms"], replica="killed", signer=Signer.load(Path(order["key"])))
    submit = Door.submit

    async def dying(self: Door, *said: Any) -> Any:
        if order["dies"] == "after":
            await submit(self, *said)
        os.kill(os.getpid(), signal.SIGKILL)

    Door.submit = dying  # type: ignore[method-assign]  # the plug is pulled here
    desk.engine.start()
    Loop().run(by_socket(desk).__aenter__())
    print("ready", flush=True)
    Future[None]().result(SOON * 4)  # orphans end too


if __name__ == "__main__":
    main()
