"""KrispBroadcast: news over Redis pub/sub, fanned out inside a process to any number of listeners.

News may be missed (Redis forgets it at once), so it always holds the whole current state of its topic: a listener that
is slow finds the latest of each topic, never a queue of the past.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.waiting import backoff

log = structlog.get_logger()


class News(NamedTuple):
    """The state of a topic on a channel, as JSON."""

    channel: str
    topic: str
    data: bytes


class _Envelope(msgspec.Struct):
    topic: str
    data: msgspec.Raw


class Subscription:
    """A listener's mailbox: the latest news of each topic, in the order in which the topics first had some."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], News] = {}
        self._wake = asyncio.Event()

    def put(self, news: News) -> None:
        """Replace what is still unread of the same topic."""
        self._latest[news.channel, news.topic] = news
        self._wake.set()

    async def get(self) -> News:
        """Wait for the next news."""
        while not self._latest:
            self._wake.clear()
            await self._wake.wait()
        return self._latest.pop(next(iter(self._latest)))

    async def __aiter__(self) -> AsyncIterator[News]:
        while True:
            yield await self.get()


class KrispBroadcast:
    """Publishes news on channels and hands what comes in on them to the process's listeners.

    A process that only publishes needs no `run`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: dict[tuple[str, str | None], set[Subscription]] = defaultdict(set)
        self._channels: set[str] = set()
        self._changed = asyncio.Event()

    @classmethod
    def connect(cls, url: str) -> "KrispBroadcast":
        """A broadcast on the Redis at `url`; connects at first use."""
        return cls(Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5, socket_keepalive=True))

    async def publish(self, channel: str, topic: str, data: bytes) -> None:
        """Tell the state of a topic, as JSON, to whoever listens. Raises RedisError or OSError."""
        await self._redis.publish(channel, msgspec.json.encode(_Envelope(topic, msgspec.Raw(data))))

    @contextmanager
    def subscribe(self, channels: str | Sequence[str], topics: Iterable[str] | None = None) -> Iterator[Subscription]:
        """Listen to a channel or several, to all their topics or only to some, while the block runs."""
        names = [channels] if isinstance(channels, str) else list(channels)
        keys = [(name, topic) for name in names for topic in ([None] if topics is None else topics)]
        subscription = Subscription()
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
        """Hand news to this process's listeners."""
        for key in ((news.channel, news.topic), (news.channel, None)):
            for subscription in self._listeners.get(key, ()):
                subscription.put(news)

    async def run(self) -> None:
        """Receive until cancelled; connect again, with backoff, when Redis was away."""
        waits = backoff(0.05, 1.0)
        while True:
            try:
                await self._receive()
            except (RedisError, OSError) as error:
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
        except msgspec.MsgspecError as error:
            log.warning("ignored what is no news of ours", channel=channel, reason=str(error))
        else:
            self.deliver(News(channel, envelope.topic, bytes(envelope.data)))

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
