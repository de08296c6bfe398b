package acquiring

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
)

// An Office is what devices of shops and sites talk to. Its methods ask the hsm
// first and then book in one unit per thing handed over.
type Office struct {
	store    *db.Store
	keys     *hsm.HSM
	bank     *issuing.Bank
	elements Elements
	masters  Masters

	mu    sync.Mutex
	tried string // id up to which Tick has tried what is in suspense
}

// NewOffice makes the office over a store that has this package's Schema and
// those of settlement and issuing, and watches what the bank's clearing moves.
func NewOffice(store *db.Store, keys *hsm.HSM, bank *issuing.Bank, e Elements) *Office {
	o := &Office{store: store, keys: keys, bank: bank, elements: e}
	bank.Watch(moved)
	store.Provide(officeKey{}, o)
	return o
}

// Masters draws the master key of a till for bank cards, wrapped under its
// transport key, for the host that the till will sign on to (switching.Host's
// Install). Drawn again, it replaces the one before.
type Masters func(ctx context.Context, tid string, transport []byte) (hsm.Injected, error)

// GiveMasters says who draws the master keys of tills for bank cards. Without
// it tills get none, and only hand their records in.
func (o *Office) GiveMasters(m Masters) { o.masters = m }

// officeKey is what units of work find the office by.
type officeKey struct{}

// A Transport is a device's transport key between the hsm, which drew it, and
// the unit that keeps it (Keep). Form goes to the installer and is not kept.
type Transport struct {
	Form   hsm.TransportForm
	sealed []byte
}

// DrawTransport draws a transport key; it counts once a unit has kept it.
func (o *Office) DrawTransport(ctx context.Context, tid string) (t Transport, err error) {
	if t.Form, t.sealed, err = o.keys.NewTransport(ctx, tid); err != nil {
		err = fmt.Errorf("transport key of device %s: %w", tid, err)
	}
	return t, err
}

// Keep gives the key to its device, which waits for its installation; one that
// it had is worthless from then on.
func (t Transport) Keep(tx *db.Tx) error {
	d, err := DeviceOf(tx, t.Form.TID)
	if err == nil && d.State != Registered {
		err = fmt.Errorf("device %s is %s: %w", d.TID, d.State, ErrState)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO acquiring_transport (tid, sealed, made) VALUES ($1, $2, $3) ON CONFLICT (tid) DO UPDATE SET sealed = excluded.sealed, made = excluded.made`,
		d.TID, t.sealed, micros(tx.Now()))
	return err
}

// Transport gives a registered device a transport key: the form is for whoever
// installs it, and cannot be had again. A key is good for one installation.
func (o *Office) Transport(ctx context.Context, tid string) (hsm.TransportForm, error) {
	t, err := o.DrawTransport(ctx, tid)
	if err == nil {
		err = o.store.Write(ctx, t.Keep)
	}
	if err != nil {
		return hsm.TransportForm{}, err
	}
	return t.Form, nil
}

// An Installation is what a device is installed with: what it is, and the keys
// it works with, each wrapped under its transport key.
type Installation struct {
	Device Device
	Shop   Shop // of a till
	Site   Site // of a door
	Packs  ed25519.PublicKey
	CA     []emv.CAKey // of a till for bank cards
	Keys   []hsm.Injected
}

// uses are the keys that a kind of device works with.
var uses = map[Kind][]hsm.TerminalUse{
	Canteen: {hsm.TillCards, hsm.TillSales}, Door: {hsm.DoorReader, hsm.DoorHost}, Coupon: {hsm.CouponMerchant},
}

// Install hands a device its keys and makes it active. It may be done once with
// a transport key, which is forgotten then. Staff open a device for another time
// with SetState and give it another one, also when the answer was lost: nobody
// knows who has it.
func (o *Office) Install(ctx context.Context, tid string) (in Installation, err error) {
	return o.InstallProven(ctx, tid, nil)
}

// InstallProven is Install for a device that proves that it has its transport
// key (hsm.TransportKey.Proof): with a dead one it is hsm.ErrTransport, and its
// installation is not spent.
func (o *Office) InstallProven(ctx context.Context, tid string, proof []byte) (in Installation, err error) {
	var transport []byte
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		if in.Device, err = DeviceOf(q, tid); err != nil {
			return err
		}
		if in.Device.State != Registered {
			return ErrInstalled
		}
		if in.Device.Kind == Door {
			in.Site, err = SiteOf(q, in.Device.Site)
		} else {
			in.Shop, err = ShopOf(q, in.Device.Shop)
		}
		if err == nil {
			transport, err = transportOf(q, tid)
		}
		return err
	})
	if err == nil && proof != nil {
		err = o.keys.CheckProof(ctx, tid, transport, proof)
	}
	if err == nil {
		in.Packs, err = o.keys.PublicKey(ctx, hsm.LabelPack)
	}
	if err == nil && in.Device.Kind == POS {
		in.CA, err = o.bank.CAKeys(ctx)
	}
	if err == nil {
		err = o.inject(ctx, &in, transport)
	}
	if err == nil {
		err = o.store.Write(ctx, func(tx *db.Tx) error { return installed(tx, tid, transport) })
	}
	if err != nil {
		return Installation{}, fmt.Errorf("installing device %s: %w", tid, err)
	}
	in.Device.State = Active
	return in, nil
}

// inject wraps the keys of a device; a till for bank cards gets a new master key.
func (o *Office) inject(ctx context.Context, in *Installation, transport []byte) error {
	if in.Device.Kind == POS {
		if o.masters == nil {
			return nil
		}
		k, err := o.masters(ctx, in.Device.TID, transport)
		in.Keys = []hsm.Injected{k}
		return err
	}
	owner := coupon.ID{}
	if in.Device.Kind == Coupon {
		owner = in.Shop.Merchant()
	}
	for _, use := range uses[in.Device.Kind] {
		k, err := o.keys.Inject(ctx, hsm.TerminalKey{Use: use, TID: in.Device.TID, Merchant: owner}, transport)
		if err != nil {
			return err
		}
		in.Keys = append(in.Keys, k)
	}
	return nil
}

func transportOf(q db.Reader, tid string) (sealed []byte, err error) {
	err = q.QueryRow(`SELECT sealed FROM acquiring_transport WHERE tid = $1`, tid).Scan(&sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrTransport
	}
	return sealed, err
}

// installed makes a device active, if it is still open for installation under
// the same transport key.
func installed(tx *db.Tx, tid string, transport []byte) error {
	n, err := tx.Exec(`DELETE FROM acquiring_transport WHERE tid = $1 AND sealed = $2`, tid, transport)
	if err == nil && n == 1 {
		var d Device
		if d, err = DeviceOf(tx, tid); err == nil && d.Kind == POS {
			return injected(tx, d)
		}
	}
	if err == nil && n == 1 {
		n, err = tx.Exec(`UPDATE acquiring_device SET state = $2, seen = $3 WHERE tid = $1 AND state = $4`, tid, Active, micros(tx.Now()), Registered)
	}
	if err == nil && n == 0 {
		err = ErrInstalled
	}
	return err
}

// injected tells package merchant that a till has its keys.
func injected(tx *db.Tx, d Device) error {
	if d.State != Registered {
		return ErrInstalled
	}
	if _, err := tx.Exec(`UPDATE acquiring_device SET seen = $2 WHERE tid = $1`, d.TID, micros(tx.Now())); err != nil {
		return err
	}
	return merchant.Live(tx, d.TID, merchant.Injected, "", "")
}

// spoke notes that a device did; a till that was only injected is in use from
// then on.
func spoke(tx *db.Tx, d Device) error {
	if _, err := tx.Exec(`UPDATE acquiring_device SET seen = $2 WHERE tid = $1`, d.TID, micros(tx.Now())); err != nil || d.Kind != POS {
		return err
	}
	t, err := merchant.TerminalOf(tx, d.TID)
	if err == nil && t.Life == merchant.Injected {
		err = merchant.Live(tx, d.TID, merchant.InUse, "", "")
	}
	if err != nil {
		return err
	}
	return merchant.Saw(tx, d.TID, "")
}

// tillOf is the number that a canteen's till puts into its sales: its eight
// digits. AddDevice has seen to it that they are hexadecimal.
func tillOf(tid string) (t desfire.Till) {
	raw, err := hex.DecodeString(tid)
	if err == nil {
		copy(t[:], raw)
	}
	return t
}

// DoorNumber is the number of a door, as plans name it: its eight digits.
func DoorNumber(tid string) uint32 { t := tillOf(tid); return binary.BigEndian.Uint32(t[:]) }

// TerminalID is how a coupon till names itself at cards: its eight characters.
func TerminalID(tid string) (id coupon.ID) {
	copy(id[:], tid)
	return id
}

// heard reads a device that hands something over, and notes that it did. A
// device that was never installed has nothing to hand over.
func (o *Office) heard(ctx context.Context, tid string, kind Kind) (d Device, err error) {
	err = o.store.Write(ctx, func(tx *db.Tx) (err error) {
		if d, err = DeviceOf(tx, tid); err != nil {
			return err
		}
		switch {
		case d.Kind != kind:
			return fmt.Errorf("device %s is a %s: %w", tid, d.Kind, ErrKind)
		case d.State == Registered && d.Seen.IsZero():
			return fmt.Errorf("device %s is not installed: %w", tid, ErrState)
		}
		return spoke(tx, d)
	})
	return d, err
}

// working is heard for what only a device in use may do.
func (o *Office) working(ctx context.Context, tid string, kind Kind) (Device, error) {
	d, err := o.heard(ctx, tid, kind)
	if err == nil && d.State != Active {
		err = fmt.Errorf("device %s is %s: %w", tid, d.State, ErrState)
	}
	return d, err
}

// checkBatch refuses a batch whose numbers cannot be.
func checkBatch(tid string, first uint32, n int) error {
	if n > MaxBatch || n > 0 && (first == 0 || uint64(first)+uint64(n) > 1<<32) {
		return fmt.Errorf("%d records from number %d of device %s: %w", n, first, tid, ErrBatch)
	}
	return nil
}

// before is the number that a batch does not have to bring again.
func before(first uint32) uint32 {
	if first == 0 {
		return 0
	}
	return first - 1
}

// A Gap is a run of numbers of a device's row that have not come.
type Gap struct {
	TID       string
	Low, High uint32 // inclusive
	Opened    time.Time
}

// arrived enters a number of a device's row, which begins at 1: it opens a gap
// behind the highest number known, or closes the part of a gap that it lies in.
func arrived(tx *db.Tx, tid string, n uint32) error {
	var high int64
	if err := tx.QueryRow(`SELECT high FROM acquiring_device WHERE tid = $1`, tid).Scan(&high); err != nil {
		return err
	}
	if int64(n) > high {
		if err := insertGap(tx, tid, high+1, int64(n)-1, micros(tx.Now())); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE acquiring_device SET high = $2 WHERE tid = $1`, tid, int64(n))
		return err
	}
	var low, end, opened int64
	err := tx.QueryRow(`SELECT low, high, opened FROM acquiring_gap WHERE tid = $1 AND low <= $2 AND high >= $2`, tid, int64(n)).Scan(&low, &end, &opened)
	if errors.Is(err, db.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.Exec(`DELETE FROM acquiring_gap WHERE tid = $1 AND low = $2`, tid, low)
	}
	if err == nil {
		err = insertGap(tx, tid, low, int64(n)-1, opened)
	}
	if err == nil {
		err = insertGap(tx, tid, int64(n)+1, end, opened)
	}
	return err
}

func insertGap(tx *db.Tx, tid string, low, high, opened int64) error {
	if low > high {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO acquiring_gap (tid, low, high, opened) VALUES ($1, $2, $3, $4)`, tid, low, high, opened)
	return err
}

// Gaps reads what is missing of a device, or of all for "", by device and
// number.
func Gaps(q db.Reader, tid string, limit int) (out []Gap, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var g Gap
		var low, high, opened int64
		err := scan(&g.TID, &low, &high, &opened)
		g.Low, g.High, g.Opened = uint32(low), uint32(high), db.Moment(opened)
		out = append(out, g)
		return err
	}, `SELECT tid, low, high, opened FROM acquiring_gap WHERE tid = $1 OR $1 = '' ORDER BY tid, low LIMIT $2`, tid, limited(limit))
	return out, err
}

// missing completes the answer to a batch.
func (o *Office) missing(ctx context.Context, tid string, h *Handed) error {
	return o.store.Read(ctx, func(q *db.Query) (err error) {
		h.Missing, err = Gaps(q, tid, maxPage)
		return err
	})
}

// A strange thing is kept for the operator instead of being booked.
type strange struct {
	tid    string
	number uint32
	what   string
	why    Why
	hash   string
	sealed []byte
}

// keepOdd keeps it, once.
func keepOdd(tx *db.Tx, s strange) (Result, error) {
	r := Result{Number: s.number, Fate: Odd, Why: s.why}
	err := tx.QueryRow(`SELECT id FROM acquiring_odd WHERE tid = $1 AND number = $2 AND hash = $3`, s.tid, int64(s.number), s.hash).Scan(&r.ID)
	if err == nil || !errors.Is(err, db.ErrNoRows) {
		return r, err
	}
	r.ID = tx.NewID("odd")
	if _, err := tx.Exec(`INSERT INTO acquiring_odd (id, tid, number, what, why, hash, sealed, got) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		r.ID, s.tid, int64(s.number), s.what, s.why, s.hash, s.sealed, micros(tx.Now())); err != nil {
		return r, err
	}
	if s.number == 0 { // it is in no row
		return r, nil
	}
	return r, arrived(tx, s.tid, s.number)
}

// seal hashes and seals the wire form of something handed over.
func (o *Office) seal(ctx context.Context, wire []byte) (hash string, sealed []byte, err error) {
	if hash, err = o.keys.Token(ctx, string(wire)); err == nil {
		sealed, err = o.keys.Seal(ctx, wire)
	}
	return hash, sealed, err
}

// cardOf finds which card of a kind lived in a chip at a moment: of those
// written into it the one opened last before, else the first.
func (o *Office) cardOf(q db.Reader, uid desfire.UID, kind issuing.Kind, at time.Time) (issuing.CardID, error) {
	ids, err := o.elements.Cards(q, uid)
	var found issuing.Card
	for _, id := range ids {
		if err != nil {
			break
		}
		var c issuing.Card
		if c, err = issuing.Get(q, id); err != nil || c.Kind != kind {
			continue
		}
		older, later := c.Opened.Before(found.Opened), found.Opened.After(at)
		if found.ID == "" || later && older || !older && !c.Opened.After(at) {
			found = c
		}
	}
	return found.ID, err
}

// Kinds of entries that this package books, as statements name them.
const (
	KindFunding    = "firm.funding"
	KindMeal       = "canteen.purchase"
	KindMealBack   = "canteen.refund"
	KindSubsidy    = "canteen.subsidy"
	KindRedemption = "coupon.redeemed"
)

// post moves money for a shop and captures it, both once: to the shop, or from
// it for a negative amount. A shortage is its name, not an error.
func post(tx *db.Tx, ref, kind, text, shop string, other ledger.AccountID, n int64, at time.Time) (Why, error) {
	if n == 0 {
		return Fine, nil
	}
	e := ledger.Move(ref, other, settlement.Payable(shop), fen(n))
	e.Kind, e.Text = kind, text
	_, err := ledger.Post(tx, e)
	switch {
	case errors.Is(err, ledger.ErrInsufficient):
		return WhyShort, nil
	case errors.Is(err, ledger.ErrNoAccount):
		return WhyCard, nil
	case err != nil:
		return Fine, err
	}
	return Fine, settlement.Capture(tx, settlement.Item{Ref: ref, Payee: shop, Amount: fen(n), At: at, Kind: kind})
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
