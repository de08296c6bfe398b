package merchant

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/settlement"
)

// A Desk takes applications. Seal and Token are the hsm's: what is sealed is
// opened only for somebody with a reason, what has a token is found again
// without being known.
type Desk struct {
	Store *db.Store
	Seal  func(ctx context.Context, plain []byte) ([]byte, error)
	Token func(ctx context.Context, number string) (string, error)
}

// An Application is what a merchant says about itself and its first shop.
type Application struct {
	Form      Form
	Name      string
	Licence   string // of an enterprise or an individual business
	Legal     string // name of the legal person or owner
	IDNumber  string // of the same person
	Phone     string // 11 digits
	Bank      string // of the settlement account
	Holder    string // of the settlement account
	Account   string // its number, digits
	City      string // code of six digits
	Agent     string // empty: the house itself
	Shop      Shop   // names, category and address; the city is the merchant's where it is empty
	Documents []Document
}

// Secrets is what is sealed of an application.
type Secrets struct {
	IDNumber string `json:"id_number"`
	Phone    string `json:"phone"`
	Account  string `json:"account"`
}

// drawn is an application with what only the hsm could make of it.
type drawn struct {
	Application
	sealed          []byte
	person, account string // tokens
}

// shape tells whether an application can be kept at all. What is wrong with
// its numbers is for the checks to say.
func (a *Application) shape() error {
	if a.Shop.City == "" {
		a.Shop.City = a.City
	}
	switch {
	case a.Form != Enterprise && a.Form != Individual && a.Form != Micro:
		return ErrForm
	case !plainText(a.Name, MaxName) || !plainText(a.Legal, MaxName) || !plainText(a.Shop.NameEN, MaxName) || !plainText(a.Shop.NameZH, MaxName):
		return ErrName
	case (a.Form == Micro) != (a.Licence == "") || len(a.Licence) > 18:
		return ErrLicence
	case len(a.IDNumber) != 18:
		return ErrIDNumber
	case len(a.Phone) != 11 || a.Phone[0] != '1' || strings.Trim(a.Phone, "0123456789") != "":
		return ErrPhone
	case !plainText(a.Bank, MaxName) || !plainText(a.Holder, MaxName) || len(a.Account) < 8 || len(a.Account) > 32 || strings.Trim(a.Account, "0123456789") != "":
		return ErrAccount
	case categoryOf[a.Shop.MCC].MCC == "":
		return ErrCategory
	case cityOf[a.City].Code == "" || cityOf[a.Shop.City].Code == "":
		return ErrCity
	case len(a.Shop.Address) > MaxText:
		return ErrName
	}
	for _, d := range a.Documents {
		if err := d.shape(); err != nil {
			return err
		}
	}
	return nil
}

func plainText(s string, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// draw seals and tokens what is personal.
func (d *Desk) draw(ctx context.Context, a Application) (x drawn, err error) {
	x.Application = a
	plain, err := json.Marshal(Secrets{a.IDNumber, a.Phone, a.Account})
	if err != nil {
		return x, err
	}
	if x.sealed, err = d.Seal(ctx, plain); err != nil {
		return x, fmt.Errorf("sealing: %w", err)
	}
	if x.person, err = d.PersonToken(ctx, a.IDNumber); err != nil {
		return x, fmt.Errorf("token of the person: %w", err)
	}
	if x.account, err = d.Token(ctx, "account:"+a.Account); err != nil {
		return x, fmt.Errorf("token of the account: %w", err)
	}
	return x, nil
}

// PersonToken is what an identity number is found by, on the deny list too.
func (d *Desk) PersonToken(ctx context.Context, number string) (string, error) {
	return d.Token(ctx, "id:"+number)
}

// merchant is what the application makes; it has no id yet.
func (x drawn) merchant() Merchant {
	m := Merchant{Form: x.Form, Name: x.Name, Licence: x.Licence, Legal: x.Legal, IDMask: x.IDNumber[:6] + "********" + x.IDNumber[14:],
		Phone: x.Phone[:3] + "****" + x.Phone[7:], Bank: x.Bank, Holder: x.Holder, AccountMask: "****" + x.Account[len(x.Account)-4:],
		City: x.City, Agent: x.Agent, State: Applied, Risk: riskAtStart(x.Form), ident: x.Licence, token: x.account}
	if x.Form == Micro {
		m.ident = "id:" + x.person
	}
	return m
}

// Apply takes an application and makes the checks that need no person; the
// merchant is Checking afterwards, whatever they say, and staff decide.
func (d *Desk) Apply(ctx context.Context, a Application) (m Merchant, err error) {
	if err := a.shape(); err != nil {
		return m, fmt.Errorf("application of %q: %w", a.Name, err)
	}
	x, err := d.draw(ctx, a)
	if err != nil {
		return m, fmt.Errorf("application of %q: %w", a.Name, err)
	}
	err = d.Store.Write(ctx, func(tx *db.Tx) error {
		m = x.merchant()
		m.ID, m.Made, m.Changed = tx.NewID("merchant"), tx.Now(), tx.Now()
		if err := mayBring(tx, a.Agent); err != nil {
			return err
		}
		if err := partySheet.insert(tx, m.row(x.sealed)); err != nil {
			return err
		}
		s := a.Shop
		s.ID, s.Merchant, s.MID, s.State, s.Made = tx.NewID("shop"), m.ID, "", Applied, tx.Now()
		if err := shopSheet.insert(tx, s.row()); err != nil {
			return err
		}
		if err := count(tx, m.City, m.State, 1); err != nil {
			return err
		}
		if err := tell(tx, Event{Merchant: m.ID, About: s.ID, What: "applied", To: string(Applied)}); err != nil {
			return err
		}
		if err := addDocuments(tx, m.ID, "", a.Documents); err != nil {
			return err
		}
		if err := screen(tx, m, x); err != nil {
			return err
		}
		m.State = Checking
		return nil
	})
	if err != nil {
		return Merchant{}, fmt.Errorf("application of %q: %w", a.Name, err)
	}
	return m, nil
}

// Again takes other papers of a merchant that is Applied: what it says now
// counts, in the name and shop it has, and the checks are made anew.
func (d *Desk) Again(ctx context.Context, id string, a Application) (m Merchant, err error) {
	if err := a.shape(); err != nil {
		return m, fmt.Errorf("other papers of %s: %w", id, err)
	}
	x, err := d.draw(ctx, a)
	if err != nil {
		return m, fmt.Errorf("other papers of %s: %w", id, err)
	}
	err = d.Store.Write(ctx, func(tx *db.Tx) error {
		old, err := Of(tx, id)
		if err != nil {
			return err
		}
		if old.State != Applied || a.City != old.City {
			return ErrState // a merchant of another city applies there
		}
		m = x.merchant()
		m.ID, m.Made, m.Agent, m.Risk = id, old.Made, old.Agent, old.Risk
		_, err = tx.Exec(`UPDATE merchant_party SET form = $2, name = $3, licence = $4, ident = $5, legal = $6, id_mask = $7, phone = $8,
			bank = $9, holder = $10, account_mask = $11, account = $12, sealed = $13 WHERE id = $1`,
			id, m.Form, m.Name, m.Licence, m.ident, m.Legal, m.IDMask, m.Phone, m.Bank, m.Holder, m.AccountMask, m.token, x.sealed)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE merchant_shop SET name_en = $2, name_zh = $3, mcc = $4, city = $5, address = $6 WHERE merchant = $1 AND mid = ''`,
			id, a.Shop.NameEN, a.Shop.NameZH, a.Shop.MCC, a.Shop.City, a.Shop.Address)
		if err != nil {
			return err
		}
		if err := addDocuments(tx, id, "", a.Documents); err != nil {
			return err
		}
		if err := screen(tx, m, x); err != nil {
			return err
		}
		m.State = Checking
		return nil
	})
	if err != nil {
		return Merchant{}, fmt.Errorf("other papers of %s: %w", id, err)
	}
	return m, nil
}

// Approve closes the checks of a merchant with yes: every check it needs must
// have passed or been waived. Its shops get merchant numbers and become payees
// of settlement.
func Approve(tx *db.Tx, id, by, why string) error {
	m, err := Of(tx, id)
	if err != nil {
		return err
	}
	if by == "" || len(why) > MaxWhy {
		return fmt.Errorf("approving %s: %w", id, ErrStaff)
	}
	open, err := Missing(tx, m)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		return fmt.Errorf("approving %s: %v: %w", id, open, ErrUnready)
	}
	if err := move(tx, m, Approved, by, why); err != nil {
		return err
	}
	shops, err := ShopsOf(tx, id)
	if err != nil {
		return err
	}
	for _, s := range shops {
		if s.State == Applied {
			if err := openShop(tx, s, by); err != nil {
				return fmt.Errorf("opening %s: %w", s.ID, err)
			}
		}
	}
	return nil
}

// openShop gives a shop its merchant number and its account.
func openShop(tx *db.Tx, s Shop, by string) (err error) {
	if s.MID == "" {
		if s.MID, err = newMID(tx, s.City, s.MCC); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`UPDATE merchant_shop SET mid = $2, state = $3 WHERE id = $1`, s.ID, s.MID, Approved); err != nil {
		return err
	}
	if err := tell(tx, Event{Merchant: s.Merchant, About: s.ID, What: "shop.approved", From: string(s.State), To: string(Approved), By: by}); err != nil {
		return err
	}
	o, err := opening(tx, s)
	if err != nil {
		return err
	}
	return settlement.OpenAll(tx, []settlement.Opening{o})
}

// opening is the shop as a payee: it is paid on its merchant's account.
func opening(tx *db.Tx, s Shop) (settlement.Opening, error) {
	m, err := Of(tx, s.Merchant)
	if err != nil {
		return settlement.Opening{}, err
	}
	sealed, err := Sealed(tx, s.Merchant)
	return m.opening(s, sealed, termsOf(s, calendar.Of(tx.Now(), calendar.Beijing))), err
}

func (m Merchant) opening(s Shop, sealed []byte, terms []settlement.Terms) settlement.Opening {
	return settlement.Opening{Payee: s.ID, Name: s.NameEN, Terms: terms,
		Account: settlement.BankAccount{Bank: m.Bank, Masked: m.AccountMask, Sealed: sealed}}
}

// Decide moves a merchant on by a decision of staff: Refused, Suspended,
// Active again, Closed, or Applied when it shall bring other papers.
func Decide(tx *db.Tx, id string, to State, by, why string) error {
	m, err := Of(tx, id)
	if err != nil {
		return err
	}
	if by == "" || why == "" || len(why) > MaxWhy {
		return fmt.Errorf("merchant %s to %s: %w", id, to, ErrStaff)
	}
	if to == Approved || to == Checking || to == Active && m.State != Suspended {
		return fmt.Errorf("merchant %s from %s to %s: %w", id, m.State, to, ErrState)
	}
	return move(tx, m, to, by, why)
}

// move writes a change of state with its event.
func move(tx *db.Tx, m Merchant, to State, by, why string) error {
	if !m.State.May(to) {
		return fmt.Errorf("merchant %s from %s to %s: %w", m.ID, m.State, to, ErrState)
	}
	n, err := tx.Exec(`UPDATE merchant_party SET state = $2, changed = $3 WHERE id = $1 AND state = $4`, m.ID, to, micros(tx.Now()), m.State)
	if err == nil && n == 0 {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("merchant %s to %s: %w", m.ID, to, err)
	}
	if err := count(tx, m.City, m.State, -1); err != nil {
		return err
	}
	if err := count(tx, m.City, to, 1); err != nil {
		return err
	}
	if err := tell(tx, Event{Merchant: m.ID, About: m.ID, What: string(to), From: string(m.State), To: string(to), By: by, Why: why}); err != nil {
		return err
	}
	return outbox.Put(tx, outbox.Event{Name: "merchant." + string(to), Subject: m.ID, Data: map[string]string{"was": string(m.State), "by": by}})
}

// DecideShop stops, reopens or closes one shop by a decision of staff.
func DecideShop(tx *db.Tx, shop string, to State, by, why string) error {
	s, err := ShopOf(tx, shop)
	if err != nil {
		return err
	}
	if by == "" || why == "" || len(why) > MaxWhy {
		return fmt.Errorf("shop %s to %s: %w", shop, to, ErrStaff)
	}
	if to != Suspended && to != Closed && (to != Active || s.State != Suspended) {
		return fmt.Errorf("shop %s from %s to %s: %w", shop, s.State, to, ErrState)
	}
	return moveShop(tx, s, to, by, why)
}

func moveShop(tx *db.Tx, s Shop, to State, by, why string) error {
	if !s.State.May(to) {
		return fmt.Errorf("shop %s from %s to %s: %w", s.ID, s.State, to, ErrState)
	}
	if _, err := tx.Exec(`UPDATE merchant_shop SET state = $2 WHERE id = $1`, s.ID, to); err != nil {
		return err
	}
	return tell(tx, Event{Merchant: s.Merchant, About: s.ID, What: "shop." + string(to), From: string(s.State), To: string(to), By: by, Why: why})
}

// AddShop gives a merchant another shop. Of a merchant that trades it opens at
// once, otherwise with the merchant's approval.
func AddShop(tx *db.Tx, s Shop, by string) (Shop, error) {
	m, err := Of(tx, s.Merchant)
	if err != nil {
		return Shop{}, err
	}
	switch {
	case m.State == Closed || m.State == Refused || m.State == Suspended:
		return Shop{}, fmt.Errorf("shop of %s, which is %s: %w", m.ID, m.State, ErrState)
	case !plainText(s.NameEN, MaxName) || !plainText(s.NameZH, MaxName) || len(s.Address) > MaxText:
		return Shop{}, fmt.Errorf("shop of %s: %w", m.ID, ErrName)
	case categoryOf[s.MCC].MCC == "":
		return Shop{}, fmt.Errorf("shop of %s: %w", m.ID, ErrCategory)
	case cityOf[s.City].Code == "":
		return Shop{}, fmt.Errorf("shop of %s: %w", m.ID, ErrCity)
	}
	s.ID, s.MID, s.State, s.Made = tx.NewID("shop"), "", Applied, tx.Now()
	if err := shopSheet.insert(tx, s.row()); err != nil {
		return Shop{}, err
	}
	if err := tell(tx, Event{Merchant: m.ID, About: s.ID, What: "shop.added", To: string(Applied), By: by}); err != nil {
		return Shop{}, err
	}
	if m.State.Trades() {
		if err := openShop(tx, s, by); err != nil {
			return Shop{}, err
		}
	}
	return ShopOf(tx, s.ID)
}
