package switching_test

import (
	"errors"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/settlement"
	"koala/switching"
	"koala/switching/route"
)

// twoWays is a house with two hosts that reach the far card's issuer.
func twoWays(t *testing.T) (h *house, direct, network *far, p *terminal) {
	direct, network = newFar(), newFar()
	h = open(t, true, map[string]switching.Peer{"FAR": direct, "NET": network})
	pin, mac := switching.ZoneLabels("NET")
	_, err1 := h.keys.Import(ctx, pin, hsm.ZoneKey, zonePIN[:])
	_, err2 := h.keys.Import(ctx, mac, hsm.ZoneKey, zoneMAC[:])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error {
		return route.Set(tx, route.Route{Prefix: "622588", Length: 16, Host: "FAR", Ways: []string{"NET"}, Class: "debit", StandIn: 100_00})
	})
	if err := h.host.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	return h, direct, network, h.terminal("10000001")
}

// TestOtherWay: when nothing has left for one host the next is asked, and all
// that follows goes where the sale went; a host that may have heard a sale keeps
// it, whatever it answers.
func TestOtherWay(t *testing.T) {
	h, direct, network, p := twoWays(t)
	direct.mood = "down"
	expect(t, "sale with PIN", p.ask("sale", 100_00, p.pin(p.far(), farCard, "1234")), "00")
	sale := p.stan
	var list []switching.Txn
	h.read(func(q *db.Query) (err error) {
		list, err = switching.Live(q, switching.Filter{Host: "NET", Limit: 10})
		return err
	})
	if len(list) != 1 || list[0].Host != "NET" || direct.sum() != 0 || network.sum() != 100_00 {
		t.Fatalf("%d transactions by the network, hosts have %d and %d", len(list), direct.sum(), network.sum())
	}
	direct.mood = "" // it is back: the void still goes where the sale went
	expect(t, "void", p.ask("void", 100_00, p.of(sale)), "00")
	h.tick()
	if direct.sum() != 0 || network.sum() != 0 {
		t.Errorf("after the void hosts have %d and %d", direct.sum(), network.sum())
	}
	h.now.Advance(time.Minute) // until then the first way stands behind the other
	direct.mood = "silent"
	expect(t, "may have been heard", p.ask("sale", 30_00, p.far()), "98")
	if network.sum() != 0 {
		t.Errorf("the network has %d of a sale that another host may have", network.sum())
	}
	direct.mood = ""
	h.tick()
	if direct.sum() != 0 {
		t.Errorf("the direct host still has %d", direct.sum())
	}
	direct.mood, network.mood = "down", "down"
	expect(t, "no way", p.ask("sale", 20_00, p.far()), "91")
	expect(t, "settle", p.settle(100_00, 1, 100_00, 1), "11")
	h.want("nothing", 5000_00, 0, 0)
	if b := h.balance(switching.Receivable("FAR")).Posted.Minor(); b != 0 {
		t.Errorf("%d owed by a host that took nothing", b)
	}
}

// TestWayIsRemembered: a host that could not be reached is not tried first for a
// while, and then again.
func TestWayIsRemembered(t *testing.T) {
	h, direct, network, p := twoWays(t)
	direct.mood = "down"
	for range 3 {
		expect(t, "sale", p.ask("sale", 10_00, p.far()), "00")
	}
	var down int64
	for _, x := range h.host.Peers() {
		if x.Host == "FAR" {
			down = x.Down
		}
	}
	if down != 1 {
		t.Errorf("tried %d times, want 1", down)
	}
	direct.mood = ""
	h.now.Advance(time.Minute)
	expect(t, "sale", p.ask("sale", 10_00, p.far()), "00")
	if direct.sum() != 10_00 || network.sum() != 30_00 {
		t.Errorf("hosts have %d and %d", direct.sum(), network.sum())
	}
	expect(t, "settle", p.settle(40_00, 4, 0, 0), "11")
	expect(t, "end", p.end("207", 0), "00")
	if d, n := h.balance(switching.Receivable("FAR")).Posted.Minor(), h.balance(switching.Receivable("NET")).Posted.Minor(); d != -10_00 || n != -30_00 {
		t.Errorf("hosts owe %d and %d", -d, -n)
	}
}

// TestCheapestWay: files of both say what they keep; the cheaper one gets the sale.
func TestCheapestWay(t *testing.T) {
	h, direct, network, p := twoWays(t)
	h.host.SetCosts(route.Costs{{Host: "FAR", Class: "debit", Count: 100, Fen: 10_000_00, Fee: 50_00}, {Host: "NET", Class: "debit", Count: 100, Fen: 10_000_00, Fee: 39_00}})
	expect(t, "sale", p.ask("sale", 10_00, p.far()), "00")
	if direct.sum() != 0 || network.sum() != 10_00 {
		t.Errorf("hosts have %d and %d", direct.sum(), network.sum())
	}
	h.host.SetCosts(nil)
	expect(t, "sale", p.ask("sale", 20_00, p.far()), "00")
	if direct.sum() != 20_00 {
		t.Errorf("of no known cost, hosts have %d and %d", direct.sum(), network.sum())
	}
}

// TestCutOnTheOtherWay: the house stops when it has asked the second host. What
// both may have is taken back, and nothing is booked.
func TestCutOnTheOtherWay(t *testing.T) {
	h, direct, network, p := twoWays(t)
	direct.mood = "down"
	network.block = func() { panic("cut") }
	func() {
		defer func() { _ = recover() }()
		p.ask("sale", 10_00, p.far())
	}()
	network.block = nil
	h.boot()
	h.now.Advance(10 * time.Minute)
	h.tick()
	h.tick()
	var list []switching.Txn
	h.read(func(q *db.Query) (err error) { list, err = switching.Live(q, switching.Filter{Limit: 10}); return err })
	if len(list) != 1 || list[0].State != switching.Unknown || list[0].Host != "NET" {
		t.Fatalf("%+v", list)
	}
	if direct.sum() != 0 || network.sum() != 0 || len(network.seen) != 1 || network.seen[0] != "0420" {
		t.Errorf("hosts have %d and %d; the network heard %v", direct.sum(), network.sum(), network.seen)
	}
	if b := h.balance(settlement.Payable(shop)).Posted.Minor(); b != 0 {
		t.Errorf("the shop has %d", b)
	}
}
