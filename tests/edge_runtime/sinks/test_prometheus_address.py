"""Where figures for Prometheus cannot be served."""

from __future__ import annotations

import pytest

from edge_runtime.errors import EdgeError
from edge_runtime.sinks import Context
from edge_runtime.sinks.prometheus import PrometheusSettings, open_prometheus


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.host.invalid", "a..b", "a\0b"])
def test_an_address_that_is_none_is_said_in_one_line(host: str, context: Context) -> None:
    pytest.importorskip("prometheus_client")
    with pytest.raises(EdgeError, match="cannot serve figures at") as caught:
        open_prometheus(PrometheusSettings(9464, host), context)
    assert "\n" not in str(caught.value)
