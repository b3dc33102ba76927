"""gnsq against a daemon: the scenarios of ../README.md."""

import os
import sys
import time

import gevent
from gevent.queue import Queue

import gnsq

# What lies between the protocol and the socket; a run with layers is a short one.
LAYERS = [name for name in os.environ.get("NSQD_LAYERS", "").split(",") if name]
MESSAGES = 1_000 if LAYERS else 10_000
SINGLE = 200 if LAYERS else 2_000
OPTIONS = {name: True for name in LAYERS} | {"tls_options": {}}
BATCH = 100
REQUEUE_EVERY = 100
IN_FLIGHT = 200
SLACK_S = 0.05

# gnsq does not negotiate a message timeout: its timeouts run against the quick daemon.
ADDRESS = os.environ["NSQD_ADDRESS"]
QUICK_ADDRESS = os.environ["NSQD_QUICK_ADDRESS"]
QUICK_TIMEOUT_S = 1.5

# What every connection negotiates.
SETTINGS = {}
if "NSQD_AUTH_SECRET" in os.environ:
    SETTINGS["auth_secret"] = os.environ["NSQD_AUTH_SECRET"].encode()


def body_of(index):
    """A body that says its index and holds every byte value somewhere in the run."""
    return b"%d:" % index + bytes((index + k) & 0xFF for k in range(index % 200))


class Failed(Exception):
    """A scenario saw something else than it must."""


def check(condition, text):
    if not condition:
        raise Failed(text)


class StrictConsumer:
    """A consumer that hands messages to a queue, and errors too."""

    def __init__(self, address, topic):
        self.topic = topic
        self.queue = Queue()
        self.consumer = gnsq.Consumer(
            topic,
            "all",
            [address],
            max_in_flight=IN_FLIGHT,
            message_handler=self._enqueue,
            **SETTINGS,
            **OPTIONS,
        )
        self._on_error = lambda _consumer, error: self.queue.put(
            Failed(f"{topic}: the daemon answered {error!r}")
        )
        self.consumer.on_error.connect(self._on_error)
        self.consumer.start(block=False)

    def _enqueue(self, _consumer, message):
        message.enable_async()
        self.queue.put(message)

    def next(self):
        message = self.queue.get()
        if isinstance(message, Failed):
            raise message
        return message

    def check_quiet(self):
        check(self.queue.empty(), f"{self.topic}: something came after the last message")


def producer_of(address):
    # Without layers: gnsq 1.0.2's producer fails at the OK of an upgrade, whatever the daemon.
    producer = gnsq.Producer([address], **SETTINGS)
    producer.start()
    return producer


def publish_bulk(producer):
    answers = [
        producer.publish("bulk", body_of(i), raise_error=False) for i in range(SINGLE)
    ]
    answers += [
        producer.multipublish(
            "bulk", [body_of(i) for i in range(first, first + BATCH)], raise_error=False
        )
        for first in range(SINGLE, MESSAGES, BATCH)
    ]
    for answer in answers:
        data = answer.get()
        check(data == b"OK", f"bulk: a publish was answered {data!r}")


def bulk(producer):
    publish_bulk(producer)
    consumer = StrictConsumer(ADDRESS, "bulk")
    finished = set()
    requeued = set()
    while len(finished) < MESSAGES:
        message = consumer.next()
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
            message.requeue(time_ms=0, backoff=False)
        else:
            finished.add(index)
            message.finish()
    check(len(requeued) == MESSAGES // REQUEUE_EVERY, f"bulk: {len(requeued)} requeues")
    return consumer


def let_time_out(producer, consumer):
    topic = consumer.topic
    started = time.monotonic()
    producer.publish(topic, b"unanswered")
    message = consumer.next()
    check(message.attempts == 1, f"{topic}: attempts {message.attempts}, not 1")
    message = consumer.next()
    waited = time.monotonic() - started
    check(message.attempts == 2, f"{topic}: attempts {message.attempts}, not 2")
    check(waited >= QUICK_TIMEOUT_S - SLACK_S, f"{topic}: came again after {waited:.3f} s")
    message.finish()


def touch(producer):
    consumer = StrictConsumer(QUICK_ADDRESS, "touch")
    # Shows that messages of this channel do time out, so that touching is what keeps the next.
    let_time_out(producer, consumer)
    producer.publish("touch", b"held")
    message = consumer.next()
    for _ in range(8):
        gevent.sleep(0.3)
        message.touch()
    check(message.attempts == 1, f"touch: attempts {message.attempts}, not 1")
    consumer.check_quiet()
    message.finish()
    return consumer


def defer(producer):
    consumer = StrictConsumer(ADDRESS, "defer")
    started = time.monotonic()
    producer.publish("defer", b"later", defer=1000)
    producer.publish("defer", b"now")
    for expected, delay_s in ((b"now", 0.0), (b"later", 1.0)):
        message = consumer.next()
        waited = time.monotonic() - started
        check(message.body == expected, f"defer: {message.body!r} came, not {expected!r}")
        check(waited >= delay_s - SLACK_S, f"defer: {expected!r} came after {waited:.3f} s")
        message.finish()
    return consumer


def requeue(producer):
    consumer = StrictConsumer(ADDRESS, "requeue")
    producer.publish("requeue", b"again")
    message = consumer.next()
    started = time.monotonic()
    message.requeue(time_ms=700, backoff=False)
    message = consumer.next()
    waited = time.monotonic() - started
    check(message.attempts == 2, f"requeue: attempts {message.attempts}, not 2")
    check(waited >= 0.7 - SLACK_S, f"requeue: came again after {waited:.3f} s")
    message.finish()
    return consumer


def timeout(producer):
    consumer = StrictConsumer(QUICK_ADDRESS, "timeout")
    let_time_out(producer, consumer)
    return consumer


def main_with_layers():
    consumer = bulk(producer_of(ADDRESS))
    gevent.sleep(0.2)
    consumer.check_quiet()


def main():
    producer = producer_of(ADDRESS)
    quick = producer_of(QUICK_ADDRESS)
    scenarios = [
        gevent.spawn(bulk, producer),
        gevent.spawn(touch, quick),
        gevent.spawn(defer, producer),
        gevent.spawn(requeue, producer),
        gevent.spawn(timeout, quick),
    ]
    gevent.joinall(scenarios, raise_error=True)
    # By now every answer had time to be refused or to be forgotten.
    gevent.sleep(0.2)
    for scenario in scenarios:
        scenario.value.check_quiet()


try:
    with gevent.Timeout(60):
        main_with_layers() if LAYERS else main()
except gevent.Timeout:
    sys.exit("gnsq: not done after 60 s")
except Failed as failure:
    sys.exit(f"gnsq: {failure}")
print("OK")
