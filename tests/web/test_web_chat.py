"""The web chat in a real browser: two server processes behind one Redis, and a network that breaks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser

from redis_toolkit import keys
from redis_toolkit.patterns import ChatRoom
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.web.chat import CHROMIUM, Person, chat_server, chromium, expect

pytestmark = pytest.mark.skipif(
    not os.access(CHROMIUM, os.X_OK), reason="NOT TESTED: the chat in the browser, as there is no Chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For this module only: while it is there, its loop counts as running in this thread.
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def addresses(one_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two server processes, which know nothing of each other, behind one Redis."""
    directory = tmp_path_factory.mktemp("chat")
    with (
        chat_server(one_server.url, directory / "one") as (_, one),
        chat_server(one_server.url, directory / "other") as (_, other),
    ):
        yield one, other


@pytest.fixture
def network(addresses: tuple[str, str]) -> Iterator[Proxy]:
    """What is between a browser and the second server process."""
    with Proxy(HOST, int(addresses[1].rpartition(":")[2])) as network:
        yield network


def test_what_was_said_while_the_connection_was_cut_is_there_once_and_in_order(
    browser: Browser, addresses: tuple[str, str], network: Proxy
) -> None:
    through_network = f"http://{HOST}:{network.port}"
    with Person(browser, addresses[0], "Ann") as ann, Person(browser, through_network, "Bob") as bob:
        expect(ann.members).to_have_text(["Ann", "Bob"])
        expect(bob.members).to_have_text(["Bob", "Ann"])
        expect(ann.sees(".notice .row")).to_have_text("Bob joined")

        hostile = "<img src=x onerror=\"document.title='gone'\"> & <b>"
        ann.say(hostile)
        bob.sees("#text").press_sequentially("Hm")
        expect(ann.sees("#typing")).to_have_text("Bob is typing")
        bob.say("Seen")
        expect(ann.sees("#typing")).to_have_text("")

        network.refuse()
        network.rst()
        expect(bob.sees("#banner")).to_contain_text("No connection")
        bob.say("from the tunnel")
        expect(bob.sees(".message[data-state=sending]")).to_have_count(1)
        missed = [f"missed {number}" for number in range(8)]
        for text in missed:
            ann.say(text)
        expect(ann.messages).to_have_text([hostile, "Seen", *missed])
        network.accept()

        expect(bob.sees("#banner")).to_contain_text("8 messages came meanwhile")
        for person in (ann, bob):
            expect(person.messages).to_have_text([hostile, "Seen", *missed, "from the tunnel"])
            expect(person.members).to_have_text(["Ann", "Bob"] if person is ann else ["Bob", "Ann"])
            assert not person.errors
        expect(bob.sees(".message[data-state=sending]")).to_have_count(0)
        bob.page.reload()
        expect(bob.messages).to_have_text([hostile, "Seen", *missed, "from the tunnel"])
        bob.context.close()
        expect(ann.members).to_have_text(["Ann"])


def test_a_message_whose_confirmation_was_lost_is_sent_again_and_shown_once(
    browser: Browser, addresses: tuple[str, str], network: Proxy
) -> None:
    with Person(browser, f"http://{HOST}:{network.port}", "Bob", "cellar") as bob:
        bob.say("heard")
        expect(bob.sees(".message[data-state=sent]")).to_have_count(1)
        network.blackhole("down")  # the server gets it, and Bob does not hear so
        bob.say("twice?")
        with Person(browser, addresses[0], "Ann", "cellar") as ann:
            expect(ann.messages).to_have_text(["heard", "twice?"])
            network.heal()
            network.rst()
            expect(bob.sees(".message[data-state=sent]")).to_have_count(2)
            bob.say("no")
            for person in (ann, bob):
                expect(person.messages).to_have_text(["heard", "twice?", "no"])


def test_older_messages_come_when_one_scrolls_up_and_nothing_moves(
    browser: Browser, addresses: tuple[str, str], one_server: Server
) -> None:
    eve = ThreadPoolExecutor(1)  # in this thread a loop runs, the browser's
    room = ChatRoom("archive", url=one_server.url)
    for number in range(130):
        eve.submit(room.send_message, "Eve", f"message {number}").result()
    with Person(browser, addresses[0], "Ann", "archive") as ann:
        expect(ann.messages.last).to_have_text("message 129")
        expect(ann.messages.last).to_be_in_viewport()
        oldest = ann.messages.first.inner_text()
        ann.page.evaluate("document.querySelector('.timeline.active').scrollTop = 0")
        expect(ann.messages.first).not_to_have_text(oldest)
        expect(ann.messages.get_by_text(re.compile(f"^{oldest}$"))).to_be_in_viewport()

        for by_hand in (
            '{"type": "message"}',
            '{"type": [], "user": 5}',
            '{"user": "Eve", "text": {}}',
            "{}",
        ):
            one_server.execute("PUBLISH", keys.room_channel("archive"), by_hand)
        eve.submit(room.send_message, "Eve", "news").result()  # while one reads further up
        expect(ann.sees("#jump")).to_have_text("1 new message")
        expect(ann.messages.get_by_text("news")).not_to_be_in_viewport()
        ann.page.click("#jump")
        expect(ann.messages.get_by_text("news")).to_be_in_viewport()
        expect(ann.sees("#jump")).to_be_hidden()

        for _ in range(2):
            ann.page.evaluate("document.querySelector('.timeline.active').scrollTop = 0")
        expect(ann.messages.first).to_have_text("message 0")
        expect(ann.messages).to_have_text([*(f"message {number}" for number in range(130)), "news"])
        assert not ann.errors


def test_rooms_are_listed_with_their_members_and_others_can_be_written_to(
    browser: Browser, addresses: tuple[str, str]
) -> None:
    one, other = addresses
    with Person(browser, one, "Ann", "hall") as ann, Person(browser, other, "Bob", "hall") as bob:
        ann.page.fill("#new-room", "a [room] *")
        ann.page.press("#new-room", "Enter")
        expect(ann.sees("#title")).to_have_text("a [room] *")
        expect(bob.sees("#other-rooms .line", has_text="a [room] *").locator(".note")).to_have_text("1")
        bob.sees("#other-rooms .line", has_text="a [room] *").click()
        expect(ann.members).to_have_text(["Ann", "Bob"])

        bob.sees("#members .line", has_text="Ann").click()
        bob.say("between us")
        expect(ann.sees("#directs .badge")).to_have_text("1")
        ann.sees("#directs .line", has_text="Bob").click()
        expect(ann.messages).to_have_text(["between us"])
        ann.sees("#my-rooms .line", has_text="hall").click()
        bob.sees("#my-rooms .line", has_text="hall").click()
        bob.say("to all")
        expect(ann.messages).to_have_text(["to all"])

        ann.page.click("#leave")
        expect(bob.members).to_have_text(["Bob"])
