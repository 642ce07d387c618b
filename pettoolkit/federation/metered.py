"""The meter on the wire: counts every message by hospital, and lets through only replies that may be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from pettoolkit.errors import BadInput, SiteFailed
from pettoolkit.federation import flower, wire
from pettoolkit.federation.checks import Expected, expected_of, fault_of, sort_replies
from pettoolkit.federation.host import Usage
from pettoolkit.federation.journal import Journal
from pettoolkit.records import Exposure, Traffic

OnFailure = Literal["fail", "drop"]
Judge = Callable[[str, RecordDict], str]
"""Says what is wrong with a site's reply beyond what every reply is checked for; empty if nothing is."""
ERROR = "error"
"""Kind under which a hospital's error is counted; its text left the hospital too."""


@dataclass(frozen=True)
class Dropped:
    """A hospital that a run went on without: in which round, what it had been asked for, and why."""

    site: str
    round: int
    purpose: str
    reason: str


@dataclass
class _Book:
    """What a meter and the parts of it (:meth:`MeteredGrid.only`) share."""

    node_of: dict[str, int] = field(default_factory=dict)
    site_at: dict[int, str] = field(default_factory=dict)
    traffic: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    dropped: dict[str, Dropped] = field(default_factory=dict)
    before: list[Dropped] = field(default_factory=list)
    journal: Journal | None = None
    introduced: bool = False


class MeteredGrid(Grid):
    """A grid that meters and checks another one. Flower's strategies can be driven through it.

    Parameters
    ----------
    inner
        What carries the messages.
    sites
        The hospitals that take part; one that is not there has failed, others are asked for their
        name and nothing else. All that are there if ``None``.
    on_failure
        ``fail`` raises at the first hospital that fails. ``drop`` goes on without it for the rest of the
        run and writes it into :attr:`dropped`, as long as ``min_sites`` remain.
    min_sites
        Needed with ``drop``: how many hospitals must remain.
    counted
        The hospitals of which ``min_sites`` must remain; all that take part if ``None``.
    timeout
        Seconds that a round may take where the caller does not say.
    owners
        Gives the hospital of each node id, where that is known from more than what the node says (its key): a node
        that says another name has failed, and one that belongs to nobody is not heard.

    Raises
    ------
    BadInput
        If the fault policy makes no sense.
    """

    def __init__(
        self,
        inner: Grid,
        *,
        sites: Iterable[str] | None = None,
        on_failure: OnFailure = "fail",
        min_sites: int | None = None,
        counted: Iterable[str] | None = None,
        timeout: float | None = None,
        owners: Callable[[], Mapping[int, str]] | None = None,
    ) -> None:
        if on_failure not in ("fail", "drop"):
            raise BadInput(f"faults.on_failure: must be 'fail' or 'drop' (got '{on_failure}')")
        if on_failure == "drop" and (min_sites is None or min_sites < 1):
            raise BadInput("faults.min_sites: must be at least 1 where on_failure is 'drop'")
        flower.identify()
        self._inner = inner
        self._members = None if sites is None else tuple(sorted(sites))
        self._on_failure = on_failure
        self._min_sites = min_sites or 1
        self._counted = None if counted is None else frozenset(counted)
        self._wanted = None if self._members is None else frozenset(self._members)
        self._at_once = 0
        self._judge: Judge | None = None
        self._timeout = timeout
        self._owners = owners
        self._book = _Book()
        self._usage_before = _usage_of(inner)

    # -- who is there ---------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the hospitals that take part and have not been dropped, sorted."""
        return tuple(site for site in self._all_sites() if site not in self._book.dropped)

    @property
    def dropped(self) -> dict[str, str]:
        """Hospitals that were left out after a failure, and why."""
        return {site: found.reason for site, found in self._book.dropped.items()}

    @property
    def drops(self) -> tuple[Dropped, ...]:
        """The same with round and purpose, in the order in which it happened."""
        return (*self._book.before, *self._book.dropped.values())

    def resume(self, journal: Journal | None) -> None:
        """Answer from a journal what it knows, and write into it what it does not; None asks hospitals alone."""
        self._book.journal = journal

    def readmit(self) -> None:
        """Ask dropped hospitals again from now on; :attr:`drops` keeps what happened."""
        known = [site for site in self._book.dropped if site in self._book.node_of]
        self._book.before += [self._book.dropped.pop(site) for site in known]

    def node_of(self, site: str) -> int:
        """Node id of a hospital.

        Raises
        ------
        SiteFailed
            If there is no such hospital.
        """
        self._introduce()
        if site not in self._book.node_of or (self._wanted is not None and site not in self._wanted):
            raise SiteFailed(site, f"is not connected (connected: {', '.join(self._all_sites())})")
        return self._book.node_of[site]

    def only(self, sites: Iterable[str], *, at_once: int = 0, judge: Judge | None = None) -> MeteredGrid:
        """Return the same grid, meter and checks, seen by a strategy that must ask these hospitals alone.

        Parameters
        ----------
        at_once
            Ask so many at a time: :meth:`send_and_receive` then gives replies one by one and holds no more of them.
            0 asks all at once.
        judge
            What every reply to the strategy must stand besides the usual checks.
        """
        part = MeteredGrid(
            self._inner,
            sites=sites,
            on_failure=self._on_failure,
            min_sites=self._min_sites,
            counted=self._counted,
            timeout=self._timeout,
        )
        self._all_sites()
        part._book = self._book
        part._at_once, part._judge = at_once, judge
        part._usage_before = self._usage_before
        for site in set(part._members or ()) - set(self._book.dropped):
            self.node_of(site)
        return part

    # -- asking ---------------------------------------------------------------------------------

    def ask(
        self,
        requests: Mapping[str, RecordDict],
        *,
        round: int | None = None,
        message_type: str = "query",
        expect: Mapping[str, tuple[int, ...]] | None = None,
        timeout: float | None = None,
        missing: OnFailure | None = None,
        judge: Judge | None = None,
    ) -> dict[str, RecordDict]:
        """Send each hospital its request, and return the checked replies.

        Parameters
        ----------
        requests
            Site name -> content (:func:`.wire.request`).
        round
            Written into the requests in place of the round they carry.
        message_type
            Flower's: ``train``, ``evaluate`` or ``query``, perhaps with ``.action``.
        expect
            Name -> shape of each array that a reply must have; see :func:`.checks.expected_of`.
        timeout
            Seconds; the meter's own where ``None``.
        missing
            ``fail`` or ``drop`` for this call, in place of the meter's policy.
        judge
            What each reply must stand besides the usual checks.

        Returns
        -------
        dict
            Site name -> content of the reply, in sorted order of sites, without dropped hospitals.

        Raises
        ------
        SiteFailed
            At the first hospital that is not there, failed, or sent something unusable.
        """
        messages = []
        self._introduce()
        for site, content in sorted(requests.items()):
            if site in self._book.dropped:
                continue
            node = self.node_of(site)
            stamped = content if round is None else _with_round(content, round)
            group = str(wire.read_request(stamped).round)
            messages.append(Message(stamped, node, message_type, group_id=group))
        replies = self._exchange(messages, expect, timeout, missing or self._on_failure, judge)
        return {site: reply.content for site, reply in replies.items()}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """As Flower's, but metered and checked; replies come in sorted order of site names.

        A list; on a part made with ``at_once`` an iterator, which asks the next hospitals when the replies of
        those before are used up.

        Raises
        ------
        SiteFailed
            At the first hospital that is missing, failed, or sent something unusable.
        """
        outbox = list(messages)
        if not self._at_once:
            return list(self._exchange(outbox, None, timeout, self._on_failure, self._judge).values())
        return self._streamed(outbox, timeout)

    def _streamed(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        self._introduce()
        ordered = sorted(messages, key=lambda message: self._book.site_at.get(message.metadata.dst_node_id, ""))
        for start in range(0, len(ordered), self._at_once):
            some = ordered[start : start + self._at_once]
            replies = self._exchange(some, None, timeout, self._on_failure, self._judge)
            for site in list(replies):
                yield replies.pop(site)

    def exposure(self, out_of_band: Iterable[str] = ()) -> Exposure:
        """Read the meter: what left and entered each hospital so far.

        Parameters
        ----------
        out_of_band
            What travelled outside the wire, in words (``keys, out of band``).
        """
        book = self._book
        rows = (Traffic(*key, messages=book.traffic[key], bytes=book.bytes[key]) for key in sorted(book.traffic))
        return Exposure(tuple(rows), tuple(out_of_band))

    def usage(self) -> Usage:
        """CPU seconds of each hospital since this meter was made, and peak memory (MB) of each worker.

        Empty where the grid can't say (Flower's own).
        """
        now, before = _usage_of(self._inner), self._usage_before["cpu_seconds"]
        seconds = {site: value - before.get(site, 0.0) for site, value in now["cpu_seconds"].items()}
        return {"cpu_seconds": seconds, "peak_rss_mb": now["peak_rss_mb"]}

    # -- the rest of Flower's interface -----------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """As the inner grid's."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """As the inner grid's."""
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message to one hospital."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Node ids in sorted order of site names.

        Dropped hospitals stay in the list: Flower's strategies wait for ever for a node that goes away.
        Messages to them are not sent.
        """
        return [self._book.node_of[site] for site in self._all_sites() if site in self._book.node_of]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not on a meter: a message and its reply are checked together.

        Raises
        ------
        NotImplementedError
            Always; use :meth:`send_and_receive` or :meth:`ask`.
        """
        raise NotImplementedError("MeteredGrid: use send_and_receive or ask, where replies are checked")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As :meth:`push_messages`."""
        raise NotImplementedError("MeteredGrid: use send_and_receive or ask, where replies are checked")

    # -- inside -----------------------------------------------------------------------------------

    def _introduce(self) -> None:
        """Learn who is there and at which node, once."""
        if not self._book.introduced:
            self._shake_hands()
            self._book.introduced = True

    def _all_sites(self) -> tuple[str, ...]:
        self._introduce()
        return self._members if self._members is not None else tuple(sorted(self._book.node_of))

    def _shake_hands(self) -> None:
        """Ask every node for its site name; count that as set-up."""
        self._book.node_of.clear()
        self._book.site_at.clear()
        hello = wire.request(action=wire.HELLO, purpose="setup", wants="metrics")
        messages = [Message(hello, node, "query", group_id="0") for node in self._inner.get_node_ids()]
        replies = self._inner.send_and_receive(messages, timeout=self._timeout)
        problems, nameless = self._learn_names(replies, hello)
        wanted = self._book.node_of.keys() if self._members is None else set(self._members)
        gone = wanted - self._book.node_of.keys()
        # A node that did not say its name may be a hospital that is wanted: its words explain the absence.
        problems |= {site: "is not connected" + "".join(f"; {words}" for words in nameless) for site in gone}
        if not wanted:
            raise SiteFailed("(any)", "no hospital answered" + "".join(f"; {words}" for words in nameless))
        if self._members is None and nameless and self._on_failure == "fail":
            raise SiteFailed("without a name", nameless[0])
        found = {site: Dropped(site, 0, "setup", problem) for site, problem in problems.items() if site in wanted}
        if found:
            self._settle(found, wanted, self._on_failure)

    def _learn_names(self, replies: Iterable[Message], hello: RecordDict) -> tuple[dict[str, str], list[str]]:
        """Fill the book from the replies; return what is wrong with named nodes, and with those without a name."""
        problems: dict[str, str] = {}
        nameless: list[str] = []
        owners = None if self._owners is None else self._owners()
        for reply in replies:
            node = reply.metadata.src_node_id
            site = _named_site(reply) if owners is None else owners.get(node, "")
            fault = fault_of(site, reply, expected_of(hello)) or ("" if site else "gives no name")
            if not site and owners is not None and reply.has_content():
                fault = "its node key is that of no hospital"
            if not site:
                nameless.append(f"node {node}: {fault}")
                continue
            if site in self._book.node_of:
                raise SiteFailed(site, "two nodes say that they are this hospital")
            self._book.node_of[site], self._book.site_at[node] = node, site
            self._count(site, "in", hello, wire.serialised_bytes(hello))
            self._count_reply(site, reply, "setup")
            if fault:
                problems[site] = fault
        return problems, sorted(nameless)

    def _exchange(
        self,
        messages: list[Message],
        shapes: Mapping[str, tuple[int, ...]] | None,
        timeout: float | None,
        policy: OnFailure,
        judge: Judge | None = None,
    ) -> dict[str, Message]:
        asked, outbox, expected = self._prepare(messages, shapes)
        if not outbox:
            return {}
        sizes: dict[int, int] = {}  # most rounds send everybody the same content
        for message in outbox:
            if (size := sizes.get(id(message.content))) is None:
                size = sizes[id(message.content)] = wire.serialised_bytes(message.content)
            self._count(asked[message.metadata.dst_node_id], "in", message.content, size)
        arrived = self._arrived(outbox, asked, timeout)
        ids = {message.metadata.message_id: message.metadata.dst_node_id for message in outbox}
        gone = {self._book.node_of[site] for site in self._book.dropped if site in self._book.node_of}
        replies, twice = sort_replies(asked, arrived, ids, gone)
        problems = {site: "gave no answer" for site in asked.values() if site not in replies}
        for site, reply in replies.items():
            self._count_reply(site, reply, expected[site].purpose)
            fault = "answered twice" if site in twice else fault_of(site, reply, expected[site])
            if not fault and judge is not None:
                fault = judge(site, reply.content)
            if fault:
                problems[site] = fault
        found = {s: Dropped(s, expected[s].round, expected[s].purpose, words) for s, words in problems.items()}
        if found:
            self._settle(found, self.sites, policy)
        if self._book.journal is not None:
            for message in outbox:
                if (site := asked[message.metadata.dst_node_id]) not in problems:
                    self._book.journal.keep(site, message.content, replies[site].content)
        return {site: reply for site, reply in replies.items() if site not in problems}

    def _arrived(self, outbox: list[Message], asked: Mapping[int, str], timeout: float | None) -> list[Message]:
        """The replies: those that an earlier start of the run has written down, and those of whoever is asked now."""
        limit = self._timeout if timeout is None else timeout
        written: list[Message] = []
        still: list[Message] = []
        for message in outbox:
            journal = self._book.journal
            known = journal and journal.answer(asked[message.metadata.dst_node_id], message.content)
            if known:
                written.append(Message(known, reply_to=message))
            else:
                still.append(message)
        return written + (list(self._inner.send_and_receive(still, timeout=limit)) if still else [])

    def _prepare(
        self, messages: list[Message], shapes: Mapping[str, tuple[int, ...]] | None
    ) -> tuple[dict[int, str], list[Message], dict[str, Expected]]:
        """Who is asked, by which messages, and what the replies must be; dropped hospitals are left out."""
        self._introduce()
        asked: dict[int, str] = {}
        outbox: list[Message] = []
        expected: dict[str, Expected] = {}
        alike: dict[int, Expected] = {}  # by content, as sizes in _exchange
        for message in messages:
            node = message.metadata.dst_node_id
            site = self._book.site_at.get(node)
            if site is None or (self._wanted is not None and site not in self._wanted):
                raise SiteFailed(f"at node {node}", "takes no part in this run")
            if site in self._book.dropped:
                continue
            if node in asked:
                raise ValueError("two messages to one hospital in one round")
            if id(message.content) not in alike:
                alike[id(message.content)] = expected_of(message.content, shapes)
            asked[node], expected[site] = site, alike[id(message.content)]
            outbox.append(message)
        return asked, outbox, expected

    def _settle(self, problems: Mapping[str, Dropped], everyone: Iterable[str], policy: OnFailure) -> None:
        """Fail for the first hospital with a problem, or drop all that have one and go on with enough others."""
        reason = problems[min(problems)].reason
        same = ", ".join(sorted(site for site in problems if problems[site].reason == reason))
        if policy == "fail":
            raise SiteFailed(same, reason)
        counted = set(everyone) if self._counted is None else self._counted & set(everyone)
        left = len(counted - set(problems))
        if left < self._min_sites:
            raise SiteFailed(same, f"{reason}; {left} hospitals remain and min_sites is {self._min_sites}")
        self._book.dropped.update(problems)

    def _count_reply(self, site: str, reply: Message, purpose: str) -> None:
        if reply.has_error():
            self._add(site, "out", ERROR, purpose, len((reply.error.reason or "").encode()))
        elif reply.has_content():
            self._count(site, "out", reply.content, flower.content_size(reply), purpose)

    def _count(self, site: str, direction: str, content: RecordDict, size: int, purpose: str = "") -> None:
        record = content.get(wire.CONFIG if direction == "in" else wire.ENVELOPE)
        config = record if isinstance(record, ConfigRecord) else ConfigRecord()
        kind = config.get(wire.KIND, ERROR)
        said = config.get(wire.PURPOSE, purpose)
        self._add(site, direction, str(kind), str(said), size)

    def _add(self, site: str, direction: str, kind: str, purpose: str, size: int) -> None:
        self._book.traffic[site, direction, kind, purpose] += 1
        self._book.bytes[site, direction, kind, purpose] += size


def _named_site(reply: Message) -> str:
    if not reply.has_content():
        return ""
    try:
        return wire.read_envelope(reply.content).site
    except ValueError:
        return ""


def _with_round(content: RecordDict, round: int) -> RecordDict:
    config = content[wire.CONFIG]
    if not isinstance(config, ConfigRecord):
        raise ValueError(f"the request's '{wire.CONFIG}' is no ConfigRecord")
    return RecordDict({**content, wire.CONFIG: ConfigRecord({**config, wire.ROUND: round})})


def _usage_of(grid: Grid) -> Usage:
    usage = getattr(grid, "usage", None)
    measured: Usage = usage() if usage is not None else {"cpu_seconds": {}, "peak_rss_mb": {}}
    return measured
