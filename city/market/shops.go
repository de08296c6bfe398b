package market

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
)

// A Definition is what a shop is. The shops are invented.
type Definition struct {
	ID, EN, ZH string
	Slip       string // name on slips, at most 20 bytes
	MCC        string
	City       string // code of six digits
	Form       merchant.Form
	Near       string // station where the shop stands in the living city, Chinese; empty: elsewhere
	Tills      int
	Mobile     bool    // its terminal is a reader beside a phone
	Closes     float64 // hours after midnight at which tills settle; 0: they never do
	Tips       bool
	Holds      bool // pre-authorises
	Keys       bool // trusted for years: it may key card numbers, as for bookings by telephone
	AtOnce     bool // asks to be paid on the same day
	Low, High  int  // yuan of a sale
}

// definitions are the shops: a line of business each.
var definitions = []Definition{
	{ID: "chuanxiang", EN: "Chuanxiang Restaurant", ZH: "川香居", Slip: "CHUANXIANG", MCC: "5812", City: "510100", Form: merchant.Individual, Near: "前门", Tills: 1, Closes: 22.5, Tips: true, Low: 30, High: 300},
	{ID: "hubin", EN: "Lakeside Hotel", ZH: "湖滨饭店", Slip: "LAKESIDE HOTEL", MCC: "7011", City: "330100", Form: merchant.Enterprise, Near: "建国门", Tills: 1, Closes: 22, Keys: true, Holds: true, Low: 200, High: 900},
	{ID: "jialian", EN: "Jialian Supermarket", ZH: "家联超市", Slip: "JIALIAN MARKET", MCC: "5411", City: "110000", Form: merchant.Enterprise, Near: "朝阳门", Tills: 2, Closes: 21.5, Low: 5, High: 200},
	{ID: "dongfang", EN: "Dongfang Wholesale", ZH: "东方批发行", Slip: "DONGFANG TRADE", MCC: "5998", City: "440300", Form: merchant.Enterprise, Tills: 1, Closes: 18, AtOnce: true, Low: 500, High: 1800},
	{ID: "yese", EN: "Night Tavern", ZH: "夜色酒馆", Slip: "NIGHT TAVERN", MCC: "5813", City: "110000", Form: merchant.Individual, Near: "东直门", Tills: 1, Closes: 2, Low: 20, High: 250},
	{ID: "renmin", EN: "People's Hospital", ZH: "人民医院", Slip: "PEOPLES HOSPITAL", MCC: "8062", City: "310000", Form: merchant.Enterprise, Tills: 1, Low: 10, High: 600},
	{ID: "panjiayuan", EN: "Panjiayuan Stall", ZH: "潘家园书摊", Slip: "PANJIAYUAN STALL", MCC: "5931", City: "110000", Form: merchant.Micro, Near: "潘家园", Tills: 1, Mobile: true, Closes: 18.5, Low: 10, High: 120},
}

// A Shop is one shop with its terminals. What the house gave it is there once
// Open has been called.
type Shop struct {
	Definition
	Merchant string
	Payee    string // its shop in the house's words
	MID      string
	Tills    []*Till
}

// staff is who decides for the house in the city; second signs after it.
const staff, second = "clerk (simulated)", "second clerk (simulated)"

// agents brought some of the merchants: the first stands under the second.
var agents = []merchant.Agent{{ID: "agent_north", Name: "North Agency"}, {ID: "agent_beijing", Name: "Beijing Agency", Over: "agent_north"}}

// Open makes the shops merchants of the house: they apply, staff look at their
// papers and approve, terminals are registered. What is there stays.
func (m *Market) Open(ctx context.Context) error {
	if err := m.brings(ctx); err != nil {
		return err
	}
	for i, s := range m.shops {
		if err := m.open(ctx, i, s); err != nil {
			return fmt.Errorf("opening shop %s: %w", s.ID, err)
		}
	}
	if err := m.begin(); err != nil || !m.cfg.Hosts {
		return err
	}
	return m.share(ctx)
}

// begin finds where the nights go on: where they were, with the first day of
// shops that are new, or with the next whole day of a market that kept nothing.
func (m *Market) begin() error {
	if m.nights.Since != (calendar.Date{}) {
		return nil
	}
	if !m.fresh {
		if err := m.recall(); err != nil || m.nights.Since != (calendar.Date{}) {
			return err
		}
	}
	if m.nights.Since = calendar.Of(m.cfg.Clock.Now(), calendar.Beijing); !m.fresh {
		m.nights.Since = m.nights.Since.AddDays(1)
	}
	return m.keep()
}

// agentsAccount is where the agents are paid, all at one simulated bank.
const agentsAccount = "6222020200112233445"

// brings registers the agents.
func (m *Market) brings(ctx context.Context) error {
	return m.insist(ctx, "agents", func() error {
		sealed, err := m.House().Keys.Seal(ctx, []byte(agentsAccount))
		if err != nil {
			return err
		}
		return m.House().Store.Write(ctx, func(tx *db.Tx) error {
			day := calendar.Of(tx.Now(), calendar.Beijing)
			for _, a := range agents {
				if _, err := merchant.AgentOf(tx, a.ID); err == nil {
					continue
				}
				if err := merchant.OpenAgent(tx, a, settlement.BankAccount{Bank: "ICBC", Masked: agentsAccount[:6] + "******" + agentsAccount[len(agentsAccount)-4:], Sealed: sealed}); err != nil {
					return err
				}
				if err := merchant.SetRate(tx, a.ID, day, 1000); err != nil {
					return err
				}
			}
			return settlement.SetFunding(tx, money.Fen(fundFen))
		})
	})
}

// fundFen is what the house lends shops that are paid at once.
const fundFen = 500_000_00

func (m *Market) open(ctx context.Context, i int, s *Shop) error {
	h := m.House()
	known, err := m.known(ctx, i, s)
	if err != nil {
		return err
	}
	if !known {
		m.fresh = true
		var who merchant.Merchant
		err := m.insist(ctx, "application", func() (err error) {
			who, err = h.Merchants.Apply(ctx, application(i, s.Definition))
			return err
		})
		if err != nil {
			return err
		}
		err = m.insist(ctx, "approval", func() error {
			return h.Store.Write(ctx, func(tx *db.Tx) error {
				err := merchant.Record(tx, who.ID, merchant.Check{What: merchant.CheckSeen, Result: merchant.Pass, By: staff})
				if err == nil {
					err = merchant.Approve(tx, who.ID, staff, "papers and door were looked at")
				}
				return err
			})
		})
		if err != nil {
			return err
		}
		if _, err = m.known(ctx, i, s); err != nil {
			return err
		}
	}
	return m.insist(ctx, "terminals", func() error { return h.Store.Write(ctx, s.register) })
}

// register gives the shop its terminals, and the terms it asked for.
func (s *Shop) register(tx *db.Tx) error {
	for n, t := range s.Tills {
		kind := merchant.POS
		if s.Mobile {
			kind = merchant.Reader
		}
		x, err := merchant.AddTerminal(tx, merchant.Terminal{Serial: t.serial(), Kind: kind, Shop: s.Payee, PlaceEN: fmt.Sprintf("till %d", n+1), PlaceZH: fmt.Sprintf("收银台%d", n+1)})
		if err != nil {
			return err
		}
		t.TID = x.TID
	}
	if s.Keys {
		if err := merchant.SetRisk(tx, s.Merchant, merchant.RiskA, staff, "years of trading without a case"); err != nil {
			return err
		}
	}
	if !s.AtOnce {
		return nil
	}
	day := calendar.Of(tx.Now(), calendar.Beijing)
	t, err := settlement.TermsOf(tx, s.Payee, day)
	if err != nil || t.Once.Agreed {
		return err
	}
	t.Payee, t.Since = s.Payee, day
	t.Once = settlement.Once{Agreed: true, BPDay: 5, Most: money.Fen(fundFen), Promise: 2 * 60 * 60 * 1e9}
	return settlement.SetTerms(tx, t)
}

// known looks whether the house has the shop already.
func (m *Market) known(ctx context.Context, i int, s *Shop) (bool, error) {
	a := application(i, s.Definition)
	found := false
	err := m.House().Store.Read(ctx, func(q *db.Query) error {
		list, err := merchant.List(q, merchant.Filter{City: s.City, Name: a.Name, Limit: 10})
		if err != nil {
			return err
		}
		for _, x := range list {
			if x.Name != a.Name {
				continue
			}
			shops, err := merchant.ShopsOf(q, x.ID)
			if err != nil || len(shops) == 0 {
				return err
			}
			s.Merchant, s.Payee, s.MID = x.ID, shops[0].ID, shops[0].MID
			found = s.MID != ""
		}
		return nil
	})
	if errors.Is(err, merchant.ErrNotFound) {
		err = nil
	}
	return found, err
}

// application is what a shop says about itself, without a flaw.
func application(i int, d Definition) merchant.Application {
	owner := fmt.Sprintf("店主%d", i+1)
	a := merchant.Application{Form: d.Form, Name: d.ZH, Legal: owner, IDNumber: checked("11010519800101"+fmt.Sprintf("%03d", i+1), merchant.IdentityCheck),
		Phone: fmt.Sprintf("1381000%04d", i+1), Bank: "中国农业银行", Holder: owner, Account: fmt.Sprintf("622848%013d", i+1), City: d.City,
		Shop: merchant.Shop{NameEN: d.EN, NameZH: d.ZH, MCC: d.MCC, Address: "1 Market Street"}}
	kinds := []merchant.DocKind{merchant.DocIDFront, merchant.DocDoor}
	if d.Form != merchant.Micro {
		a.Licence = checked("92110105"+fmt.Sprintf("MA%07d", i+1), merchant.CreditCheck)
		kinds = append(kinds, merchant.DocLicence)
	}
	if d.Form == merchant.Enterprise {
		a.Holder = d.ZH
		kinds = append(kinds, merchant.DocAccount)
	}
	for _, k := range kinds {
		a.Documents = append(a.Documents, merchant.Document{Kind: k, Hash: sha256.Sum256([]byte(d.ID + string(k))), Size: 1000, Media: "image/jpeg"})
	}
	if i%2 == 0 {
		a.Agent = agents[1].ID
	}
	return a
}

func checked(first string, check func(string) (byte, bool)) string {
	c, _ := check(first)
	return first + string(c)
}
