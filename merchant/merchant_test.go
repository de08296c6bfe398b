package merchant_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
)

var noon = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// A house is a store with a book and a desk.
type house struct {
	tester
	store *db.Store
	now   *clock.Virtual
	desk  *merchant.Desk
	close func()
}

func open(t tester, cfg db.Config) *house {
	t.Helper()
	return openWith(t, cfg, merchant.Schema)
}

// openBare opens a store without the package's tables.
func openBare(t tester, cfg db.Config) *house {
	t.Helper()
	h := &house{tester: t, now: clock.NewVirtual(noon)}
	cfg.Clock, cfg.Inline, cfg.Rand = h.now, true, clock.Random(1)
	ctx := context.Background()
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	h.close = sync.OnceFunc(func() { book.Close(); h.store.Close() })
	t.Cleanup(h.close)
	h.desk = &merchant.Desk{Store: h.store,
		Seal: func(_ context.Context, plain []byte) ([]byte, error) { return append([]byte("sealed:"), plain...), nil },
		Token: func(_ context.Context, number string) (string, error) {
			sum := sha256.Sum256([]byte(number))
			return hex.EncodeToString(sum[:16]), nil
		}}
	return h
}

func (h *house) do(f func(*db.Tx) error) {
	h.Helper()
	if err := h.store.Write(context.Background(), f); err != nil {
		h.Fatal(err)
	}
}

func (h *house) try(f func(*db.Tx) error) error { return h.store.Write(context.Background(), f) }

func (h *house) read(f func(*db.Query) error) {
	h.Helper()
	if err := h.store.Read(context.Background(), f); err != nil {
		h.Fatal(err)
	}
}

// prove asks the package whether its rows agree.
func (h *house) prove() {
	h.Helper()
	h.read(func(q *db.Query) error {
		wrong, err := merchant.Prove(q)
		if len(wrong) > 0 {
			h.Errorf("%v", wrong)
		}
		return err
	})
}

func doc(kind merchant.DocKind) merchant.Document {
	return merchant.Document{Kind: kind, Hash: sha256.Sum256([]byte(kind)), Size: 1000, Media: "image/jpeg"}
}

func licence(n int) string {
	first := "92110105" + fmt.Sprintf("MA%07d", n)
	c, _ := merchant.CreditCheck(first)
	return first + string(c)
}

func identity(n int) string {
	first := "11010519800101" + fmt.Sprintf("%03d", n%1000)
	c, _ := merchant.IdentityCheck(first)
	return first + string(c)
}

// noodles is an application without a flaw; n tells applications apart.
func noodles(n int) merchant.Application {
	owner := fmt.Sprintf("李%d", n)
	return merchant.Application{Form: merchant.Individual, Name: fmt.Sprintf("北京面馆%d", n), Licence: licence(n), Legal: owner, IDNumber: identity(n),
		Phone: "13812345678", Bank: "中国农业银行", Holder: owner, Account: fmt.Sprintf("622848%013d", n), City: "110000",
		Shop:      merchant.Shop{NameEN: fmt.Sprintf("Noodles %d", n), NameZH: fmt.Sprintf("面馆%d", n), MCC: "5812", Address: "东单北大街"},
		Documents: []merchant.Document{doc(merchant.DocLicence), doc(merchant.DocIDFront), doc(merchant.DocDoor)}}
}

func (h *house) apply(a merchant.Application) merchant.Merchant {
	h.Helper()
	m, err := h.desk.Apply(context.Background(), a)
	if err != nil {
		h.Fatal(err)
	}
	return m
}

// seen records that a person looked at the papers.
func (h *house) seen(id string) {
	h.Helper()
	h.do(func(tx *db.Tx) error {
		return merchant.Record(tx, id, merchant.Check{What: merchant.CheckSeen, Result: merchant.Pass, By: "wang"})
	})
}

// approved is a merchant with its shop, ready for terminals.
func (h *house) approved(n int) (merchant.Merchant, merchant.Shop) {
	h.Helper()
	m := h.apply(noodles(n))
	h.seen(m.ID)
	h.do(func(tx *db.Tx) error { return merchant.Approve(tx, m.ID, "wang", "") })
	return h.of(m.ID), h.shop(m.ID)
}

func (h *house) of(id string) (m merchant.Merchant) {
	h.Helper()
	h.read(func(q *db.Query) (err error) { m, err = merchant.Of(q, id); return err })
	return m
}

func (h *house) shop(id string) (s merchant.Shop) {
	h.Helper()
	h.read(func(q *db.Query) error {
		list, err := merchant.ShopsOf(q, id)
		if err != nil || len(list) != 1 {
			h.Fatalf("%d shops, %v", len(list), err)
		}
		s = list[0]
		return nil
	})
	return s
}

func (h *house) missing(id string) (open []merchant.What) {
	h.Helper()
	h.read(func(q *db.Query) (err error) {
		m, err := merchant.Of(q, id)
		if err == nil {
			open, err = merchant.Missing(q, m)
		}
		return err
	})
	return open
}

func TestFromApplicationToTheFirstSale(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		m := h.apply(noodles(1))
		if m.State != merchant.Checking || m.Risk != merchant.RiskC || m.IDMask != "110105********"+identity(1)[14:] || m.Phone != "138****5678" || m.AccountMask != "****0001" {
			t.Errorf("%+v", m)
		}
		if open := h.missing(m.ID); !slices.Equal(open, []merchant.What{merchant.CheckSeen}) {
			t.Errorf("open checks %v", open)
		}
		if err := h.try(func(tx *db.Tx) error { return merchant.Approve(tx, m.ID, "wang", "") }); !errors.Is(err, merchant.ErrUnready) {
			t.Errorf("before anybody looked: %v", err)
		}
		h.seen(m.ID)
		h.do(func(tx *db.Tx) error { return merchant.Approve(tx, m.ID, "wang", "") })
		s := h.shop(m.ID)
		if s.MID != "890110058120001" || s.State != merchant.Approved {
			t.Errorf("%+v", s)
		}
		h.read(func(q *db.Query) error {
			all, err := settlement.AllTerms(q, s.ID)
			if err != nil || len(all) != 2 || all[0].Category != "dining" || all[1].Category != "general" || all[1].Since.String() != "2016-09-06" {
				t.Errorf("terms %+v, %v", all, err)
			}
			a, err := settlement.AccountOf(q, s.ID)
			if a.Masked != "****0001" {
				t.Errorf("account %+v", a)
			}
			return err
		})
		var term merchant.Terminal
		h.do(func(tx *db.Tx) (err error) {
			term, err = merchant.AddTerminal(tx, merchant.Terminal{Serial: "SN-1", Kind: merchant.POS, Shop: s.ID, PlaceEN: "counter"})
			return err
		})
		h.stands(term.TID, merchant.ErrStopped)
		h.do(func(tx *db.Tx) error { return merchant.Live(tx, term.TID, merchant.Injected, "", "") })
		h.do(func(tx *db.Tx) error { return merchant.Live(tx, term.TID, merchant.InUse, "", "") })
		h.stands(term.TID, nil)
		if m := h.of(m.ID); m.State != merchant.Active {
			t.Errorf("the merchant is %s", m.State)
		}
		h.do(func(tx *db.Tx) error { return merchant.Saw(tx, term.TID, "3.1") })
		h.do(func(tx *db.Tx) error {
			return merchant.Decide(tx, m.ID, merchant.Suspended, "chen", "cards used twice")
		})
		h.stands(term.TID, merchant.ErrStopped)
		h.do(func(tx *db.Tx) error { return merchant.Decide(tx, m.ID, merchant.Active, "chen", "explained") })
		h.stands(term.TID, nil)
		h.detail(m.ID)
		h.prove()
	})
}

func (h *house) stands(tid string, want error) {
	h.Helper()
	h.read(func(q *db.Query) error {
		s, err := merchant.StandingOf(q, tid)
		if got := s.MayTrade(); !errors.Is(got, want) {
			h.Errorf("%s may trade: %v, want %v", tid, got, want)
		}
		return err
	})
}

func (h *house) detail(id string) {
	h.Helper()
	h.read(func(q *db.Query) error {
		d, err := merchant.DetailOf(q, id, noon)
		if err != nil {
			return err
		}
		var told []string
		for _, e := range d.Timeline {
			told = append(told, e.What)
		}
		want := []string{"applied", "checking", "approved", "shop.approved", "terminal.registered", "terminal.injected", "terminal.active", "shop.active", "active", "suspended", "active"}
		if !slices.Equal(told, want) {
			h.Errorf("told %v, want %v", told, want)
		}
		if len(d.Shops) != 1 || len(d.Terminals) != 1 || d.Terminals[0].Version != "3.1" || len(d.Documents) != 3 || len(d.Checks) != 9 || d.Open != nil {
			h.Errorf("detail %+v", d)
		}
		sealed, err := merchant.Sealed(q, id)
		var s merchant.Secrets
		if json.Unmarshal([]byte(strings.TrimPrefix(string(sealed), "sealed:")), &s) != nil || s.IDNumber != identity(1) {
			h.Errorf("sealed %q", sealed)
		}
		return err
	})
}

func TestChecksNameWhatIsWrong(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		first := h.apply(noodles(1))
		h.do(func(tx *db.Tx) error {
			return merchant.Deny(tx, merchant.Denied{Name: "空壳 商贸(Shell)", Why: "cash-out case of 2014", By: "chen"})
		})
		for i, tt := range []struct {
			name   string
			change func(*merchant.Application)
			want   []merchant.What
			note   string
		}{
			{"as it should be", func(*merchant.Application) {}, nil, ""},
			{"licence with a wrong digit", func(a *merchant.Application) { a.Licence = a.Licence[:9] + "Y" + a.Licence[10:] }, []merchant.What{merchant.CheckLicence}, "check character"},
			{"identity with two digits swapped", func(a *merchant.Application) { a.IDNumber = "110105198001010" + "129" }, []merchant.What{merchant.CheckPerson}, "check character"},
			{"a child", func(a *merchant.Application) { a.IDNumber = withCheck("11010520100101123") }, []merchant.What{merchant.CheckPerson}, "not of age"},
			{"the account is an aunt's", func(a *merchant.Application) { a.Holder = "张阿姨" }, []merchant.What{merchant.CheckHolder}, "somebody else"},
			{"on the deny list, spelt otherwise", func(a *merchant.Application) { a.Name, a.Legal = "空壳商贸（shell）", "a" }, []merchant.What{merchant.CheckHolder, merchant.CheckDeny}, "cash-out"},
			{"under the licence of another", func(a *merchant.Application) { a.Licence = licence(1) }, []merchant.What{merchant.CheckAgain}, first.ID},
			{"on the account of another", func(a *merchant.Application) { a.Account = noodles(1).Account }, []merchant.What{merchant.CheckAccount}, first.ID},
			{"betting", func(a *merchant.Application) { a.Shop.MCC = "7995" }, []merchant.What{merchant.CheckCategory}, "takes no cards"},
			{"no photo of the door", func(a *merchant.Application) { a.Documents = a.Documents[:2] }, []merchant.What{merchant.CheckPapers}, "door"},
			{"micro without licence", func(a *merchant.Application) { a.Form, a.Licence = merchant.Micro, "" }, nil, ""},
		} {
			a := noodles(100 + i)
			tt.change(&a)
			m := h.apply(a)
			h.read(func(q *db.Query) error {
				checks, err := merchant.ChecksOf(q, m.ID)
				var failed []merchant.What
				note := ""
				for _, c := range checks {
					if c.Result == merchant.Fail {
						failed, note = append(failed, c.What), c.Note
					}
				}
				if len(checks) != 8 || !slices.Equal(failed, tt.want) || !strings.Contains(note, tt.note) {
					t.Errorf("%s: %d checks, failed %v %q", tt.name, len(checks), failed, note)
				}
				return err
			})
		}
		h.prove()
	})
}

func withCheck(first17 string) string {
	c, _ := merchant.IdentityCheck(first17)
	return first17 + string(c)
}

func TestApplicationsThatCannotBeKept(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	for _, tt := range []struct {
		name   string
		change func(*merchant.Application)
		want   error
	}{
		{"no form", func(a *merchant.Application) { a.Form = "guild" }, merchant.ErrForm},
		{"no name", func(a *merchant.Application) { a.Name = "" }, merchant.ErrName},
		{"a line break in the shop's name", func(a *merchant.Application) { a.Shop.NameZH = "面\n馆" }, merchant.ErrName},
		{"name of 61", func(a *merchant.Application) { a.Name = strings.Repeat("面", 61) }, merchant.ErrName},
		{"an individual business without licence", func(a *merchant.Application) { a.Licence = "" }, merchant.ErrLicence},
		{"a micro merchant with one", func(a *merchant.Application) { a.Form = merchant.Micro }, merchant.ErrLicence},
		{"identity of 15", func(a *merchant.Application) { a.IDNumber = "110105800101123" }, merchant.ErrIDNumber},
		{"a fixed line", func(a *merchant.Application) { a.Phone = "01065123456" }, merchant.ErrPhone},
		{"account with letters", func(a *merchant.Application) { a.Account = "62284800000x" }, merchant.ErrAccount},
		{"no such category", func(a *merchant.Application) { a.Shop.MCC = "0001" }, merchant.ErrCategory},
		{"no such city", func(a *merchant.Application) { a.City = "999999" }, merchant.ErrCity},
		{"a document without hash", func(a *merchant.Application) { a.Documents[0].Hash = [32]byte{} }, merchant.ErrDocument},
		{"an agent nobody knows", func(a *merchant.Application) { a.Agent = "nobody" }, merchant.ErrNotFound},
	} {
		a := noodles(1)
		tt.change(&a)
		if _, err := h.desk.Apply(context.Background(), a); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestWaivedChecksAndOtherPapers(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := noodles(1)
	a.Holder, a.Documents = "张阿姨", a.Documents[:2]
	m := h.apply(a)
	h.seen(m.ID)
	waive := func(note string) error {
		return h.try(func(tx *db.Tx) error {
			return merchant.Record(tx, m.ID, merchant.Check{What: merchant.CheckHolder, Result: merchant.Waived, Note: note, By: "chen"})
		})
	}
	if err := waive(""); !errors.Is(err, merchant.ErrStaff) {
		t.Errorf("without a reason: %v", err)
	}
	if err := waive("signed authority seen"); err != nil {
		t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error { return merchant.AddDocument(tx, m.ID, "wang", doc(merchant.DocDoor)) })
	if open := h.missing(m.ID); open != nil {
		t.Errorf("open %v", open)
	}
	h.do(func(tx *db.Tx) error { return merchant.Approve(tx, m.ID, "wang", "with authority") })
	if err := waive("late"); !errors.Is(err, merchant.ErrState) {
		t.Errorf("a check after the approval: %v", err)
	}
}

func TestDevicesStandInOneShop(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		_, here := h.approved(1)
		_, there := h.approved(2)
		add := func(serial, tid, shop string) (term merchant.Terminal, err error) {
			err = h.try(func(tx *db.Tx) (err error) {
				term, err = merchant.AddTerminal(tx, merchant.Terminal{TID: tid, Serial: serial, Kind: merchant.POS, Shop: shop})
				return err
			})
			return term, err
		}
		first, err := add("SN-1", "", here.ID)
		if err != nil || first.TID != "20000000" {
			t.Fatalf("%+v, %v", first, err)
		}
		for _, tt := range []struct {
			name, serial, tid, shop string
			want                    error
		}{
			{"the same again", "SN-1", "", here.ID, nil},
			{"in another shop", "SN-1", "", there.ID, merchant.ErrBound},
			{"a number that is taken", "SN-2", "20000000", here.ID, merchant.ErrDiffers},
			{"a number of seven", "SN-2", "2000000", here.ID, merchant.ErrTID},
			{"no serial", "", "", here.ID, merchant.ErrTerminal},
			{"a shop nobody knows", "SN-2", "", "shop_x", merchant.ErrNotFound},
			{"a number of one's own", "SN-2", "K0000001", here.ID, nil},
		} {
			if _, err := add(tt.serial, tt.tid, tt.shop); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		move := func(by, why string) (term merchant.Terminal, err error) {
			err = h.try(func(tx *db.Tx) (err error) { term, err = merchant.Move(tx, first.TID, there.ID, by, why); return err })
			return term, err
		}
		if _, err := move("chen", ""); !errors.Is(err, merchant.ErrStaff) {
			t.Errorf("moved without a reason: %v", err)
		}
		moved, err := move("chen", "the owner opened another shop")
		if err != nil || moved.TID != "20000001" || moved.Moves != 1 || moved.Life != merchant.Registered {
			t.Errorf("%+v, %v", moved, err)
		}
		h.read(func(q *db.Query) error {
			old, err := merchant.TerminalOf(q, first.TID)
			if old.Life != merchant.Retired {
				t.Errorf("the old number is %s", old.Life)
			}
			if s, is, err := merchant.MovedFrom(q, moved); err != nil || !is || s.ID != here.ID {
				t.Errorf("it came from %s: %v", s.ID, err)
			}
			if _, is, err := merchant.MovedFrom(q, old); err != nil || is {
				t.Errorf("the first number came from elsewhere: %v", err)
			}
			return err
		})
		h.prove()
	})
}
