"""Makes the pictures of the web chat for its page of the documentation.

Usage: ``python -m tests.web.screenshots docs/images``; best with the font Inter and colour emoji.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser

from redis_toolkit import keys
from tests.kit.servers import Server
from tests.web.chat import Person, chat_server, chromium, expect

YESTERDAY = [
    ("Bruno", "Did the new server go up?"),
    ("Chloé", "Two of them, behind one Redis"),
    ("Chloé", "You would not know which of them you are on"),
    ("Ann", "I looked, and I do not 🙂"),
]
TODAY = [
    ("Bruno", "Morning, all"),
    ("Ann", "Morning! I am on the train, so I may be gone now and then"),
    ("Dmitri", "Which train? The one with all the tunnels?"),
    ("Ann", "That one"),
    ("Dmitri", "I had written three messages before you were out of the last one"),
    ("Ann", "They were all there afterwards, in order, and mine from the tunnel came just once"),
    ("Chloé", "🎉"),
]


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name, Server(directory=Path(name) / "redis") as redis:
        _remember(redis, YESTERDAY, datetime.now(UTC) - timedelta(days=1, minutes=40))
        _remember(redis, TODAY, datetime.now(UTC) - timedelta(minutes=34))
        with chat_server(redis.url, Path(name) / "chat") as (_, address), chromium() as browser:
            _picture(browser, address, target)


def _remember(redis: Server, said: list[tuple[str, str]], begin: datetime) -> None:
    for number, (user, text) in enumerate(said):
        at = begin + timedelta(minutes=4.5 * number)
        body = json.dumps({"type": "message", "user": user, "text": text})
        redis.execute("XADD", keys.room_log("lobby"), f"{int(at.timestamp() * 1000)}-0", "b", body)


def _picture(browser: Browser, address: str, target: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "color_scheme": "dark"}
    desktop = {"viewport": {"width": 1180, "height": 740}, "color_scheme": "light"}
    with (
        Person(browser, address, "Bruno", "kitchen") as cook,
        Person(browser, address, "Ann", "lobby", **desktop) as ann,
        Person(browser, address, "Chloé", "lobby", **phone) as chloe,
        Person(browser, address, "Dmitri", "lobby") as dmitri,
        Person(browser, address, "Bruno", "lobby") as bruno,
        Person(browser, address, "Eve", "design") as eve,
    ):
        ann.sees("#other-rooms .line", has_text="kitchen").click()
        ann.sees("#my-rooms .line", has_text="lobby").click()
        cook.say("There is cake")
        bruno.say("Are we all here? Then let us look at https://example.org/plan")
        ann.say("Here, and with four bars")
        dmitri.sees("#text").press_sequentially("Me")
        eve.say("Nobody else here?")
        expect(ann.sees("#typing")).to_have_text("Dmitri is typing")
        expect(ann.sees("#my-rooms .badge")).to_have_text(["", "1"])
        ann.page.screenshot(path=target / "web-chat-desktop.png", animations="disabled")
        dmitri.sees("#text").press_sequentially(" too")
        chloe.page.screenshot(path=target / "web-chat-phone.png", animations="disabled")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
