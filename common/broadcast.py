"""KrispBroadcast: news over Redis pub/sub, fanned out inside a process to any number of listeners.

News may be missed (Redis forgets it at once), so it always holds the whole current state of its topic: a listener that
is slow finds the latest of each topic, never a queue of the past. Topics may be paths: who listens to `a` hears `a/b`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from common.observability.counters import count_failure, counts
from common.observability.logs import Throttle
from common.redis import REDIS_GONE, connect
from common.retry import backoff

log = structlog.get_logger()

CAMPAIGN_PROGRESS = "campaign_progress"  # each topic is `workspace id/campaign id`


class News(NamedTuple):
    """The state of a topic on a channel, as JSON."""

    channel: str
    topic: str
    data: bytes


class _Envelope(msgspec.Struct):
    topic: str
    data: msgspec.Raw


class Subscription:
    """A listener's mailbox: the latest news of each topic, in the order in which the topics first had some.

    `at_once` is offered news for which nothing older waits, and says whether it took it: what is left is for `get`.
    """

    def __init__(self, at_once: Callable[[News], bool] | None = None) -> None:
        self._at_once = at_once
        self._latest: dict[tuple[str, str], News] = {}
        self._reader: asyncio.Future[None] | None = None

    def put(self, news: News) -> None:
        """Replace what is still unread of the same topic."""
        if self._at_once is not None and not self._latest and self._at_once(news):
            return
        self._latest[news.channel, news.topic] = news
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> News:
        """Wait for the next news; for one reader."""
        if not self._latest:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._latest.pop(next(iter(self._latest)))


class KrispBroadcast:
    """Publishes news on channels and hands what comes in on them to the process's listeners.

    A process that only publishes needs no `run`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: dict[tuple[str, str | None], set[Subscription]] = defaultdict(set)
        self._fresh: dict[tuple[str, str], News] = {}
        self._arrived = asyncio.Event()
        self._channels: set[str] = set()
        self._changed = asyncio.Event()
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._may_log = Throttle()

    @classmethod
    def connect(cls, url: str) -> "KrispBroadcast":
        """A broadcast on the Redis at `url`; connects at first use."""
        return cls(connect(url))

    def expect(self, channel: str, kind: Any) -> None:
        """Messages of a channel are JSON of this type; others are dropped and counted before any listener sees them."""
        self._decoders[channel] = msgspec.json.Decoder(kind)

    async def publish(self, channel: str, topic: str, data: bytes) -> None:
        """Tell the state of a topic, as JSON, to whoever listens. Raises RedisError or OSError."""
        counts[f"news {channel}"] += 1
        await self._redis.publish(channel, msgspec.json.encode(_Envelope(topic, msgspec.Raw(data))))

    @contextmanager
    def subscribe(
        self,
        channels: str | Sequence[str],
        topics: Iterable[str] | None = None,
        at_once: Callable[[News], bool] | None = None,
    ) -> Iterator[Subscription]:
        """Listen to a channel or several, to all their topics or only to some, while the block runs."""
        names = [channels] if isinstance(channels, str) else list(channels)
        keys = [(name, topic) for name in names for topic in ([None] if topics is None else topics)]
        subscription = Subscription(at_once)
        for key in keys:
            self._listeners[key].add(subscription)
        if not self._channels.issuperset(names):
            self._channels.update(names)
            self._changed.set()
        try:
            yield subscription
        finally:
            for key in keys:
                self._listeners[key].discard(subscription)
                if not self._listeners[key]:
                    del self._listeners[key]

    def topics(self, channel: str) -> list[str]:
        """The topics of a channel that someone listens to."""
        return [topic for name, topic in self._listeners if name == channel and topic is not None]

    def deliver(self, news: News) -> None:
        """Hand news to this process's listeners, if nothing newer on its topic comes before their turn."""
        self._fresh[news.channel, news.topic] = news
        self._arrived.set()

    async def run(self) -> None:
        """Receive and hand out until cancelled."""
        await asyncio.gather(self._receive_always(), self._hand_out())

    async def _hand_out(self) -> None:
        """Hand out what is fresh, and rest as long as that took: with many listeners, less often."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            fresh, self._fresh = self._fresh, {}
            begun = clock()
            for news in fresh.values():
                self._put(news)
            await asyncio.sleep(clock() - begun)

    def _put(self, news: News) -> None:
        for topic in {news.topic, news.topic.partition("/")[0], None}:
            for subscription in list(self._listeners.get((news.channel, topic), ())):
                try:
                    subscription.put(news)
                except Exception as error:  # one listener's fault is not to be the others'
                    count_failure("observer", f"listener of {news.channel}")
                    log.error("a listener has failed", channel=news.channel, exc_info=error)

    async def _receive_always(self) -> None:
        """Receive; connect again, with backoff, when Redis was away."""
        waits = backoff(0.05, 1.0)
        while True:
            try:
                await self._receive()
            except REDIS_GONE as error:
                log.warning("lost the news channel, connecting again", reason=str(error))
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
            counts[f"heard {channel}"] += 1
            self.deliver(News(channel, envelope.topic, bytes(envelope.data)))

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
