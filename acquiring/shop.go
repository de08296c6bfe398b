package acquiring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
)

// codeFunding is the chart code of what firms have paid in.
const codeFunding = "2060"

// custody is the bank account where clients' money lies (package wallet).
const custody ledger.AccountID = "bank.custody"

func named(id, en, zh string) bool {
	return plain(id) && len(id) <= MaxID && en != "" && zh != "" && len(en) <= MaxName && len(zh) <= MaxName
}

// plain ids are of letters, digits, dash and underscore.
func plain(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// once inserts a row that may be there already; another row under its id is
// ErrDiffers.
func once(tx *db.Tx, insert, same string, args ...any) error {
	n, err := tx.Exec(insert, append(args, micros(tx.Now()))...)
	if err != nil || n == 1 {
		return err
	}
	var there int64
	if err := tx.QueryRow(same, args...).Scan(&there); err != nil || there == 0 {
		return errors.Join(err, ErrDiffers)
	}
	return nil
}

// AddFirm registers a firm and opens its account. The same again changes
// nothing.
func AddFirm(tx *db.Tx, f Firm) error {
	if !named(f.ID, f.NameEN, f.NameZH) {
		return fmt.Errorf("firm %q: %w", f.ID, ErrFirm)
	}
	name := f.Issuer()
	err := once(tx, `INSERT INTO acquiring_firm (id, name_en, name_zh, issuer, made) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING`,
		`SELECT COUNT(*) FROM acquiring_firm WHERE id = $1 AND name_en = $2 AND name_zh = $3 AND issuer = $4`,
		f.ID, f.NameEN, f.NameZH, hex.EncodeToString(name[:]))
	if err == nil {
		err = ledger.OpenAccount(tx, ledger.Account{ID: Funding(f.ID), Code: codeFunding, Name: f.NameEN, Currency: money.CNY,
			Limits: ledger.Limits{Floor: ledger.AtLeast(0)}})
	}
	if err != nil {
		return fmt.Errorf("firm %s: %w", f.ID, err)
	}
	return nil
}

// Fund books what a firm has paid in at the custody bank, which is simulated.
// ref names the payment; the same again changes nothing.
func Fund(tx *db.Tx, ref, firm string, amount money.Amount) error {
	if ref == "" || len(ref) > MaxID || amount.Sign() <= 0 || amount.Currency() != money.CNY {
		return fmt.Errorf("payment %q of firm %s: %w", ref, firm, ErrFirm)
	}
	e := ledger.Move("funding:"+ref, custody, Funding(firm), amount)
	e.Kind, e.Text = KindFunding, "paid in for subsidies and coupons"
	if _, err := ledger.Post(tx, e); err != nil {
		return fmt.Errorf("payment %s of firm %s: %w", ref, firm, err)
	}
	return nil
}

// AddSite registers a site. The same again changes nothing.
func AddSite(tx *db.Tx, s Site) error {
	if s.KeepDays == 0 {
		s.KeepDays = DefaultKeep
	}
	if !named(s.ID, s.NameEN, s.NameZH) || s.Number == 0 || s.Owner == "" || len(s.Owner) > MaxID || s.KeepDays < 1 || s.KeepDays > 3660 {
		return fmt.Errorf("site %q: %w", s.ID, ErrSite)
	}
	if s.Firm != "" {
		if _, err := FirmOf(tx, s.Firm); err != nil {
			return fmt.Errorf("site %s: %w", s.ID, err)
		}
	}
	err := once(tx, `INSERT INTO acquiring_site (id, number, owner, firm, name_en, name_zh, keep_days, made) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		`SELECT COUNT(*) FROM acquiring_site WHERE id = $1 AND number = $2 AND owner = $3 AND firm = $4 AND name_en = $5 AND name_zh = $6 AND keep_days = $7`,
		s.ID, int64(s.Number), s.Owner, s.Firm, s.NameEN, s.NameZH, s.KeepDays)
	if err != nil {
		return fmt.Errorf("site %s: %w", s.ID, err)
	}
	return nil
}

// AddShop registers a shop: with package merchant, which makes it a payee of
// settlement, and here with its site. The same again changes nothing.
func AddShop(tx *db.Tx, s Shop) error {
	bad := func(err error) error { return fmt.Errorf("shop %q: %w", s.ID, err) }
	if !named(s.ID, s.NameEN, s.NameZH) || !strings.HasPrefix(s.ID, "shop_") || len(s.MCC) != 4 || strings.Trim(s.MCC, "0123456789") != "" ||
		s.City == "" || len(s.City) > MaxName {
		return bad(ErrShop)
	}
	if s.Site != "" {
		if _, err := SiteOf(tx, s.Site); err != nil {
			return bad(err)
		}
	}
	city, err := merchant.FindCity(s.City)
	if err != nil {
		return bad(err)
	}
	_, err = merchant.Adopt(tx, merchant.Shop{ID: s.ID, NameEN: s.NameEN, NameZH: s.NameZH, MID: s.MID, MCC: s.MCC, City: city.Code}, "acquiring", "registered with its devices")
	if errors.Is(err, merchant.ErrDiffers) {
		err = errors.Join(ErrDiffers, err)
	}
	if err == nil {
		err = once(tx, `INSERT INTO acquiring_shop (id, site, name_en, name_zh, mcc, city, made) VALUES ($1, $2, '', '', '', '', $3) ON CONFLICT (id) DO NOTHING`,
			`SELECT COUNT(*) FROM acquiring_shop WHERE id = $1 AND site = $2`, s.ID, s.Site)
	}
	if err != nil {
		return bad(err)
	}
	return nil
}

// CarryOver gives the shops and tills of an older store to package merchant,
// which keeps them now; here only their sites and the rows of what they hand
// over stay. It may be called at every start: what was given stays given.
func CarryOver(tx *db.Tx) error {
	type old struct{ id, en, zh, mcc, city string }
	var list []old
	err := db.Each(tx, func(scan func(...any) error) error {
		var o old
		err := scan(&o.id, &o.en, &o.zh, &o.mcc, &o.city)
		list = append(list, o)
		return err
	}, `SELECT id, name_en, name_zh, mcc, city FROM acquiring_shop WHERE name_en <> '' ORDER BY id`)
	if err != nil {
		return err
	}
	for _, o := range list {
		tills, err := devices(tx, `WHERE shop = $1 AND kind = 'pos' ORDER BY tid`, o.id)
		if err != nil {
			return err
		}
		if err := carryShop(tx, Shop{ID: o.id, NameEN: o.en, NameZH: o.zh, MCC: o.mcc, City: o.city}, tills); err != nil {
			return fmt.Errorf("carrying shop %s over: %w", o.id, err)
		}
	}
	return nil
}

const carried = "kept by acquiring before"

func carryShop(tx *db.Tx, s Shop, tills []Device) error {
	if len(tills) > 0 {
		s.MID = tills[0].MID
	}
	city, err := merchant.FindCity(s.City)
	if err != nil {
		return err
	}
	_, err = merchant.Adopt(tx, merchant.Shop{ID: s.ID, NameEN: s.NameEN, NameZH: s.NameZH, MID: s.MID, MCC: s.MCC, City: city.Code}, "koala", carried)
	for _, d := range tills {
		if err == nil {
			err = merchant.AdoptTerminal(tx, d.terminal(), "koala", carried)
		}
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE acquiring_shop SET name_en = '', name_zh = '', mcc = '', city = '' WHERE id = $1`, s.ID)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE acquiring_device SET mid = '', place_en = '', place_zh = '', state = '' WHERE shop = $1 AND kind = 'pos'`, s.ID)
	}
	return err
}

// lives are the states of a till as package merchant keeps them.
var lives = map[State]merchant.Life{Registered: merchant.Registered, Active: merchant.InUse, Suspended: merchant.Stopped, Retired: merchant.Retired}

// terminal is a till as package merchant keeps it. Tills say no serial number
// at their registration: their terminal number stands for it.
func (d Device) terminal() merchant.Terminal {
	return merchant.Terminal{TID: d.TID, Serial: d.TID, Kind: merchant.POS, Shop: d.Shop, PlaceEN: d.PlaceEN, PlaceZH: d.PlaceZH, Life: lives[d.State]}
}

// fill gives a till what package merchant keeps of it.
func (d *Device) fill(q db.Reader) error {
	s, err := merchant.StandingOf(q, d.TID)
	if errors.Is(err, merchant.ErrNotFound) {
		return nil // of an older store, before CarryOver
	}
	if err != nil {
		return err
	}
	d.MID, d.PlaceEN, d.PlaceZH = s.Shop.MID, s.Terminal.PlaceEN, s.Terminal.PlaceZH
	for state, life := range lives {
		if life == s.Terminal.Life || life == merchant.InUse && s.Terminal.Life == merchant.Injected {
			d.State = state
		}
	}
	return nil
}

// AddDevice registers a device, not installed yet: its installation needs a
// transport key (Office.Transport). The same again changes nothing, neither its
// state.
func AddDevice(tx *db.Tx, d Device) error {
	bad := func(err error) error { return fmt.Errorf("device %q: %w", d.TID, err) }
	if err := d.check(); err != nil {
		return bad(err)
	}
	if d.Kind == Door {
		if _, err := SiteOf(tx, d.Site); err != nil {
			return bad(err)
		}
	} else {
		s, err := ShopOf(tx, d.Shop)
		if err != nil {
			return bad(err)
		}
		d.Site = s.Site
		if d.Kind == POS && d.MID == "" {
			d.MID = s.MID
		}
		if d.Kind == POS && d.MID != s.MID {
			return bad(fmt.Errorf("its shop has another merchant number: %w", ErrDevice))
		}
	}
	known, err := DeviceOf(tx, d.TID)
	if err == nil {
		known.State, known.Seen, known.Next = d.State, d.Seen, d.Next
		if known != d {
			return bad(ErrDiffers)
		}
		return nil
	}
	if !errors.Is(err, ErrNotFound) {
		return bad(err)
	}
	state := Registered
	if d.Kind == POS {
		if _, err := merchant.AddTerminal(tx, d.terminal()); err != nil {
			return bad(err)
		}
		d.MID, d.PlaceEN, d.PlaceZH, state = "", "", "", ""
	}
	_, err = tx.Exec(`INSERT INTO acquiring_device (tid, kind, mid, shop, site, place_en, place_zh, state, seen, high) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0)`,
		d.TID, d.Kind, d.MID, d.Shop, d.Site, d.PlaceEN, d.PlaceZH, state)
	return err
}

func (d Device) check() error {
	hexed := strings.Trim(d.TID, "0123456789ABCDEF") == ""
	switch {
	case len(d.TID) != 8 || !plain(d.TID) || len(d.PlaceEN) > MaxName || len(d.PlaceZH) > MaxName,
		(d.Kind == Door) != (d.Shop == ""), d.Kind == Door && d.Site == "":
		return ErrDevice
	}
	switch d.Kind {
	case POS:
		if d.MID == "" || len(d.MID) == 15 && plain(d.MID) {
			return nil
		}
	case Canteen, Door:
		if hexed && d.MID == "" {
			return nil
		}
	case Coupon:
		if d.MID == "" {
			return nil
		}
	}
	return ErrDevice
}

// SetState suspends a device, lets it work again, retires it, or opens it for
// another installation (Registered), for which it needs another transport key.
// by decides, why is the reason.
func SetState(tx *db.Tx, tid string, to State, by, why string) error {
	d, err := DeviceOf(tx, tid)
	if err != nil || d.State == to {
		return err
	}
	if !d.State.May(to) {
		return fmt.Errorf("device %s from %s to %s: %w", tid, d.State, to, ErrState)
	}
	if _, err = tx.Exec(`DELETE FROM acquiring_transport WHERE tid = $1`, tid); err != nil {
		return err
	}
	if d.Kind == POS {
		err = merchant.Live(tx, tid, lives[to], by, why)
	} else {
		_, err = tx.Exec(`UPDATE acquiring_device SET state = $2 WHERE tid = $1`, tid, to)
	}
	return err
}

// ShopOf reads one shop; one that package merchant alone knows has no site.
func ShopOf(q db.Reader, id string) (Shop, error) {
	list, err := shops(q, `WHERE id = $1`, id)
	if err != nil || len(list) == 1 {
		return one(list, err, "shop "+id)
	}
	s := Shop{ID: id}
	if err := s.fill(q); err != nil {
		return Shop{}, fmt.Errorf("shop %s: %w", id, err)
	}
	return s, nil
}

// fill gives a shop what package merchant keeps of it.
func (s *Shop) fill(q db.Reader) error {
	m, err := merchant.ShopOf(q, s.ID)
	switch {
	case errors.Is(err, merchant.ErrNotFound) && s.NameEN != "": // of an older store, before CarryOver
		return nil
	case errors.Is(err, merchant.ErrNotFound):
		return ErrNotFound
	case err != nil:
		return err
	}
	s.NameEN, s.NameZH, s.MID, s.MCC, s.City = m.NameEN, m.NameZH, m.MID, m.MCC, m.Place().NameEN
	if s.Made.IsZero() {
		s.Made = m.Made
	}
	return nil
}

// Shops reads the shops registered here by id, from the one after the given.
func Shops(q db.Reader, after string, limit int) ([]Shop, error) {
	return shops(q, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limited(limit))
}

func shops(q db.Reader, where string, args ...any) (out []Shop, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Shop
		var made int64
		err := scan(&s.ID, &s.NameEN, &s.NameZH, &s.MCC, &s.City, &s.Site, &made)
		s.Made = db.Moment(made)
		out = append(out, s)
		return err
	}, `SELECT id, name_en, name_zh, mcc, city, site, made FROM acquiring_shop `+where, args...)
	for i := range out {
		if err == nil {
			err = out[i].fill(q)
		}
	}
	return out, err
}

// FirmOf reads one firm.
func FirmOf(q db.Reader, id string) (Firm, error) {
	list, err := firms(q, `WHERE id = $1`, id)
	return one(list, err, "firm "+id)
}

// Firms reads all firms by id, from the one after the given.
func Firms(q db.Reader, after string, limit int) ([]Firm, error) {
	return firms(q, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limited(limit))
}

func firms(q db.Reader, where string, args ...any) (out []Firm, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var f Firm
		var made int64
		err := scan(&f.ID, &f.NameEN, &f.NameZH, &made)
		f.Made = db.Moment(made)
		out = append(out, f)
		return err
	}, `SELECT id, name_en, name_zh, made FROM acquiring_firm `+where, args...)
	return out, err
}

// SiteOf reads one site.
func SiteOf(q db.Reader, id string) (Site, error) {
	list, err := sites(q, `WHERE id = $1`, id)
	return one(list, err, "site "+id)
}

// Sites reads all sites by id, from the one after the given.
func Sites(q db.Reader, after string, limit int) ([]Site, error) {
	return sites(q, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limited(limit))
}

func sites(q db.Reader, where string, args ...any) (out []Site, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Site
		var made, number int64
		err := scan(&s.ID, &number, &s.Owner, &s.Firm, &s.NameEN, &s.NameZH, &s.KeepDays, &made)
		s.Number, s.Made = uint32(number), db.Moment(made)
		out = append(out, s)
		return err
	}, `SELECT id, number, owner, firm, name_en, name_zh, keep_days, made FROM acquiring_site `+where, args...)
	return out, err
}

// DeviceOf reads one device.
func DeviceOf(q db.Reader, tid string) (Device, error) {
	list, err := devices(q, `WHERE tid = $1`, tid)
	return one(list, err, "device "+tid)
}

// Devices reads the devices of a shop, or all of them for "", by number, from
// the one after the given.
func Devices(q db.Reader, shop, after string, limit int) ([]Device, error) {
	return devices(q, `WHERE (shop = $1 OR $1 = '') AND tid > $2 ORDER BY tid LIMIT $3`, shop, after, limited(limit))
}

func devices(q db.Reader, where string, args ...any) (out []Device, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Device
		var seen, high int64
		err := scan(&d.TID, &d.Kind, &d.MID, &d.Shop, &d.Site, &d.PlaceEN, &d.PlaceZH, &d.State, &seen, &high)
		d.Seen, d.Next = db.Moment(seen), uint32(high)+1
		out = append(out, d)
		return err
	}, `SELECT tid, kind, mid, shop, site, place_en, place_zh, state, seen, high FROM acquiring_device `+where, args...)
	for i := range out {
		if err == nil && out[i].Kind == POS {
			err = out[i].fill(q)
		}
	}
	return out, err
}

// one is the only element of a list.
func one[T any](list []T, err error, what string) (x T, _ error) {
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return x, fmt.Errorf("%s: %w", what, err)
	}
	return list[0], nil
}

func limited(n int) int { return min(max(n, 1), maxPage) }
