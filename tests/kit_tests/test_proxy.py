"""The proxy's faults, each seen from the client's end and from the server's."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.kit.proxy import Cut, Proxy
from tests.kit.servers import Server
from tests.kit.threads import in_threads
from tests.kit.waiting import eventually

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Connect]:
    """Opens connections through the proxy that have answered once, so both ends are there."""
    opened: list[socket.socket] = []

    def one() -> socket.socket:
        connection = raw(proxy)
        opened.append(connection)
        connection.sendall(PING)
        assert receive(connection, len(PONG)) == PONG
        return connection

    yield one
    for connection in opened:
        connection.close()


def raw(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def receive(connection: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or what came before the end."""
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            break
        received += part
    return received


def is_silent(connection: socket.socket) -> bool:
    """Nothing arrives, although the server has long answered other connections."""
    connection.settimeout(0.05)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(30)
    return False  # a byte, or the end


def command(*words: str | bytes) -> bytes:
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def have_grown(calls: list[int], before: list[int]) -> bool:
    return all(count > earlier for count, earlier in zip(calls, before, strict=True))


def server_connections(server: Server) -> int:
    return len(server.execute("CLIENT", "LIST").splitlines()) - 1  # the asking one


def ends(connection: socket.socket, how: Cut) -> None:
    if how == "fin":
        assert connection.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_without_faults_everything_passes(server: Server, proxy: Proxy) -> None:
    with closing(redis.Redis.from_url(proxy.url)) as client:
        big = bytes(range(256)) * 20_000
        client.set("big", big)
        assert client.get("big") == big
        assert proxy.connections == proxy.accepted == 1
    eventually(lambda: proxy.connections == 0, what="the end of the connection")
    eventually(lambda: server_connections(server) == 0, what="its end at the server")


def test_many_clients_at_once(proxy: Proxy) -> None:
    def work(number: int) -> None:
        with closing(redis.Redis.from_url(proxy.url)) as client:
            for step in range(50):
                assert client.echo(f"{number}:{step}") == f"{number}:{step}".encode()

    in_threads(*(partial(work, number) for number in range(20)))
    assert proxy.accepted == 20


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_open_connections_are_closed_and_later_ones_work(
    how: Cut, server: Server, proxy: Proxy, connect: Connect
) -> None:
    connections = [connect(), connect()]
    getattr(proxy, how)()
    for connection in connections:
        ends(connection, how)
    assert proxy.connections == 0
    eventually(lambda: server_connections(server) == 0, what="the end at the server")
    connect()
    assert (proxy.connections, proxy.accepted) == (1, 3)


def test_what_the_server_does_is_passed_on(server: Server, proxy: Proxy, connect: Connect) -> None:
    connection = connect()
    server.kill()
    # A killed process sends FIN, or RST when it left something unread.
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionResetError), raw(proxy) as late:
        late.recv(1)
    server.start()
    connect()


def test_a_client_that_only_stops_sending_still_gets_its_answer(connect: Connect) -> None:
    connection = connect()
    connection.sendall(command("PING", "last"))
    connection.shutdown(socket.SHUT_WR)
    assert receive(connection, 100) == b"$4\r\nlast\r\n"


def test_refuse_and_accept(proxy: Proxy, connect: Connect) -> None:
    before = connect()
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        raw(proxy)
    before.sendall(PING)
    assert receive(before, len(PONG)) == PONG
    proxy.accept()
    proxy.accept()
    assert proxy.port == port
    connect()


def test_blackhole_up_executes_nothing(server: Server, proxy: Proxy, connect: Connect) -> None:
    connection = connect()
    proxy.blackhole("up")
    connection.sendall(command("SET", "key", "value"))
    assert is_silent(connection)
    assert server.execute("GET", "key") is None
    # The server does not learn that the client is gone either, until the network is back.
    connection.close()
    eventually(lambda: proxy.connections == 0, what="the end at the proxy")
    assert server_connections(server) == 1
    proxy.heal()
    eventually(lambda: server_connections(server) == 0, what="the end at the server")


def test_blackhole_down_executes_and_says_nothing(server: Server, proxy: Proxy, connect: Connect) -> None:
    connection = connect()
    proxy.blackhole("down")
    connection.sendall(command("SET", "key", "value"))
    eventually(lambda: server.execute("GET", "key") == "value", what="execution")
    server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert is_silent(connection)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    connect()


def test_a_blackholed_connection_stays_dead_after_heal(
    server: Server, proxy: Proxy, connect: Connect
) -> None:
    connection = connect()
    proxy.blackhole()
    with raw(proxy) as opened_in_the_dark:
        opened_in_the_dark.sendall(PING)
        assert proxy.connections == 2
        assert server_connections(server) == 1
        proxy.heal()
        connection.sendall(PING)
        connect()
        assert is_silent(connection)
        assert is_silent(opened_in_the_dark)
    connection.close()
    eventually(lambda: proxy.connections == 1, what="the end of both")
    eventually(lambda: server_connections(server) == 1, what="the end at the server")


def test_delay_holds_back_and_keeps_the_order(proxy: Proxy, connect: Connect) -> None:
    connection = connect()
    proxy.delay(0.04, jitter=0.03, seed=1)
    begun = time.monotonic()
    answers = b""
    for number in range(30):
        connection.sendall(command("PING", f"{number:02}"))
        answers += b"$2\r\n%02d\r\n" % number
    assert receive(connection, len(answers)) == answers
    assert time.monotonic() - begun >= 2 * (0.04 - 0.03)
    proxy.delay(10**6)
    connection.sendall(PING)
    assert is_silent(connection)  # and stopping does not wait for it


def test_slices_are_written_one_by_one(
    proxy: Proxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send = asyncio.SelectorEventLoop.sock_sendall

    async def noting(loop: asyncio.SelectorEventLoop, sock: socket.socket, data: bytes) -> None:
        sizes.append(len(data))  # as how many are read together is up to the kernel
        await send(loop, sock, data)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_sendall", noting)
    connection = connect()
    sizes.clear()
    proxy.slice(3)
    request, reply = command("PING", "x" * 300), b"$300\r\n" + b"x" * 300 + b"\r\n"
    connection.sendall(request)
    assert receive(connection, len(reply)) == reply
    assert max(sizes) == 3
    assert sum(sizes) == len(request) + len(reply)
    proxy.slice(0)
    connection.sendall(PING)
    assert receive(connection, len(PONG)) == PONG


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_at_every_offset_of_a_reply(how: Cut, proxy: Proxy, connect: Connect) -> None:
    for offset in range(len(PONG) + 1):
        connection = connect()
        proxy.cut_after(offset, how=how)
        connection.sendall(PING)
        assert receive(connection, offset) == PONG[:offset]
        ends(connection, how)
        connect()  # once: the next one is not cut


def test_cut_of_a_request_keeps_it_from_the_server(server: Server, proxy: Proxy, connect: Connect) -> None:
    connection = connect()
    request = command("SET", "key", "value")
    proxy.cut_after(len(request) - 1, direction="up")
    connection.sendall(request)
    ends(connection, "fin")
    eventually(lambda: server_connections(server) == 0, what="the end at the server")
    assert server.execute("GET", "key") is None


def test_cut_counts_for_each_connection_and_hits_new_ones(proxy: Proxy, connect: Connect) -> None:
    first, second = connect(), connect()
    proxy.cut_after(len(PONG) + 1, once=False)
    for connection in (first, second, raw(proxy)):
        with connection:
            connection.sendall(PING)
            assert receive(connection, len(PONG)) == PONG
            connection.sendall(PING)
            assert receive(connection, 100) == PONG[:1]
    proxy.clear()
    connect()


def test_a_dropped_reply_was_executed(server: Server, proxy: Proxy) -> None:
    drop = proxy.drop_reply(b"INCR")
    client = redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0))
    with closing(client):
        assert client.set("other", 1)
        with pytest.raises(redis.ConnectionError):
            client.incr("counter")
        assert drop.hits == 1
        assert server.execute("GET", "counter") == "1"
        assert client.incr("counter") == 2  # once
        assert drop.hits == 1


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_only_the_reply_to_the_match_is_dropped(piece: int, how: Cut, server: Server, proxy: Proxy) -> None:
    """Also when requests and replies are pipelined, nested, and come in pieces from both sides."""
    server.execute("RPUSH", "list", "a", "", "b")
    requests = [
        command("LRANGE", "list", "0", "-1"),
        command("ECHO", "*2\r\n$4"),
        command("SET", "match", "yes"),
        command("SET", "after", "yes"),
    ]
    before = b"*3\r\n$1\r\na\r\n$0\r\n\r\n$1\r\nb\r\n" + b"$6\r\n*2\r\n$4\r\n"
    proxy.slice(piece)
    with Proxy("127.0.0.1", proxy.port) as middle, Proxy("127.0.0.1", middle.port) as front:
        front.slice(piece)
        drop = middle.drop_reply(b"$5\r\nmatch\r\n", how=how, once=False)
        with raw(front) as connection:
            connection.sendall(b"".join(requests))
            assert receive(connection, len(before)) == before
            ends(connection, how)
        assert drop.hits == 1
    assert server.execute("GET", "match") == "yes"


def test_faults_can_be_set_before_the_start_and_the_port_is_kept(server: Server) -> None:
    proxy = Proxy("127.0.0.1", server.port)
    drop = proxy.drop_reply(b"PING")
    with proxy:
        port = proxy.port
        with raw(proxy) as connection:
            connection.sendall(PING)
            assert connection.recv(1) == b""
    assert drop.hits == 1
    with pytest.raises(ConnectionRefusedError):
        raw(proxy)
    proxy.stop()
    with proxy, raw(proxy) as connection:
        assert proxy.port == port
        connection.sendall(PING)
        assert receive(connection, len(PONG)) == PONG


def test_switching_under_load_breaks_nothing_inside(server: Server, proxy: Proxy) -> None:
    """The proxy raises at its stop whatever went wrong inside, and the fixture looks for leaks."""
    over = threading.Event()
    calls = [0] * 4

    def work(number: int) -> None:
        while not over.is_set():
            client = redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0), socket_timeout=0.2)
            with closing(client):
                try:
                    while not over.is_set():
                        text = f"{number}:{calls[number]}"
                        assert client.echo(text) == text.encode()
                        calls[number] += 1
                except (redis.ConnectionError, redis.TimeoutError):
                    continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for round_number in range(10):
        for switch in (proxy.fin, proxy.rst, lambda: proxy.cut_after(3, how="rst"), lambda: proxy.slice(2)):
            switch()
        proxy.drop_reply(b"ECHO", once=False)
        proxy.delay(0.001, jitter=0.001, seed=round_number)
        (proxy.refuse, proxy.blackhole)[round_number % 2]()
        proxy.clear()
        now = list(calls)
        eventually(partial(have_grown, calls, now), what="further calls")
    over.set()
    for thread in threads:
        thread.join()


def test_garbage_is_carried_as_it_is(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"*garbage\r\n")
    assert connection.recv(1000).startswith(b"-ERR Protocol error")
