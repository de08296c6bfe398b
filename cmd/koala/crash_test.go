package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"koala/app"
	"koala/internal/db"
	"koala/issuing"
	"koala/merchant"
	"koala/switching"
)

// childServe makes the test binary a process that runs koala with the arguments
// in it, separated by newlines.
const childServe = "KOALA_CMDTEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childServe); args != "" {
		os.Exit(run(context.Background(), strings.Split(args, "\n"), strings.NewReader(""), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// What the siege of a server is: terminals that sell by chip and by stripe while
// it is killed so many times.
const (
	siegeTerminals = 16
	siegeKills     = 3
)

// A siegeCounter is a house in a folder whose server is another process.
type siegeCounter struct {
	t     *testing.T
	dir   string
	posts []*siegePost
}

// A siegePost is a terminal with its card and what it was told.
type siegePost struct {
	*wireTerminal
	name      string
	card      *paperCard
	pending   int // trace of a request without an answer, to be reversed
	approvals map[int]bool
	undone    map[int]bool
}

func newSiege(t *testing.T) *siegeCounter {
	t.Helper()
	s := &siegeCounter{t: t, dir: t.TempDir(), posts: make([]*siegePost, siegeTerminals)}
	s.with(func(h *app.House) error {
		if err := paperRoots(t.Context(), h); err != nil {
			return err
		}
		maker := newRegisterMaker(siegeTerminals)
		list := make([]merchant.Import, siegeTerminals)
		for i := range list {
			list[i] = maker.next()
		}
		made, err := h.Merchants.Bulk(t.Context(), "test", "register", list)
		if err != nil {
			return err
		}
		for i, x := range made {
			p := &siegePost{name: fmt.Sprintf("siege_%02d", i), approvals: map[int]bool{}, undone: map[int]bool{}}
			if p.card, err = newPaperCard(t.Context(), h, issuing.DebitCard, p.name, 1_000_00); err != nil {
				return err
			}
			if p.wireTerminal, err = newWireTerminal(t.Context(), h, x.TID, x.MID); err != nil {
				return err
			}
			s.posts[i] = p
		}
		return nil
	})
	return s
}

func (s *siegeCounter) with(do func(h *app.House) error) {
	s.t.Helper()
	h, err := app.New(s.t.Context(), app.Config{Data: s.dir})
	if err == nil {
		err = do(h)
		h.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// start runs koala serve as a process of its own.
func (s *siegeCounter) start() (*exec.Cmd, string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	found := make(chan [2]string, 1)
	c := exec.Command(self)
	c.Env = append(os.Environ(), childServe+"="+strings.Join([]string{"serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--terminals", "127.0.0.1:0"}, "\n"))
	var errs bytes.Buffer
	c.Stdout, c.Stderr = &addresses{found: found}, &errs
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	select {
	case at := <-found:
		return c, at[1]
	case <-time.After(30 * time.Second):
		_ = c.Process.Kill()
		_ = c.Wait()
		s.t.Fatalf("the server does not say where it is: %s", errs.String())
		return nil, ""
	}
}

var errHungUp = errors.New("the server is gone")

// reverse takes back what had no answer.
func (p *siegePost) reverse() error {
	if p.pending == 0 {
		return nil
	}
	m := p.message("0400", map[int]string{2: p.card.number, 3: "000000", 4: fmt.Sprintf("%012d", 1_00), 11: fmt.Sprintf("%06d", p.pending), 22: "021", 25: "00", 39: "98",
		49: "156", 60: fmt.Sprintf("22%06d00020", p.batch)})
	wire, err := m.Seal(make([]byte, 2), p.mac)
	if err != nil {
		return err
	}
	if err := p.ask(framed(wire)); err != nil {
		return errors.Join(errHungUp, err)
	}
	if err := p.approved(); err != nil {
		return fmt.Errorf("reversal of trace %d: %w", p.pending, err)
	}
	p.undone[p.pending], p.pending = true, 0
	return nil
}

// sell takes sales, one after the other, until the server is gone: the reversal
// of what had no answer first.
func (p *siegePost) sell(address string, sold *atomic.Int64) error {
	if err := p.dial(address); err != nil {
		return errors.Join(errHungUp, err)
	}
	defer p.conn.Close()
	if err := p.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if err := p.reverse(); err != nil {
		return err
	}
	for {
		wire, err := p.sale(p.card, 1_00, p.stan%2 == 0, time.Now())
		if err != nil {
			return err
		}
		p.pending = p.stan
		if err := p.ask(wire); err != nil {
			return errors.Join(errHungUp, err)
		}
		if err := p.approved(); err != nil {
			return err
		}
		p.approvals[p.pending], p.pending = true, 0
		sold.Add(1)
	}
}

// TestKilledServerLosesNothingAnswered kills koala serve again and again while
// terminals sell over TCP: every approval that a terminal saw is in the books
// once, every sale without an answer ends reversed, and the books hold.
func TestKilledServerLosesNothingAnswered(t *testing.T) {
	s := newSiege(t)
	chance := rand.New(rand.NewPCG(20150916, 4))
	var sold atomic.Int64
	for kill := 0; kill <= siegeKills; kill++ {
		c, address := s.start()
		before := sold.Load()
		var all sync.WaitGroup
		failed := make([]error, len(s.posts))
		for i, p := range s.posts {
			all.Go(func() { failed[i] = p.sell(address, &sold) })
		}
		enough := before + 60 + chance.Int64N(200)
		for wait := time.Now().Add(20 * time.Second); sold.Load() < enough && time.Now().Before(wait); {
			time.Sleep(time.Millisecond)
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		all.Wait()
		for _, err := range failed {
			if !errors.Is(err, errHungUp) {
				t.Fatal(err)
			}
		}
	}
	s.reverseAll()
	s.judge()
}

// reverseAll takes back what the last kill left without an answer.
func (s *siegeCounter) reverseAll() {
	c, address := s.start()
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for _, p := range s.posts {
		if p.pending == 0 {
			continue
		}
		err := p.dial(address)
		if err == nil {
			err = p.reverse()
			p.conn.Close()
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// judge holds the house to what the terminals know.
func (s *siegeCounter) judge() {
	s.with(func(h *app.House) error {
		lost := 0
		for _, p := range s.posts {
			b, err := h.Book.Balance(walletOf(p.name))
			if err != nil {
				return err
			}
			if want := int64(len(p.approvals)) * 1_00; b.Held.Minor() != want {
				s.t.Errorf("terminal %s saw %d approvals, the books hold %s", p.tid, len(p.approvals), b.Held)
			}
			lost += len(p.undone)
			err = h.Store.Read(s.t.Context(), func(q *db.Query) error { return s.rows(q, p) })
			if err != nil {
				return err
			}
		}
		if lost == 0 {
			s.t.Error("no sale was without an answer: the server was never killed at work")
		}
		proof, err := h.Verify(s.t.Context())
		if err == nil && !proof.OK {
			s.t.Errorf("%v", proof.Problems)
		}
		return err
	})
}

// rows compares the switch's rows with what a terminal saw.
func (s *siegeCounter) rows(q *db.Query, p *siegePost) error {
	list, err := switching.Live(q, switching.Filter{TID: p.tid, Limit: 500})
	if err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, x := range list {
		switch {
		case x.State == switching.Approved && !p.approvals[x.STAN], x.State != switching.Approved && p.approvals[x.STAN]:
			s.t.Errorf("terminal %s, trace %d: %s at the switch, approved at the terminal: %v", p.tid, x.STAN, x.State, p.approvals[x.STAN])
		case x.State != switching.Approved && x.State != switching.Reversed:
			s.t.Errorf("terminal %s, trace %d ended %s", p.tid, x.STAN, x.State)
		}
		seen[x.STAN] = true
	}
	for stan := range p.approvals {
		if !seen[stan] && len(list) < 500 {
			s.t.Errorf("terminal %s, trace %d was approved and is not there", p.tid, stan)
		}
	}
	return nil
}
