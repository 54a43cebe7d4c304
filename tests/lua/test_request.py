from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.scripts import REQUEST, SERVE
from tests.kit.servers import Server
from tests.lua.run import LEASE, SOON, all_keys, expires_within, run, server_ms

REQUESTS, SERVERS, SERVE_CHANNEL = keys.requests("orders"), keys.servers("orders"), keys.serve("orders")
REPLY = keys.reply("orders", "7")


def send(
    server: Server, envelope: str = '{"id":"7"}', *, timeout_ms: int = 5000, reply: str | None = REPLY
) -> int:
    own = [] if reply is None else [reply]
    return int(run(server, REQUEST, [REQUESTS, SERVERS, *own], SERVE_CHANNEL, timeout_ms, envelope, "!7"))


@pytest.fixture
def served(server: Server) -> Server:
    run(server, SERVE, [SERVERS], "p1", LEASE)
    return server


@pytest.fixture
def subscriber(server: Server) -> Iterator[redis.client.PubSub]:
    with server.client().pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(SERVE_CHANNEL)
        assert pubsub.get_message(timeout=30) is not None
        yield pubsub


class TestSent:
    def test_the_item_is_the_expiry_and_the_envelope(self, served: Server) -> None:
        before = server_ms(served)
        assert send(served) == 1
        after = server_ms(served)

        [item] = served.execute("LRANGE", REQUESTS, 0, -1)
        stamp, _, envelope = item.partition(" ")
        assert envelope == '{"id":"7"}'
        assert stamp.isdigit()
        assert before + 5000 <= int(stamp) <= after + 5000

    def test_nothing_else_is_written(self, served: Server) -> None:
        send(served)
        assert all_keys(served) == {REQUESTS, SERVERS}

    def test_they_wait_in_order(self, served: Server) -> None:
        for envelope in ("one", "two words", "three"):
            send(served, envelope)
        items = served.execute("LRANGE", REQUESTS, 0, -1)
        assert [item.partition(" ")[2] for item in items] == ["one", "two words", "three"]

    def test_the_list_outlives_its_last_request(self, served: Server) -> None:
        send(served, timeout_ms=5000)
        assert expires_within(served, REQUESTS, 65_000)

        send(served, timeout_ms=500_000)
        assert expires_within(served, REQUESTS, 560_000)

    def test_a_shorter_request_does_not_shorten_its_life(self, served: Server) -> None:
        send(served, timeout_ms=500_000)
        send(served, timeout_ms=1)
        assert expires_within(served, REQUESTS, 560_000)

    def test_a_timeout_of_many_years_is_a_whole_number(self, served: Server) -> None:
        years = 30 * 365 * 24 * 3600 * 1000
        before = server_ms(served)
        send(served, timeout_ms=years)

        stamp = served.execute("LINDEX", REQUESTS, 0).partition(" ")[0]
        assert before + years <= int(stamp) <= before + years + SOON
        assert expires_within(served, REQUESTS, years + 60_000)

    def test_without_a_reply_list(self, served: Server) -> None:
        assert send(served, reply=None) == 1

    def test_a_subscriber_alone_shows_that_someone_is_there(
        self, server: Server, subscriber: redis.client.PubSub
    ) -> None:
        assert send(server) == 1
        assert all_keys(server) == {REQUESTS}


class TestRefused:
    def test_a_marker_and_nothing_else(self, server: Server) -> None:
        assert send(server) == 0

        assert server.execute("LRANGE", REPLY, 0, -1) == ["!7"]
        assert expires_within(server, REPLY, 60_000)
        assert all_keys(server) == {REPLY}

    def test_for_an_inbox_there_is_no_marker(self, server: Server) -> None:
        assert send(server, reply=None) == 0
        assert all_keys(server) == set()

    def test_a_server_whose_lease_ran_out_does_not_count(self, server: Server) -> None:
        server.execute("ZADD", SERVERS, server_ms(server), "dead")
        assert send(server) == 0

    def test_one_that_lives_among_the_dead_does(self, server: Server) -> None:
        server.execute("ZADD", SERVERS, 1, "dead", server_ms(server) + 60_000, "alive")
        assert send(server) == 1

    def test_a_subscriber_of_another_channel_is_nobody(
        self, server: Server, subscriber: redis.client.PubSub
    ) -> None:
        other = [keys.requests("other"), keys.servers("other")]
        assert run(server, REQUEST, other, keys.serve("other"), 5000, "{}", "!7") == 0

    def test_the_blocking_pop_behind_it_returns_at_once(self, server: Server) -> None:
        with server.client().pipeline(transaction=False) as pipe:
            pipe.eval(REQUEST.text, 3, REQUESTS, SERVERS, REPLY, SERVE_CHANNEL, 5000, "{}", "!7")
            pipe.blpop([REPLY], 30)
            assert pipe.execute() == [0, (REPLY, "!7")]


@pytest.mark.fault(34, "requests")
def test_a_foreign_value_in_the_way_is_an_error_and_nothing_is_written(served: Server) -> None:
    served.execute("SET", REQUESTS, "mine")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        send(served)
    assert served.execute("GET", REQUESTS) == "mine"
    assert all_keys(served) == {REQUESTS, SERVERS}
