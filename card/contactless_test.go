package card_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"pgregory.net/rapid"
)

// work runs f on the registry of an element without power.
func work(t testing.TB, e *card.Element, f func(s *card.Session) iso7816.SW) iso7816.SW {
	t.Helper()
	e.PowerOff()
	sw, err := e.Factory(f)
	if err != nil {
		t.Fatal(err)
	}
	return sw
}

func entry(t testing.TB, e *card.Element, aid card.AID) (x card.Entry) {
	t.Helper()
	work(t, e, func(s *card.Session) iso7816.SW {
		var ok bool
		if x, ok = s.Registry().Find(aid); !ok {
			return iso7816.SWReferenceNotFound
		}
		return iso7816.OK
	})
	return x
}

// An application starts activated when it becomes selectable, in the order of
// installation; over the air only activated ones are found, contacts ask not.
func TestActivation(t *testing.T) {
	e := three(t)
	one := entry(t, e, "AAAAA\x01")
	if c := one.Contactless; c.State != card.Activated || c.Order != 1 || c.Always {
		t.Errorf("a new application has %+v", c)
	}
	if sw := work(t, e, func(s *card.Session) iso7816.SW { return s.Registry().Deactivate(one.ID) }); !sw.OK() {
		t.Fatal(sw)
	}
	for i, want := range map[card.Interface]string{card.Contactless: "6A82", card.Contact: "4141414141019000"} {
		if err := e.PowerOn(i); err != nil {
			t.Fatal(err)
		}
		run(t, e, "00A4040006 414141414101 00 >"+want)
	}
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	run(t, e, "00A4040005 4141414141 00 > 414141414102 9000")
	// The place in the order is kept; every change is counted once.
	if c := entry(t, e, "AAAAA\x01").Contactless; c.Counter != 1 || c.Order != 1 {
		t.Errorf("after one change %+v", c)
	}
	sw := work(t, e, func(s *card.Session) iso7816.SW {
		r := s.Registry()
		before := r.Counter()
		for range 2 { // the second time nothing happens
			if _, sw := r.Activate(one.ID); !sw.OK() {
				return sw
			}
		}
		if r.Counter() != before+1 {
			t.Errorf("global counter %d after %d", r.Counter(), before)
		}
		return iso7816.OK
	})
	if !sw.OK() {
		t.Fatal(sw)
	}
}

func TestActivationRules(t *testing.T) {
	e := three(t)
	e.PowerOff()
	install(t, e, "purse", "AAAAA\x09", 0)
	sw := work(t, e, func(s *card.Session) iso7816.SW {
		r := s.Registry()
		x, _ := r.Find("AAAAA\x09")
		if !x.Contactless.Always || x.Contactless.State != card.Activated {
			t.Errorf("a transit purse has %+v", x.Contactless)
		}
		if sw := r.Deactivate(x.ID); sw != iso7816.SWConditions {
			t.Errorf("transit goes off the air: %v", sw)
		}
		one, _ := r.Find("AAAAA\x01")
		two, _ := r.Find("AAAAA\x02")
		one.Contactless.Group, two.Contactless.Group, two.Contactless.State = 5, 5, card.Deactivated
		r.Update(one)
		r.Update(two)
		if against, sw := r.Activate(two.ID); sw != iso7816.SWConditions || len(against) != 1 || against[0].ID != one.ID {
			t.Errorf("a conflict: %v %v", against, sw)
		}
		r.Deactivate(one.ID)
		if _, sw := r.Activate(two.ID); !sw.OK() {
			t.Errorf("the conflict is gone and yet %v", sw)
		}
		three, _ := r.Find("AAAAA\x03\x03")
		three.Contactless.State = card.NonActivatable
		r.Update(three)
		if _, sw := r.Activate(three.ID); sw != iso7816.SWConditions {
			t.Errorf("not activatable: %v", sw)
		}
		two.State |= card.LockedBit
		two.Contactless.State = card.Deactivated
		r.Update(two)
		if _, sw := r.Activate(two.ID); sw != iso7816.SWConditions {
			t.Errorf("locked: %v", sw)
		}
		if _, sw := r.Activate(999); sw != iso7816.SWReferenceNotFound {
			t.Errorf("nobody: %v", sw)
		}
		return iso7816.OK
	})
	if !sw.OK() {
		t.Fatal(sw)
	}
}

// An applet moves others only with the privilege, itself with the lesser one.
func TestActivationRights(t *testing.T) {
	e := three(t)
	one, two := entry(t, e, "AAAAA\x01"), entry(t, e, "AAAAA\x02")
	for _, tt := range []struct {
		privilege         byte
		self, other, down iso7816.SW
	}{
		{0x00, iso7816.SWSecurity, iso7816.SWSecurity, iso7816.SWSecurity},
		{0x10, iso7816.OK, iso7816.SWSecurity, iso7816.SWSecurity},
		{0x20, iso7816.OK, iso7816.OK, iso7816.OK},
	} {
		work(t, e, func(s *card.Session) iso7816.SW {
			one.Privileges[2] = tt.privilege
			s.Registry().Update(one)
			s.Self = one.ID
			_, self := s.Activate(one.ID)
			_, other := s.Activate(two.ID)
			if down := s.Deactivate(two.ID); self != tt.self || other != tt.other || down != tt.down || !s.Deactivate(one.ID).OK() {
				t.Errorf("privilege %02X: %v %v %v", tt.privilege, self, other, down)
			}
			return iso7816.SWConditions // back to how it was
		})
	}
}

// The order: persistent ranks are 1..n without gaps whatever is put first, and a
// volatile preference goes before them until it is taken back or deactivated.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := three(t)
		e.PowerOff()
		install(t, e, counter, "AAAAA\x04", 0)
		model := []card.AID{"AAAAA\x01", "AAAAA\x02", "AAAAA\x03\x03", "AAAAA\x04"}
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			perm := rapid.Permutation(model).Draw(rt, "order")
			first := perm[:rapid.IntRange(0, 3).Draw(rt, "n")]
			work(t, e, func(s *card.Session) iso7816.SW {
				r := s.Registry()
				var ids []card.ID
				for _, a := range first {
					x, _ := r.Find(a)
					ids = append(ids, x.ID)
				}
				before := names(r)
				r.Prefer(ids...)
				if got := names(r); !slices.Equal(got[:len(first)], first) {
					rt.Fatalf("preferring %v lists %v", first, got)
				}
				r.Prefer()
				if got := names(r); !slices.Equal(got, before) {
					rt.Fatalf("without preference %v, before %v", got, before)
				}
				sw := r.SetFirst(ids...)
				return sw
			})
			rest := slices.DeleteFunc(slices.Clone(model), func(a card.AID) bool { return slices.Contains(first, a) })
			model = append(slices.Clone(first), rest...)
			work(t, e, func(s *card.Session) iso7816.SW {
				if got := names(s.Registry()); !slices.Equal(got, model) {
					rt.Fatalf("%v, want %v", got, model)
				}
				for i, x := range s.Registry().Ordered() {
					if x.Contactless.Order != uint16(i+1) {
						rt.Fatalf("rank %d has order %d", i+1, x.Contactless.Order)
					}
				}
				return iso7816.OK
			})
		}
	})
}

func names(r card.Registry) (list []card.AID) {
	for _, x := range r.Ordered() {
		list = append(list, x.AID)
	}
	return list
}

// A partial SELECT finds the preferred application first, and the next ones in
// the order in which the registry has them.
func TestPartialSelectFollowsTheOrder(t *testing.T) {
	e := three(t)
	two := entry(t, e, "AAAAA\x02")
	work(t, e, func(s *card.Session) iso7816.SW { s.Registry().Prefer(two.ID); return iso7816.OK })
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	run(t, e, "00A4040005 4141414141 00 > 414141414102 9000\n00A4040205 4141414141 00 > 414141414101 9000\n00A4040205 4141414141 00 > 41414141410303 9000\n00A4040205 4141414141 00 > 6A82")
}

// A preference outlives taps, is no part of the image, and goes with what it
// preferred.
func TestPreferenceIsVolatile(t *testing.T) {
	e := three(t)
	two := entry(t, e, "AAAAA\x02")
	first := func(e *card.Element) (a card.AID) {
		work(t, e, func(s *card.Session) iso7816.SW { a = names(s.Registry())[0]; return iso7816.OK })
		return a
	}
	image := e.Image()
	work(t, e, func(s *card.Session) iso7816.SW { s.Registry().Prefer(two.ID); return iso7816.OK })
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	if got := first(e); got != two.AID {
		t.Errorf("after a tap %v is first", got)
	}
	if !bytes.Equal(e.Image(), image) {
		t.Error("the preference is in the image")
	}
	work(t, e, func(s *card.Session) iso7816.SW { return s.Registry().Deactivate(two.ID) })
	if got := first(e); got == two.AID {
		t.Error("a deactivated application is still preferred")
	}
}

// Quotas: an application's own, its domain's over everything below at any depth;
// at the quota there is room, one byte beyond is 6A84 and nothing remains.
func TestQuotas(t *testing.T) {
	e := newElement(t, 0)
	add := func(s *card.Session, aid, under card.AID, q card.Quota) (card.ID, iso7816.SW) {
		return s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: aid, Module: counter, Domain: under, Quota: q}, nil)
	}
	var size int
	work(t, e, func(s *card.Session) iso7816.SW {
		id, sw := add(s, "AAAAA\x01", domainAID, card.Quota{})
		size = s.Registry().Used(id)
		return sw
	})
	if size < 100 || size > 250 {
		t.Fatalf("an application uses %d bytes", size)
	}
	for _, tt := range []struct {
		name string
		over int
		want iso7816.SW
	}{{"at the quota", 0, iso7816.OK}, {"one byte beyond", -1, iso7816.SWNoSpace}} {
		own := work(t, e, func(s *card.Session) iso7816.SW {
			_, sw := add(s, card.AID("OWN"+fmt.Sprint(tt.over)), domainAID, card.Quota{Own: uint32(size + tt.over)})
			return sw
		})
		granted := work(t, e, func(s *card.Session) iso7816.SW {
			top := card.AID("TOP" + fmt.Sprint(tt.over))
			mid := card.AID("MID" + fmt.Sprint(tt.over))
			if _, sw := add(s, top, domainAID, card.Quota{Granted: uint32(3*size + tt.over)}); !sw.OK() {
				return sw
			}
			if _, sw := add(s, mid, top, card.Quota{}); !sw.OK() {
				return sw
			}
			id, sw := add(s, card.AID("LOW"+fmt.Sprint(tt.over)), mid, card.Quota{})
			if x, _ := s.Registry().Find(top); sw.OK() && s.Registry().UsedUnder(x.ID) != 3*size {
				t.Errorf("used %d of three times %d", s.Registry().UsedUnder(x.ID), size)
			}
			_ = id
			return sw
		})
		if own != tt.want || granted != tt.want {
			t.Errorf("%s: own %v, granted %v", tt.name, own, granted)
		}
	}
	volatile := func(n, granted uint32) iso7816.SW {
		return work(t, e, func(s *card.Session) iso7816.SW {
			if _, sw := add(s, "VOL00", domainAID, card.Quota{GrantedVolatile: granted}); !sw.OK() {
				return sw
			}
			if _, sw := add(s, "VOL01", "VOL00", card.Quota{OwnVolatile: n}); !sw.OK() {
				return sw
			}
			return iso7816.SWConditions
		})
	}
	if a, b, c := volatile(512, 512), volatile(513, 512), volatile(17<<10, 0); a != iso7816.SWConditions || b != iso7816.SWNoSpace || c != iso7816.SWNoSpace {
		t.Errorf("working memory: %v %v %v", a, b, c)
	}
}

// What an applet allocates while it is personalised counts too.
func TestQuotaBindsTheApplet(t *testing.T) {
	e := newElement(t, 0)
	work(t, e, func(s *card.Session) iso7816.SW {
		_, sw := s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: "AAAAA\x01", Module: counter, Quota: card.Quota{Own: 600}}, nil)
		return sw
	})
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	run(t, e, "00A4040006 414141414101 00 > 414141414101 9000\n0003000200 > 6A84\n0001000002 > 0101 9000\n0003000100 > 9000\n0003000100 > 6A84")
}

// SET FIRST, activation and deactivation are one unit each: power fails at every
// write, the order is the old or the new one.
func TestTornOrder(t *testing.T) {
	e := three(t)
	three := entry(t, e, "AAAAA\x03\x03")
	image := e.Image()
	seen := map[string]bool{}
	for n := 1; ; n++ {
		c, err := card.Restore(image, catalog{}, new(chance))
		if err != nil {
			t.Fatal(err)
		}
		c.Memory().CutAfter(n)
		_, err = c.Factory(func(s *card.Session) iso7816.SW {
			s.Registry().Deactivate(three.ID)
			return s.Registry().SetFirst(three.ID)
		})
		c.Memory().CutAfter(0)
		var now string
		work(t, c, func(s *card.Session) iso7816.SW {
			x, _ := s.Registry().Entry(three.ID)
			now = fmt.Sprint(names(s.Registry()), x.Contactless.State, s.Registry().Counter())
			return iso7816.OK
		})
		seen[now] = true
		if err == nil {
			break
		}
		if !errors.Is(err, card.ErrPower) {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 {
		t.Errorf("states seen: %v", seen)
	}
}
