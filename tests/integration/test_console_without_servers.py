"""A console that starts while PostgreSQL is away says so on its first page, and shows the others when it is back."""

from urllib.parse import urlsplit

import httpx

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.tcp_proxy import tcp_proxy

PAGES = ("/console/dead-letters", "/console/activity", "/console/retention", "/console/find?q=user-1", "/events/feed")


def test_a_console_starts_without_postgresql_and_serves_everything_once_it_is_there(footfall: Footfall) -> None:
    at = urlsplit(footfall.servers.admin_url)
    assert at.hostname
    with tcp_proxy(at.hostname, at.port or 5432) as proxy:
        proxy.cut()
        url = proxy.in_front_of(footfall.servers.admin_url)
        console = footfall.start("console", ready=False, DATABASE_URL=url, OPERATOR_DATABASE_URL=url)
        with httpx.Client(base_url=console.url, timeout=PATIENCE) as client:

            def overview() -> str:
                assert console.popen.poll() is None, console.log_text()[-3000:]
                try:
                    return client.get("/console").text
                except httpx.TransportError:  # it starts
                    return ""

            wait_until(lambda: "It cannot be used: ConnectionRefusedError" in overview(), 30, "the overview to say so")
            assert {client.get(path).status_code for path in PAGES} == {503}
            assert "this page works again when it does" in client.get(PAGES[0]).text
            assert client.get("/health/ready").status_code == 503
            proxy.mend()
            wait_until(lambda: {client.get(path).status_code for path in PAGES} == {200}, 30, "every page")
            assert client.get("/health/ready").status_code == 200
            wait_until(lambda: "ConnectionRefusedError" not in overview(), 30, "the overview to see it")
            with client.stream("GET", "/events/stream") as followed:
                assert "event: begin" in next(followed.iter_text())
        assert console.terminate() == 0
        proxy.cut()
        again = footfall.start("console", ready=False, DATABASE_URL=url, OPERATOR_DATABASE_URL=url)
        wait_until(lambda: "waits_for_server" in again.log_text(), 30, "it to run")
        assert at.password
        assert at.password not in console.log_text() + again.log_text()
        assert again.terminate() == 0, "it ends at once, also while it waits"
