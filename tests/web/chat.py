"""The web chat of the examples, as its tests need it: server processes, browsers, and people at them.

Rules: the browser is the one that `tests/kit/fetch_chromium.py` has found, or ``$CHROMIUM``; every wait
is for a condition, with the deadline of `expect`; each person has a browser context, and so a
memory, of their own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, Locator, expect, sync_playwright

from tests.kit.processes import Process

__all__ = ["CHROMIUM", "Person", "chat_server", "chromium", "expect"]

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = REPOSITORY / "examples" / "web_chat" / "server.py"
CHROMIUM = Path(os.environ.get("CHROMIUM") or REPOSITORY / ".venv" / "chromium" / "chromium")
# No look at the world outside, and no sandbox of its own: that is refused to root.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

expect.set_options(timeout=30_000)


@contextlib.contextmanager
def chat_server(redis_url: str, directory: Path, workers: int = 1) -> Iterator[tuple[Process, str]]:
    """Start the server on a port of its own; yields the process and its address."""
    program = Process(
        directory=directory,
        path=SERVER,
        args=("--port", "0", "--workers", str(workers)),
        env={"REDIS_TOOLKIT_URL": redis_url},
        name="chat",
    )
    with program:
        line = program.wait_for_line("The chat is at ")
        yield program, line.split()[4]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Person:
    """Somebody at a browser, who is in the room by the time this exists; `options` are its context's."""

    def __init__(
        self, browser: Browser, address: str, name: str, room: str = "lobby", **options: Any
    ) -> None:
        self.name = name
        self.context: BrowserContext = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.fill("#name", name)
        self.page.fill("#first-room", room)
        self.page.click("text=Join")
        expect(self.page.locator("#subtitle.live")).to_be_visible()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def say(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def sees(self, selector: str, has_text: str | None = None) -> Locator:
        return self.page.locator(selector, has_text=has_text)

    @property
    def messages(self) -> Locator:
        """The texts of the conversation that is shown, in order."""
        return self.page.locator(".timeline.active .message .body")

    @property
    def members(self) -> Locator:
        return self.page.locator("#members .name")
