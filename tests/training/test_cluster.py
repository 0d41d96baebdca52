"""The cluster of a job: an address where nobody is ends in one line, at once."""

import socket

import pytest

from bertjax import ray_cluster
from bertjax.errors import ConfigError
from bertjax.training.settings.options import Workers


def test_no_cluster_at_the_address():
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        for address in (f"127.0.0.1:{closed.getsockname()[1]}", "nonsense"):
            with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address} .*give the --address of one"):
                ray_cluster.join(address)


def test_an_address_is_for_workers():
    with pytest.raises(ConfigError, match="--address are for workers; give --num-workers too"):
        Workers(address="auto")
