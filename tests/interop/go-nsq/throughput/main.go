// What a message costs go-nsq: the same as examples/throughput.rs, for comparison.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqio/go-nsq"
)

const window = 2500

type silence struct{}

func (silence) Output(int, string) error { return nil }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func produce(address string, count int) {
	producer, err := nsq.NewProducer(address, nsq.NewConfig())
	check(err)
	producer.SetLogger(silence{}, nsq.LogLevelError)
	check(producer.Ping())
	body := make([]byte, 200)
	done := make(chan *nsq.ProducerTransaction, window)
	outstanding := 0
	for sent := 0; sent < count; sent++ {
		if outstanding == window {
			check((<-done).Error)
			outstanding--
		}
		check(producer.PublishAsync("throughput", body, done))
		outstanding++
	}
	for ; outstanding > 0; outstanding-- {
		check((<-done).Error)
	}
	producer.Stop()
}

func consume(address string, count int) {
	config := nsq.NewConfig()
	config.MaxInFlight = window
	consumer, err := nsq.NewConsumer("throughput", "all", config)
	check(err)
	consumer.SetLogger(silence{}, nsq.LogLevelError)
	left := int64(count)
	consumer.AddHandler(nsq.HandlerFunc(func(message *nsq.Message) error {
		if len(message.Body) != 200 {
			check(fmt.Errorf("a body of %d bytes", len(message.Body)))
		}
		if atomic.AddInt64(&left, -1) == 0 {
			go consumer.Stop()
		}
		return nil
	}))
	check(consumer.ConnectToNSQD(address))
	<-consumer.StopChan
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func main() {
	what, address := os.Args[1], "127.0.0.1:4150"
	count, err := strconv.Atoi(os.Args[2])
	check(err)
	if len(os.Args) > 3 {
		address = os.Args[3]
	}
	began, cpuBefore := time.Now(), cpuTime()
	if what == "produce" {
		produce(address, count)
	} else {
		consume(address, count)
	}
	elapsed, cpu := time.Since(began), cpuTime()-cpuBefore
	fmt.Printf("%s %d: %.0f/s, %.3f us of CPU each\n", what, count,
		float64(count)/elapsed.Seconds(), float64(cpu.Nanoseconds())/1e3/float64(count))
}
