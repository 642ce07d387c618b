"""Starting Ray when it does not want to: the start itself is replaced, the rest is real."""

import os

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
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    starts.failures = 9
    with pytest.raises(EngineFailed, match="at RAY_ADDRESS=ray-head:6379"):
        ray_session.start_ray(3)
    options, _ = starts[0]
    assert "address" not in options  # Ray reads RAY_ADDRESS itself
    assert "num_cpus" not in options


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
