// nsqjs against a daemon: the scenarios of ../README.md.
'use strict'

const {Reader, Writer} = require('nsqjs')

// What lies between the protocol and the socket; a run with layers is a short one.
const LAYERS = (process.env.NSQD_LAYERS || '').split(',').filter(Boolean)
const MESSAGES = LAYERS.length ? 1000 : 10000
const SINGLE = LAYERS.length ? 200 : 2000
const OPTIONS = {
  tls: LAYERS.includes('tls_v1'),
  tlsVerification: false,
  snappy: LAYERS.includes('snappy'),
  deflate: LAYERS.includes('deflate'),
}
const BATCH = 100
const REQUEUE_EVERY = 100
const IN_FLIGHT = 200
const SLACK_MS = 50

const ADDRESS = process.env.NSQD_ADDRESS
const QUICK_ADDRESS = process.env.NSQD_QUICK_ADDRESS
const QUICK_TIMEOUT_MS = 1500

// What every connection negotiates.
const SETTINGS = {}
if (process.env.NSQD_AUTH_SECRET) SETTINGS.authSecret = process.env.NSQD_AUTH_SECRET

function fail(text) {
  console.error(`nsqjs: ${text}`)
  process.exit(1)
}

function check(condition, text) {
  if (!condition) fail(text)
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const nowMs = () => performance.now()

// A body that says its index and holds every byte value somewhere in the run.
function bodyOf(index) {
  const tail = Buffer.alloc(index % 200)
  for (let k = 0; k < tail.length; k++) tail[k] = (index + k) & 0xff
  return Buffer.concat([Buffer.from(`${index}:`), tail])
}

// A writer whose publishes can be awaited.
class Publisher {
  constructor(address) {
    const [host, port] = address.split(':')
    this.writer = new Writer(host, Number(port), {...SETTINGS, ...OPTIONS})
    this.writer.on('error', (error) => fail(`the writer failed: ${error}`))
    this.connected = new Promise((resolve) => this.writer.on('ready', resolve))
    this.writer.connect()
  }

  publish(topic, bodies) {
    return new Promise((resolve, reject) =>
      this.writer.publish(topic, bodies, (error) => (error ? reject(error) : resolve()))
    )
  }

  deferPublish(topic, body, delayMs) {
    // nsqjs 0.13 takes the one body of a deferred publish as an array.
    return new Promise((resolve, reject) =>
      this.writer.deferPublish(topic, [body], delayMs, (error) =>
        error ? reject(error) : resolve()
      )
    )
  }
}

// A reader that hands messages to a queue and takes no error.
class StrictReader {
  constructor(address, topic, options = {}) {
    this.topic = topic
    this.messages = []
    this.waiting = null
    this.reader = new Reader(topic, 'all', {
      nsqdTCPAddresses: [address],
      maxInFlight: IN_FLIGHT,
      ...SETTINGS,
      ...OPTIONS,
      ...options,
    })
    this.reader.on('error', (error) => fail(`${topic}: the daemon answered ${error}`))
    this.reader.on('message', (message) => {
      this.messages.push(message)
      if (this.waiting) this.waiting()
    })
    this.reader.connect()
  }

  async next() {
    while (this.messages.length === 0) {
      await new Promise((resolve) => (this.waiting = resolve))
      this.waiting = null
    }
    return this.messages.shift()
  }

  checkQuiet() {
    check(this.messages.length === 0, `${this.topic}: something came after the last message`)
  }
}

async function publishBulk(publisher) {
  const answers = []
  for (let i = 0; i < SINGLE; i++) answers.push(publisher.publish('bulk', bodyOf(i)))
  for (let first = SINGLE; first < MESSAGES; first += BATCH) {
    const bodies = Array.from({length: BATCH}, (_, k) => bodyOf(first + k))
    answers.push(publisher.publish('bulk', bodies))
  }
  await Promise.all(answers)
}

async function bulk(publisher) {
  await publishBulk(publisher)
  const reader = new StrictReader(ADDRESS, 'bulk')
  const finished = new Set()
  const requeued = new Set()
  while (finished.size < MESSAGES) {
    const message = await reader.next()
    const index = Number(message.body.toString('latin1').split(':', 1)[0])
    check(message.body.equals(bodyOf(index)), `bulk: message ${index} has a wrong body`)
    check(!finished.has(index), `bulk: message ${index} came again after FIN`)
    const expected = requeued.has(index) ? 2 : 1
    check(
      message.attempts === expected,
      `bulk: message ${index} has attempts ${message.attempts}, not ${expected}`
    )
    if (index % REQUEUE_EVERY === 0 && !requeued.has(index)) {
      requeued.add(index)
      message.requeue(0, false)
    } else {
      finished.add(index)
      message.finish()
    }
  }
  check(requeued.size === MESSAGES / REQUEUE_EVERY, `bulk: ${requeued.size} requeues`)
  return reader
}

async function letTimeOut(publisher, reader, timeoutMs) {
  const topic = reader.topic
  const started = nowMs()
  await publisher.publish(topic, 'unanswered')
  const first = await reader.next()
  check(first.attempts === 1, `${topic}: attempts ${first.attempts}, not 1`)
  const second = await reader.next()
  const waited = nowMs() - started
  check(second.attempts === 2, `${topic}: attempts ${second.attempts}, not 2`)
  check(waited >= timeoutMs - SLACK_MS, `${topic}: came again after ${waited} ms`)
  second.finish()
}

async function touch(publisher) {
  const reader = new StrictReader(QUICK_ADDRESS, 'touch')
  // Shows that messages of this channel do time out, so that touching is what keeps the next.
  await letTimeOut(publisher, reader, QUICK_TIMEOUT_MS)
  await publisher.publish('touch', 'held')
  const message = await reader.next()
  for (let i = 0; i < 8; i++) {
    await sleep(300)
    message.touch()
  }
  check(message.attempts === 1, `touch: attempts ${message.attempts}, not 1`)
  reader.checkQuiet()
  message.finish()
  return reader
}

async function defer(publisher) {
  const reader = new StrictReader(ADDRESS, 'defer')
  const started = nowMs()
  await publisher.deferPublish('defer', 'later', 1000)
  await publisher.publish('defer', 'now')
  for (const [expected, delayMs] of [['now', 0], ['later', 1000]]) {
    const message = await reader.next()
    const waited = nowMs() - started
    const body = message.body.toString()
    check(body === expected, `defer: '${body}' came, not '${expected}'`)
    check(waited >= delayMs - SLACK_MS, `defer: '${expected}' came after ${waited} ms`)
    message.finish()
  }
  return reader
}

async function requeue(publisher) {
  const reader = new StrictReader(ADDRESS, 'requeue')
  await publisher.publish('requeue', 'again')
  const first = await reader.next()
  const started = nowMs()
  first.requeue(700, false)
  const second = await reader.next()
  const waited = nowMs() - started
  check(second.attempts === 2, `requeue: attempts ${second.attempts}, not 2`)
  check(waited >= 700 - SLACK_MS, `requeue: came again after ${waited} ms`)
  second.finish()
  return reader
}

async function timeout(publisher) {
  const reader = new StrictReader(ADDRESS, 'timeout', {messageTimeout: 1000})
  await letTimeOut(publisher, reader, 1000)
  return reader
}

async function mainWithLayers() {
  const publisher = new Publisher(ADDRESS)
  await publisher.connected
  const reader = await bulk(publisher)
  await sleep(200)
  reader.checkQuiet()
}

async function main() {
  const publisher = new Publisher(ADDRESS)
  const quick = new Publisher(QUICK_ADDRESS)
  await Promise.all([publisher.connected, quick.connected])
  const readers = await Promise.all([
    bulk(publisher),
    touch(quick),
    defer(publisher),
    requeue(publisher),
    timeout(publisher),
  ])
  // By now every answer had time to be refused or to be forgotten.
  await sleep(200)
  readers.forEach((reader) => reader.checkQuiet())
}

setTimeout(() => fail('not done after 60 s'), 60000)
const run = LAYERS.length ? mainWithLayers : main
run().then(
  () => {
    console.log('OK')
    process.exit(0)
  },
  (error) => fail(error)
)
