"""Starting Ray when it does not want to: the start itself is replaced, the rest is real."""

import os
import socket

import pytest
import ray

from pettoolkit.errors import EngineFailed
from pettoolkit.federation import ray_session


@pytest.fixture
def starts(monkeypatch):
    """Number of starts asked for; ``starts.failures`` of them fail."""

    class Starts(list):
        failures = 0

    seen = Starts()

    def init(**options):
        seen.append((options, dict(os.environ)))
        if len(seen) <= seen.failures:
            raise RuntimeError("The current node timed out during startup.\nlong story")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    # The session's real Ray may run in this process, and must not have its password taken away.
    monkeypatch.setattr(ray_session, "_reread_authentication", lambda: None)
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append("shutdown"))
    return seen


def test_a_start_that_fails_once_is_retried_after_a_shutdown(starts):
    starts.failures = 1
    assert ray_session.start_ray(2)
    assert [entry if isinstance(entry, str) else "init" for entry in starts] == ["init", "shutdown", "init"]


def test_a_start_that_fails_twice_is_one_clear_line(starts):
    starts.failures = 9
    with pytest.raises(EngineFailed) as caught:
        ray_session.start_ray(2)
    assert str(caught.value) == (
        "engine: Ray did not start on this machine, tried 2 times"
        " (RuntimeError: The current node timed out during startup.);"
        " use --engine inline, or try again when the machine is less busy"
    )


def test_a_local_start_asks_for_its_own_ray_and_one_thread_each(starts, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    ray_session.start_ray(3)
    options, environment = starts[0]
    assert options["address"] == "local"
    assert options["num_cpus"] == 3
    assert environment["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_ray_address_leads_to_a_cluster(starts, monkeypatch):
    starts.failures = 9
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(EngineFailed, match=f"did not start at RAY_ADDRESS={address}, tried 2 times"):
            ray_session.start_ray(3)
    options, _ = starts[0]
    assert "address" not in options  # Ray reads RAY_ADDRESS itself
    assert "num_cpus" not in options


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""

    class Clock:
        now = 0.0
        slept = 0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            self.slept += 1

    made = Clock()
    monkeypatch.setattr(ray_session, "time", made)
    return made


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nothing_answers_is_given_up_after_a_minute(starts, clock, free_port, monkeypatch, form):
    address = form.format(free_port)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EngineFailed) as caught:
        ray_session.start_ray(2)
    assert starts == []  # Ray was never asked: it would wait for minutes
    assert ray_session.CLUSTER_SECONDS - 2 <= clock.now <= ray_session.CLUSTER_SECONDS
    assert str(caught.value).startswith(f"engine: nothing answers at RAY_ADDRESS={address} within 60 s (Connection")
    assert str(caught.value).endswith("unset RAY_ADDRESS to have one started here, or use --engine inline")
    assert "\n" not in str(caught.value)


def test_a_head_that_comes_up_late_is_waited_for(starts, clock, free_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    heads = []

    def sleep(seconds):
        clock.now += seconds
        if clock.now > 20 and not heads:
            heads.append(socket.create_server(("127.0.0.1", free_port)))

    monkeypatch.setattr(clock, "sleep", sleep)
    assert ray_session.start_ray(2)
    heads[0].close()
    assert len(starts) == 1


@pytest.mark.parametrize("address", ["auto", "somewhere"])
def test_an_address_without_a_port_is_left_to_ray(starts, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert ray_session.start_ray(2)
    assert len(starts) == 1


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_an_impossible_address_is_one_line_too(starts, clock, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EngineFailed, match=f"nothing answers at RAY_ADDRESS={address}"):
        ray_session.start_ray(2)


def test_our_own_ray_asks_for_a_password_that_is_forgotten_afterwards(starts, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    ray_session.start_ray(1)
    ray_session.start_ray(1)
    (_, first), (_, second) = starts
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert "RAY_AUTH_MODE" not in os.environ


def test_the_way_of_authenticating_that_a_person_chose_is_kept(starts, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray_session.start_ray(1)
    assert starts[0][1]["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in starts[0][1]


def test_rays_private_parts_that_are_used_are_still_there():
    from ray._private import worker
    from ray._raylet import AuthenticationTokenLoader, Config

    assert callable(worker.print_to_stdstream)
    assert callable(AuthenticationTokenLoader.instance().reset_cache)
    assert callable(Config.initialize)
