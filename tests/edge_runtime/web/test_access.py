"""Who may see the page, and what it tells nobody."""

from __future__ import annotations

import re
import select
import socket
import stat
import time
from pathlib import Path

import pytest
from page_events import Serve, Served, receive, verdict
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge_runtime.errors import EdgeError, SettingError
from edge_runtime.settings import Secret
from edge_runtime.web import server as server_module
from edge_runtime.web.settings import WebSettings

TOKEN = Secret("0123456789abcdef-token")


def refused(page: Served, **options: object) -> int:
    with pytest.raises(InvalidStatus) as caught:
        page.open(**options)
    return int(caught.value.response.status_code)


def test_every_answer_has_the_security_headers(serve: Serve) -> None:
    page = serve()
    for path in ("/", "/app.js", "/style.css", "/nothing", "/access", "/events"):
        _, headers, _ = page.get(path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers


def test_only_known_files_are_there_and_only_to_be_read(serve: Serve) -> None:
    page = serve()
    assert page.get("/?from=home")[0] == 200
    for path in (
        *("/sink.py", "/../sink.py", "/assets/app.js", "//etc/passwd", "/%2e%2e/sink.py"),
        *("/app.js/", "/APP.JS", "/index.html%00", "*"),
    ):
        assert page.get(path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"):
        status, headers, _ = page.get("/", method)
        assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:9", 200),
        ("127.0.0.2", 200),
        ("[::1]:8765", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8765", 403),
        ("192.168.1.4:8765", 403),
        ("", 400),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_answered(
    serve: Serve, host: str, status: int
) -> None:
    """A foreign name that resolves to 127.0.0.1 is somebody's trick (DNS rebinding)."""
    assert serve().get("/", Host=host)[0] == status


def test_scripts_of_other_pages_get_no_events(serve: Serve) -> None:
    page = serve()
    for origin in ("http://evil.example", f"http://localhost:{page.port}", "null", "http://"):
        assert refused(page, origin=origin) == 403, origin
    for origin in (f"http://127.0.0.1:{page.port}", f"https://127.0.0.1:{page.port}"):
        assert receive(page.open(origin=origin))["type"] == "hello"


def test_behind_a_proxy_the_page_answers_to_its_name_and_asks_for_a_token(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    for public, shown, foreign in (
        ("Ear.Example", "ear.example", "ear.example:8443"),
        ("ear.example:443", "ear.example", "ear.example:443"),
        ("ear.example:8443", "ear.example:8443", "ear.example"),
    ):
        page = serve(public=public)
        (line,) = capsys.readouterr().err.splitlines()
        address, _, token = line.partition("#token=")
        assert address == f"page: https://{shown}/"
        # A proxy passes the name on, or makes it that of this machine.
        for host in (shown, "EAR.example", f"127.0.0.1:{page.port}"):
            assert page.get("/", Host=host)[0] == 200
            headers = {"Host": host, "Origin": f"https://{shown}"}
            assert page.get("/access", **headers, Authorization=f"Bearer {token}")[0] == 204
            assert page.get("/access", **headers)[0] == 401
        for name in ("evil.example", "evil.ear.example", "ear.example.evil.example"):
            assert page.get("/", Host=name)[0] == 403
            origin = {"Origin": f"https://{name}", "Authorization": f"Bearer {token}"}
            assert page.get("/access", **origin)[0] == 403
        assert refused(page, origin=f"https://{foreign}") == 403
    assert serve(public="ear.example", token=TOKEN).get("/")[0] == 200
    assert serve(host="0.0.0.0", public="ear.example").get("/", Host="pi.local")[0] == 200


@pytest.mark.parametrize("public", ["https://ear.example", "ear.example/", "", "a:b", "é.example"])
def test_a_name_of_a_proxy_that_is_none_is_said_in_one_line(serve: Serve, public: str) -> None:
    with pytest.raises(SettingError, match=r"web\.public must be HOST or HOST:PORT") as caught:
        serve(public=public)
    assert "\n" not in str(caught.value)


def test_a_header_that_comes_twice_is_refused(serve: Serve) -> None:
    with serve().raw() as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 400 " in raw.recv(1000)


def test_events_need_the_token_where_there_is_one(serve: Serve) -> None:
    page = serve(token=TOKEN)
    wrong = [
        {},
        {"additional_headers": {"Authorization": f"Bearer {TOKEN}x"}},
        {"additional_headers": {"Authorization": f"Basic {TOKEN}"}},
        {"subprotocols": ["edge-emotion", f"token.{TOKEN[:-1]}"]},
        {"subprotocols": ["edge-emotion", "token."]},
    ]
    for options in wrong:
        assert refused(page, **options) == 401, options
    right = [
        {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"subprotocols": ["edge-emotion", f"token.{TOKEN}"]},
    ]
    for options in right:
        connection = page.open(**options)
        assert receive(connection)["type"] == "hello"
        wanted = "edge-emotion" if "subprotocols" in options else None
        assert connection.subprotocol == wanted
    assert page.get("/access")[0] == 401
    assert page.get("/access", Authorization=f"Bearer {TOKEN}")[0] == 204
    assert page.get("/")[0] == 200, "the page itself holds nothing, and asks for the token"


def test_a_page_that_others_reach_has_a_token_made_and_said_once(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    page = serve(host="0.0.0.0")
    (line,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(r"page: http://([^/]+):\d+/#token=([\w-]{24})", line)
    assert found, line
    assert found[1] not in ("0.0.0.0", "")
    assert refused(page) == 401
    hello = receive(page.open(subprotocols=["edge-emotion", f"token.{found[2]}"]))
    assert hello["name"] == "living room"
    assert page.get("/", Host="pi.local:8765")[0] == 200
    other = serve(host="0.0.0.0")
    assert refused(other, subprotocols=["edge-emotion", f"token.{found[2]}"]) == 401


def test_the_token_of_a_service_is_kept_in_a_file_for_its_owner_alone(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    for _ in range(2):  # the second finds it
        page = serve(host="0.0.0.0", token_file=file)
        token = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert token not in capsys.readouterr().err
        page.open(additional_headers={"Authorization": f"Bearer {token}"})
        assert refused(page) == 401


def test_a_token_that_cannot_be_used_is_said_in_one_line(serve: Serve, tmp_path: Path) -> None:
    for token in ("short", "sixteen characters with spaces", "x" * 300, "ümlaut" * 4):
        with pytest.raises(SettingError, match=r"web\.token must be 16 to 256") as caught:
            serve(token=Secret(token))
        assert token not in str(caught.value)
    (tmp_path / "empty").touch()
    with pytest.raises(SettingError, match=r"web\.token"):
        serve(token_file=tmp_path / "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing/token", "", "binary"):
        with pytest.raises(EdgeError, match="cannot read or make the token's file"):
            serve(token_file=tmp_path / name)
    assert repr(TOKEN) not in repr(WebSettings(token=TOKEN)).replace("'***'", "")


def test_who_sends_something_is_closed_and_changes_nothing(serve: Serve) -> None:
    page = serve()
    reader = page.open()
    receive(reader)
    for message, code in (("{}", 1008), (b"\0", 1008), ("x" * 5000, 1009)):
        talker = page.open()
        receive(talker)
        talker.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            talker.recv(30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
    page.sink.write(verdict(3))
    assert receive(reader)["label"] == "angry"


def ended(raw: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    found = b""
    try:
        while part := raw.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_a_request_that_is_too_long_is_not_read_to_its_end(serve: Serve) -> None:
    page = serve()
    for request in (
        b"GET / HTTP/1.1\r\n" + b"A: " + b"a" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
        b"x" * 20_000,
    ):
        raw = page.raw()
        raw.sendall(request)
        assert b" 200 " not in ended(raw)
    assert page.get("/")[0] == 200


@pytest.mark.parametrize(
    "junk", [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\xff" * 99]
)
def test_what_is_no_request_is_ended(serve: Serve, junk: bytes) -> None:
    page = serve()
    raw = page.raw()
    raw.sendall(junk + b"\r\n\r\n")
    ended(raw)
    assert page.get("/")[0] == 200


def test_who_takes_forever_to_ask_is_ended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_OPEN_SECONDS", 0.5)
    page = serve()
    raw = page.raw()
    begin = time.monotonic()
    raw.sendall(b"GET / HTTP/1.1\r\nHost: loc")
    assert ended(raw) == b""
    assert 0.3 < time.monotonic() - begin < 20


def test_there_are_only_so_many_pages(serve: Serve) -> None:
    page = serve(clients=2)
    first, second = page.open(), page.open()
    receive(first)
    receive(second)
    third = page.open()
    with pytest.raises(ConnectionClosed) as caught:
        third.recv(30)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1013
    assert "2 pages are open" in caught.value.rcvd.reason
    first.close()
    deadline = time.monotonic() + 30
    while True:  # the server notices in its own time
        again = page.open()
        try:
            assert receive(again)["type"] == "hello"
            break
        except ConnectionClosed:
            assert time.monotonic() < deadline


def test_connections_that_say_nothing_do_not_pile_up(serve: Serve) -> None:
    page = serve(clients=1)
    idle = [page.raw() for _ in range(60)]
    most = 1 + 32  # one page, and those that fetch its files
    deadline = time.monotonic() + 30
    while len(ended_ones := select.select(idle, [], [], 0)[0]) < len(idle) - most:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(ended_ones) == len(idle) - most
    for raw in idle:
        raw.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert page.get("/")[0] == 200
            break
        except OSError:
            assert time.monotonic() < deadline
