package hostlink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/spec/iso8583"
)

type handler func(ctx context.Context, message []byte) ([]byte, error)

func (h handler) Handle(ctx context.Context, message []byte) ([]byte, error) { return h(ctx, message) }

// echo answers a message with itself in capitals, keeps silent for "silent" and
// knows no "garbage".
var echo = handler(func(_ context.Context, message []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(message, []byte("silent")):
		return nil, nil
	case bytes.HasPrefix(message, []byte("garbage")):
		return nil, errors.New("not the dialect")
	}
	return bytes.ToUpper(message), nil
})

// start runs a server for the test and returns where it listens and how to end
// it.
func start(t *testing.T, s *Server) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func dialTo(addr string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

func raw(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// closedSoon says whether the other end hangs up without another byte.
func closedSoon(t *testing.T, conn net.Conn) bool {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestServerWhatComesIn(t *testing.T) {
	s := &Server{Handler: echo, Half: 50 * time.Millisecond, Idle: time.Minute}
	addr, _ := start(t, s)
	for _, tt := range []struct {
		name    string
		in      string
		want    string
		dropped bool
	}{
		{"a message", "\x00\x03abc", "\x00\x03ABC", false},
		{"two in one piece", "\x00\x01a\x00\x01a", "\x00\x01A\x00\x01A", false},
		{"a frame that keeps the line open", "\x00\x00\x00\x01a", "\x00\x00\x00\x01A", false},
		{"no answer to give", "\x00\x06silent\x00\x01a", "\x00\x01A", false},
		{"a length that no message has", "\xFF\xFFabc", "", true},
		{"half a length", "\x00", "", true},
		{"half a message", "\x00\x05ab", "", true},
		{"what the handler does not know", "\x00\x07garbage", "", true},
	} {
		before := s.Stats().Dropped
		conn := raw(t, addr)
		if _, err := io.WriteString(conn, tt.in); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(tt.want))
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
		if tt.dropped && (!closedSoon(t, conn) || s.Stats().Dropped != before+1) {
			t.Errorf("%s: not dropped", tt.name)
		}
		conn.Close()
	}
	if st := s.Stats(); st.Silent != 1 || st.Accepted != 8 {
		t.Errorf("stats %+v", st)
	}
}

// TestServerSideBySide shows that a slow answer holds up no other of its
// connection, and that one connection has no more in flight than it may.
func TestServerSideBySide(t *testing.T) {
	release, entered := make(chan struct{}), make(chan string, 8)
	s := &Server{InFlight: 2, Handler: handler(func(_ context.Context, m []byte) ([]byte, error) {
		entered <- string(m)
		if string(m) == "slow" {
			<-release
		}
		return m, nil
	})}
	addr, _ := start(t, s)
	conn := raw(t, addr)
	if _, err := io.WriteString(conn, "\x00\x04slow\x00\x04fast"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if m, err := readMessage(in); err != nil || string(m) != "fast" {
		t.Fatalf("%q, %v", m, err)
	}
	if _, err := io.WriteString(conn, "\x00\x04slow\x00\x05third"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-entered // slow, fast, slow
	}
	select {
	case m := <-entered:
		t.Errorf("%q was begun while two were waiting", m)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if m := <-entered; m != "third" {
		t.Errorf("%q", m)
	}
}

func TestServerEndsAfterItsAnswers(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: handler(func(ctx context.Context, m []byte) ([]byte, error) {
		close(entered)
		<-release
		return m, ctx.Err()
	})}
	addr, stop := start(t, s)
	conn := raw(t, addr)
	if _, err := io.WriteString(conn, "\x00\x02ok"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	time.Sleep(10 * time.Millisecond)
	close(release)
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "\x00\x02ok" {
		t.Errorf("%q, %v", got, err)
	}
	<-ended
}

func TestServerConnectionLimit(t *testing.T) {
	s := &Server{Handler: echo, Conns: 1}
	addr, _ := start(t, s)
	first := &Line{Dial: dialTo(addr)}
	defer first.Close()
	if _, err := first.Exchange([]byte("a")); err != nil {
		t.Fatal(err)
	}
	second := &Line{Dial: dialTo(addr), Answer: 5 * time.Second}
	if _, err := second.Exchange([]byte("a")); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("beyond the limit: %v", err)
	}
	if got := s.Stats().Refused; got != 1 {
		t.Errorf("%d refused", got)
	}
}

func TestLine(t *testing.T) {
	addr, stop := start(t, &Server{Handler: echo})
	l := &Line{Dial: dialTo(addr), Answer: 50 * time.Millisecond}
	defer l.Close()
	for range 3 {
		if got, err := l.Exchange([]byte("ask")); err != nil || string(got) != "ASK" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if _, err := l.Exchange([]byte("silent")); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("silence: %v", err)
	}
	if got, err := l.Exchange([]byte("again")); err != nil || string(got) != "AGAIN" {
		t.Errorf("after silence: %q, %v", got, err)
	}
	l.Close()
	stop()
	if _, err := l.Exchange([]byte("ask")); !errors.Is(err, ErrNotSent) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestLineLateAnswer shows that an answer that came too late is never taken for
// that of the next question.
func TestLineLateAnswer(t *testing.T) {
	release := make(chan struct{})
	addr, _ := start(t, &Server{Handler: handler(func(_ context.Context, m []byte) ([]byte, error) {
		if string(m) == "slow" {
			<-release
		}
		return m, nil
	})})
	l := &Line{Dial: dialTo(addr), Answer: 30 * time.Millisecond}
	defer l.Close()
	if _, err := l.Exchange([]byte("slow")); !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("%v", err)
	}
	close(release)
	l.Answer = 5 * time.Second
	if got, err := l.Exchange([]byte("next")); err != nil || string(got) != "next" {
		t.Errorf("%q, %v", got, err)
	}
}

// question is a message of the interchange dialect with a trace number.
func question(t testing.TB, stan int) []byte {
	t.Helper()
	var m iso8583.Message
	m.Reset(iso8583.UnionPayInterchange(), "0200")
	h := iso8583.InterchangeHeader{Version: 0x02, Destination: [11]byte([]byte("00010000   ")), Source: [11]byte([]byte("48021000   ")),
		Reserved: [3]byte([]byte("000")), Transaction: [8]byte([]byte("00000000")), Reject: [5]byte([]byte("00000"))}
	m.SetHead(h.AppendTo(nil))
	m.SetText(7, "0916120000")
	m.SetText(11, fmt.Sprintf("%06d", stan))
	m.SetText(32, "48021000")
	out, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func answerTo(t testing.TB, request []byte, code string) []byte {
	t.Helper()
	var q, a iso8583.Message
	if err := q.Unpack(iso8583.UnionPayInterchange(), request); err != nil {
		t.Fatal(err)
	}
	if err := a.AnswerTo(&q, code); err != nil {
		t.Fatal(err)
	}
	out, err := a.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// other is an institution's host under the test's control.
type other struct {
	t    testing.TB
	l    net.Listener
	conn net.Conn
	in   *bufio.Reader
}

func listen(t testing.TB) *other {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &other{t: t, l: l}
}

func (o *other) accept() {
	o.t.Helper()
	var err error
	if o.conn, err = o.l.Accept(); err != nil {
		o.t.Fatal(err)
	}
	o.in = bufio.NewReader(o.conn)
}

func (o *other) next() []byte {
	o.t.Helper()
	m, err := readMessage(o.in)
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

func (o *other) say(message []byte) {
	o.t.Helper()
	if err := writeFrame(o.conn, message, time.Now().Add(5*time.Second)); err != nil {
		o.t.Fatal(err)
	}
}

func (o *other) client() *Client {
	return &Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", o.l.Addr().String())
	}}
}

type answered struct {
	m   []byte
	err error
}

func ask(ctx context.Context, c *Client, q []byte) chan answered {
	out := make(chan answered, 1)
	go func() {
		m, err := c.Ask(ctx, q)
		out <- answered{m, err}
	}()
	return out
}

func TestClientAnyOrder(t *testing.T) {
	o := listen(t)
	c := o.client()
	defer c.Close()
	strays := make(chan []byte, 4)
	c.Stray = func(m []byte) { strays <- bytes.Clone(m) }
	ctx := context.Background()
	q := [][]byte{question(t, 1), question(t, 2)}
	first := ask(ctx, c, q[0])
	o.accept()
	got1 := o.next()
	second := ask(ctx, c, q[1])
	got2 := o.next()
	if !bytes.Equal(got1, q[0]) || !bytes.Equal(got2, q[1]) {
		t.Fatal("the questions did not arrive as they were sent")
	}
	o.say(answerTo(t, got2, "51"))
	o.say(answerTo(t, got2, "00")) // doubled, and another one
	o.say(answerTo(t, got1, "00"))
	if a := <-second; a.err != nil || !bytes.Equal(a.m, answerTo(t, q[1], "51")) {
		t.Errorf("second: %v", a.err)
	}
	if a := <-first; a.err != nil || !bytes.Equal(a.m, answerTo(t, q[0], "00")) {
		t.Errorf("first: %v", a.err)
	}
	if m := <-strays; !bytes.Equal(m, answerTo(t, q[1], "00")) {
		t.Error("the doubled answer is not the stray one")
	}
}

func TestClientSilence(t *testing.T) {
	o := listen(t)
	c := o.client()
	defer c.Close()
	strays := make(chan []byte, 4)
	c.Stray = func(m []byte) { strays <- bytes.Clone(m) }
	ctx, cancel := context.WithCancel(context.Background())
	waiting := ask(ctx, c, question(t, 1))
	o.accept()
	q := o.next()
	if _, err := c.Ask(context.Background(), question(t, 1)); !errors.Is(err, ErrTwice) || !errors.Is(err, ErrNotSent) {
		t.Errorf("the same question again: %v", err)
	}
	cancel()
	if a := <-waiting; !errors.Is(a.err, ErrNoAnswer) || !errors.Is(a.err, context.Canceled) {
		t.Errorf("no answer: %v", a.err)
	}
	o.say(answerTo(t, q, "00"))
	if m := <-strays; !bytes.Equal(m, answerTo(t, q, "00")) {
		t.Error("the late answer is not the stray one")
	}
}

func TestClientConnectionLost(t *testing.T) {
	o := listen(t)
	c := o.client()
	defer c.Close()
	ctx := context.Background()
	for name, spoil := range map[string]func(){
		"closed":  func() { o.conn.Close() },
		"garbage": func() { _, _ = o.conn.Write([]byte{0, 4, 'j', 'u', 'n', 'k'}) },
	} {
		lost := ask(ctx, c, question(t, 1))
		o.accept()
		o.next()
		spoil()
		if a := <-lost; !errors.Is(a.err, ErrNoAnswer) {
			t.Errorf("%s: %v", name, a.err)
		}
		again := ask(ctx, c, question(t, 1))
		o.accept()
		q := o.next()
		o.say(answerTo(t, q, "00"))
		if a := <-again; a.err != nil {
			t.Errorf("%s: dialled again: %v", name, a.err)
		}
		c.Close()
	}
	o.l.Close()
	if _, err := c.Ask(ctx, question(t, 1)); !errors.Is(err, ErrNotSent) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := c.Ask(ctx, []byte("junk")); !errors.Is(err, ErrNotSent) {
		t.Errorf("not a message: %v", err)
	}
}

func TestClientFull(t *testing.T) {
	o := listen(t)
	c := o.client()
	defer c.Close()
	c.Max = 1
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := ask(ctx, c, question(t, 1))
	o.accept()
	o.next()
	if _, err := c.Ask(ctx, question(t, 2)); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	cancel()
	<-first
}

// TestClientOtherEndDoesNotRead shows that a question ends in its time though it
// cannot leave, and so does one that waits for its turn behind it.
func TestClientOtherEndDoesNotRead(t *testing.T) {
	near, far := net.Pipe() // takes a write only while somebody reads
	defer far.Close()
	c := &Client{Dial: func(context.Context) (net.Conn, error) { return near, nil }}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	first := ask(ctx, c, question(t, 1))
	second, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	if _, err := c.Ask(second, question(t, 2)); err == nil {
		t.Error("answered")
	}
	if a := <-first; !errors.Is(a.err, ErrNoAnswer) && !errors.Is(a.err, ErrNotSent) {
		t.Errorf("%v", a.err)
	}
}

// TestServerOtherEndDoesNotRead shows that a terminal that asks and does not
// read holds up no end of the server.
func TestServerOtherEndDoesNotRead(t *testing.T) {
	s := &Server{Half: 20 * time.Millisecond, Handler: handler(func(context.Context, []byte) ([]byte, error) { return make([]byte, 9000), nil })}
	addr, stop := start(t, s)
	conn := raw(t, addr)
	for range 4000 {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := io.WriteString(conn, "\x00\x01a"); err != nil {
			break
		}
	}
	stop()
}

// TestClientManyAtOnce lets many callers share one line.
func TestClientManyAtOnce(t *testing.T) {
	o := listen(t)
	c := o.client()
	defer c.Close()
	var all sync.WaitGroup
	for i := range 64 {
		q := question(t, i)
		all.Go(func() {
			if got, err := c.Ask(context.Background(), q); err != nil || !bytes.Equal(got, answerTo(t, q, "00")) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	o.accept()
	for range 64 {
		o.say(answerTo(t, o.next(), "00"))
	}
	all.Wait()
}

func FuzzReadFrame(f *testing.F) {
	f.Add("\x00\x03abc\x00\x00\x00\x01a")
	f.Add("\xFF\xFF")
	f.Fuzz(func(t *testing.T, stream string) {
		in := bufio.NewReader(strings.NewReader(stream))
		rest := []byte(stream)
		for {
			got, err := readMessage(in)
			want, tail, wantErr := iso8583.NextFrame(rest)
			for wantErr == nil && len(want) == 0 {
				want, tail, wantErr = iso8583.NextFrame(tail)
			}
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("%x %v, want %x %v", got, err, want, wantErr)
			}
			if err != nil {
				return
			}
			rest = tail
		}
	})
}

func BenchmarkLine(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &Server{Handler: handler(func(_ context.Context, m []byte) ([]byte, error) { return m, nil })}
	go func() { _ = s.Serve(ctx, l) }()
	message := bytes.Repeat([]byte{7}, 250)
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		line := &Line{Dial: dialTo(l.Addr().String())}
		defer line.Close()
		for p.Next() {
			if _, err := line.Exchange(message); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
