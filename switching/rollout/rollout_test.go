package rollout_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/spec/emv"
	"koala/switching/pack"
	"koala/switching/rollout"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func by(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil }

var schema = db.Schema{Owner: "switching", Steps: []string{rollout.Step, rollout.AskStep}}

// A desk is a store with the first pack.
type desk struct {
	*testing.T
	*db.Store
}

func open(t *testing.T, s *db.Store) desk {
	d := desk{t, s}
	if err := s.Migrate(t.Context(), proposal.Schema, schema); err != nil {
		t.Fatal(err)
	}
	first := d.content(60)
	first.Number = 1
	signed, err := first.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same again is the same
		d.write(func(tx *db.Tx) error { return rollout.First(tx, signed) })
	}
	return d
}

func (d desk) write(f func(tx *db.Tx) error) {
	d.Helper()
	if err := d.Write(d.Context(), f); err != nil {
		d.Fatal(err)
	}
}

func (d desk) content(wait int) *pack.Pack {
	set := rollout.Usual
	set.Wait = wait
	p, err := rollout.Make(9, set, rollout.Published(), "20150916")
	if err != nil {
		d.Fatal(err)
	}
	return &p
}

// act proposes and confirms.
func (d desk) act(a rollout.Act, content *pack.Pack, proposer, confirmer string) error {
	return d.Write(d.Context(), func(tx *db.Tx) error {
		c, err := rollout.Plan(tx, a, content)
		if err != nil {
			return err
		}
		p, err := rollout.Propose(tx, c, proposer, "a test")
		if err != nil {
			return err
		}
		var signed []byte
		if c.Content != nil {
			next, err := c.Pack()
			if err != nil {
				return err
			}
			if signed, err = next.Sign(by); err != nil {
				return err
			}
		}
		_, err = rollout.Confirm(tx, p.ID, confirmer, signed)
		return err
	})
}

func (d desk) stages() (out string) {
	d.write(func(tx *db.Tx) error {
		list, err := rollout.Stages(tx)
		for _, s := range list {
			out += fmt.Sprintf("%d:%d", s.Number, s.Ring)
			if s.Halted {
				out += "!"
			}
			out += " "
		}
		return err
	})
	return out
}

// TestActs: what two people may do with packs, and how they stand after it.
func TestActs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		d := open(t, s)
		for i, step := range []struct {
			act    rollout.Act
			wait   int // of a new pack
			by     string
			want   error
			stages string
		}{
			{rollout.On, 0, "wang", rollout.ErrState, "1:3 "},
			{rollout.Stop, 0, "wang", rollout.ErrState, "1:3 "},
			{rollout.Back, 0, "wang", rollout.ErrState, "1:3 "},
			{rollout.Bring, 60, "wang", rollout.ErrSame, "1:3 "},
			{rollout.Bring, 50, "lin", proposal.ErrSelf, "1:3 "},
			{rollout.Bring, 50, "wang", nil, "1:3 2:0 "},
			{rollout.Bring, 40, "wang", rollout.ErrOnItsWay, "1:3 2:0 "},
			{rollout.On, 0, "wang", nil, "1:3 2:1 "},
			{rollout.Stop, 0, "wang", nil, "1:3 2:1! "},
			{rollout.Stop, 0, "wang", rollout.ErrState, "1:3 2:1! "},
			{rollout.On, 0, "wang", nil, "1:3 2:1 "}, // goes on where it was
			{rollout.Back, 0, "wang", nil, "1:3 2:1! 3:1 "},
			{rollout.Bring, 40, "wang", rollout.ErrOnItsWay, "1:3 2:1! 3:1 "},
			{rollout.On, 0, "wang", nil, "1:3 2:1! 3:2 "},
			{rollout.On, 0, "wang", nil, "1:3 2:1! 3:3 "},
			{rollout.On, 0, "wang", rollout.ErrState, "1:3 2:1! 3:3 "},
			{rollout.Bring, 40, "wang", nil, "1:3 2:1! 3:3 4:0 "},
			{"sell", 0, "wang", rollout.ErrState, "1:3 2:1! 3:3 4:0 "},
		} {
			var content *pack.Pack
			if step.wait > 0 {
				content = d.content(step.wait)
			}
			if err := d.act(step.act, content, "lin", step.by); !errors.Is(err, step.want) {
				t.Errorf("%d %s: %v, want %v", i, step.act, err, step.want)
			}
			if got := d.stages(); got != step.stages {
				t.Fatalf("%d %s: %s, want %s", i, step.act, got, step.stages)
			}
		}
		d.write(func(tx *db.Tx) error {
			a, err1 := rollout.Find(tx, 1)
			b, err2 := rollout.Find(tx, 3)
			one, err3 := a.Content()
			three, err4 := b.Content()
			h1, _ := one.Content()
			h3, _ := three.Content()
			if h1 != h3 || three.Number != 3 || b.Of != 1 {
				t.Errorf("going back is %+v", b)
			}
			_, none := rollout.Find(tx, 5)
			if !errors.Is(none, rollout.ErrNotFound) {
				t.Error(none)
			}
			return errors.Join(err1, err2, err3, err4)
		})
	})
}

// TestConfirmedIsWhatWasSeen: a proposal of before another change is not made, nor
// with other bytes than it was seen with.
func TestConfirmedIsWhatWasSeen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		d := open(t, s)
		var id string
		var c rollout.Change
		d.write(func(tx *db.Tx) (err error) {
			c, err = rollout.Plan(tx, rollout.Bring, d.content(50))
			if err != nil {
				return err
			}
			p, err := rollout.Propose(tx, c, "lin", "a test")
			id = p.ID
			return err
		})
		other := *d.content(51)
		other.Number = c.Number
		signed, err := other.Sign(by)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, signed, signed[:30]} {
			if err := s.Write(t.Context(), func(tx *db.Tx) error { _, err := rollout.Confirm(tx, id, "wang", bad); return err }); !errors.Is(err, rollout.ErrState) {
				t.Errorf("%d bytes: %v", len(bad), err)
			}
		}
		if got := d.stages(); got != "1:3 " {
			t.Error(got)
		}
	})
}

// TestCounts: rings count every terminal once, by what it has; a later pack is
// also this one, and a person's ring wins from its day on.
func TestCounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		d := open(t, s)
		now := s.Now()
		const all = 300
		d.write(func(tx *db.Tx) error {
			for n := range all {
				c := rollout.Carrier{TID: fmt.Sprintf("%08d", n), Seen: now}
				switch n % 4 {
				case 0:
					c.Have = 2
				case 1:
					c.Seen = now.Add(-8 * 24 * time.Hour)
				case 2:
					c.Have = 3
				}
				if _, err := c.Keep(tx); err != nil {
					return err
				}
			}
			return rollout.Assign(tx, "00000001", 0, now.Add(time.Hour), "lin", "a test")
		})
		var list, later []rollout.Count
		d.write(func(tx *db.Tx) (err error) {
			if list, err = rollout.Counts(tx, 2, now); err == nil {
				later, err = rollout.Counts(tx, 2, now.Add(2*time.Hour))
			}
			return err
		})
		sum, want := rollout.Count{}, [4]int64{}
		for n := range all {
			want[pack.Ring(fmt.Sprintf("%08d", n))]++
		}
		for i, c := range list {
			if c.All() != want[i] {
				t.Errorf("ring %d has %d, want %d", i, c.All(), want[i])
			}
			sum.Have, sum.Silent, sum.Not = sum.Have+c.Have, sum.Silent+c.Silent, sum.Not+c.Not
		}
		if sum.Have != all/2 || sum.Silent != all/4 || sum.Not != all/4 {
			t.Errorf("%+v", sum)
		}
		if later[0].All() != want[0]+1 {
			t.Errorf("ring 0 has %d after the day, want %d", later[0].All(), want[0]+1)
		}
		var asked int64
		d.write(func(tx *db.Tx) (err error) {
			if asked, err = rollout.AskAll(tx, 1, 2); err != nil {
				return err
			}
			c, err := rollout.CarrierOf(tx, "00000000", now)
			if err != nil || c.Ring <= 1 != (c.Asked == 2) {
				t.Errorf("%+v, %v", c, err)
			}
			n, err := rollout.Asking(tx)
			if n[2] != asked {
				t.Errorf("%d are asked, want %d", n[2], asked)
			}
			return err
		})
		if asked != want[0]+want[1] {
			t.Errorf("%d were asked, want %d", asked, want[0]+want[1])
		}
	})
}

// TestRefusalsHalt: the third refusal of few halts a pack in its own unit; the
// first two do not.
func TestRefusalsHalt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		d := open(t, s)
		for n := range 4 { // the first pack is all that there is
			c := rollout.Carrier{TID: fmt.Sprintf("%08d", n)}
			c.Says(1, pack.BadSign, s.Now())
			d.write(func(tx *db.Tx) error { _, err := c.Keep(tx); return err })
		}
		if got := d.stages(); got != "1:3 " {
			t.Error(got)
		}
		if err := d.act(rollout.Bring, d.content(50), "lin", "wang"); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			c := rollout.Carrier{TID: fmt.Sprintf("%08d", n)}
			c.Says(2, pack.BadSign, s.Now())
			var halted bool
			d.write(func(tx *db.Tx) (err error) { halted, err = c.Keep(tx); return err })
			if halted != (n == 2) {
				t.Errorf("refusal %d halts: %v", n+1, halted)
			}
			if c.Next(2) != 0 || c.Next(3) != 1 {
				t.Error("it is asked again for what it refused, or not for the next")
			}
		}
		if got := d.stages(); got != "1:3 2:0! " {
			t.Error(got)
		}
		d.write(func(tx *db.Tx) error {
			list, err := rollout.Refusals(tx, 2, "00000000", 9)
			p, err2 := rollout.Find(tx, 2)
			if len(list) != 2 || list[0].Result != pack.BadSign || p.Word != "3/3" {
				t.Errorf("%+v, %q", list, p.Word)
			}
			return errors.Join(err, err2)
		})
	})
}

// TestContent: settings are read back from a pack, keys have their own last days
// and are left out after it.
func TestContent(t *testing.T) {
	set := rollout.Settings{Wait: 45, Redial: 2, SignOff: true, Resend: 4, Tap: 500_00, CVM: 200_00, ECash: 700_00, Black: 9}
	p, err := rollout.Make(1, set, rollout.Published(), "20211231")
	if err != nil || rollout.Of(p) != set {
		t.Fatalf("%+v, %v", rollout.Of(p), err)
	}
	last := ""
	for _, k := range p.Keys {
		last += fmt.Sprintf("%02X:%s ", k.Index, k.Last)
	}
	if last != "02:20211231 03:20221231 04:20221231 " {
		t.Error(last)
	}
	if p, err = rollout.Make(1, set, append([]emv.CAKey{{RID: emv.RIDUnionPay, Index: 3}}, rollout.Published()...), "20220101"); err != nil || len(p.Keys) != 2 {
		t.Errorf("%d keys, %v", len(p.Keys), err)
	}
	for _, bad := range []func(*rollout.Settings){
		func(s *rollout.Settings) { s.Wait = 4 }, func(s *rollout.Settings) { s.Redial = 10 }, func(s *rollout.Settings) { s.Resend = 0 },
		func(s *rollout.Settings) { s.Tap = 5000_01 }, func(s *rollout.Settings) { s.CVM = s.Tap + 1 }, func(s *rollout.Settings) { s.ECash = -1 },
	} {
		s := set
		if bad(&s); !errors.Is(s.Check(), rollout.ErrSettings) {
			t.Errorf("%+v passes", s)
		}
	}
}
