package switching_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/switching"
	"koala/switching/pack"
	"koala/switching/rollout"
)

// get sends one message of a download and gives field 62 of its answer.
func (p *terminal) get(mti, net, ask string) []byte {
	p.h.t.Helper()
	f := fields{11: p.next(), 60: "00000001" + net}
	if ask != "" {
		f[62] = ask
	}
	if code := p.say(mti, f); code != "00" {
		p.h.t.Fatalf("%s %s: %s", mti, net, code)
	}
	return bytes.Clone(p.in.Get(62))
}

func (p *terminal) wants() int { return int(p.in.Head()[7] & 15) }

func (h *house) carrier(tid string) (c rollout.Carrier) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) {
		c, err = rollout.CarrierOf(q, tid, h.now.Now())
		return err
	})
	return c
}

// roll has two people do something with packs.
func (h *house) roll(act rollout.Act, set *rollout.Settings) {
	h.t.Helper()
	var content *pack.Pack
	if set != nil {
		p, err := h.host.Packs().Draft(ctx, *set)
		if err != nil {
			h.t.Fatal(err)
		}
		content = &p
	}
	var c rollout.Change
	var id string
	h.do(func(tx *db.Tx) (err error) {
		if c, err = rollout.Plan(tx, act, content); err != nil {
			return err
		}
		p, err := rollout.Propose(tx, c, "lin", "a test")
		id = p.ID
		return err
	})
	signed, err := h.host.Packs().Sign(ctx, c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error {
		tx.After(h.host.Packs().Reload)
		_, err := rollout.Confirm(tx, id, "wang", signed)
		return err
	})
}

// load has a terminal that knows nothing of packs do what it is asked for.
func (p *terminal) load() (parameters string) {
	p.h.t.Helper()
	for range 100 { // packs may move meanwhile
		switch p.wants() {
		case 1:
			parameters = string(p.get("0800", "360", ""))
			p.get("0800", "361", "")
		case 4:
			list := p.get("0820", "372", "100")
			one := p.get("0800", "370", string(list[1:1+8+4]))
			if _, m := pack.Cut(one[1:]); m.There {
				p.h.t.Error("a mark nobody asked for")
			}
			p.get("0800", "371", "")
		case 5:
			list := p.get("0820", "382", "100")
			p.get("0800", "380", string(list[1:1+11]))
			p.get("0800", "381", "")
		case 7:
			p.get("0800", "391", "")
		case 2:
			p.get("0820", "362", "well")
		case 0:
			return parameters
		}
	}
	p.h.t.Fatalf("it never ends, the host wants %d", p.wants())
	return ""
}

// TestPacksReachEveryTerminal: a terminal that knows nothing of packs has the
// first one after its downloads, the next one in its ring's turn, and again
// after a restart of the host in the middle; its software's version reaches the
// estate.
func TestPacksReachEveryTerminal(t *testing.T) {
	h := open(t, true, nil)
	var p *terminal
	for n := 0; p == nil || pack.Ring(p.tid) != 1; n++ { // one of the second ring
		tid := fmt.Sprintf("1%07d", n)
		if pack.Ring(tid) == 1 {
			p = h.terminal(tid)
		}
	}
	if h.estate.version != "31.311312" {
		t.Errorf("version %q", h.estate.version)
	}
	p.get("0820", "362", "well")
	p.load()
	if c := h.carrier(p.tid); c.Have != 1 || c.Seen.IsZero() {
		t.Fatalf("%+v", c)
	}
	set := rollout.Usual
	set.Wait = 44
	h.roll(rollout.Bring, &set)
	if p.get("0820", "362", "well"); p.wants() != 0 {
		t.Errorf("it is asked for %d before its ring's turn", p.wants())
	}
	h.roll(rollout.On, nil)
	if p.get("0820", "362", "well"); p.wants() != 1 {
		t.Fatalf("it is asked for %d in its ring's turn", p.wants())
	}
	p.get("0800", "360", "")
	h.boot() // nobody knows which pack that was of
	p.get("0800", "361", "")
	if c := h.carrier(p.tid); c.Have != 1 || p.wants() != 1 {
		t.Errorf("%+v, it is asked for %d", c, p.wants())
	}
	if got := p.load(); got[:4] != "1244" || h.carrier(p.tid).Have != 2 {
		t.Errorf("parameters %q, %+v", got, h.carrier(p.tid))
	}
	h.roll(rollout.Back, nil)
	if p.get("0820", "362", "well"); p.load()[:4] != "1260" || h.carrier(p.tid).Have != 3 {
		t.Errorf("%+v after going back", h.carrier(p.tid))
	}
	h.roll(rollout.Stop, nil)
	h.do(func(tx *db.Tx) error {
		tx.After(h.host.Packs().Reload)
		_, err := rollout.AskAll(tx, pack.Last, 2)
		return err
	})
	p.get("0800", "361", "")
	if p.wants() != 2 {
		t.Errorf("it is asked for %d, want its status", p.wants())
	}
	p.load()
	if c := h.carrier(p.tid); c.Asked != 0 {
		t.Errorf("%+v", c)
	}
}

// TestPacksWhileTheyMove: terminals load while packs are made, widened, stopped
// and gone back from; at the end all have the last one.
func TestPacksWhileTheyMove(t *testing.T) {
	h := open(t, false, nil)
	var list []*terminal
	for n := range 8 {
		list = append(list, h.terminal(fmt.Sprintf("1000%03d2", n)))
	}
	var all sync.WaitGroup
	stop := make(chan struct{})
	for _, p := range list {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.get("0820", "362", "well")
					p.load()
				}
			}
		})
	}
	for wait := range 3 {
		set := rollout.Usual
		set.Wait = 30 + wait
		h.roll(rollout.Bring, &set)
		for range pack.Last {
			h.roll(rollout.On, nil)
		}
		h.roll(rollout.Back, nil)
	}
	close(stop)
	all.Wait()
	for _, p := range list {
		p.get("0820", "362", "well")
		p.load()
		if c := h.carrier(p.tid); c.Have != 7 {
			t.Errorf("%+v", c)
		}
	}
}

// TestMarks: what a terminal that checks packs is told, and what it may say.
func TestMarks(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	v := p.get("0800", "360", string(pack.Mark{}.Append(nil)))
	at := bytes.Index(v, []byte{0xDF, 0x7A})
	if at < 0 {
		t.Fatalf("no mark in %q", v)
	}
	_, m := pack.Cut(v[at:])
	key, err := h.keys.PublicKey(ctx, pack.Label)
	if err != nil || m.Number != 1 || len(m.Signature) != ed25519.SignatureSize {
		t.Fatalf("%+v, %v", m, err)
	}
	var kept rollout.Pack
	h.read(func(q *db.Query) (err error) { kept, err = rollout.Find(q, 1); return err })
	if content, err := kept.Content(); err != nil || !bytes.HasSuffix(kept.Signed, m.Signature) || !verifies(t, key, content, m.Signature) {
		t.Errorf("it is not the signature of pack 1: %v", err)
	}
	ask := string(pack.Mark{Number: 1}.Append(nil))
	name := p.get("0820", "372", "100")[1 : 1+8+4]
	one := p.get("0800", "370", string(name)+ask)
	if _, m := pack.Cut(one[1:]); m.Number != 1 {
		t.Errorf("key %X", one)
	}
	for _, x := range []struct {
		mark pack.Mark
		code string
	}{
		{pack.Mark{Number: 2, Ends: true}, "30"}, {pack.Mark{Ends: true}, "30"}, {pack.Mark{Number: 1, Result: 9, Ends: true}, "30"},
		{pack.Mark{Number: 1, Result: pack.BadSign, Ends: true}, "00"}, {pack.Mark{Number: 1, Ends: true}, "00"},
	} {
		if code := p.say("0800", fields{11: p.next(), 60: "00000001361", 62: string(x.mark.Append(nil))}); code != x.code {
			t.Errorf("%+v: %s, want %s", x.mark, code, x.code)
		}
		if want := uint32(1); x.mark.Result == pack.BadSign && h.carrier(p.tid).Refused != want {
			t.Errorf("%+v", h.carrier(p.tid))
		}
	}
	if c := h.carrier(p.tid); c.Have != 1 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

func verifies(t *testing.T, key ed25519.PublicKey, p pack.Pack, signature []byte) bool {
	b, err := p.Bytes()
	if err != nil {
		t.Error(err)
	}
	return ed25519.Verify(key, b, signature)
}

// TestPacksOfAnOlderStore: the version before knew no packs; its terminals are
// asked for the first one.
func TestPacksOfAnOlderStore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		before := switching.Schema
		before.Steps = before.Steps[:slices.Index(before.Steps, rollout.Step)]
		if err := s.Migrate(t.Context(), proposal.Schema, before); err != nil {
			t.Fatal(err)
		}
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO switching_terminal (tid, master, pik, mak, tdk, new_pik, new_mak, new_tdk, checks, keyed, batch, closed, signed, reader, base, demand, status, reported, seen, loaded)
				VALUES ('10000001', $1, $1, $1, $1, $1, $1, $1, '', 0, 7, FALSE, TRUE, '', 0, 0, '', 0, 0, 178)`, []byte{})
			return err
		})
		if err = errors.Join(err, s.Migrate(t.Context(), proposal.Schema, switching.Schema)); err != nil {
			t.Fatal(err)
		}
		err = s.Read(context.Background(), func(q *db.Query) error {
			x, err := switching.TerminalOf(q, "10000001")
			c, err2 := rollout.CarrierOf(q, "10000001", s.Now())
			if x.Batch != 7 || c.Have != 0 || c.Next(1) != 1 {
				t.Errorf("%+v, %+v", x, c)
			}
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRetiredLeavesItsRing: a terminal that may sell no more is not counted again
// when it signs on.
func TestRetiredLeavesItsRing(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	counted := func() (n int64) {
		h.read(func(q *db.Query) error {
			list, err := rollout.Counts(q, 1, h.now.Now())
			for _, c := range list {
				n += c.All()
			}
			return err
		})
		return n
	}
	p.signOn()
	if n := counted(); n != 1 {
		t.Fatalf("%d terminals, want 1", n)
	}
	h.do(func(tx *db.Tx) error { return rollout.Forget(tx, p.tid) })
	h.estate.mu.Lock()
	h.estate.closed[p.tid] = true
	h.estate.mu.Unlock()
	h.boot()
	p.signOn()
	if n := counted(); n != 0 {
		t.Errorf("%d terminals when it is retired, want 0", n)
	}
}
