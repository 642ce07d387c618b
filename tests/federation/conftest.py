import pytest
from federation_app import SITES, make_app

from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.ray_session import start_ray, stop_ray


@pytest.fixture(scope="session")
def ray_session():
    """The test session's one Ray; grids made while it runs use it."""
    owned = start_ray(2)
    yield
    if owned:
        stop_ray()


@pytest.fixture
def hosted():
    """Five hospitals: name -> what the small app holds there."""
    return {site: {"value": 1.5 * i - 2, "n": 100 + 37 * i} for i, site in enumerate(SITES)}


@pytest.fixture
def inline(hosted):
    with_grid = InProcessGrid(make_app, hosted)
    yield with_grid
    with_grid.close()
