"""pynsq against a daemon: the scenarios of ../README.md."""

import asyncio
import os
import ssl
import sys
import time

import nsq

# What lies between the protocol and the socket; a run with layers is a short one.
LAYERS = [name for name in os.environ.get("NSQD_LAYERS", "").split(",") if name]
MESSAGES = 1_000 if LAYERS else 10_000
SINGLE = 200 if LAYERS else 2_000
OPTIONS = {name: True for name in LAYERS} | {"tls_options": {"cert_reqs": ssl.CERT_NONE}}
BATCH = 100
REQUEUE_EVERY = 100
IN_FLIGHT = 200
SLACK_S = 0.05

ADDRESS = os.environ["NSQD_ADDRESS"]
QUICK_ADDRESS = os.environ["NSQD_QUICK_ADDRESS"]
QUICK_TIMEOUT_S = 1.5

# What every connection negotiates.
SETTINGS = {}
if "NSQD_AUTH_SECRET" in os.environ:
    SETTINGS["auth_secret"] = os.environ["NSQD_AUTH_SECRET"]


def body_of(index):
    """A body that says its index and holds every byte value somewhere in the run."""
    return b"%d:" % index + bytes((index + k) & 0xFF for k in range(index % 200))


class Failed(Exception):
    """A scenario saw something else than it must."""


def answered(answer, data):
    """Passes on the answer to a publish, unless its scenario has ended already."""
    if not answer.done():
        answer.set_result(data)


def check(condition, text):
    if not condition:
        raise Failed(text)


class Publisher:
    """A writer whose publishes can be awaited."""

    def __init__(self, address):
        self.writer = nsq.Writer([address], **SETTINGS, **OPTIONS)

    async def connected(self):
        while not self.writer.conns:
            await asyncio.sleep(0.01)

    async def _answer(self, publish, *args):
        answer = asyncio.get_running_loop().create_future()
        publish(*args, callback=lambda _conn, data: answered(answer, data))
        data = await answer
        check(data == b"OK", f"{publish.__name__} was answered {data!r}")

    async def pub(self, topic, body):
        await self._answer(self.writer.pub, topic, body)

    async def mpub(self, topic, bodies):
        await self._answer(self.writer.mpub, topic, bodies)

    async def dpub(self, topic, delay_ms, body):
        await self._answer(self.writer.dpub, topic, delay_ms, body)


class StrictReader(nsq.Reader):
    """A reader that hands messages to a queue, and errors too."""

    def __init__(self, address, topic, **options):
        self.queue = asyncio.Queue()
        super().__init__(
            topic=topic,
            channel="all",
            nsqd_tcp_addresses=[address],
            message_handler=self._enqueue,
            max_in_flight=IN_FLIGHT,
            **(SETTINGS | OPTIONS | options),
        )

    def _enqueue(self, message):
        message.enable_async()
        self.queue.put_nowait(message)

    def _on_connection_error(self, conn, error, **kwargs):
        self.queue.put_nowait(Failed(f"{self.topic}: the daemon answered {error!r}"))

    async def next(self):
        message = await self.queue.get()
        if isinstance(message, Failed):
            raise message
        return message

    def check_quiet(self):
        check(self.queue.empty(), f"{self.topic}: something came after the last message")


async def publish_bulk(publisher):
    await asyncio.gather(*(publisher.pub("bulk", body_of(i)) for i in range(SINGLE)))
    await asyncio.gather(
        *(
            publisher.mpub("bulk", [body_of(i) for i in range(first, first + BATCH)])
            for first in range(SINGLE, MESSAGES, BATCH)
        )
    )


async def bulk(publisher):
    await publish_bulk(publisher)
    reader = StrictReader(ADDRESS, "bulk")
    finished = set()
    requeued = set()
    while len(finished) < MESSAGES:
        message = await reader.next()
        index = int(message.body.split(b":", 1)[0])
        check(message.body == body_of(index), f"bulk: message {index} has a wrong body")
        check(index not in finished, f"bulk: message {index} came again after FIN")
        expected = 2 if index in requeued else 1
        check(
            message.attempts == expected,
            f"bulk: message {index} has attempts {message.attempts}, not {expected}",
        )
        if index % REQUEUE_EVERY == 0 and index not in requeued:
            requeued.add(index)
            message.requeue(delay=0, backoff=False)
        else:
            finished.add(index)
            message.finish()
    check(len(requeued) == MESSAGES // REQUEUE_EVERY, f"bulk: {len(requeued)} requeues")
    return reader


async def let_time_out(publisher, reader, timeout_s):
    topic = reader.topic
    started = time.monotonic()
    await publisher.pub(topic, b"unanswered")
    message = await reader.next()
    check(message.attempts == 1, f"{topic}: attempts {message.attempts}, not 1")
    message = await reader.next()
    waited = time.monotonic() - started
    check(message.attempts == 2, f"{topic}: attempts {message.attempts}, not 2")
    check(waited >= timeout_s - SLACK_S, f"{topic}: came again after {waited:.3f} s")
    message.finish()


async def touch(publisher):
    reader = StrictReader(QUICK_ADDRESS, "touch")
    # Shows that messages of this channel do time out, so that touching is what keeps the next.
    await let_time_out(publisher, reader, QUICK_TIMEOUT_S)
    await publisher.pub("touch", b"held")
    message = await reader.next()
    for _ in range(8):
        await asyncio.sleep(0.3)
        message.touch()
    check(message.attempts == 1, f"touch: attempts {message.attempts}, not 1")
    reader.check_quiet()
    message.finish()
    return reader


async def defer(publisher):
    reader = StrictReader(ADDRESS, "defer")
    started = time.monotonic()
    await publisher.dpub("defer", 1000, b"later")
    await publisher.pub("defer", b"now")
    for expected, delay_s in ((b"now", 0.0), (b"later", 1.0)):
        message = await reader.next()
        waited = time.monotonic() - started
        check(message.body == expected, f"defer: {message.body!r} came, not {expected!r}")
        check(waited >= delay_s - SLACK_S, f"defer: {expected!r} came after {waited:.3f} s")
        message.finish()
    return reader


async def requeue(publisher):
    reader = StrictReader(ADDRESS, "requeue")
    await publisher.pub("requeue", b"again")
    message = await reader.next()
    started = time.monotonic()
    message.requeue(time_ms=700, backoff=False)
    message = await reader.next()
    waited = time.monotonic() - started
    check(message.attempts == 2, f"requeue: attempts {message.attempts}, not 2")
    check(waited >= 0.7 - SLACK_S, f"requeue: came again after {waited:.3f} s")
    message.finish()
    return reader


async def timeout(publisher):
    reader = StrictReader(ADDRESS, "timeout", msg_timeout=1.0)
    await let_time_out(publisher, reader, 1.0)
    return reader


async def main_with_layers():
    publisher = Publisher(ADDRESS)
    await publisher.connected()
    reader = await bulk(publisher)
    await asyncio.sleep(0.2)
    reader.check_quiet()


async def main():
    publisher = Publisher(ADDRESS)
    quick = Publisher(QUICK_ADDRESS)
    await asyncio.gather(publisher.connected(), quick.connected())
    readers = await asyncio.gather(
        bulk(publisher), touch(quick), defer(publisher), requeue(publisher), timeout(publisher)
    )
    # By now every answer had time to be refused or to be forgotten.
    await asyncio.sleep(0.2)
    for reader in readers:
        reader.check_quiet()


async def main_with_deadline():
    try:
        await asyncio.wait_for(main_with_layers() if LAYERS else main(), timeout=60)
    except asyncio.TimeoutError:
        sys.exit("pynsq: not done after 60 s")
    except Failed as failure:
        sys.exit(f"pynsq: {failure}")


asyncio.run(main_with_deadline())
print("OK")
