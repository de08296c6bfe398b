package app_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/app"
	"koala/band"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/transit"
	"koala/tsm"
	"koala/wallet"
)

// childHouse makes the test binary a process that is a house: data folder,
// database, time in microseconds, customer, separated by newlines.
const childHouse = "KOALA_APPTEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childHouse); what != "" {
		if err := child(strings.Split(what, "\n")); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is a house behind a port. Beside the devices' door it has one for
// people: /place orders a top-up of one yuan and fills the wallet by as much.
func child(args []string) error {
	us, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	h, err := app.New(ctx, app.Config{Data: args[0], DB: args[1], Clock: clock.NewVirtual(time.UnixMicro(us))})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/device/", h.DeviceHandler())
	mux.HandleFunc("/place", func(w http.ResponseWriter, r *http.Request) {
		id, err := place(h, customer.ID(args[3]), r.FormValue("ref"), r.FormValue("band"), purse.Number(r.FormValue("card")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, id)
	})
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			if err := h.Tick(ctx); err != nil {
				fmt.Println("error", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	fmt.Println("at", port.Addr())
	return http.Serve(port, mux)
}

const (
	yuan    = 1_00
	loadFen = 310_00 // on each card before the siege
	rides   = 50     // there and back, of each card
)

func place(h *app.House, who customer.ID, ref, band string, card purse.Number) (id string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := wallet.Fund(tx, ref, who, money.Fen(yuan)); err != nil {
			return err
		}
		o, err := h.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.TopUp, Band: band, Card: issuing.IDOf(card), Customer: string(who), Amount: money.Fen(yuan)})
		id = o.ID
		return err
	})
	return id, err
}

// A siege is a house that is killed again and again, and the world outside it
// that knows what it was promised.
type siege struct {
	*town
	cfg     app.Config
	rand    *rand.Rand
	wearers []wearer
	tokens  map[string]string // of bands
	gates   []*stock
	client  *http.Client

	mu       sync.Mutex
	promised map[string]string // top-up references with the order's id
	begun    map[string]bool   // references that were asked for
	refs     int
	kills    int
}

// A stock is what one gate collected and has not handed over yet.
type stock struct {
	terminal purse.Terminal
	token    string
	debits   []purse.Debit // numbers from first on
	first    uint32
	released uint32 // number up to which the house has promised to keep them
}

// TestKilledHouseKeepsItsPromises kills a house at moments that chance picks:
// while it opens, collects, tops up and settles. Everything it answered is there
// once, and the books are green, after every kill.
func TestKilledHouseKeepsItsPromises(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		t.Parallel()
		s := newSiege(t, cfg)
		kills := 24
		if cfg.DB != "" {
			kills = 20
		}
		idle := func() bool { return s.released() == 0 || len(s.promised) == 0 }
		for s.kills < kills || idle() && s.kills < 10*kills { // a slow machine answers late
			s.round()
			s.check()
		}
		if idle() {
			t.Error("nothing was ever answered")
		}
		t.Logf("%d kills, %d debits released, %d orders answered", s.kills, s.released(), len(s.promised))
		s.finish()
	})
}

func newSiege(t *testing.T, cfg app.Config) *siege {
	t.Helper()
	s := &siege{town: newTown(t, cfg), cfg: cfg, rand: rand.New(rand.NewPCG(7, 7)), tokens: map[string]string{},
		promised: map[string]string{}, begun: map[string]bool{}, client: &http.Client{Timeout: 5 * time.Second}}
	for i := range 3 {
		r := s.issue(fmt.Sprintf("band-%d", i+1))
		s.carryOut(r, tsm.TopUp, loadFen)
		token, err := s.h.DeviceToken(ctx, "band", r.band)
		s.must(err)
		s.tokens[r.band] = token
		s.wearers = append(s.wearers, r)
	}
	for range rides {
		for _, r := range s.wearers {
			s.ride(r, "dongdan", "xidan")
			s.ride(r, "xidan", "dongdan")
		}
	}
	for _, r := range s.street.Readers() {
		held, err := r.Held()
		s.must(err)
		g := &stock{terminal: r.Terminal, first: held.Debits[0].Number}
		g.released = g.first - 1
		for _, d := range held.Debits {
			g.debits = append(g.debits, d.Debit)
		}
		g.token, err = s.h.DeviceToken(ctx, "terminal", strings.ToLower(r.Terminal.String()))
		s.must(err)
		s.gates = append(s.gates, g)
	}
	s.h.Close()
	return s
}

// round starts a house, lets everybody at it, and kills it.
func (s *siege) round() {
	s.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childHouse+"="+strings.Join([]string{s.cfg.Data, s.cfg.DB,
		strconv.FormatInt(s.clock.Now().UnixMicro(), 10), string(s.who)}, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	end := func() { _ = cmd.Process.Kill() }
	if early := s.rand.IntN(5) == 0; early { // before it is open
		defer time.AfterFunc(time.Duration(1+s.rand.IntN(100))*time.Millisecond, end).Stop()
	}
	moment := time.Duration(s.rand.IntN(300)) * time.Millisecond
	var all sync.WaitGroup
	for lines := bufio.NewScanner(out); lines.Scan(); {
		addr, ok := strings.CutPrefix(lines.Text(), "at ")
		if !ok {
			s.Errorf("the house says %q", lines.Text())
			continue
		}
		defer time.AfterFunc(moment, end).Stop()
		for i, g := range s.gates {
			chance := rand.New(rand.NewPCG(uint64(s.kills), uint64(i)))
			all.Go(func() { s.handOver("http://"+addr, g, chance) })
		}
		for _, r := range s.wearers {
			all.Go(func() { s.topUps("http://"+addr, r) })
		}
	}
	all.Wait()
	if err := cmd.Wait(); err == nil {
		s.Error("the house ended by itself")
	}
	s.kills++
	s.clock.Advance(time.Duration(1+s.rand.IntN(8)) * time.Hour)
}

// handOver sends batches, some of them again, until the house is dead.
func (s *siege) handOver(base string, g *stock, chance *rand.Rand) {
	for {
		from := g.released + 1
		if done := g.released - g.first + 1; chance.IntN(3) == 0 && done > 0 {
			from -= min(done, uint32(1+chance.IntN(6))) // an old one again
		}
		at := int(from - g.first)
		if at >= len(g.debits) {
			return
		}
		n := min(1+chance.IntN(4), len(g.debits)-at)
		release, err := s.send(base, g, purse.Batch{Terminal: g.terminal, First: from, Debits: g.debits[at : at+n]})
		if err != nil {
			s.dead(err)
			return
		}
		if want := from + uint32(n) - 1; release != want {
			s.Errorf("released up to %d, want %d", release, want)
			return
		}
		g.released = max(g.released, release)
		time.Sleep(3 * time.Millisecond) // so that the stock lasts for all kills
	}
}

func (s *siege) send(base string, g *stock, b purse.Batch) (uint32, error) {
	body, err := b.AppendBinary(nil)
	if err != nil {
		return 0, err
	}
	raw, err := s.ask(base+"/device/terminals/"+strings.ToLower(g.terminal.String())+"/debits", g.token, body)
	if err != nil {
		return 0, err
	}
	var answer struct{ Release uint32 }
	err = json.Unmarshal(raw, &answer)
	return answer.Release, err
}

// errAnswer is a house that lives and says no.
var errAnswer = errors.New("the house refuses")

func (s *siege) ask(url, token string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%w: %s: %s", errAnswer, res.Status, raw)
	}
	return raw, err
}

// dead fails the test when the house did not just die.
func (s *siege) dead(err error) {
	if errors.Is(err, errAnswer) {
		s.Error(err)
	}
}

// topUps lets a band finish what it has, and orders again, until the house is
// dead. A reference whose answer was lost is asked for again.
func (s *siege) topUps(base string, r wearer) {
	link := &band.HTTPLink{Base: base + "/device", Token: s.tokens[r.band], Client: s.client}
	for {
		if err := s.street.Look(r.band, func(b *band.Band) error { return b.Run(ctx, link) }); err != nil {
			return
		}
		ref := s.wish(r)
		raw, err := s.ask(base+"/place?ref="+ref+"&band="+r.band+"&card="+string(r.card), "", nil)
		if err != nil {
			s.dead(err)
			return
		}
		s.mu.Lock()
		s.promised[ref] = string(raw)
		s.mu.Unlock()
	}
}

// wish is the band's next reference: the last one until it was answered.
func (s *siege) wish(r wearer) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.begun {
		if _, ok := s.promised[ref]; !ok && strings.HasPrefix(ref, r.band+":") {
			return ref
		}
	}
	s.refs++
	ref := fmt.Sprintf("%s:%d", r.band, s.refs)
	s.begun[ref] = true
	return ref
}

// check opens the house and compares it with what was promised.
func (s *siege) check() {
	s.Helper()
	h, err := app.New(ctx, s.cfg)
	if err != nil {
		s.Fatalf("kill %d: %v", s.kills, err)
	}
	defer h.Close()
	s.h = h
	green(s, h)
	spent := s.checkDebits()
	orders := s.checkOrders()
	var loaded, held int64
	for _, r := range s.wearers {
		done := int64(loadFen)
		for _, o := range orders {
			switch {
			case o.Card.Purse() != r.card:
			case o.State == tsm.Done:
				done += yuan
			case !o.State.Over():
				held += yuan
			}
		}
		loaded += done
		b, err := h.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
		if want := done - spent[r.card]; err != nil || b.Posted.Minor() != want {
			s.Errorf("kill %d: the float of %s holds %v, want %d fen (%v)", s.kills, r.band, b.Posted, want, err)
		}
	}
	b, err := h.Book.Balance(wallet.Account(s.who))
	if want := 1000_00 + yuan*int64(len(orders)) - loaded - 3*20_00; err != nil || b.Posted.Minor() != want || b.Held.Minor() != held {
		s.Errorf("kill %d: the wallet holds %v, %v of it held, want %d and %d fen (%v)", s.kills, b.Posted, b.Held, want, held, err)
	}
}

// checkDebits sees that every released debit is booked as it was made, and sums
// what is booked by card.
func (s *siege) checkDebits() map[purse.Number]int64 {
	s.Helper()
	spent := map[purse.Number]int64{}
	s.read(func(q *db.Query) error {
		for _, g := range s.gates {
			for i, d := range g.debits {
				kept, _, _, err := transit.TapOf(q, d.Card, d.Seq)
				switch {
				case errors.Is(err, transit.ErrNoJourney) && g.first+uint32(i) > g.released:
				case err != nil:
					s.Errorf("kill %d: number %d of %s was released: %v", s.kills, g.first+uint32(i), g.terminal, err)
				case !kept.Equal(d):
					s.Errorf("kill %d: number %d of %s is kept otherwise", s.kills, g.first+uint32(i), g.terminal)
				default:
					spent[d.Card] += int64(d.Fen)
				}
			}
		}
		return nil
	})
	return spent
}

// checkOrders sees that every promised order is there, once, and gives all of
// them.
func (s *siege) checkOrders() (out []tsm.Order) {
	s.Helper()
	byRef := map[string]string{}
	s.read(func(q *db.Query) error {
		for before := ""; ; {
			page, err := tsm.Orders(q, tsm.Filter{Customer: string(s.who), Before: before, Limit: 500})
			if err != nil || len(page) == 0 {
				return err
			}
			for _, o := range page {
				before = o.ID
				if s.begun[o.Ref] {
					byRef[o.Ref] = o.ID
					out = append(out, o)
				}
			}
		}
	})
	for ref, id := range s.promised {
		if byRef[ref] != id {
			s.Errorf("kill %d: %s was answered as order %s, there is %q", s.kills, ref, id, byRef[ref])
		}
	}
	return out
}

// released counts the debits that the gates may forget.
func (s *siege) released() (n int) {
	for _, g := range s.gates {
		n += int(g.released - g.first + 1)
	}
	return n
}

// finish brings everything to its end in a house that lives: then each element
// holds what its float says.
func (s *siege) finish() {
	s.Helper()
	h := open(s, s.cfg)
	s.h = h
	s.street.Move(h)
	for range 3 {
		s.clock.Advance(time.Hour)
		s.must(h.Tick(ctx))
		for _, r := range s.wearers {
			s.must(s.street.RunAgent(ctx, r.band))
		}
	}
	if n := s.collect(); n != 3*rides*4 {
		s.Errorf("the gates handed over %d debits", n)
	}
	s.clock.Advance(48 * time.Hour)
	s.must(h.Tick(ctx))
	green(s, h)
	for _, r := range s.wearers {
		b, err := h.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
		if on := s.onCard(r); err != nil || b.Posted.Minor() != on {
			s.Errorf("%s holds %d fen, its float %v (%v)", r.band, on, b.Posted, err)
		}
	}
}

// onCard asks the element.
func (w *town) onCard(r wearer) (fen int64) {
	w.Helper()
	err := w.street.Look(r.band, func(b *band.Band) error {
		field, err := b.Field()
		if err != nil {
			return err
		}
		defer b.Leave()
		if _, err := field(iso7816.Select(purse.AIDTUnion)); err != nil {
			return err
		}
		a, err := field(purse.GetBalance{Purse: purse.EP, Part: purse.BalanceAll}.Command())
		if err != nil {
			return err
		}
		n, err := purse.ParseBalance(a.Data)
		fen = int64(n)
		return err
	})
	w.must(err)
	return fen
}
