"""A new user's first incident, in a real browser on the sandbox: nothing but the page, the way people use it.

Debian's Chromium, driven by Playwright. What it photographs on the way is in out/pictures; `make pictures` copies it to
where the README shows it.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "out/pictures"
QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
WAIT = 30_000  # milliseconds for a fact to show; bounds a broken run only
CHANNEL = re.compile(r"^#\s*inc-1-")

expect.set_options(timeout=WAIT)


@pytest.fixture
def page_url(tmp_path: Path) -> Iterator[str]:
    """A sandbox as a process of its own, and the address that it printed."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "bot", "serve", "--sandbox", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            yield [process.stdout.readline().strip() for _ in range(3)][2]
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.fixture
def page(page_url: str) -> Iterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium on PATH: apt-get install chromium"
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(WAIT)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(page_url)
        yield page
        browser.close()
        assert wrong == []


class Desk:
    """What somebody does at the page. `act_as` also brings them into the incident's channel, by joining it."""

    def __init__(self, page: Page) -> None:
        self.page, self.messages, self.thread = page, page.locator("#messages"), page.locator("#replies")

    def act_as(self, name: str) -> None:
        (user,) = self.page.get_by_label("You are acting as").select_option(label=name)
        expect(self.page.locator("body")).to_have_attribute("data-viewer", user)
        self.enter()

    def enter(self) -> None:
        """The incident's channel, wherever they are."""
        room = self.page.locator("#channels .place", has_text=re.compile("inc-1-"))
        expect(room).to_have_count(1)
        room.click()
        expect(self.page.locator("#room-name")).to_have_text(CHANNEL)
        expect(self.card).to_be_visible()

    @property
    def card(self) -> Locator:
        header = self.page.locator(".bk-header", has_text=re.compile(r"^INC-1 SEV"))
        return self.messages.locator("article", has=header).first

    def request(self, step: str) -> Locator:
        """Where approval of a step is asked for: under the card, or beside it where it was asked before the card."""
        asked = re.compile(f"^INC-1 asks: {step}")
        header = self.page.locator(".bk-header", has_text=asked)
        shown = self.page.locator("article", has=header)
        if shown.count():
            return shown.last
        self.card.get_by_role("button", name=re.compile("repl(y|ies)$")).click()
        expect(shown).to_be_visible()
        return shown

    def told(self) -> Locator:
        """What only they see, the newest."""
        return self.page.locator("article.ephemeral").last

    def press(self, within: Locator, label: str) -> None:
        """A button, and the confirmation that it asks for."""
        within.get_by_role("button", name=label, exact=True).click()
        asked = self.page.locator("#ask[open]")
        if asked.count():
            asked.locator(".go").click()

    def say(self, text: str) -> None:
        self.page.locator("#text").fill(text)
        self.page.keyboard.press("Enter")

    def photograph(self, name: str, top: Locator) -> None:
        """With that message at the top, as far as the page goes down."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.locator(".toast").last.wait_for(state="detached")
        top.evaluate("message => message.scrollIntoView({block: 'start'})")
        self.page.screenshot(path=PICTURES / f"{name}.png")


def test_a_first_incident_from_alert_to_postmortem(page: Page) -> None:
    desk = Desk(page)
    expect(page.locator(".banner")).to_contain_text("SANDBOX, not Slack")

    # The alert; everything that needs no leave is cut at once, and read back.
    page.get_by_role("button", name="Send an alert").click()
    page.locator("[data-alert=dropped-table]").click()
    desk.enter()
    expect(desk.card).to_contain_text("NOT CONTAINED YET")
    expect(desk.card).to_contain_text("verified-effect")
    desk.photograph("alert", desk.card)

    # Somebody takes it, and nobody else will be paged.
    expect(desk.card).to_contain_text("the next page, if nobody acknowledges")
    desk.press(desk.card, "Acknowledge")
    expect(desk.card).to_contain_text("holds until")
    expect(desk.card).not_to_contain_text("if nobody acknowledges")
    expect(desk.card.get_by_role("button", name="Acknowledge", exact=True)).to_have_count(0)

    # The worst cut waits for two people; the source's owner, in whose name it was asked for, is none of them.
    desk.act_as("Security Ops 1")
    desk.press(desk.request("quarantine_role"), "Approve")
    expect(desk.told()).to_contain_text("Only visible to you")
    expect(desk.told()).to_contain_text("another person has to decide")
    desk.photograph("refused", desk.told())
    for name in ("Security Ops 2", "Infra owner 1"):
        desk.act_as(name)
        desk.press(desk.request("quarantine_role"), "Approve")
        expect(desk.told()).to_contain_text("Recorded: your approval of quarantine_role")
    desk.photograph("approved", desk.told())
    desk.act_as("Head of Security")
    expect(desk.card).to_contain_text("CONTAINED: 7 of 7 cuts verified")
    desk.photograph("contained", desk.card)

    # Words typed, with suggestions; then it is over, and the draft of the postmortem is there to be read.
    page.locator("#text").fill("/inc up")
    expect(page.locator("#suggestions li")).to_contain_text("/inc update")
    desk.say('/inc update "Contained; orders_archive is gone" "Restoring it from the 02:30 backup" "Nothing"')
    expect(desk.told()).to_contain_text("Recorded: update 1 of INC-1")
    desk.say("/inc resolve")
    expect(desk.told()).to_contain_text("INC-1 is now resolved")
    ready = page.locator("article.ephemeral", has_text="The postmortem of INC-1 is in your messages")
    for _ in range(30):  # "ask again in a moment" is an answer too, while it is being drafted
        desk.say("/inc postmortem")
        page.wait_for_timeout(1000)
        if ready.count():
            break
    expect(ready.first).to_be_visible()
    page.locator("#directs .place").click()
    postmortem = desk.messages.locator(".filed", has_text="postmortem").last
    expect(postmortem.locator("pre")).to_contain_text("Postmortem of INC-1")
    desk.photograph("postmortem", postmortem)
