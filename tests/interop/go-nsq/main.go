// go-nsq against a daemon: the scenarios of ../README.md.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

const (
	batch        = 100
	requeueEvery = 100
	inFlight     = 200
	slack        = 50 * time.Millisecond
	quickTimeout = 1500 * time.Millisecond
)

var (
	address      = os.Getenv("NSQD_ADDRESS")
	quickAddress = os.Getenv("NSQD_QUICK_ADDRESS")
	// What lies between the protocol and the socket; a run with layers is a short one.
	layers   = os.Getenv("NSQD_LAYERS")
	messages = 10000
	single   = 2000
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "go-nsq: "+format+"\n", args...)
	os.Exit(1)
}

func check(condition bool, format string, args ...interface{}) {
	if !condition {
		fail(format, args...)
	}
}

func checkOK(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

// bodyOf says its index and holds every byte value somewhere in the run.
func bodyOf(index int) []byte {
	body := []byte(fmt.Sprintf("%d:", index))
	for k := 0; k < index%200; k++ {
		body = append(body, byte(index+k))
	}
	return body
}

// strictLog ends the program on any error that the library would only log.
type strictLog struct{ who string }

func (log strictLog) Output(_ int, line string) error {
	if strings.HasPrefix(line, "ERR") {
		fail("%s: %s", log.who, line)
	}
	return nil
}

// newConfig is what every connection negotiates.
func newConfig() *nsq.Config {
	config := nsq.NewConfig()
	config.AuthSecret = os.Getenv("NSQD_AUTH_SECRET")
	config.TlsV1 = strings.Contains(layers, "tls_v1")
	config.TlsConfig = &tls.Config{InsecureSkipVerify: true}
	config.Snappy = strings.Contains(layers, "snappy")
	config.Deflate = strings.Contains(layers, "deflate")
	return config
}

func newProducer(address string) *nsq.Producer {
	producer, err := nsq.NewProducer(address, newConfig())
	checkOK(err, "producer")
	producer.SetLogger(strictLog{"producer"}, nsq.LogLevelError)
	checkOK(producer.Ping(), "ping")
	return producer
}

// strictConsumer hands messages to a channel and takes no error.
type strictConsumer struct {
	topic    string
	consumer *nsq.Consumer
	arrivals chan *nsq.Message
}

func newConsumer(address, topic string, config *nsq.Config) *strictConsumer {
	config.MaxInFlight = inFlight
	consumer, err := nsq.NewConsumer(topic, "all", config)
	checkOK(err, topic)
	consumer.SetLogger(strictLog{topic}, nsq.LogLevelError)
	arrivals := make(chan *nsq.Message, inFlight)
	consumer.AddHandler(nsq.HandlerFunc(func(message *nsq.Message) error {
		message.DisableAutoResponse()
		arrivals <- message
		return nil
	}))
	checkOK(consumer.ConnectToNSQD(address), topic)
	return &strictConsumer{topic, consumer, arrivals}
}

func (c *strictConsumer) checkQuiet() {
	check(len(c.arrivals) == 0, "%s: something came after the last message", c.topic)
}

// stop ends the subscription in the orderly way: CLS, CLOSE_WAIT, close.
func (c *strictConsumer) stop() {
	c.consumer.Stop()
	<-c.consumer.StopChan
}

func publishBulk(producer *nsq.Producer) {
	done := make(chan *nsq.ProducerTransaction, messages)
	publishes := 0
	for i := 0; i < single; i++ {
		checkOK(producer.PublishAsync("bulk", bodyOf(i), done), "bulk")
		publishes++
	}
	for first := single; first < messages; first += batch {
		bodies := make([][]byte, 0, batch)
		for i := first; i < first+batch; i++ {
			bodies = append(bodies, bodyOf(i))
		}
		checkOK(producer.MultiPublishAsync("bulk", bodies, done), "bulk")
		publishes++
	}
	for ; publishes > 0; publishes-- {
		checkOK((<-done).Error, "bulk: a publish")
	}
}

func bulk(producer *nsq.Producer) *strictConsumer {
	publishBulk(producer)
	c := newConsumer(address, "bulk", newConfig())
	finished := map[int]bool{}
	requeued := map[int]bool{}
	for len(finished) < messages {
		message := <-c.arrivals
		index, err := strconv.Atoi(string(bytes.SplitN(message.Body, []byte(":"), 2)[0]))
		checkOK(err, "bulk: a body without its index")
		check(bytes.Equal(message.Body, bodyOf(index)), "bulk: message %d has a wrong body", index)
		check(!finished[index], "bulk: message %d came again after FIN", index)
		expected := uint16(1)
		if requeued[index] {
			expected = 2
		}
		check(message.Attempts == expected,
			"bulk: message %d has attempts %d, not %d", index, message.Attempts, expected)
		if index%requeueEvery == 0 && !requeued[index] {
			requeued[index] = true
			message.RequeueWithoutBackoff(0)
		} else {
			finished[index] = true
			message.Finish()
		}
	}
	check(len(requeued) == messages/requeueEvery, "bulk: %d requeues", len(requeued))
	return c
}

func (c *strictConsumer) letTimeOut(producer *nsq.Producer, timeout time.Duration) {
	started := time.Now()
	checkOK(producer.Publish(c.topic, []byte("unanswered")), c.topic)
	message := <-c.arrivals
	check(message.Attempts == 1, "%s: attempts %d, not 1", c.topic, message.Attempts)
	message = <-c.arrivals
	waited := time.Since(started)
	check(message.Attempts == 2, "%s: attempts %d, not 2", c.topic, message.Attempts)
	check(waited >= timeout-slack, "%s: came again after %v", c.topic, waited)
	message.Finish()
}

func touch(producer *nsq.Producer) *strictConsumer {
	c := newConsumer(quickAddress, "touch", newConfig())
	// Shows that messages of this channel do time out, so that touching is what keeps the next.
	c.letTimeOut(producer, quickTimeout)
	checkOK(producer.Publish("touch", []byte("held")), "touch")
	message := <-c.arrivals
	for i := 0; i < 8; i++ {
		time.Sleep(300 * time.Millisecond)
		message.Touch()
	}
	check(message.Attempts == 1, "touch: attempts %d, not 1", message.Attempts)
	check(len(c.arrivals) == 0, "touch: the message came again while it was touched")
	message.Finish()
	return c
}

func deferred(producer *nsq.Producer) *strictConsumer {
	c := newConsumer(address, "defer", newConfig())
	started := time.Now()
	checkOK(producer.DeferredPublish("defer", time.Second, []byte("later")), "defer")
	checkOK(producer.Publish("defer", []byte("now")), "defer")
	for _, expected := range []struct {
		body  string
		delay time.Duration
	}{{"now", 0}, {"later", time.Second}} {
		message := <-c.arrivals
		waited := time.Since(started)
		check(string(message.Body) == expected.body,
			"defer: %q came, not %q", message.Body, expected.body)
		check(waited >= expected.delay-slack, "defer: %q came after %v", expected.body, waited)
		message.Finish()
	}
	return c
}

func requeue(producer *nsq.Producer) *strictConsumer {
	c := newConsumer(address, "requeue", newConfig())
	checkOK(producer.Publish("requeue", []byte("again")), "requeue")
	message := <-c.arrivals
	started := time.Now()
	message.RequeueWithoutBackoff(700 * time.Millisecond)
	message = <-c.arrivals
	waited := time.Since(started)
	check(message.Attempts == 2, "requeue: attempts %d, not 2", message.Attempts)
	check(waited >= 700*time.Millisecond-slack, "requeue: came again after %v", waited)
	message.Finish()
	return c
}

func timeout(producer *nsq.Producer) *strictConsumer {
	config := newConfig()
	config.MsgTimeout = time.Second
	c := newConsumer(address, "timeout", config)
	c.letTimeOut(producer, time.Second)
	return c
}

func main() {
	time.AfterFunc(60*time.Second, func() { fail("not done after 60 s") })
	if layers != "" {
		messages, single = 1000, 200
		producer := newProducer(address)
		consumer := bulk(producer)
		time.Sleep(200 * time.Millisecond)
		consumer.checkQuiet()
		consumer.stop()
		producer.Stop()
		fmt.Println("OK")
		return
	}
	producer := newProducer(address)
	quick := newProducer(quickAddress)

	scenarios := []func() *strictConsumer{
		func() *strictConsumer { return bulk(producer) },
		func() *strictConsumer { return touch(quick) },
		func() *strictConsumer { return deferred(producer) },
		func() *strictConsumer { return requeue(producer) },
		func() *strictConsumer { return timeout(producer) },
	}
	consumers := make([]*strictConsumer, len(scenarios))
	var running sync.WaitGroup
	for i, scenario := range scenarios {
		running.Add(1)
		go func(i int, scenario func() *strictConsumer) {
			defer running.Done()
			consumers[i] = scenario()
		}(i, scenario)
	}
	running.Wait()

	// By now every answer had time to be refused or to be forgotten.
	time.Sleep(200 * time.Millisecond)
	for _, c := range consumers {
		c.checkQuiet()
		// go-nsq waits 30 s for an answer to a message that timed out.
		if c.topic != "timeout" && c.topic != "touch" {
			c.stop()
		}
	}
	producer.Stop()
	quick.Stop()
	fmt.Println("OK")
}
