package acquiring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/pan"
	"koala/spec/pboc"
)

// A Sale is a record of a bank card as pages show it.
type Sale struct {
	ID     string // sale_…, of its trace
	TID    string
	Number uint32
	Shop   string
	Kind   pboc.ClearingKind
	Type   byte           // 9C
	Card   issuing.CardID // empty: not of this house
	ATC    uint16
	Fen    int64
	Moved  int64 // to the shop; negative: from it
	Batch  uint32
	STAN   uint32
	At     time.Time // by the till's clock; zero: not readable
	Got    time.Time
	Fate   Fate
	Why    Why
	waits  string
	sealed []byte
}

// A Filter narrows lists of pages; empty fields do not.
type Filter struct {
	Shop, TID string
	Card      issuing.CardID
	Before    string // id of the last one seen; empty: from the newest
	Limit     int
}

// Sales reads records, newest first.
func Sales(q db.Reader, f Filter) ([]Sale, error) {
	return sales(q, `WHERE (shop = $1 OR $1 = '') AND (tid = $2 OR $2 = '') AND (card = $3 OR $3 = '') AND (id < $4 OR $4 = '')
		ORDER BY id DESC LIMIT $5`, f.Shop, f.TID, f.Card, f.Before, limited(f.Limit))
}

func sales(q db.Reader, where string, args ...any) (out []Sale, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Sale
		var number, kind, typ, atc, batch, stan, at, got int64
		err := scan(&s.ID, &s.TID, &number, &s.Shop, &kind, &typ, &s.Card, &atc, &s.Fen, &s.Moved, &batch, &stan, &at, &got, &s.Fate, &s.Why, &s.waits, &s.sealed)
		s.Number, s.Kind, s.Type, s.ATC, s.Batch, s.STAN = uint32(number), pboc.ClearingKind(kind), byte(typ), uint16(atc), uint32(batch), uint32(stan)
		s.At, s.Got = db.Moment(at), db.Moment(got)
		out = append(out, s)
		return err
	}, `SELECT id, tid, number, shop, kind, type, card, atc, fen,
		CAST((SELECT COALESCE(SUM(m.fen), 0) FROM acquiring_movement m WHERE m.card = r.card AND m.atc = r.atc AND m.card <> '') AS BIGINT), batch, stan, done, got, fate, why, waits, sealed FROM acquiring_record r `+where, args...)
	return out, err
}

// Meals reads sales of canteens, newest first.
func Meals(q db.Reader, f Filter) ([]Meal, error) {
	return meals(q, `WHERE (shop = $1 OR $1 = '') AND (till = $2 OR $2 = '') AND (card = $3 OR $3 = '') AND (id < $4 OR $4 = '')
		ORDER BY id DESC LIMIT $5`, f.Shop, f.TID, f.Card, f.Before, limited(f.Limit))
}

// Redemptions reads redemptions, newest first; Filter.Card is a coupon card.
func Redemptions(q db.Reader, f Filter) ([]Redemption, error) {
	name := ""
	if f.Card != "" {
		name = hexed(issuing.CouponID("coupon", string(f.Card)))
	}
	return redemptions(q, `WHERE (shop = $1 OR $1 = '') AND (tid = $2 OR $2 = '') AND (coupon = $3 OR $3 = '') AND (id < $4 OR $4 = '')
		ORDER BY id DESC LIMIT $5`, f.Shop, f.TID, name, f.Before, limited(f.Limit))
}

// A Request is an online request of a till, with its answer.
type Request struct {
	ID   string // auth_…, of its trace
	TID  string
	Shop string
	Day  string // Beijing
	STAN uint32
	Card issuing.CardID
	Fen  int64
	ARC  string // empty: not answered
	Why  issuing.Reason
	At   time.Time
}

// Requests reads online requests, newest first.
func Requests(q db.Reader, f Filter) ([]Request, error) {
	return requests(q, `WHERE (shop = $1 OR $1 = '') AND (tid = $2 OR $2 = '') AND (card = $3 OR $3 = '') AND (id < $4 OR $4 = '')
		ORDER BY id DESC LIMIT $5`, f.Shop, f.TID, f.Card, f.Before, limited(f.Limit))
}

func requests(q db.Reader, where string, args ...any) (out []Request, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r Request
		var stan, at int64
		err := scan(&r.ID, &r.TID, &r.Shop, &r.Day, &stan, &r.Card, &r.Fen, &r.ARC, &r.Why, &at)
		r.STAN, r.At = uint32(stan), db.Moment(at)
		out = append(out, r)
		return err
	}, `SELECT id, tid, shop, day, stan, card, fen, arc, why, at FROM acquiring_auth `+where, args...)
	return out, err
}

// A Waiting is something in suspense, or put aside as odd.
type Waiting struct {
	ID     string // of its trace; Office.Retry takes it
	What   string // sale, meal, redemption, passage
	TID    string
	Number uint32
	Shop   string
	Card   issuing.CardID
	Fen    int64
	Why    Why
	Since  time.Time
}

// InSuspense reads what waits, by kind and id, from the one after the given.
func InSuspense(q db.Reader, after string, limit int) ([]Waiting, error) {
	return waiting(q, `SELECT id, 'sale', tid, number, shop, card, fen, why, got FROM acquiring_record WHERE fate = 'suspense' AND id > $1
		UNION ALL SELECT id, 'meal', till, number, shop, card, fen + subsidy, why, got FROM acquiring_meal WHERE why <> '' AND id > $1
		UNION ALL SELECT id, 'redemption', tid, number, shop, '', reduction, why, got FROM acquiring_redemption WHERE why <> '' AND id > $1
		ORDER BY 1 LIMIT $2`, after, limited(limit))
}

// OddOnes reads what was put aside, by id, from the one after the given.
func OddOnes(q db.Reader, after string, limit int) ([]Waiting, error) {
	return waiting(q, `SELECT o.id, o.what, o.tid, o.number, d.shop, '', 0, o.why, o.got FROM acquiring_odd o JOIN acquiring_device d ON d.tid = o.tid
		WHERE o.id > $1 ORDER BY o.id LIMIT $2`, after, limited(limit))
}

func waiting(q db.Reader, query string, args ...any) (out []Waiting, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var w Waiting
		var number, since int64
		err := scan(&w.ID, &w.What, &w.TID, &number, &w.Shop, &w.Card, &w.Fen, &w.Why, &since)
		w.Number, w.Since = uint32(number), db.Moment(since)
		out = append(out, w)
		return err
	}, query, args...)
	return out, err
}

// Retry looks again at something in suspense.
func (o *Office) Retry(ctx context.Context, id string) (res Result, err error) {
	kind, _, _ := strings.Cut(id, "_")
	switch kind {
	case "sale":
		var s Sale
		err = o.store.Read(ctx, func(q *db.Query) (err error) {
			list, err := sales(q, `WHERE id = $1`, id)
			s, err = one(list, err, "sale "+id)
			return err
		})
		if err == nil && s.Fate != Suspense {
			return Result{Number: s.Number, ID: id, Fate: Known, Why: s.Why}, nil
		}
		if err == nil {
			res, err = o.retrySale(ctx, s)
		}
	case "meal":
		err = o.store.Write(ctx, func(tx *db.Tx) error { res, err = o.retryMeal(tx, id); return err })
	case "rdm":
		err = o.store.Write(ctx, func(tx *db.Tx) error { res, err = retryRedemption(tx, id); return err })
	default:
		err = ErrNotFound
	}
	if err != nil {
		return Result{}, fmt.Errorf("trying %s again: %w", id, err)
	}
	return res, nil
}

func (o *Office) retryMeal(tx *db.Tx, id string) (Result, error) {
	list, err := meals(tx, `WHERE id = $1`, id)
	m, err := one(list, err, "meal "+id)
	if err != nil || m.Fate() == Booked {
		return Result{Number: m.number, ID: id, Fate: Known, Why: m.Why}, err
	}
	if m.Card == "" {
		if m.Card, err = o.cardOf(tx, m.UID, issuing.Canteen, m.At); err != nil {
			return Result{}, err
		}
	}
	if err := m.settle(tx); err != nil {
		return Result{}, err
	}
	return Result{Number: m.number, ID: id, Fate: m.Fate(), Why: m.Why}, followers(tx, m)
}

func retryRedemption(tx *db.Tx, id string) (Result, error) {
	list, err := redemptions(tx, `WHERE id = $1`, id)
	x, err := one(list, err, "redemption "+id)
	if err != nil || x.Done {
		return Result{Number: x.number, ID: id, Fate: Known, Why: x.Why}, err
	}
	err = x.settle(tx, x.issuerOf())
	return Result{Number: x.number, ID: id, Fate: x.Fate(), Why: x.Why}, err
}

// Tick decides what doubts have waited long enough, tries what may have become
// bookable again, a page at a time in turn, and forgets old passages. It may be
// called at any time.
func (o *Office) Tick(ctx context.Context) error {
	if err := errors.Join(o.bank.RipenDoubts(ctx), o.bank.Recover(ctx)); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []Waiting
	err := o.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = InSuspense(q, o.tried, maxTries)
		return err
	})
	if err != nil {
		return err
	}
	o.tried = "" // from the beginning, unless more is left
	if len(list) == maxTries {
		o.tried = list[len(list)-1].ID
	}
	for _, w := range list {
		if forGood[w.Why] {
			continue
		}
		if _, err := o.Retry(ctx, w.ID); err != nil {
			return err
		}
	}
	return o.store.Write(ctx, Forget)
}

// maxTries is how many things one Tick tries again.
const maxTries = 100

// forGood are reasons that no time heals.
var forGood = map[Why]bool{Why(issuing.FlawProof): true, Why(issuing.FlawCurrency): true, Why(issuing.FlawDiffers): true, Why(issuing.FlawOver): true, WhyRefund: true, WhyUses: true}

// Earned sums what was booked for each shop by everything handed over: what its
// payouts and its account must come to.
func Earned(q db.Reader) (map[string]int64, error) {
	out := map[string]int64{}
	err := db.Each(q, func(scan func(...any) error) error {
		var shop string
		var n int64
		err := scan(&shop, &n)
		out[shop] += n
		return err
	}, `SELECT shop, CAST(SUM(fen) AS BIGINT) FROM acquiring_movement GROUP BY shop
		UNION ALL SELECT shop, CAST(SUM(CASE WHEN card_done THEN fen ELSE 0 END + CASE WHEN firm_done THEN subsidy ELSE 0 END) AS BIGINT)
			FROM acquiring_meal WHERE kind = 1 GROUP BY shop
		UNION ALL SELECT shop, CAST(-SUM(CASE WHEN card_done THEN fen ELSE 0 END + CASE WHEN firm_done THEN subsidy ELSE 0 END) AS BIGINT)
			FROM acquiring_meal WHERE kind = 2 GROUP BY shop
		UNION ALL SELECT shop, CAST(SUM(reduction) AS BIGINT) FROM acquiring_redemption WHERE done GROUP BY shop
		UNION ALL SELECT id, 0 FROM acquiring_shop`)
	return out, err
}

// A Field is one named thing of a message.
type Field struct{ EN, ZH, Value string }

// A Trace is one thing handed over from its message to its postings.
type Trace struct {
	ID       string
	What     string // sale, meal, redemption, request, passage
	TID      string
	Shop     string
	Card     issuing.CardID
	Foreign  bin.Range // range of a sale's card that is not of this house; empty: not listed
	At, Got  time.Time
	Message  []Field // nothing in it is secret; card numbers are masked
	Fate     Fate
	Why      Why
	Reason   issuing.Reason // of a request
	Postings []string       // references of the entries it may have made
}

// TraceOf follows a sale, meal, redemption or request by its id.
func (o *Office) TraceOf(ctx context.Context, id string) (t Trace, err error) {
	var sealed []byte
	kind, _, _ := strings.Cut(id, "_")
	err = o.store.Read(ctx, func(q *db.Query) error {
		switch kind {
		case "sale":
			list, err := sales(q, `WHERE id = $1`, id)
			s, err := one(list, err, "sale "+id)
			t, sealed = s.trace(), s.sealed
			if err == nil {
				t.Postings, err = movements(q, s.Card, s.ATC)
			}
			return err
		case "meal":
			list, err := meals(q, `WHERE id = $1`, id)
			m, err := one(list, err, "meal "+id)
			t = m.trace()
			return err
		case "rdm":
			list, err := redemptions(q, `WHERE id = $1`, id)
			x, err := one(list, err, "redemption "+id)
			t = x.trace()
			return err
		case "auth":
			list, err := requests(q, `WHERE id = $1`, id)
			r, err := one(list, err, "request "+id)
			t = Trace{ID: id, What: "request", TID: r.TID, Shop: r.Shop, Card: r.Card, At: r.At, Got: r.At, Reason: r.Why,
				Message: []Field{{"trace number", "流水号", fmt.Sprintf("%06d", r.STAN)}, {"amount", "金额", fen(r.Fen).String()}, {"answer", "应答码", r.ARC}}}
			return err
		}
		return fmt.Errorf("trace %s: %w", id, ErrNotFound)
	})
	if err != nil || sealed == nil {
		return t, err
	}
	wire, err := o.keys.Unseal(ctx, sealed)
	if err != nil {
		return t, err
	}
	c, err := pboc.ParseClearing(wire)
	if err != nil {
		return t, errors.Join(ErrBatch, err)
	}
	if t.Card == "" {
		t.Foreign, _ = bin.Of(pan.PAN(c.PAN))
	}
	t.Message = fieldsOf(c)
	return t, nil
}

func (s Sale) trace() Trace {
	return Trace{ID: s.ID, What: "sale", TID: s.TID, Shop: s.Shop, Card: s.Card, At: s.At, Got: s.Got, Fate: s.Fate, Why: s.Why}
}

// movements lists the entries that the counter of a card has led to.
func movements(q db.Reader, card issuing.CardID, atc uint16) (refs []string, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var ref string
		err := scan(&ref)
		refs = append(refs, ref)
		return err
	}, `SELECT ref FROM acquiring_movement WHERE card = $1 AND atc = $2 AND card <> '' ORDER BY ref`, card, int64(atc))
	return refs, err
}

func fieldsOf(c pboc.Clearing) []Field {
	return []Field{
		{"card", "卡号", pboc.MaskPAN(c.PAN)}, {"counter (9F36)", "交易计数器", fmt.Sprint(c.ATC)}, {"amount (9F02)", "金额", fen(int64(c.Fen)).String()},
		{"cryptogram (9F26)", "应用密文", fmt.Sprintf("%X", c.AC)}, {"issuer data (9F10)", "发卡行应用数据", fmt.Sprintf("%X", c.IAD)},
		{"unpredictable number (9F37)", "不可预知数", fmt.Sprintf("%X", c.UN)}, {"terminal's results (95)", "终端验证结果", fmt.Sprintf("%X", c.TVR)},
		{"date, time (9A, 9F21)", "日期时间", fmt.Sprintf("%X %X", c.Date, c.Time)}, {"type (9C)", "交易类型", fmt.Sprintf("%02X", c.Type)},
		{"batch, trace number", "批次号 流水号", fmt.Sprintf("%06d %06d", c.Batch, c.STAN)}, {"merchant (9F16)", "商户号", c.MID},
	}
}

func (m Meal) trace() Trace {
	return Trace{ID: m.ID, What: "meal", TID: m.TID, Shop: m.Shop, Card: m.Card, At: m.At, Got: m.Got, Fate: m.Fate(), Why: m.Why,
		Message: []Field{{"number", "流水号", fmt.Sprint(m.Seq)}, {"kind", "类型", m.Kind.Words(false)}, {"from the card", "卡内扣款", fen(m.Fen).String()},
			{"employer's part", "单位补贴", fen(m.Subsidy).String()}, {"of sale", "原流水号", fmt.Sprint(m.Of)}, {"chip", "卡片UID", fmt.Sprintf("%X", m.UID)},
			{"check value", "校验码", fmt.Sprintf("%X", m.body[desfire.SaleLen-8:])}},
		Postings: []string{m.ref("meal"), m.ref("subsidy")}}
}

func (x Redemption) trace() Trace {
	return Trace{ID: x.ID, What: "redemption", TID: x.TID, Shop: x.Shop, At: x.At, Got: x.Got, Fate: x.Fate(), Why: x.Why,
		Message: []Field{{"coupon", "优惠券", x.Coupon.String()}, {"counter", "计数", fmt.Sprint(x.Counter)}, {"operation", "操作", x.Op.Words(false)},
			{"purchase", "消费金额", fen(x.Fen).String()}, {"taken off", "优惠金额", fen(x.Reduction).String()}, {"proof", "核销证明", fmt.Sprintf("%X", x.body[coupon.RedemptionLen-8:])}},
		Postings: []string{fmt.Sprintf("coupon:%s:%s:%d", hexed(x.Holder), hexed(x.Coupon), x.Counter)}}
}
