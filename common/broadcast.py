"""KrispBroadcast: events over Redis pub/sub, delivered inside a process to any number of subscriptions.

Pub/sub may lose events, so each one carries the whole current state of its topic: a slow subscriber finds the latest
event of each topic, never a growing queue. Topics may be paths: a subscription to `a` also receives `a/b`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from common.observability.counters import count_failure, counters
from common.observability.logs import Throttle
from common.redis import REDIS_GONE, connect
from common.retry import backoff
from common.topology import published, received

log = structlog.get_logger()


class Event(NamedTuple):
    """The state of a topic on a channel, as JSON."""

    channel: str
    topic: str
    data: bytes


class _Envelope(msgspec.Struct):
    topic: str
    data: msgspec.Raw


class Subscription:
    """The latest unread event of each topic, in the order in which the topics became unread.

    `deliver_now` is called with an event while nothing older is unread; where it returns False, the event is kept for
    `get`.
    """

    def __init__(self, deliver_now: Callable[[Event], bool] | None = None) -> None:
        self._deliver_now = deliver_now
        self._latest: dict[tuple[str, str], Event] = {}
        self._reader: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add an event; it replaces an unread one of the same topic."""
        if self._deliver_now is not None and not self._latest and self._deliver_now(event):
            return
        self._latest[event.channel, event.topic] = event
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Event:
        """Wait for the next event; there is one reader."""
        if not self._latest:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._latest.pop(next(iter(self._latest)))


class KrispBroadcast:
    """Publishes events on channels, and delivers those received to the process's subscriptions.

    A process that only publishes does not call `run`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._subscriptions: dict[tuple[str, str | None], set[Subscription]] = defaultdict(set)
        self._undelivered: dict[tuple[str, str], Event] = {}
        self._arrived = asyncio.Event()
        self._channels: set[str] = set()
        self._changed = asyncio.Event()
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._may_log = Throttle()

    @classmethod
    def connect(cls, url: str) -> "KrispBroadcast":
        """Create a broadcast on the Redis at `url`; it connects at first use."""
        return cls(connect(url))

    def register_type(self, channel: str, kind: Any) -> None:
        """Set the type of a channel's messages, in JSON; any other message is dropped and counted as a failure."""
        self._decoders[channel] = msgspec.json.Decoder(kind)

    async def publish(self, channel: str, topic: str, data: bytes) -> None:
        """Publish the state of a topic, as JSON. Raises RedisError or OSError."""
        counters[published(channel)] += 1
        await self._redis.publish(channel, msgspec.json.encode(_Envelope(topic, msgspec.Raw(data))))

    @contextmanager
    def subscribe(
        self,
        channels: str | Sequence[str],
        topics: Iterable[str] | None = None,
        deliver_now: Callable[[Event], bool] | None = None,
    ) -> Iterator[Subscription]:
        """Subscribe to one or more channels, to all topics or only to some, while the block runs."""
        names = [channels] if isinstance(channels, str) else list(channels)
        keys = [(name, topic) for name in names for topic in ([None] if topics is None else topics)]
        subscription = Subscription(deliver_now)
        for key in keys:
            self._subscriptions[key].add(subscription)
        if not self._channels.issuperset(names):
            self._channels.update(names)
            self._changed.set()
        try:
            yield subscription
        finally:
            for key in keys:
                self._subscriptions[key].discard(subscription)
                if not self._subscriptions[key]:
                    del self._subscriptions[key]

    def topics(self, channel: str) -> list[str]:
        """The topics of a channel that have a subscription."""
        return [topic for name, topic in self._subscriptions if name == channel and topic is not None]

    def deliver(self, event: Event) -> None:
        """Deliver an event to this process's subscriptions, unless a newer one of its topic replaces it before."""
        self._undelivered[event.channel, event.topic] = event
        self._arrived.set()

    async def run(self) -> None:
        """Receive and deliver events until cancelled."""
        await asyncio.gather(self._receive_always(), self._deliver_always())

    async def _deliver_always(self) -> None:
        """Deliver in rounds, with a pause after each as long as the round: less often with many subscriptions."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events, self._undelivered = self._undelivered, {}
            started_at = clock()
            for event in events.values():
                self._put(event)
            await asyncio.sleep(clock() - started_at)

    def _put(self, event: Event) -> None:
        for topic in {event.topic, event.topic.partition("/")[0], None}:
            for subscription in list(self._subscriptions.get((event.channel, topic), ())):
                try:
                    subscription.put(event)
                except Exception as error:  # the other subscriptions still get the event
                    count_failure("observer", f"listener of {event.channel}")
                    log.error("a subscription failed to take an event", channel=event.channel, exc_info=error)

    async def _receive_always(self) -> None:
        """Receive events; reconnect with backoff when Redis does not answer."""
        waits = backoff(0.05, 1.0)
        while True:
            try:
                await self._receive()
            except REDIS_GONE as error:
                log.warning("the pub/sub connection was lost, reconnecting", reason=str(error))
                await asyncio.sleep(next(waits))
            else:
                waits = backoff(0.05, 1.0)

    async def _receive(self) -> None:
        """Receive until the set of channels changes."""
        self._changed.clear()
        if not self._channels:
            await self._changed.wait()
        async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            self._changed.clear()
            await pubsub.subscribe(*self._channels)
            while not self._changed.is_set():
                message = await pubsub.get_message(timeout=1.0)
                if message is not None:
                    self._unpack(message["channel"].decode(), message["data"])

    def _unpack(self, channel: str, data: bytes) -> None:
        try:
            envelope = msgspec.json.decode(data, type=_Envelope)
            if decoder := self._decoders.get(channel):
                decoder.decode(envelope.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            count_failure("channel", channel)
            if self._may_log():
                log.warning("dropped a message that cannot be read", channel=channel, reason=str(error))
        else:
            counters[received(channel)] += 1
            self.deliver(Event(channel, envelope.topic, bytes(envelope.data)))

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
