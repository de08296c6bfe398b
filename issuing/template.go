package issuing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing/bin"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// TemplateState is where a template is in its life.
type TemplateState string

// The states, and who acts next.
const (
	Submitted TemplateState = "submitted" // the house's staff: approve or refuse
	Approved  TemplateState = "approved"  // customers may order; its owner or staff: withdraw
	Refused   TemplateState = "refused"   // its owner: submit the next version
	Withdrawn TemplateState = "withdrawn" // nobody: cards already issued live on
)

var nextTemplate = map[TemplateState][]TemplateState{
	Submitted: {Approved, Refused, Withdrawn}, Approved: {Withdrawn}, Refused: {}, Withdrawn: {},
}

// May tells whether a template in state s may go to state to.
func (s TemplateState) May(to TemplateState) bool {
	for _, t := range nextTemplate[s] {
		if t == to {
			return true
		}
	}
	return false
}

// House is the issuer of the house's own templates.
const House = "koala"

// A Template is what cards of a kind are written with, as their issuer
// describes it. It never changes: a change is the next version, and a card
// keeps the version it was written with.
type Template struct {
	ID             string // tpl_…
	Issuer         string // who answers for the cards: House, or a firm on the platform
	Code           string // of the card among the issuer's: a-z, 0-9, dash
	Version        int    // from 1
	Kind           Kind
	NameEN, NameZH string
	Art            string // key of the drawing on pages
	Space          int    // bytes of an element that one card takes
	// Data is the kind's own part as JSON: BankData, CanteenData, DoorData or
	// CouponData.
	Data    json.RawMessage
	State   TemplateState
	By      string // who decided last
	Why     string // why it was refused or withdrawn
	Made    time.Time
	Decided time.Time
}

// BankData is the kind's part of ECash, Debit and Credit (CARD.md 1.4, 1.14).
// Amounts are fen.
type BankData struct {
	Label          string `json:"label"`                 // tag 50, 1 to 16 letters, digits and spaces
	Priority       byte   `json:"priority"`              // tag 87, 1 first
	Service        string `json:"service"`               // service code, three digits
	CVN            byte   `json:"cvn"`                   // 1 or 17
	SM             bool   `json:"sm,omitempty"`          // SM4 instead of 3DES, and an SM2 chain beside the RSA one
	ECash          bool   `json:"ecash"`                 // offline payments draw on an e-cash balance
	Processing     uint32 `json:"processing"`            // 9F68
	SingleLimit    int64  `json:"single_limit"`          // 9F78: one offline payment at most
	ResetThreshold int64  `json:"reset"`                 // 9F6D: go online below it
	CVMLimit       int64  `json:"cvm_limit"`             // 9F6B: above it a PIN or a signature
	TotalLimit     int64  `json:"total"`                 // 9F54: cumulative offline total, go online
	TotalUpper     int64  `json:"total_upper"`           // 9F5C: the same, decline
	FastDDA1       bool   `json:"fdda1"`                 // fDDA version 01
	CreditLimit    int64  `json:"credit"`                // of a credit account
	Years          int    `json:"years"`                 // validity
	OfflinePIN     bool   `json:"offline_pin,omitempty"` // the card checks its PIN by itself
	Support        byte   `json:"capp,omitempty"`        // DF61: 0 none, 1 segment fare, 2 with pre-authorisation
	OffsetLimit    int64  `json:"offset"`                // DF62: what a segment fare may leave owing
}

// CanteenData is the kind's part of Canteen.
type CanteenData struct {
	Site string `json:"site"` // whose canteen
}

// DoorData is the kind's part of Door.
type DoorData struct {
	Site uint32 `json:"site"` // number of the site, as its doors have it
	Days int    `json:"days"` // a credential is valid for
}

// CouponData is the kind's part of Coupon.
type CouponData struct {
	Merchant string `json:"merchant"` // who redeems
	Gives    string `json:"gives"`    // amount, percent, stamps or thing
	Value    uint32 `json:"value"`    // fen, or hundredths of a percent
	Ceiling  uint32 `json:"ceiling"`  // of a percentage, fen; 0 none
	Minimum  uint32 `json:"minimum"`  // spend below which it gives nothing, fen
	Uses     uint16 `json:"uses"`     // times it may be redeemed
	Needed   byte   `json:"needed"`   // stamps for one redemption
	Days     int    `json:"days"`     // valid for, from the day of issue
}

// CouponID is the eight-byte name of something on discount cards: a coupon, the
// band that holds it (holder), a merchant or an issuer.
func CouponID(kind, name string) (id coupon.ID) {
	sum := sha256.Sum256([]byte(kind + ":" + name))
	copy(id[:], sum[:])
	return id
}

// coupon is the line of the discount card that a card of this house is.
func (d CouponData) coupon(c Card, issuer string) (coupon.Coupon, error) {
	first := calendar.Of(c.Opened, calendar.Beijing)
	kind, ok := map[string]coupon.Kind{"amount": coupon.AmountOff, "percent": coupon.PercentOff, "stamps": coupon.StampCard, "thing": coupon.Entitlement}[d.Gives]
	if !ok {
		return coupon.Coupon{}, fmt.Errorf("%w: a coupon gives amount, percent, stamps or thing", ErrTemplate)
	}
	x := coupon.Coupon{ID: CouponID("coupon", string(c.ID)), Issuer: CouponID("issuer", issuer), Merchant: CouponID("merchant", d.Merchant),
		Kind: kind, Value: d.Value, Ceiling: d.Ceiling, Minimum: d.Minimum, From: yyyymmdd(first), To: yyyymmdd(first.AddDays(d.Days - 1)),
		Uses: d.Uses, Needed: d.Needed}
	if _, err := coupon.Parse(x.Bytes()); err != nil {
		return coupon.Coupon{}, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	return x, nil
}

const maxTemplateText = 60

// read decodes the kind's part strictly: an unknown field is a mistake.
func read[T any](data json.RawMessage) (d T, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, fmt.Errorf("%w: %s", ErrTemplate, strings.TrimPrefix(err.Error(), "json: "))
	}
	if dec.More() {
		return d, fmt.Errorf("%w: something after the data", ErrTemplate)
	}
	return d, nil
}

// check tells what is wrong with a template.
func (t Template) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrTemplate, what) }
	switch {
	case t.Issuer == "" || len(t.Issuer) > MaxBand || !plain(t.Code) || len(t.Code) > MaxBand:
		return bad("an issuer and a code of a-z, 0-9 and dash")
	case t.NameEN == "" || t.NameZH == "" || len(t.NameEN) > maxTemplateText || len(t.NameZH) > maxTemplateText:
		return bad("names in both languages, at most 60 bytes")
	case t.Art == "" || len(t.Art) > MaxBand:
		return bad("a drawing")
	case t.Space < 0 || t.Space > maxSpace:
		return bad("space")
	case t.Kind.Bank() && t.Issuer != House:
		return bad("bank cards are the house's own")
	}
	return t.checkData()
}

const maxSpace = 64 << 10

func plain(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != ""
}

func (t Template) checkData() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrTemplate, what) }
	switch t.Kind {
	case ECash, Debit, Credit:
		d, err := read[BankData](t.Data)
		if err != nil {
			return err
		}
		return d.check(t.Kind)
	case Canteen:
		d, err := read[CanteenData](t.Data)
		if err == nil && (d.Site == "" || len(d.Site) > MaxBand) {
			err = bad("site")
		}
		return err
	case Door:
		d, err := read[DoorData](t.Data)
		if err == nil && (d.Site == 0 || d.Days < 1 || d.Days > 3660) {
			err = bad("site and days of a door card")
		}
		return err
	case Coupon:
		d, err := read[CouponData](t.Data)
		if err == nil && (d.Merchant == "" || len(d.Merchant) > MaxBand || d.Uses < 1 || d.Days < 1 || d.Days > 3660) {
			err = bad("merchant, uses and days of a coupon")
		}
		if err == nil {
			_, err = d.coupon(Card{}, t.Issuer)
		}
		return err
	}
	return bad("kind " + string(t.Kind))
}

func (d BankData) check(k Kind) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrTemplate, what) }
	switch {
	case d.Label == "" || len(d.Label) > 16 || strings.ContainsFunc(d.Label, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != ' '
	}):
		return bad("label")
	case d.Priority < 1 || d.Priority > 15 || len(d.Service) != 3 || strings.Trim(d.Service, "0123456789") != "":
		return bad("priority 1 to 15 and service code of three digits")
	case d.CVN != pboc.CVN01 && d.CVN != pboc.CVN17:
		return bad("cryptogram version")
	case d.Years < 1 || d.Years > 20 || d.Support > pboc.SupportFull:
		return bad("years or extended application")
	case k == ECash && !d.ECash, (d.CreditLimit > 0) != (k == Credit):
		return bad("e-cash of an e-cash card, limit of a credit card")
	}
	for _, fen := range []int64{d.SingleLimit, d.ResetThreshold, d.CVMLimit, d.TotalLimit, d.TotalUpper, d.CreditLimit, d.OffsetLimit} {
		if fen < 0 || fen > 1_000_000_00 {
			return bad("a limit outside 0 to 1,000,000 yuan")
		}
	}
	return nil
}

const templateColumns = `id, issuer, code, version, kind, name_en, name_zh, art, space, data, state, by_whom, why, made, decided`

func scanTemplate(scan func(...any) error) (t Template, err error) {
	var made, decided int64
	var data string
	err = scan(&t.ID, &t.Issuer, &t.Code, &t.Version, &t.Kind, &t.NameEN, &t.NameZH, &t.Art, &t.Space, &data, &t.State, &t.By, &t.Why, &made, &decided)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoTemplate
	}
	t.Data, t.Made, t.Decided = json.RawMessage(data), db.Moment(made), db.Moment(decided)
	return t, err
}

// TemplateOf reads one template.
func TemplateOf(q db.Reader, id string) (Template, error) {
	t, err := scanTemplate(q.QueryRow(`SELECT `+templateColumns+` FROM issuing_template WHERE id = $1`, id).Scan)
	if err != nil {
		return Template{}, fmt.Errorf("template %s: %w", id, err)
	}
	return t, nil
}

// Templates reads an issuer's templates, or all of them for "", newest first.
func Templates(q db.Reader, issuer string, limit int) (out []Template, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		t, err := scanTemplate(scan)
		out = append(out, t)
		return err
	}, `SELECT `+templateColumns+` FROM issuing_template WHERE issuer = $1 OR $1 = '' ORDER BY id DESC LIMIT $2`, issuer, min(max(limit, 1), maxPage))
	return out, err
}

// Submit hands the next version of a template in. The same content as the
// newest version gives that one again.
func Submit(tx *db.Tx, t Template) (Template, error) {
	if err := t.check(); err != nil {
		return Template{}, fmt.Errorf("template %s/%s: %w", t.Issuer, t.Code, err)
	}
	last, err := scanTemplate(tx.QueryRow(`SELECT `+templateColumns+` FROM issuing_template
		WHERE issuer = $1 AND code = $2 ORDER BY version DESC LIMIT 1`, t.Issuer, t.Code).Scan)
	switch {
	case err == nil && last.Kind != t.Kind:
		return Template{}, fmt.Errorf("template %s/%s was a %s card: %w", t.Issuer, t.Code, last.Kind, ErrTemplate)
	case err == nil && last.same(t) && (last.State == Submitted || last.State == Approved):
		return last, nil
	case err != nil && !errors.Is(err, ErrNoTemplate):
		return Template{}, err
	}
	t.ID, t.Version, t.State, t.Made, t.By, t.Why = tx.NewID("tpl"), last.Version+1, Submitted, tx.Now(), "", ""
	_, err = tx.Exec(`INSERT INTO issuing_template (`+templateColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', '', $12, 0)`,
		t.ID, t.Issuer, t.Code, t.Version, t.Kind, t.NameEN, t.NameZH, t.Art, t.Space, string(t.Data), t.State, t.Made.UnixMicro())
	return t, err
}

func (t Template) same(u Template) bool {
	return t.NameEN == u.NameEN && t.NameZH == u.NameZH && t.Art == u.Art && t.Space == u.Space && bytes.Equal(t.Data, u.Data)
}

// Approve puts a template's card on sale, as product "issuer/code", from now
// on: it replaces the version before. by names the member of staff.
func Approve(tx *db.Tx, id, by string) (Template, error) {
	t, err := decide(tx, id, Approved, by, "")
	if err != nil || t.Issuer == House {
		return t, err // the house's own products have terms of their own
	}
	p := Product{Code: t.Issuer + "/" + t.Code, Kind: t.Kind, Template: t.ID, From: tx.Now(), NameEN: t.NameEN, NameZH: t.NameZH, Art: t.Art,
		Years: 1, Source: "template " + t.ID + " approved by " + by}
	if p, err = placed(p); err != nil {
		return Template{}, err
	}
	return t, SetProduct(tx, p)
}

// Refuse sends a submitted template back with a reason.
func Refuse(tx *db.Tx, id, by, why string) (Template, error) {
	return decide(tx, id, Refused, by, why)
}

// Withdraw takes a template back, or off sale; by is its issuer or staff.
func Withdraw(tx *db.Tx, id, by, why string) (Template, error) {
	t, err := decide(tx, id, Withdrawn, by, why)
	if err != nil {
		return t, err
	}
	_, err = tx.Exec(`UPDATE issuing_product SET valid_to = $2 WHERE template = $1 AND (valid_to = 0 OR valid_to > $2)`, id, tx.Now().UnixMicro())
	return t, err
}

// decide moves a template on; the same decision again is no news.
func decide(tx *db.Tx, id string, to TemplateState, by, why string) (Template, error) {
	t, err := TemplateOf(tx, id)
	if err != nil || t.State == to {
		return t, err
	}
	if by == "" || len(why) > 200 || !t.State.May(to) {
		return Template{}, fmt.Errorf("template %s from %s to %s: %w", id, t.State, to, ErrState)
	}
	t.State, t.By, t.Why, t.Decided = to, by, why, tx.Now()
	_, err = tx.Exec(`UPDATE issuing_template SET state = $2, by_whom = $3, why = $4, decided = $5 WHERE id = $1`, id, to, by, why, t.Decided.UnixMicro())
	return t, err
}

// TransitBJ is the product code of the Beijing T-Union purse.
const TransitBJ = "transit-bj"

const productColumns = `code, valid_from, valid_to, name_en, name_zh, art, package, module, instance, issuer,
	prefix, province, city, years, deposit, min_load, max_load, max_balance, source, kind, template`

func scanProduct(scan func(...any) error) (p Product, err error) {
	var from, to, deposit, minLoad, maxLoad, maxBalance int64
	var pkg, module, instance, issuer, province, city string
	err = scan(&p.Code, &from, &to, &p.NameEN, &p.NameZH, &p.Art, &pkg, &module, &instance, &issuer,
		&p.Prefix, &province, &city, &p.Years, &deposit, &minLoad, &maxLoad, &maxBalance, &p.Source, &p.Kind, &p.Template)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrProduct
	}
	if err != nil {
		return Product{}, err
	}
	p.From, p.To = db.Moment(from), db.Moment(to)
	p.Deposit, p.MinLoad, p.MaxLoad, p.MaxBalance = money.Fen(deposit), money.Fen(minLoad), money.Fen(maxLoad), money.Fen(maxBalance)
	for _, f := range []struct {
		text string
		put  func([]byte)
	}{
		{pkg, func(b []byte) { p.Package = b }}, {module, func(b []byte) { p.Module = b }},
		{instance, func(b []byte) { p.Instance = b }}, {issuer, func(b []byte) { copy(p.Issuer[:], b) }},
		{province, func(b []byte) { copy(p.Province[:], b) }}, {city, func(b []byte) { copy(p.City[:], b) }},
	} {
		b, err := hex.DecodeString(f.text)
		if err != nil {
			return Product{}, fmt.Errorf("product %s: %w", p.Code, err)
		}
		f.put(b)
	}
	return p, nil
}

// ProductOn reads a product as it was on a date: the version that began last.
func ProductOn(q db.Reader, code string, on time.Time) (Product, error) {
	p, err := scanProduct(q.QueryRow(`SELECT `+productColumns+` FROM issuing_product
		WHERE code = $1 AND valid_from <= $2 AND (valid_to = 0 OR valid_to > $2)
		ORDER BY valid_from DESC LIMIT 1`, code, on.UnixMicro()).Scan)
	if err != nil {
		return Product{}, fmt.Errorf("product %q on %s: %w", code, on.Format(time.DateOnly), err)
	}
	return p, nil
}

// Products reads what is on sale on a date.
func Products(q db.Reader, on time.Time) (out []Product, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanProduct(scan)
		if n := len(out); err == nil && n > 0 && out[n-1].Code == p.Code {
			return nil // an older version that has no end of its own
		}
		out = append(out, p)
		return err
	}, `SELECT `+productColumns+` FROM issuing_product
		WHERE valid_from <= $1 AND (valid_to = 0 OR valid_to > $1) ORDER BY code, valid_from DESC`, on.UnixMicro())
	return out, err
}

// panDigits is how long PANs of a kind of bank card are.
func panDigits(k Kind) int {
	if k == Credit {
		return bin.Credit.Length
	}
	return bin.Debit.Length
}

// checkPrefix tells whether the house may number bank cards of a kind under a
// prefix: in no range that is listed for another bank or for PANs of another
// length, within bin.HousePrefix, and with room for serials.
func checkPrefix(k Kind, prefix string) error {
	length := panDigits(k)
	if len(prefix) < 8 || length-1-len(prefix) < 4 || strings.Trim(prefix, "0123456789") != "" {
		return fmt.Errorf("prefix of %d characters, PAN of %d: %w", len(prefix), length, ErrPrefix)
	}
	for _, n := range []int{16, 17, 18, 19} {
		b, ok := bin.Of(pan.PAN(prefix + strings.Repeat("0", n-len(prefix))))
		switch {
		case ok && !b.House() && (n == length || len(b.Prefix) >= len(bin.HousePrefix)):
			return fmt.Errorf("prefix %s lies in range %s of bank %s: %w", prefix, b.Prefix, b.Bank, ErrPrefix)
		case ok && b.House() && n != length:
			return fmt.Errorf("prefix %s is of PANs of %d digits, not %d: %w", prefix, n, length, ErrPrefix)
		}
	}
	if !strings.HasPrefix(prefix, bin.HousePrefix) {
		return fmt.Errorf("prefix %s is not the house's: %w", prefix, ErrPrefix)
	}
	return nil
}

// SetProduct adds a version of a product, valid from p.From on, and a number
// range for its prefix when there is none, where cards of the kind have numbers.
func SetProduct(tx *db.Tx, p Product) error {
	numbered := p.Kind == Transit || p.Kind.Bank()
	digits := rangeOf(p)
	if p.Code == "" || len(p.Instance) == 0 || p.Years < 1 || p.Kind == Transit && (len(p.Prefix) < 8 || digits < 4) || numbered && p.MaxLoad.Sign() <= 0 ||
		p.Kind != Transit && p.Template == "" {
		return fmt.Errorf("product %q: %w", p.Code, ErrProduct)
	}
	if p.Kind.Bank() {
		if err := checkPrefix(p.Kind, p.Prefix); err != nil {
			return fmt.Errorf("product %q: %w", p.Code, err)
		}
	}
	var to int64
	if !p.To.IsZero() {
		to = p.To.UnixMicro()
	}
	_, err := tx.Exec(`INSERT INTO issuing_product (`+productColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
		ON CONFLICT (code, valid_from) DO NOTHING`,
		p.Code, p.From.UnixMicro(), to, p.NameEN, p.NameZH, p.Art, hex.EncodeToString(p.Package), hex.EncodeToString(p.Module),
		hex.EncodeToString(p.Instance), hex.EncodeToString(p.Issuer[:]), p.Prefix, hex.EncodeToString(p.Province[:]),
		hex.EncodeToString(p.City[:]), p.Years, p.Deposit.Minor(), p.MinLoad.Minor(), p.MaxLoad.Minor(), p.MaxBalance.Minor(), p.Source, p.Kind, p.Template)
	if err != nil {
		return fmt.Errorf("product %s: %w", p.Code, err)
	}
	if !numbered {
		return nil
	}
	last := int64(1)
	for range digits {
		last *= 10
	}
	_, err = tx.Exec(`INSERT INTO issuing_range (prefix, digits, upcoming, last) VALUES ($1, $2, 1, $3)
		ON CONFLICT (prefix) DO NOTHING`, p.Prefix, digits, last-1)
	return err
}

// Seed puts the house's first products on sale. It may be called at every
// start: what is there stays.
func Seed(tx *db.Tx) error {
	return SetProduct(tx, beijing())
}

// beijing is the T-Union purse of Beijing. One top-up is at most 500 yuan and
// a card holds at most 1,000 (DOMAIN.md 2); issuer and number layout follow the
// card read in CARD.md 6.7, region codes its file 17; the load file and module
// are those of the element's catalogue.
func beijing() Product {
	aid := []byte{0xA0, 0x00, 0x00, 0x06, 0x32, 0x01, 0x01, 0x05}
	return Product{
		Code: TransitBJ, Kind: Transit, From: time.Date(2014, 12, 28, 0, 0, 0, 0, calendar.Beijing).UTC(),
		NameEN: "Beijing transit card", NameZH: "北京市政交通一卡通", Art: "transit-bj",
		Package: aid[:7], Module: aid, Instance: purse.AIDTUnion,
		Issuer: [8]byte{0x01, 0x01, 0x10, 0x00, 0xFF, 0xFF, 0xFF, 0xFF}, Prefix: "0310517007",
		Province: [2]byte{0x10, 0x00}, City: [2]byte{0x10, 0x00}, Years: 20,
		Deposit: money.Fen(20_00), MinLoad: money.Fen(1), MaxLoad: money.Fen(500_00), MaxBalance: money.Fen(1000_00),
		Source: "card service terms of 28 December 2014; 1,000 yuan: State Council opinion of 2011 on prepaid cards",
	}
}
