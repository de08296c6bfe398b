package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
)

// The bounds of the onboarding bench.
const (
	maxOnboard  = 10_000_000
	onboardUnit = 50    // lines of a register in one unit of work: SQLite's statement journal costs the more the more one holds
	lookUps     = 2_000 // of each kind, after the load
)

// onboardFlags are the flags of `koala bench onboard`.
type onboardFlags struct {
	benchFlags
	merchants int
	callers   int
	dir       string
	db        string
}

func benchOnboardCommand() *cobra.Command {
	f := onboardFlags{benchFlags: benchFlags{seconds: 1}}
	c := &cobra.Command{
		Use:   "onboard",
		Short: "Merchants of a register into a fresh store, then looked up",
		Long: `Takes merchants of a made-up register, city by city as real ones are kept, each with a
shop, a terminal and two documents, into a fresh store: all checks made, personal
data sealed, numbers given, an account opened in the books. Then looks single ones up
by merchant number, terminal number, id, licence and beginning of the name.`,
		Example: "  koala bench onboard --merchants 100000\n  koala bench onboard --merchants 3000000 --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object per line instead of a table")
	c.Flags().StringVar(&f.profile, "cpu-profile", "", "write a CPU profile to this file, for go tool pprof")
	c.Flags().IntVar(&f.merchants, "merchants", 100_000, "how many merchants the register has")
	c.Flags().IntVar(&f.callers, "callers", 32, "how many read the register at once")
	c.Flags().StringVar(&f.db, "db", "sqlite", "sqlite, or postgres://user@host/database with an empty schema")
	c.Flags().StringVar(&f.dir, "dir", ".", "folder on a real disk, for the embedded store while it is measured")
	return c
}

func (f onboardFlags) run(cmd *cobra.Command) error {
	if f.merchants < 1 || f.merchants > maxOnboard {
		return errUsage{fmt.Errorf("--merchants %d: between 1 and %d", f.merchants, maxOnboard)}
	}
	if err := checkCallers(f.callers); err != nil {
		return err
	}
	if f.db != "sqlite" && !isPostgres(f.db) {
		return errUsage{fmt.Errorf("--db %s: sqlite or postgres://…", f.db)}
	}
	return f.measure(cmd, f.bench)
}

// An intake is the store being filled, its desk and its book.
type intake struct {
	store *db.Store
	book  *ledger.Book
	desk  *merchant.Desk
	clean func()
}

func (r *intake) close() {
	if r.book != nil {
		r.book.Close()
	}
	if r.store != nil {
		r.store.Close()
	}
	r.clean()
}

func (f onboardFlags) open(ctx context.Context) (*intake, error) {
	r := &intake{clean: func() {}}
	cfg := db.Config{URL: f.db}
	views := f.db
	if f.db == "sqlite" {
		dir, err := os.MkdirTemp(f.dir, "koala-bench-")
		if err != nil {
			return nil, err
		}
		r.clean = func() { os.RemoveAll(dir) }
		cfg.URL, views = filepath.Join(dir, "bench.db"), ""
	}
	var err error
	if r.store, err = db.Open(ctx, cfg); err != nil {
		r.close()
		return nil, err
	}
	if r.book, err = ledger.Open(ctx, r.store, ledger.Config{Views: views}); err != nil {
		r.close()
		return nil, err
	}
	if err := r.store.Migrate(ctx, outbox.Schema, settlement.Schema, merchant.Schema); err != nil {
		r.close()
		return nil, err
	}
	seal, token, err := benchKeys()
	if err != nil {
		r.close()
		return nil, err
	}
	r.desk = &merchant.Desk{Store: r.store, Seal: seal, Token: token}
	return r, nil
}

// benchKeys seal and hash as the hsm does, under keys that end with the bench.
func benchKeys() (seal func(context.Context, []byte) ([]byte, error), token func(context.Context, string) (string, error), err error) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	var n atomic.Uint64
	seal = func(_ context.Context, plain []byte) ([]byte, error) {
		nonce := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(plain)+gcm.Overhead())
		binary.BigEndian.PutUint64(nonce[4:], n.Add(1))
		return gcm.Seal(nonce, nonce, plain, nil), nil
	}
	token = func(_ context.Context, number string) (string, error) {
		m := hmac.New(sha256.New, []byte("koala bench onboard"))
		m.Write([]byte(number))
		return hex.EncodeToString(m.Sum(nil)[:16]), nil
	}
	return seal, token, nil
}

func (f onboardFlags) bench(ctx context.Context, p *benchProgress) ([]figure, error) {
	r, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.close()
	p.step(fmt.Sprintf("taking in %d merchants", f.merchants), float64(f.merchants)/10_000)
	watch := newStopwatch(f.merchants/onboardUnit + 1)
	kept, err := r.fill(ctx, f.merchants, f.callers, watch)
	if err != nil {
		return nil, err
	}
	store := "sqlite"
	if f.db != "sqlite" {
		store = "postgres"
	}
	x := watch.figure("onboard", store, f.callers)
	x.Ops, x.PerSecond = int64(f.merchants), rounded(float64(f.merchants)/watch.Wall.Seconds(), 1)
	x.CPU = rounded(watch.CPU.Seconds()*1e6/float64(f.merchants), 2)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	x.Params = map[string]any{"lines_per_unit": onboardUnit, "heap_mb": mem.HeapInuse >> 20, "view_lag": r.book.Lag()}
	if at, err := os.Stat(r.store.Place()); err == nil {
		x.Params["store_mb"] = at.Size() >> 20
	}
	x.notes = append(x.notes, fmt.Sprintf("%d merchants in %.1f s; p50 and p99 are of a unit of %d", f.merchants, watch.Wall.Seconds(), onboardUnit))
	p.step("looking merchants up", 5)
	found, err := r.lookUp(ctx, kept, store)
	return append([]figure{x}, found...), err
}

// An onboarded is a merchant that was taken in and can be looked for.
type onboarded struct {
	merchant.Imported
	licence, name string
}

// fill takes the whole register in, several callers at once, and keeps some
// merchants to look for.
func (r *intake) fill(ctx context.Context, merchants, callers int, watch *stopwatch) (kept []onboarded, err error) {
	g := newRegisterMaker(merchants)
	every := max(1, merchants/lookUps)
	var mu sync.Mutex // of the register, the watch, kept and err
	var wg sync.WaitGroup
	done := 0
	page := func() (list []merchant.Import, from int) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			return nil, 0
		}
		list, from = make([]merchant.Import, min(onboardUnit, merchants-done)), done
		for i := range list {
			list[i] = g.next()
		}
		done += len(list)
		return list, from
	}
	keep := func(list []merchant.Import, from int, out []merchant.Imported, took time.Duration, failed error) {
		mu.Lock()
		defer mu.Unlock()
		watch.times = append(watch.times, took)
		for i, o := range out {
			if failed == nil && (o.Err != nil || o.Failed != nil) {
				failed = fmt.Errorf("line %d of the register: %w %v", from+i+1, o.Err, o.Failed)
			}
			if (from+i)%every == 0 {
				kept = append(kept, onboarded{o, list[i].Licence, list[i].Name})
			}
		}
		if err == nil {
			err = failed
		}
	}
	watch.start()
	for range callers {
		wg.Go(func() {
			for list, from := page(); len(list) > 0; list, from = page() {
				before := watch.now()
				out, failed := r.desk.Bulk(ctx, "bench", "register of the bench", list)
				keep(list, from, out, watch.now()-before, failed)
			}
		})
	}
	wg.Wait()
	watch.stop()
	return kept, err
}

// lookUp times single look-ups, each in a read of its own.
func (r *intake) lookUp(ctx context.Context, kept []onboarded, store string) (out []figure, err error) {
	for _, by := range []struct {
		name string
		find func(q *db.Query, k onboarded) (string, error)
	}{
		{"by MID", func(q *db.Query, k onboarded) (string, error) {
			s, err := merchant.ByMID(q, k.MID)
			return s.Merchant, err
		}},
		{"by TID", func(q *db.Query, k onboarded) (string, error) {
			s, err := merchant.StandingOf(q, k.TID)
			return s.Shop.Merchant, err
		}},
		{"by id", func(q *db.Query, k onboarded) (string, error) {
			m, err := merchant.Of(q, k.Merchant)
			return m.ID, err
		}},
		{"by licence", func(q *db.Query, k onboarded) (string, error) {
			m, err := merchant.ByLicence(q, k.licence)
			return m.ID, err
		}},
		{"by name", func(q *db.Query, k onboarded) (string, error) {
			list, err := merchant.List(q, merchant.Filter{Name: k.name, Limit: 10})
			if err != nil || len(list) == 0 {
				return "", err
			}
			return list[0].ID, nil
		}},
	} {
		watch := newStopwatch(len(kept))
		for i := range kept {
			k := kept[i*7_919%len(kept)]
			watch.start()
			before := watch.now()
			var id string
			err := r.store.Read(ctx, func(q *db.Query) (err error) {
				id, err = by.find(q, k)
				return err
			})
			watch.times = append(watch.times, watch.now()-before)
			watch.stop()
			if err == nil && id != k.Merchant {
				err = errors.New("another merchant came back")
			}
			if err != nil {
				return nil, fmt.Errorf("looking up %s: %w", by.name, err)
			}
		}
		out = append(out, watch.figure("look-up "+by.name, store, 1))
	}
	return out, nil
}

// registerMaker makes the lines of a register: city by city, every line with
// numbers whose check characters are right.
type registerMaker struct {
	cities []merchant.City
	quota  []int // lines left of each city
	at     int
	n      int
	rnd    interface{ Read([]byte) (int, error) }
}

// trades are the categories of the bench's merchants.
var trades = []struct{ mcc, zh, en string }{
	{"5812", "饭庄", "Restaurant"}, {"5411", "超市", "Supermarket"}, {"5311", "百货", "Department Store"}, {"5814", "快餐", "Fast Food"},
	{"5541", "加油站", "Petrol Station"}, {"5912", "药房", "Pharmacy"}, {"5651", "服装店", "Clothing"}, {"7230", "美发厅", "Hairdresser"},
	{"5039", "建材批发", "Building Materials"}, {"5732", "电器", "Electronics"},
}

func newRegisterMaker(merchants int) *registerMaker {
	g := &registerMaker{cities: merchant.Cities(), rnd: clock.Random(1)}
	total := int64(0)
	weight := func(c merchant.City) int64 { return max(c.Weight, 200_000) }
	for _, c := range g.cities {
		total += weight(c)
	}
	left := merchants
	for _, c := range g.cities {
		n := int(int64(merchants) * weight(c) / total)
		g.quota, left = append(g.quota, n), left-n
	}
	g.quota[0] += left
	return g
}

func (g *registerMaker) next() merchant.Import {
	for g.quota[g.at] == 0 {
		g.at++
	}
	g.quota[g.at]--
	g.n++
	c := g.cities[g.at]
	trade := trades[g.n%len(trades)]
	var b [8]byte
	g.rnd.Read(b[:])
	chance := binary.BigEndian.Uint64(b[:])
	name := fmt.Sprintf("%s%s%07d", c.NameZH, trade.zh, g.n)
	owner := fmt.Sprintf("店主%d", g.n)
	in := merchant.Import{Serial: fmt.Sprintf("KB-%010d", g.n), Kind: merchant.POS, Application: merchant.Application{
		Form: merchant.Individual, Name: name, Licence: benchLicence(c.Code, g.n), Legal: owner, IDNumber: benchIdentity(c.Code, chance, g.n),
		Phone: fmt.Sprintf("138%08d", g.n), Bank: "中国农业银行", Holder: owner, Account: fmt.Sprintf("622848%013d", g.n), City: c.Code,
		Shop:      merchant.Shop{NameEN: fmt.Sprintf("%s %d", trade.en, g.n), NameZH: name, MCC: trade.mcc, Address: c.NameZH + "人民路"},
		Documents: []merchant.Document{benchDocument(merchant.DocLicence, g.n), benchDocument(merchant.DocIDFront, g.n), benchDocument(merchant.DocDoor, g.n)},
	}}
	return in
}

func benchDocument(kind merchant.DocKind, n int) merchant.Document {
	return merchant.Document{Kind: kind, Hash: sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n)), Size: 100_000, Media: "image/jpeg"}
}

func benchLicence(city string, n int) string {
	first := "92" + city + fmt.Sprintf("MA%07d", n)
	c, _ := merchant.CreditCheck(first)
	return first + string(c)
}

func benchIdentity(city string, chance uint64, n int) string {
	day := time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(chance%14_000))
	first := city + day.Format("20060102") + fmt.Sprintf("%03d", n%1000)
	c, _ := merchant.IdentityCheck(first)
	return first + string(c)
}
