package door_test

import (
	"errors"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	"koala/internal/clock"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/door"
	"koala/terminal/terminaltest"
)

const (
	site, lobby, vault = 7, 10, 20
	ann, bob           = 4201, 4202
)

var (
	readers  = desfire.AESKey([16]byte{0: 0xD0}, 1)
	masters  = desfire.AESKey([16]byte{0: 0xA0}, 1)
	hostKey  = [16]byte{0: 0xC0}
	annsCard = [7]byte{4, 1, 2, 3, 4, 5, 6}
	bobsCard = [7]byte{4, 6, 5, 4, 3, 2, 1}

	monday = time.Date(2024, 12, 30, 9, 0, 0, 0, time.FixedZone("CST", 8*3600))
)

// issue makes a card with a credential, as the access host would.
func issue(t testing.TB, uid [7]byte, person uint64, change ...func(c *desfire.Credential)) *cardtest.Element {
	t.Helper()
	return issueFor(t, uid, uid, person, change...)
}

// issueFor makes it with a credential that was signed for another card.
func issueFor(t testing.TB, uid, signed [7]byte, person uint64, change ...func(c *desfire.Credential)) *cardtest.Element {
	t.Helper()
	c := desfire.Credential{Site: site, Person: person, From: [4]byte{0x20, 0x24, 0x01, 0x01}, To: [4]byte{0x20, 0x25, 0x12, 0x31}}
	for _, f := range change {
		f(&c)
	}
	key := func(master desfire.Key) desfire.SealedKey {
		return terminaltest.Sealed(t, desfire.CardKey(master, uid, desfire.DoorAID, desfire.DoorSystem))
	}
	return terminaltest.DESFire(t, uid, desfire.Door([2]desfire.SealedKey{key(masters), key(readers)}, c.Sign(hostKey, signed)))
}

func plan() desfire.Plan {
	return desfire.Plan{
		Version: 1, Site: site, Made: monday.UTC(),
		Zones: []desfire.Zone{{ID: 1, Doors: []uint32{lobby}}, {ID: 2, Doors: []uint32{lobby, vault}}},
		Schedules: []desfire.Schedule{
			{ID: 1, Windows: []desfire.Window{{Days: desfire.EveryDay, To: 1440}}},
			{ID: 2, Windows: []desfire.Window{{Days: desfire.Weekdays | desfire.Working, From: 480, To: 1080}}},
		},
		Grants: []desfire.Grant{{Person: ann, Zone: 1, Schedule: 1}, {Person: ann, Zone: 2, Schedule: 2}, {Person: bob, Zone: 1, Schedule: 2}},
	}
}

// A post is a door with its flash.
type post struct {
	t   testing.TB
	cfg door.Config
	now *clock.Virtual
	d   *door.Door
}

func newPost(t testing.TB, number uint32) *post {
	t.Helper()
	p := &post{t: t, now: clock.NewVirtual(monday)}
	p.cfg = door.Config{
		Door: number, Site: site, Clock: p.now, Rand: clock.Random(5), Plans: terminaltest.Public, Reader: readers, Credentials: hostKey,
		Plan: terminal.NewFlash(4), Log: terminal.NewFlash(4), Record: true,
	}
	p.boot()
	p.load(plan())
	return p
}

func (p *post) boot() {
	p.t.Helper()
	p.cfg.Plan.PowerOn()
	p.cfg.Log.PowerOn()
	d, err := door.New(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.d = d
}

func (p *post) load(x desfire.Plan) {
	p.t.Helper()
	pack, err := x.Sign(terminaltest.Private)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.d.Load(pack); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) tap(e *cardtest.Element) door.Outcome {
	p.t.Helper()
	e.Power(card.Contactless)
	defer e.PowerOff()
	o, err := p.d.Tap(e.Transmit)
	if err != nil {
		p.t.Fatal(err)
	}
	return o
}

func want(t testing.TB, what string, o door.Outcome, r terminal.Result, why door.Reason) {
	t.Helper()
	if o.Result != r || o.Reason != why {
		t.Errorf("%s: %s (%v %v %v)", what, o.Words(false), o.Result, o.Reason, o.SW)
	}
}

// Who may pass, and why not: every reason of the door.
func TestDecision(t *testing.T) {
	anns, bobs := issue(t, annsCard, ann), issue(t, bobsCard, bob)
	p, v := newPost(t, lobby), newPost(t, vault)
	writes := anns.Memory().Writes()
	o := p.tap(anns)
	want(t, "ann at the lobby", o, terminal.Opened, door.NoReason)
	if o.Person != ann || o.Card != annsCard || !o.InTime() || o.Took < 20*time.Millisecond || len(p.d.Dialogue()) != 8 {
		t.Errorf("%+v, %d exchanges", o, len(p.d.Dialogue()))
	}
	t.Logf("took %v by the model", o.Took)
	if anns.Memory().Writes() != writes {
		t.Error("the door wrote on the card")
	}
	want(t, "ann at the vault", v.tap(anns), terminal.Opened, door.NoReason)
	want(t, "bob at the vault", v.tap(bobs), terminal.Refused, door.NotThisDoor)
	p.now.Advance(10 * time.Hour)
	want(t, "bob at night", p.tap(bobs), terminal.Refused, door.NotNow)
	want(t, "ann at night", p.tap(anns), terminal.Opened, door.NoReason)
	lost := plan()
	lost.Version, lost.Denied = 2, []desfire.Denial{{Card: annsCard, Reason: 1}}
	p.load(lost)
	p.boot()
	want(t, "ann's lost card", p.tap(anns), terminal.Refused, door.Denied)

	q := newPost(t, lobby)
	for name, tt := range map[string]struct {
		change func(c *desfire.Credential)
		why    door.Reason
	}{
		"other site": {func(c *desfire.Credential) { c.Site = 8 }, door.OtherSite},
		"too early":  {func(c *desfire.Credential) { c.From = [4]byte{0x20, 0x24, 0x12, 0x31} }, door.NotYetValid},
		"too late":   {func(c *desfire.Credential) { c.To = [4]byte{0x20, 0x24, 0x12, 0x29} }, door.Expired},
		"nobody":     {func(c *desfire.Credential) { c.Person = 9 }, door.NotThisDoor},
	} {
		o := q.tap(issue(t, annsCard, ann, tt.change))
		want(t, name, o, terminal.Refused, tt.why)
		if o.Words(true) == o.Words(false) {
			t.Errorf("%s: %s", name, o.Words(true))
		}
	}
}

// A copy of a credential on another card, a card with other keys, one without
// the application, one that is no DESFire card at all.
func TestForgeries(t *testing.T) {
	p := newPost(t, lobby)
	copied := newPost(t, lobby)
	want(t, "copied", copied.tap(issueFor(t, bobsCard, annsCard, ann)), terminal.Refused, door.NotGenuine)
	strange := issue(t, annsCard, ann)
	r := newPost(t, lobby)
	r.cfg.Reader = desfire.AESKey([16]byte{1}, 1)
	r.boot()
	want(t, "other keys", r.tap(strange), terminal.Refused, door.NotGenuine)

	// The same card behind another UID: its key is another one.
	strange.Power(card.Contactless)
	o, err := p.d.Tap(func(c iso7816.Command) (iso7816.Response, error) {
		a, err := strange.Transmit(c)
		if len(a.Data) == 14 {
			copy(a.Data, bobsCard[:])
		}
		return a, err
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "under a false UID", o, terminal.Refused, door.NotGenuine)

	x := strange.Find(terminaltest.DESFireAID)
	strange.Store(x, desfire.DGIDelete, desfire.Deletion(desfire.DoorAID))
	want(t, "taken away", p.tap(strange), terminal.Refused, door.NoCredential)
	o, err = p.d.Tap(func(iso7816.Command) (iso7816.Response, error) {
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "no DESFire", o, terminal.Refused, door.NoCard)
	if n := p.d.Waiting(); n != 2 {
		t.Errorf("%d passages in the log", n)
	}
}

// Torn at every command, before and after the card's work: present it again, and
// nothing is logged; the next tap opens.
func TestTornAtEveryCommand(t *testing.T) {
	for n := 1; n <= 8; n++ {
		e, p := issue(t, annsCard, ann), newPost(t, lobby)
		e.LoseAnswer(n)
		want(t, "torn", p.tap(e), terminal.TryAgain, door.Torn)
		if p.d.Waiting() != 0 {
			t.Errorf("command %d: logged", n)
		}
		want(t, "again", p.tap(e), terminal.Opened, door.NoReason)
	}
}

// The log survives power, is handed over in order, and stops the door when it is
// full, unless the house wants it otherwise.
func TestLog(t *testing.T) {
	e, p := issue(t, annsCard, ann), newPost(t, lobby)
	for range 5 {
		want(t, "tap", p.tap(e), terminal.Opened, door.NoReason) // all in one second
		p.boot()
	}
	b, err := p.d.Batch(3)
	if err != nil || b.First != 1 || len(b.Passages) != 3 || b.Passages[0].Person != ann || !b.Passages[0].Opened {
		t.Fatalf("%+v %v", b, err)
	}
	wire, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := desfire.ParsePassageBatch(wire); err != nil || got.Passages[2] != b.Passages[2] {
		t.Errorf("%+v %v", got, err)
	}
	if err := p.d.Release(3); err != nil || p.d.Waiting() != 2 {
		t.Errorf("%d %v", p.d.Waiting(), err)
	}
	full := 0
	for ; full < 1000; full++ {
		if o := p.tap(e); o.Result != terminal.Opened {
			want(t, "full", o, terminal.OutOfService, door.LogFull)
			break
		}
	}
	if full < 100 || full == 1000 {
		t.Errorf("full after %d", full)
	}
	p.cfg.Unlogged = true
	p.boot()
	want(t, "unlogged", p.tap(e), terminal.Opened, door.NoReason)
	p.cfg.Unlogged = false
	p.boot()
	if err := p.d.Release(uint32(p.d.Waiting())); err != nil {
		t.Fatal(err)
	}
	want(t, "fetched", p.tap(e), terminal.Opened, door.NoReason)
}

// Power fails at every write of the log: the door stays shut, and what it had
// stays.
func TestLogIsCutAtEveryWrite(t *testing.T) {
	for n := 1; ; n++ {
		e, p := issue(t, annsCard, ann), newPost(t, lobby)
		want(t, "first", p.tap(e), terminal.Opened, door.NoReason)
		before := p.cfg.Log.Writes()
		p.cfg.Log.CutAfter(n)
		e.Power(card.Contactless)
		o, err := p.d.Tap(e.Transmit)
		if err == nil {
			if p.cfg.Log.Writes()-before >= n {
				t.Fatalf("cut %d: no error", n)
			}
			break
		}
		if !errors.Is(err, terminal.ErrPower) || o.Result == terminal.Opened {
			t.Fatalf("cut %d: %v %v", n, o.Result, err)
		}
		p.boot()
		if p.d.Waiting() != 1 {
			t.Errorf("cut %d: %d passages", n, p.d.Waiting())
		}
		want(t, "again", p.tap(e), terminal.Opened, door.NoReason)
	}
}

// Plans: only of the house, of this site, newer; a cut leaves the old one.
func TestPlans(t *testing.T) {
	e, p := issue(t, annsCard, ann), newPost(t, lobby)
	other := plan()
	other.Version, other.Site = 2, 8
	pack, _ := other.Sign(terminaltest.Private)
	if err := p.d.Load(pack); !errors.Is(err, door.ErrSite) {
		t.Errorf("other site: %v", err)
	}
	pack, _ = plan().Sign(terminaltest.Private)
	if err := p.d.Load(pack); !errors.Is(err, terminal.ErrOld) {
		t.Errorf("the same again: %v", err)
	}
	pack[10]++
	if err := p.d.Load(pack); !errors.Is(err, desfire.ErrMAC) {
		t.Errorf("forged: %v", err)
	}
	next := plan()
	next.Version, next.Grants = 2, nil
	pack, _ = next.Sign(terminaltest.Private)
	for n := 1; ; n++ {
		p := newPost(t, lobby)
		p.cfg.Plan.CutAfter(n)
		err := p.d.Load(pack)
		p.boot()
		if err == nil {
			want(t, "new plan", p.tap(e), terminal.Refused, door.NotThisDoor)
			break
		}
		if v := p.d.Plan().Version; v != 1 && v != 2 {
			t.Fatalf("cut %d: version %d", n, v)
		}
	}
	p.cfg.Plan = terminal.NewFlash(2)
	p.boot()
	want(t, "no plan", p.tap(e), terminal.OutOfService, door.NoPlan)
}

func BenchmarkTap(b *testing.B) {
	e, p := issue(b, annsCard, ann), newPost(b, lobby)
	p.cfg.Unlogged = true
	p.boot()
	for b.Loop() {
		p.tap(e)
	}
}

// FuzzHostileCard: whatever a stranger's card answers, the door does not open.
func FuzzHostileCard(f *testing.F) {
	f.Add([]byte{2, 0x90, 0, 2, 0x91, 0, 2, 0x91, 0xAF})
	f.Add([]byte("\x02\x90\x00\x1E1234567890123456789012345678\x91\x00\x02\x91\x00\x121234567890123456\x91\xAF\x121234567890123456\x91\x00"))
	p := newPost(f, lobby)
	p.cfg.Unlogged = true
	p.boot()
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := p.d.Tap(terminaltest.Stranger(in))
		if err != nil || o.Result == terminal.Opened {
			t.Fatalf("%+v %v", o, err)
		}
	})
}
