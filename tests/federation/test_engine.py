import pytest
from federation_app import make_app

from pettoolkit.errors import BadInput
from pettoolkit.federation.engine import open_grid
from pettoolkit.federation.inprocess import InProcessGrid


def test_inline_is_the_grid_in_this_process(hosted):
    with open_grid("inline", make_app, hosted) as grid:
        assert isinstance(grid, InProcessGrid)


def test_a_grid_is_closed_whatever_happens(hosted, monkeypatch):
    closed = []
    monkeypatch.setattr(InProcessGrid, "close", lambda self: closed.append(self))
    with pytest.raises(KeyboardInterrupt), open_grid("inline", make_app, hosted) as grid:
        raise KeyboardInterrupt
    assert closed == [grid]


@pytest.mark.parametrize("engine", ["flower", "rya"])
def test_an_unknown_engine_is_named(hosted, engine):
    with (
        pytest.raises(BadInput, match=f"engine: must be one of inline, ray .got '{engine}'"),
        open_grid(engine, make_app, hosted),
    ):
        pass


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_ray_hosts_the_hospitals_in_workers(hosted):
    from pettoolkit.federation.ray_grid import RayGrid

    with open_grid("ray", make_app, hosted, workers=1) as grid:
        assert isinstance(grid, RayGrid)
        assert grid.get_node_ids() == [1, 2, 3, 4, 5]
