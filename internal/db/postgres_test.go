package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
)

func TestTakeover(t *testing.T) {
	at := dbtest.Postgres(t)
	open := func() (*db.Store, *tally) {
		s, err := db.Open(ctx, db.Config{URL: at})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, withTally(t, s)
	}
	add := func(s *db.Store, p *tally) error {
		return s.Write(ctx, func(*db.Tx) error { p.add(1); return nil })
	}
	a, pa := open()
	b, pb := open() // has loaded its state, but does not lead yet
	for range 3 {
		if err := add(a, pa); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(b, pb); err != nil || pb.sum != 4 {
		t.Errorf("the second takes over: %v, tally %d", err, pb.sum)
	}
	for range 2 {
		err := add(a, pa)
		if !errors.Is(err, db.ErrTaken) || !strings.Contains(err.Error(), a.Place()) {
			t.Errorf("the first writes on: %v", err)
		}
	}
	if n := count(t, a, `SELECT COUNT(*) FROM tally_journal`); n != 4 {
		t.Errorf("%d batches", n)
	}
	if err := add(b, pb); err != nil || pb.sum != 5 {
		t.Errorf("the second goes on: %v, tally %d", err, pb.sum)
	}
}

// A proxy stands between koala and the server and can lose what goes through.
type proxy struct {
	to           string
	l            net.Listener
	lose         atomic.Int32
	mu           sync.Mutex
	conns        []net.Conn
	disconnected bool
}

const (
	loseNothing int32 = iota
	loseAnswer        // the next answer, after the server has done its work
	loseRequest       // the next request, before the server sees it
)

func newProxy(t *testing.T, at string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: u.Host, l: l}
	go p.serve()
	t.Cleanup(func() { l.Close(); p.cut() })
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		p.mu.Lock()
		if err != nil || p.disconnected {
			c.Close()
			if s != nil {
				s.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns = append(p.conns, c, s)
		p.mu.Unlock()
		go p.copy(s, c, loseRequest)
		go p.copy(c, s, loseAnswer)
	}
}

func (p *proxy) copy(to, from net.Conn, mine int32) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || p.lose.CompareAndSwap(mine, loseNothing) {
			break
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// loser arms the proxy in front of chosen commits.
type loser struct {
	p    *proxy
	what []int32
	n    int
}

func (l *loser) BeforeCommit(int64) error {
	if l.n < len(l.what) {
		l.p.lose.Store(l.what[l.n])
	}
	l.n++
	return nil
}

func (l *loser) AfterCommit(int64) error { return nil }

// TestLostConnection: whatever is lost around a commit, the unit is in once and
// its caller is told so.
func TestLostConnection(t *testing.T) {
	p, at := newProxy(t, dbtest.Postgres(t))
	l := &loser{p: p, what: []int32{0, loseAnswer, 0, loseRequest, 0, loseAnswer, loseAnswer, loseRequest, loseRequest}}
	s, err := db.Open(ctx, db.Config{URL: at, Faults: l})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	part := withTally(t, s)
	for i := range 10 {
		err := s.Write(ctx, func(tx *db.Tx) error {
			part.add(1)
			if i%2 == 1 { // with and without rows: the commit is sent with other statements
				return insert(tx, fmt.Sprint("row", i), 1)
			}
			return nil
		})
		if err != nil {
			t.Errorf("write %d: %v", i, err)
		}
		if part.sum != int64(i+1) {
			t.Fatalf("write %d: tally %d", i, part.sum)
		}
	}
	rows := count(t, s, `SELECT COUNT(*) FROM item_row`)
	sum := count(t, s, `SELECT MAX(sum) FROM tally_journal`)
	if rows != 5 || sum != 10 {
		t.Errorf("%d rows and a sum of %d", rows, sum)
	}
}

func TestServerGoesAndComesBack(t *testing.T) {
	p, at := newProxy(t, dbtest.Postgres(t))
	s, err := db.Open(ctx, db.Config{URL: at})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	part := withTally(t, s)
	add := func() error { return s.Write(ctx, func(*db.Tx) error { part.add(1); return nil }) }
	if err := add(); err != nil {
		t.Fatal(err)
	}
	count(t, s, `SELECT COUNT(*) FROM item_row`) // an idle reader
	p.cut()
	if err := add(); err != nil || part.sum != 2 {
		t.Errorf("after the connections broke: %v, tally %d", err, part.sum)
	}
	if n := count(t, s, `SELECT MAX(sum) FROM tally_journal`); n != 2 {
		t.Errorf("read %d", n)
	}
	p.mu.Lock()
	p.disconnected = true
	p.mu.Unlock()
	p.cut()
	err = add()
	if !errors.Is(err, db.ErrServer) && !errors.Is(err, db.ErrUnknown) || fail.Of(err).Kind != fail.Busy {
		t.Errorf("without a server: %v", err)
	}
	if !strings.Contains(err.Error(), s.Place()) {
		t.Errorf("%v does not name %s", err, s.Place())
	}
	p.mu.Lock()
	p.disconnected = false
	p.mu.Unlock()
	before := count(t, s, `SELECT MAX(sum) FROM tally_journal`)
	if err := add(); err != nil || part.sum != before+1 {
		t.Errorf("with the server again: %v, tally %d after %d", err, part.sum, before)
	}
}

func TestServerTrouble(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	old := oldServer(t)
	for _, tt := range []struct {
		name, url string
		want      error
	}{
		{"nobody there", "postgres://koala:hidden@" + nobody + "/koala?sslmode=disable", db.ErrServer},
		{"too old", "postgres://koala:hidden@" + old + "/koala?sslmode=disable", db.ErrVersion},
		{"no such port", "postgres://koala:hidden@127.0.0.1:99999999/koala", db.ErrLogin},
	} {
		_, err := db.Open(ctx, db.Config{URL: tt.url})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if strings.Contains(fmt.Sprint(err), "hidden") {
			t.Errorf("%s: %v shows the password", tt.name, err)
		}
	}
	at := dbtest.Postgres(t)
	u, _ := url.Parse(at)
	u.Path = "/there_is_no_such_database"
	if _, err := db.Open(ctx, db.Config{URL: u.String()}); !errors.Is(err, db.ErrLogin) {
		t.Errorf("no such database: %v", err)
	}
}

// oldServer speaks the protocol and says that it is PostgreSQL 14.
func oldServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := pgproto3.NewBackend(c, c)
		if _, err := b.ReceiveStartupMessage(); err != nil {
			return
		}
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "14.9 (Debian 14.9-0)"})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := b.Flush(); err != nil {
			return
		}
		for {
			if _, err := b.Receive(); err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

func TestReadEndsWithItsContext(t *testing.T) {
	s, err := db.Open(ctx, db.Config{URL: dbtest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, cancel := context.WithCancel(ctx)
	err = s.Read(c, func(q *db.Query) error {
		cancel()
		_, err := q.Rows(`SELECT pg_sleep(30)`)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := count(t, s, `SELECT 1`); n != 1 {
		t.Error("the store does not read any more")
	}
}
