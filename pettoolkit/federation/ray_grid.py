"""A grid whose hospitals live in Ray's workers: long-lived, started once, side by side.

Each worker hosts some hospitals and answers for them one message at a time. A worker that dies is made
anew from what its hospitals held at the start, and only its hospitals that have not answered are asked
again; a worker that dies twice in one round fails them.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Message

from pettoolkit.errors import EngineFailed
from pettoolkit.federation import flower
from pettoolkit.federation.host import Answer, AppFactory, Host, HostedGrid, safe_reason
from pettoolkit.federation.memory import peak_rss_mb
from pettoolkit.federation.ray_session import on_cluster, start_ray, stop_ray

START_SECONDS = 300.0
"""Time that a worker has to start (it may import torch on a busy machine)."""
DEATHS_PER_ROUND = 2
"""A worker that dies so often in one round is not made anew in it."""

AHEAD = 8
"""Messages that a worker is given before it has answered the first: more would only fill the coordinator's memory."""


class RayGrid(HostedGrid):
    """Hospitals in Ray's workers.

    Ray is started if it does not run yet, and stopped by :meth:`close` only if this grid started it.
    What a hospital's app keeps in memory is lost with its worker; only ``hosted`` comes back.

    Parameters
    ----------
    app_factory
        Builds the app of a worker's hospitals; a function at the top of an importable module.
    hosted
        Site name -> what that hospital holds; anything that pickles. Each is sent to a worker once.
    workers
        Worker processes; never more than hospitals.

    Raises
    ------
    EngineFailed
        If Ray or a worker does not start.
    """

    def __init__(self, app_factory: AppFactory, hosted: Mapping[str, Any], workers: int = 2) -> None:
        super().__init__(hosted)
        count = max(1, min(workers, len(hosted)))
        self._worker_of = {site: index % count for index, site in enumerate(sorted(hosted))}
        self._workers: list[Any] = [None] * count
        self._factory = app_factory
        self._payloads: dict[str, Any] = {}
        self.recreated = 0
        """Workers that died and were made anew, so far."""
        self._owns_ray = start_ray(count)
        try:
            self._place(hosted)
            self._start(range(count))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and Ray if this grid started it; may be called twice."""
        super().close()
        for index in range(len(self._workers)):
            self._end(index)
        self._payloads.clear()
        if self._owns_ray:
            self._owns_ray = False
            stop_ray()

    def _place(self, hosted: Mapping[str, Any]) -> None:
        """Put each hospital's payload into Ray once, as bytes: a worker's arrays are then its own and writable."""
        import ray

        self._payloads = {site: ray.put(ray.cloudpickle.dumps(hosted[site])) for site in sorted(hosted)}

    def _start(self, indices: range | list[int]) -> None:
        """Start workers side by side and wait until all are ready."""
        import ray

        # On a cluster a worker takes a whole CPU; here Ray's count of CPUs is ours anyway, and grids may share it.
        remote = ray.remote(num_cpus=1 if on_cluster() else 0, scheduling_strategy="SPREAD")(Worker)
        try:
            for index in indices:
                mine = {site: self._payloads[site] for site, owner in self._worker_of.items() if owner == index}
                self._workers[index] = remote.remote(self._factory, self.node_ids, mine)
            findings = ray.get([self._workers[index].ready.remote() for index in indices], timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise EngineFailed(
                f"engine: Ray's workers were not ready within {START_SECONDS:g} s (is the cluster full? ask for fewer)"
            ) from None
        except ray.exceptions.RayError as error:
            # The hospitals' own errors come back as findings: what is raised here is about imports or Ray.
            last = str(error).strip().splitlines()[-1][:200]
            raise EngineFailed(f"engine: a Ray worker did not start ({type(error).__name__}: {last})") from None
        for index, (problem, rss) in zip(indices, findings, strict=True):
            if problem:
                raise EngineFailed(f"engine: a hospital did not start in its Ray worker: {problem}")
            self._rss[_name(index)] = max(self._rss.get(_name(index), 0.0), rss)

    def _end(self, index: int) -> None:
        import ray

        if self._workers[index] is not None and ray.is_initialized():
            ray.kill(self._workers[index], no_restart=True)
        self._workers[index] = None

    def _reset_peaks(self) -> dict[str, float]:
        import ray

        asked = {_name(i): worker.reset_peak.remote() for i, worker in enumerate(self._workers) if worker is not None}
        found: dict[str, float] = {}
        for name, reference in asked.items():
            try:
                found[name] = ray.get(reference, timeout=START_SECONDS)
            except ray.exceptions.RayError:
                continue  # a worker that died since is made anew when its hospitals are asked, and says its own then
        return found

    def _deliver(self, messages: list[Message], timeout: float | None) -> list[Message]:
        delivery = _Delivery(self, time.monotonic() + timeout if timeout is not None else None)
        try:
            return delivery.run(messages)
        except BaseException:
            # Interrupted (Ctrl-C) or failed: what still runs must not answer into the next round.
            for index in delivery.busy():
                self._end(index)
            raise


class _Delivery:
    """One round on a RayGrid: who is asked, who has answered, whose worker has died how often."""

    def __init__(self, grid: RayGrid, deadline: float | None) -> None:
        self._grid = grid
        self._deadline = deadline
        self._packer = flower.Packer()
        self._queued: dict[int, deque[Message]] = {}  # by worker, beyond what it has been asked already
        self._waiting: dict[Any, Message] = {}  # Ray's reference to the answer -> the message, in order of asking
        self._asked: Counter[int] = Counter()  # by worker: how many of those are waited for
        self._replies: list[Message] = []
        self._deaths: Counter[int] = Counter()

    def run(self, messages: list[Message]) -> list[Message]:
        """Keep every worker asked, and collect."""
        import ray

        for message in messages:
            self._queued.setdefault(self._owner(message), deque()).append(message)
        self._ask(self._queued)
        while self._waiting:
            left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=left)
            if not ready:
                self._give_up()
                continue
            owner = self._owner(self._waiting[ready[0]])
            if self._collect(ready[0]):
                self._ask([owner])
            else:
                self._bury(owner)
        return self._replies

    def busy(self) -> set[int]:
        """Workers that still owe an answer."""
        return {self._owner(message) for message in self._waiting.values()}

    def _owner(self, message: Message) -> int:
        return self._grid._worker_of[self._site(message)]

    def _site(self, message: Message) -> str:
        return self._grid.site_of[message.metadata.dst_node_id]

    def _ask(self, owners: Iterable[int]) -> None:
        """Ask these workers what is queued for them, up to :data:`AHEAD`."""
        missing = sorted(owner for owner in owners if self._queued[owner] and self._grid._workers[owner] is None)
        if missing:
            self._grid.recreated += len(missing)
            self._grid._start(missing)
        for owner in owners:
            while self._queued[owner] and self._asked[owner] < AHEAD:
                message = self._queued[owner].popleft()
                reference = self._grid._workers[owner].answer.remote(self._packer.pack(message))
                self._waiting[reference] = message
                self._asked[owner] += 1

    def _take(self, reference: Any) -> Message:
        """No longer wait for an answer."""
        message = self._waiting.pop(reference)
        self._asked[self._owner(message)] -= 1
        return message

    def _collect(self, reference: Any) -> bool:
        """Take one answer; ``False`` if there is none because its worker died."""
        import ray

        try:
            answer, rss = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._fail(self._take(reference), flower.RAISED, safe_reason(error.cause))
            return True
        except ray.exceptions.RayError:
            return False
        message = self._take(reference)
        name = _name(self._owner(message))
        self._grid._rss[name] = max(self._grid._rss.get(name, 0.0), rss)
        self._replies.append(self._grid._read(self._site(message), answer))
        return True

    def _fail(self, message: Message, code: int, reason: str) -> None:
        self._replies.append(flower.error_reply(message, code, reason))

    def _bury(self, index: int) -> None:
        """Keep what a dead worker had answered; ask its other hospitals again, or fail them the second time."""
        self._grid._end(index)
        lost = [
            reference
            for reference, message in list(self._waiting.items())
            if self._owner(message) == index and not self._collect(reference)
        ]
        queue = self._queued[index]
        queue.extendleft(reversed([self._take(reference) for reference in lost]))
        if not queue:
            return
        self._deaths[index] += bool(lost)
        if self._deaths[index] < DEATHS_PER_ROUND:
            self._ask([index])
            return
        # A worker answers in the order of asking: the first one lost is the one it died with.
        suspect = self._site(queue[0])
        reason = f"its worker died {DEATHS_PER_ROUND} times in this round, while hospital {suspect} was working"
        while queue:
            self._fail(queue.popleft(), flower.UNAVAILABLE, reason)

    def _give_up(self) -> None:
        """Time is over: whoever has not answered is failed, and its worker ended, since it may hang."""
        first = {self._owner(message): self._site(message) for message in reversed(list(self._waiting.values()))}
        for index in self.busy():
            self._grid._end(index)
        late = [self._take(reference) for reference in list(self._waiting)]
        for queue in self._queued.values():
            late += queue
            queue.clear()
        for message in late:
            suspect = first[self._owner(message)]
            behind = "" if suspect == self._site(message) else f" (it waited behind hospital {suspect})"
            self._fail(message, flower.UNAVAILABLE, f"gave no answer in time{behind}")


class Worker:
    """The body of a Ray actor: a :class:`Host`, or the reason why there is none.

    Parameters
    ----------
    app_factory, node_ids
        As of :class:`Host`.
    payloads
        Site name -> Ray's reference to the pickled payload.
    """

    def __init__(self, app_factory: AppFactory, node_ids: Mapping[str, int], payloads: Mapping[str, Any]) -> None:
        import ray

        self._problem = ""
        try:
            hosted = {site: ray.cloudpickle.loads(ray.get(reference)) for site, reference in payloads.items()}
            self._host = Host(app_factory, hosted, node_ids)
        except Exception as error:
            # Raised here, the error would travel with its text, which can quote a patient.
            self._problem = safe_reason(error)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def ready(self) -> tuple[str, float]:
        """Why the hospitals did not start (empty if they did), and the peak memory (MB)."""
        return self._problem, peak_rss_mb()

    def reset_peak(self) -> float:
        """As :meth:`Host.reset_peak`."""
        return self._host.reset_peak()

    def answer(self, request: flower.Packed) -> tuple[Answer, float]:
        """As :meth:`Host.answer`, and the peak memory (MB) since it was last reset."""
        return self._host.answer(request), peak_rss_mb()


def _name(index: int) -> str:
    return f"worker-{index}"
