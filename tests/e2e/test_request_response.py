from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from redis_toolkit import App, NoResponders, RemoteError, RequestTimeout
from redis_toolkit.patterns import RequestResponse
from tests.e2e.conftest import MakeApp, check_keys
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.fixture
def asking(server: Server, no_thread_is_left: None) -> Iterator[RequestResponse]:
    with RequestResponse("prices", url=server.url) as asking:
        yield asking
    check_keys(server)


@contextmanager
def plain_server(server: Server, answer: Any) -> Iterator[list[dict[str, Any]]]:
    """A subscriber that knows nothing of redis_toolkit and answers on ``response_channel``."""
    client = server.client()
    requests: list[dict[str, Any]] = []
    with client.pubsub() as subscriber:  # type: ignore[no-untyped-call]
        subscriber.subscribe("prices")
        assert subscriber.get_message(timeout=30)["type"] == "subscribe"
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                message = subscriber.get_message(timeout=0.05)
                if message is not None:
                    request = json.loads(message["data"])
                    requests.append(request)
                    response = answer(request["data"])
                    if response is not None:
                        client.publish(request["response_channel"], json.dumps(response))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            ended.set()
            thread.join(30)


def test_served_by_us(asking: RequestResponse) -> None:
    with asking.serve(lambda item: {"price": len(item)}):
        assert asking.send_request("tea") == {"price": 3}
        assert asking.send_request(request_data="milk", timeout=5) == {"price": 4}
    with pytest.raises(NoResponders):
        asking.send_request("tea")


def test_served_by_a_handler_of_an_app(app: App, asking: RequestResponse) -> None:
    @app.on("prices")
    def price(item: str, amount: int = 1) -> int:
        return len(item) * amount

    with app:
        assert asking.send_request({"item": "tea", "amount": 2}) == 6
        with RequestResponse("prices", app=app) as other:
            assert other.send_request({"item": "tea"}) == 3


def test_the_default_channel_is_requests(app: App, server: Server) -> None:
    app.on("requests")(lambda data: [data])
    with app, RequestResponse(url=server.url) as asking:
        assert asking.send_request(1) == [1]


def test_an_error_of_the_handler_reaches_the_caller(asking: RequestResponse) -> None:
    with asking.serve(lambda item: item["missing"]), pytest.raises(RemoteError, match="KeyError"):
        asking.send_request({})


def test_nobody_is_there(asking: RequestResponse) -> None:
    for _ in range(3):
        with pytest.raises(NoResponders):
            asking.send_request("tea", timeout=3600)
    with pytest.raises(TimeoutError):
        asking.send_request("tea", timeout=3600)


def test_no_answer_in_time(server: Server, asking: RequestResponse) -> None:
    go_on = threading.Event()
    with asking.serve(lambda item: go_on.wait(30)):
        with pytest.raises(RequestTimeout):
            asking.send_request("tea", timeout=0.2)
        go_on.set()
    with plain_server(server, lambda item: None):
        with pytest.raises(TimeoutError) as caught:
            asking.send_request("tea", timeout=0.2)
        assert not isinstance(caught.value, NoResponders)


def test_a_plain_subscriber_answers(server: Server, asking: RequestResponse) -> None:
    with plain_server(server, lambda data: {"price": len(data)}) as requests:
        assert asking.send_request("tea", timeout=30) == {"price": 3}
        assert asking.send_request("milk", timeout=30) == {"price": 4}
    assert [sorted(request) for request in requests] == [["data", "id", "response_channel"]] * 2
    assert all(request["response_channel"].startswith("responses:") for request in requests)
    assert requests[0]["id"] != requests[1]["id"]
    with pytest.raises(NoResponders):
        asking.send_request("tea")


def test_a_server_of_ours_wins_over_a_plain_subscriber(server: Server, asking: RequestResponse) -> None:
    with plain_server(server, lambda data: "plain") as requests, asking.serve(lambda data: "ours"):
        assert [asking.send_request(number) for number in range(10)] == ["ours"] * 10
    assert requests == []


def test_a_late_answer_is_not_the_next_calls(server: Server, asking: RequestResponse) -> None:
    go_on = threading.Event()

    def answer(data: int) -> int:
        if data == 0:
            go_on.wait(30)
        return data

    with plain_server(server, answer):
        with pytest.raises(TimeoutError):
            asking.send_request(0, timeout=0.2)
        go_on.set()
        assert [asking.send_request(number, timeout=30) for number in range(1, 10)] == list(range(1, 10))


def test_a_request_published_by_a_plain_client_is_answered(server: Server, asking: RequestResponse) -> None:
    client = server.client()
    bad = ["garbage", "7", '{"id": 1, "data": 2}', '{"response_channel": 7, "data": 1}']

    def half(data: int) -> float:
        if data % 2:
            raise ValueError("odd")
        return data / 2

    with asking.serve(half), client.pubsub() as answers:  # type: ignore[no-untyped-call]
        answers.subscribe("my answers")
        assert answers.get_message(timeout=30)["type"] == "subscribe"
        for body in bad:
            client.publish("prices", body)
        for number in (4, 5):
            request = {"id": f"r{number}", "response_channel": "my answers", "data": number}
            client.publish("prices", json.dumps(request))
        got = [json.loads(answers.get_message(timeout=30)["data"]) for _ in range(2)]
    assert got == [2.0, {"id": "r5", "error": {"type": "ValueError", "message": "odd"}}]


@pytest.mark.parametrize("plain", [False, True])
def test_many_callers_get_their_own_answers(server: Server, asking: RequestResponse, plain: bool) -> None:
    def answer(data: str) -> dict[str, str]:
        return {"echo": data}

    def ask(name: int) -> None:
        for number in range(10):
            question = f"{name}.{number}"
            assert asking.send_request(question, timeout=60) == {"echo": question}

    with plain_server(server, answer) if plain else asking.serve(answer), ThreadPoolExecutor(20) as pool:
        list(pool.map(ask, range(20)))


def test_several_servers_share_the_requests(server: Server, asking: RequestResponse) -> None:
    ran: list[int] = []
    others = [RequestResponse("prices", url=server.url) for _ in range(3)]
    running = [other.serve(lambda data: ran.append(data)) for other in others]
    for number in range(60):
        asking.send_request(number)
    for server_ in running:
        server_.stop()
        server_.cleanup()
    assert sorted(ran) == list(range(60))


def test_stop_closes_what_it_has_opened_and_it_can_be_used_again(
    server: Server, make_app: MakeApp, asking: RequestResponse
) -> None:
    with plain_server(server, lambda data: data):
        assert asking.send_request(1, timeout=30) == 1
        client = server.client()
        assert client.pubsub_numpat() == 1
        asking.stop()
        asking.cleanup()
        eventually(lambda: client.pubsub_numpat() == 0)
        assert asking.send_request(2, timeout=30) == 2


def test_a_channel_with_glob_characters_is_one_channel(server: Server, no_thread_is_left: None) -> None:
    with (
        RequestResponse("price?", url=server.url) as asking,
        asking.serve(lambda data: "exact"),
        RequestResponse("prices", url=server.url) as other,
    ):
        assert asking.send_request(1) == "exact"
        with pytest.raises(NoResponders):
            other.send_request(1)
