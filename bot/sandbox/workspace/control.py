"""The control API: what people do in the sandbox workspace, and what each of them sees. Loopback only.

Every request carries `Authorization: Bearer <control_secret>`, new at each launch; GETs also take the cookie that
`POST /sandbox/session` sets (for EventSource and pictures). Another `Host` or `Origin` than this one is refused. Bodies
and answers are JSON: `{"ok": true, ...}`, or status 400 and `{"ok": false, "error": "<Slack's code>", "why": "..."}`.

What is seen
    GET  /sandbox/state?viewer=U   that person's screen; without a viewer everything. Shapes: workspace/screen.py
    GET  /sandbox/feed?viewer=U    text/event-stream. First `event: state` with the screen, then `event: change` with
                                   one of these, each of them only where that person sees it (`seq` rises):
        {"kind": "message", "message": M}                      new, edited, reacted to, pinned, answered in its thread
        {"kind": "message_gone", "channel": C, "ts": TS}
        {"kind": "channel", "channel": {...}}                  new for them (with "messages"), or changed (without)
        {"kind": "channel_gone", "channel": C}                 left, or no longer to be seen
        {"kind": "joinable", "joinable": [...]}                the public channels that they are not in
        {"kind": "modals", "modals": [VIEW, ...]}              their stack, the topmost last; [] when all are closed
        {"kind": "home", "home": VIEW}
        {"kind": "failure", "text": "...", "channel", "ts", "view"}   an interaction that the bot did not acknowledge
        {"kind": "people", "people": [...], "groups": [...]}
        {"kind": "trouble", "trouble": {...}}                  faults, scopes, connections: what /sandbox/faults changed
                                   Whoever falls behind gets `event: state` again. A comment every 15 s keeps it open.
    GET  /files/<id>/<name>?viewer=U   the bytes of a file that this person sees (also with the bot's token)

What people do: POST /sandbox/act/<deed> with {"user": U, ...}
    say      channel, text, thread_ts=""                       -> ts
    edit     channel, ts, text
    delete   channel, ts
    react    channel, ts, name        unreact: the same
    pin      channel, ts              unpin: the same
    upload   channel, name, text (or base64), title="", comment="", thread_ts=""   -> ts, file
    join     channel                  leave: the same
    invite   channel, users: [U, ...]
    dm                                                        -> channel, the one with the bot
    share    channel                  connects it to the partner's workspace
    group    group, users: [U, ...]   who is in a user group
    profile  person, deleted | is_restricted | name: true ... changes a person
  and these, which go to the bot and answer once it has acknowledged, or has not ("failed": the sentence people see)
    command  channel, command="/inc", text="", thread_ts=""
    click    channel, ts | view, action_id, block_id="", value=None, values={}
             any element: `value` is the option's value of a select, overflow or radio group (a list for checkboxes and
             multi selects), the date, the time, the user or channel id; nothing for a button. `values`: what stands in
             the other inputs there, as with submit.
    options  channel, ts | view, action_id, block_id="", query=""     -> options (of an external select)
    submit   view, values={block_id: {action_id: value}}      -> result: "closed" | "cleared" | "updated" | "pushed" |
             "errors" with errors={block_id: sentence}, which are shown and leave the modal as it is
    close    view, all=false                                  the topmost modal, or the stack
    shortcut callback_id, and for a message shortcut channel and ts
    home                                                      opens the App Home

What goes wrong
    POST   /sandbox/faults  {"name": N, "method": "*", "times": 1, "retry_after": 1.0, "seconds": 1.0}
           for Web API calls: ratelimited (429), missing_scope, down (503), lost (done, then 503), slow (by `seconds`);
           for deliveries (`method` is then *, interactive, slash_commands or events_api): duplicate, disconnect;
           tiers: Slack's rate limits are enforced from now on. `times` 0: until the faults are cleared.
    DELETE /sandbox/faults  all of them are over
    POST   /sandbox/scopes  {"without": ["pins:write", ...]}  the app is without them from now on ([]: has all again)

What the launcher adds ("send an alert"): functions of its own, by name
    GET  /sandbox/extras           -> extras: {name: description}
    POST /sandbox/extras/<name>    a JSON object                 -> its answer
    GET  / and /page/<name>        the files of the page, where the launcher has given a folder

`POST /sandbox/click {"user", "channel", "ts", "action_id", "block_id"}` does not wait for the acknowledgement.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.sandbox.workspace.delivery import Delivery
from bot.sandbox.workspace.files import download
from bot.sandbox.workspace.rooms import BOT_USER, ApiError
from bot.sandbox.workspace.screen import Renderer, Screen
from bot.sandbox.workspace.state import Workspace

Handler = Callable[[Request], Awaitable[Response]]
# What the launcher adds to the page; the docstring's first line says what it does. Called in a thread.
Extra = Callable[[Mapping[str, Any]], Mapping[str, Any]]

ALIVE_EVERY = 15.0  # seconds between comments on a quiet feed
_HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Served(Protocol):
    """The server, as the control API needs it."""

    workspace: Workspace
    control_secret: str

    def act(self, deed: str, user: str, **args: Any) -> Delivery | dict[str, Any]: ...

    def click(self, user: str, channel: str, ts: str, action_id: str, block_id: str = "") -> Delivery: ...


class Control:
    """Lives in the server's event loop. `wake` tells the feeds that something changed."""

    def __init__(
        self, served: Served, *, render: Renderer | None, extras: Mapping[str, Extra], page: Path | None
    ) -> None:
        self._served, self._render, self._extras, self._page = served, render, extras, page
        self._feeds: set[asyncio.Event] = set()
        self._over = False

    def stop(self) -> None:
        """Ends the feeds, which a stopping server would else wait for."""
        self._over = True
        self.wake()

    def wake(self) -> None:
        for feed in self._feeds:
            feed.set()

    def routes(self) -> list[Route]:
        post = ["POST"]
        routes = [
            Route("/sandbox/state", self._guarded(self._state, cookie=True)),
            Route("/sandbox/feed", self._guarded(self._feed, cookie=True)),
            Route("/sandbox/session", self._guarded(self._session), methods=post),
            Route("/sandbox/act/{deed}", self._guarded(self._act), methods=post),
            Route("/sandbox/click", self._guarded(self._click), methods=post),
            Route("/sandbox/faults", self._guarded(self._faults), methods=["POST", "DELETE"]),
            Route("/sandbox/scopes", self._guarded(self._scopes), methods=post),
            Route("/sandbox/extras", self._guarded(self._extra_names)),
            Route("/sandbox/extras/{name}", self._guarded(self._extra), methods=post),
            Route("/files/{id}/{name}", self._file),
        ]
        if self._page is not None:
            routes += [Route("/", self._page_file), Route("/page/{name}", self._page_file)]
        return routes

    # Who may ----------------------------------------------------------------------------------------------------

    def _guarded(self, perform: Handler, *, cookie: bool = False) -> Handler:
        async def answer(request: Request) -> Response:
            if not self._from_here(request):
                return _refusal("not_loopback", "The sandbox answers on this machine's own address only.", 403)
            if not self._knows_secret(request, cookie=cookie):
                return _refusal("not_authed", "Open the page by the address that was printed at the launch.", 401)
            try:
                return await perform(request)
            except ApiError as error:
                return _refusal(error.code, str(error))
            except (LookupError, TypeError, ValueError) as error:
                return _refusal("invalid_arguments", str(error))

        return answer

    def _from_here(self, request: Request) -> bool:
        """Another page's name for this address (DNS rebinding) is not ours."""
        host = request.headers.get("host", "").partition(":")[0]
        origin = request.headers.get("origin", self._served.workspace.address)
        ours = {self._served.workspace.address, self._served.workspace.address.replace("127.0.0.1", "localhost")}
        return host in ("127.0.0.1", "localhost") and origin in ours

    def _knows_secret(self, request: Request, *, cookie: bool) -> bool:
        expected = self._served.control_secret.encode()
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), expected):
            return True
        return cookie and hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), expected)

    @property
    def _cookie(self) -> str:
        """Cookies of 127.0.0.1 are one jar for all its ports."""
        return f"sandbox_{self._served.workspace.address.rpartition(':')[2]}"

    async def _session(self, _: Request) -> Response:
        answer = JSONResponse({"ok": True})
        answer.set_cookie(self._cookie, self._served.control_secret, httponly=True, samesite="strict")
        return answer

    # What is seen -----------------------------------------------------------------------------------------------

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self._screen(request).whole(), headers=_HARMLESS)

    async def _feed(self, request: Request) -> Response:
        feed = self._follow(self._screen(request))
        return StreamingResponse(feed, media_type="text/event-stream", headers=_HARMLESS)

    async def _follow(self, screen: Screen) -> AsyncIterator[str]:
        room, woken = self._served.workspace, asyncio.Event()
        self._feeds.add(woken)
        try:
            whole = screen.whole()
            seq = whole["seq"]
            yield _event("state", whole, seq)
            while not self._over:
                try:
                    await asyncio.wait_for(woken.wait(), ALIVE_EVERY)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                woken.clear()
                with room.lock:
                    seq, changes = room.since(seq)
                    told = [("change", change) for change in screen.changes(changes)] if changes else []
                    if changes is None:
                        told = [("state", screen.whole())]
                for kind, what in told:
                    yield _event(kind, what, seq)
        finally:
            self._feeds.discard(woken)

    def _screen(self, request: Request) -> Screen:
        return Screen(self._served.workspace, request.query_params.get("viewer", ""), self._render)

    async def _file(self, request: Request) -> Response:
        workspace, viewer = self._served.workspace, request.query_params.get("viewer", "")
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(token.encode(), workspace.bot_token.encode()):
            viewer = BOT_USER
        elif not (self._from_here(request) and self._knows_secret(request, cookie=True)):
            return _refusal("not_authed", "Files are for those who see the channel.", 401)
        file = download(workspace, request.path_params["id"], viewer)
        if file is None:
            return _refusal("file_not_found", "There is no such file, or this person does not see it.", 404)
        return Response(file.content, media_type=file.mimetype, headers=_HARMLESS)

    async def _page_file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if not self._from_here(request):
            return _refusal("not_loopback", "The sandbox answers on this machine's own address only.", 403)
        known = {file.name: file for file in self._page.iterdir() if file.is_file()} if self._page else {}
        if name not in known:
            return _refusal("not_found", f"The page has no {name}.", 404)
        return FileResponse(known[name], headers=_HARMLESS)

    # What is done -----------------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        body = await _object(request)
        user = str(body.pop("user", ""))
        person = self._served.workspace.person(user)
        if person.is_bot or person.deleted:
            raise ApiError("account_inactive", f"{person.name} cannot act here")
        done = self._served.act(request.path_params["deed"], user, **body)
        if isinstance(done, Delivery):
            await done.settled()
            done = done.result
        return JSONResponse({"ok": True, **done})

    async def _click(self, request: Request) -> Response:
        delivery = self._served.click(**await _object(request))
        return JSONResponse({"ok": True, "trigger_id": delivery.payload["trigger_id"]})

    async def _faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._served.workspace.clear_faults()
        else:
            self._served.workspace.fault(**await _object(request))
        return JSONResponse({"ok": True, "trouble": self._served.workspace.trouble()})

    async def _scopes(self, request: Request) -> Response:
        self._served.workspace.without((await _object(request))["without"])
        return JSONResponse({"ok": True, "trouble": self._served.workspace.trouble()})

    async def _extra_names(self, _: Request) -> Response:
        said = {name: (extra.__doc__ or "").strip().partition("\n")[0] for name, extra in self._extras.items()}
        return JSONResponse({"ok": True, "extras": said})

    async def _extra(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._extras:
            raise ApiError("unknown_extra", f"{name!r} is none of {', '.join(self._extras) or 'nothing'}")
        return JSONResponse({"ok": True, **await asyncio.to_thread(self._extras[name], await _object(request))})


async def _object(request: Request) -> dict[str, Any]:
    body = json.loads(await request.body() or b"{}")
    if not isinstance(body, dict):
        raise ValueError("the body is no JSON object")
    return body


def _refusal(error: str, why: str, status: int = 400) -> Response:
    return JSONResponse({"ok": False, "error": error, "why": why}, status, _HARMLESS)


def _event(kind: str, what: Mapping[str, Any], seq: int) -> str:
    return f"event: {kind}\nid: {seq}\ndata: {json.dumps(what)}\n\n"
