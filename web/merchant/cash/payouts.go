package cash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"

	"koala/calendar"
	"koala/internal/db"
	"koala/settlement"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

func (d Deps) payouts(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx, pg := r.Context(), web.PageOf(r, parts.Rows)
	key := func(p settlement.Payout) string { return p.ID }
	var list []settlement.Payout
	var account settlement.BankAccount
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = parts.Gather(pg, func(after string, limit int) ([]settlement.Payout, error) {
			return settlement.Payouts(q, s.Shop.ID, after, limit)
		}, key, nil)
		if err != nil {
			return err
		}
		account, err = settlement.AccountOf(q, s.Shop.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("payouts of %s: %w", s.Shop.ID, err)
	}
	t := payoutTable(ctx, list)
	t.Next = parts.NextOf(r, list, pg, key)
	return d.Desk.List(w, r, s, web.Page{Title: words.Payouts, Lead: words.PayoutsLead, Here: atPayouts}, t, payoutsPage(t, account))
}

func payoutTable(ctx context.Context, list []settlement.Payout) web.Table {
	t := web.Table{ID: "payouts", Empty: words.NoPayouts, Head: []web.Column{{Name: words.SalesOf}, {Name: words.How}, {Name: words.State}, {Name: words.Arrives},
		{Name: words.Items, Num: true}, {Name: words.Gross, Num: true}, {Name: words.FeeOf, Num: true}, {Name: words.Paid, Num: true}}}
	for _, p := range list {
		t.Rows = append(t.Rows, web.Row{Href: atPayouts + "/" + p.ID, Cells: []web.Cell{{Text: shortDay(ctx, p.Day), CSV: p.Day.String(), Show: parts.Tight(shortDay(ctx, p.Day))},
			web.Plain(kindText(p.Kind).In(ctx)), stateCell(ctx, p.State), {Text: shortDay(ctx, p.Arrives), CSV: p.Arrives.String(), Show: parts.Tight(shortDay(ctx, p.Arrives))},
			web.Count(int64(p.Count)), web.Money(p.Gross.Minor()), web.Money(-p.Fee.Fee), web.Money(p.Amount.Minor())}})
	}
	return t
}

func kindText(k settlement.Kind) web.Text {
	if k == settlement.AtOnce {
		return words.AtOnce
	}
	return words.NextDay
}

// A payoutView is one payout.
type payoutView struct {
	payout settlement.Payout
	steps  []web.Step
	facts  []web.Fact
	lines  []web.Line
	share  web.Parted
	late   bool
	items  web.Table
}

func (d Deps) payout(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, pg := r.Context(), web.PageOf(r, parts.Rows)
	var v payoutView
	var items []settlement.Item
	key := func(i settlement.Item) string { return i.Ref }
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.payout, err = settlement.PayoutOf(q, r.PathValue("id")); err != nil {
			return err
		}
		if v.payout.Payee != s.Shop.ID {
			return fmt.Errorf("payout %s of another shop: %w", v.payout.ID, settlement.ErrNoPayout)
		}
		items, err = parts.Gather(pg, func(after string, limit int) ([]settlement.Item, error) {
			return settlement.ItemsOf(q, v.payout.ID, after, limit)
		}, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a payout: %w", err)
	}
	v.items = web.Table{ID: "payout-items", Empty: words.NoItems, Next: parts.NextOf(r, items, pg, key), Head: []web.Column{{Name: words.What}, {Name: words.Reference}, {Name: words.Card}, {Name: words.At}, {Name: words.Amount, Num: true}}}
	for _, i := range items {
		row := web.Row{Cells: []web.Cell{web.Plain(itemWords(i.Kind, i.Amount).In(ctx)), parts.Ident(i.Ref), web.Plain(cardWords(i.Card).In(ctx)), parts.At(i.At), web.Money(i.Amount.Minor())}}
		if rrn := rrnOf(i.Ref); rrn != "" {
			row.Href, row.Drawer = "/merchant/sales/"+rrn, true
		}
		v.items.Rows = append(v.items.Rows, row)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.items)
	}
	v.tell(ctx)
	return d.Desk.Show(w, r, s, web.Page{Title: titleOf(words.Payout, v.payout.Day), Back: atPayouts, Here: atPayouts, Lead: words.PayoutLead}, payoutPage(v))
}

// tell puts a payout into words.
func (v *payoutView) tell(ctx context.Context) {
	p := v.payout
	v.lines, v.late = lines(p.Explain()), p.Late()
	if p.Fee.Fee > 0 {
		v.share = web.Parted{Title: words.WhoGetsFee, Money: true, Parts: feeParts(p.Fee)}
	}
	v.facts = []web.Fact{{Name: words.Paid, Show: parts.Strong(web.Yuan(p.Amount.Minor()))}, {Name: words.How, Show: parts.Phrase(kindText(p.Kind))},
		{Name: words.SalesOf, Value: shortDay(ctx, p.Day), Href: atMoney + "/days/" + p.Day.String()}, {Name: words.Items, Value: web.Number(int64(p.Count))},
		{Name: words.Arrives, Value: shortDay(ctx, p.Arrives)}, {Name: words.Reference, Value: p.ID, Mono: true}, {Name: words.Entry, Value: p.Entry(), Mono: true}, {Name: words.Bank, Show: web.SimulatedTag()}}
	if !p.Promised.IsZero() && p.Kind == settlement.AtOnce {
		v.facts = append(v.facts, web.Fact{Name: words.PromisedBy, Value: web.Moment(p.Promised)})
	}
	v.steps = []web.Step{{Name: words.StepClosed, Detail: web.Moment(p.At), State: web.StepDone}, {Name: words.StepSent, State: web.StepTodo}, {Name: words.StepArrived, State: web.StepTodo}}
	switch p.State {
	case settlement.Waiting:
		v.steps[1].State = web.StepNow
	case settlement.Sent:
		v.steps[1].State, v.steps[2].State, v.steps[2].Detail = web.StepDone, web.StepNow, shortDay(ctx, p.Arrives)
	case settlement.Confirmed:
		v.steps[1].State, v.steps[2].State, v.steps[2].Detail = web.StepDone, web.StepDone, web.Moment(p.Answered)
	case settlement.Returned:
		v.steps[1].State, v.steps[2] = web.StepDone, web.Step{Name: words.StepReturned, State: web.StepFailed, Detail: web.Moment(p.Answered)}
	case settlement.Carried:
		v.steps = v.steps[:1]
	}
}

// An offerView is what being paid now would bring and cost.
type offerView struct {
	offer  settlement.Offer
	lines  []web.Line
	facts  []web.Fact
	price  []web.Line
	limit  []web.Line
	why    web.Text // it cannot be taken; empty: it can
	wish   wishView // where the terms do not allow it
	agreed bool
	token  string
	to     string
}

func (d Deps) offer(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	var v offerView
	var account settlement.BankAccount
	var terms settlement.Terms
	now := d.Desk.Store.Now()
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if v.offer, err = settlement.OfferNow(q, s.Shop.ID, now); err != nil {
			return err
		}
		if terms, err = settlement.TermsOf(q, s.Shop.ID, calendar.Of(now, calendar.Beijing)); err != nil {
			return err
		}
		if v.agreed = terms.Once.Agreed; !v.agreed {
			if v.wish, err = readWish(q, s.Shop.ID, calendar.Of(now, calendar.Beijing)); err != nil {
				return err
			}
		}
		account, err = settlement.AccountOf(q, s.Shop.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("offer to %s: %w", s.Shop.ID, err)
	}
	v.lines, v.to = lines(v.offer.Explain()), account.Bank+" "+account.Masked
	if v.offer.Refusal != nil {
		v.why = sayFailure(v.offer.Refusal)
	}
	v.price = []web.Line{{Text: words.PriceDays, Value: strconv.Itoa(v.offer.Days)}, {Text: words.PricePerDay, Value: basisPoints(terms.Once.BPDay)}, {Text: words.PriceAll, Value: basisPoints(v.offer.BP)},
		{Text: words.PriceIs, Value: web.Yuan(v.offer.Advance.Minor()), Total: true}}
	for _, l := range v.offer.Limit.Lines {
		v.limit = append(v.limit, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.Yuan(l.Fen.Minor())})
	}
	v.limit = append(v.limit, web.Line{Text: words.UsedToday, Value: web.Yuan(v.offer.Left.Minor() - v.offer.Limit.Most.Minor())}, web.Line{Text: words.LeftToday, Value: web.Yuan(v.offer.Left.Minor()), Total: true})
	v.facts = []web.Fact{{Name: words.LeftToday, Value: web.Yuan(v.offer.Left.Minor())}, {Name: words.PromisedBy, Value: web.Moment(v.offer.PromisedBy)}, {Name: words.Without, Value: shortDay(r.Context(), v.offer.Arrives)}, {Name: words.Account, Show: web.Quote("zh", v.to)}}
	v.token = offerToken(v.offer)
	return d.Desk.Show(w, r, s, web.Page{Title: words.PayNow, Lead: words.PayNowLead, Back: atMoney, Here: atMoney}, offerPage(v))
}

// offerToken is the part of an offer that yes was said to, as the form brings it
// back: its price.
func offerToken(o settlement.Offer) string { return strconv.FormatInt(o.BP, 10) }

// basisPoints writes 1/10,000 as per cent.
func basisPoints(bp int64) string { return fmt.Sprintf("%d.%02d %%", bp/100, bp%100) }

// payNow takes the offer. Sent twice it finds nothing more to pay.
func (d Deps) payNow(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	bp, err := strconv.ParseInt(r.PostFormValue("bp"), 10, 64)
	if err != nil {
		return fmt.Errorf("price %q: %w", r.PostFormValue("bp"), shell.ErrForm)
	}
	var paid settlement.Payout
	err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) (err error) {
		if paid, err = settlement.PayNow(tx, s.Shop.ID, settlement.Offer{BP: bp}); err != nil {
			return err
		}
		return shell.Keep(tx, s.Deed(shell.ActPayNow, atPayouts+"/"+paid.ID, web.Yuan(paid.Amount.Minor())))
	})
	if err != nil {
		return shell.Sorry(w, r, atMoney+"/now", err)
	}
	return web.Redirect(w, r, atPayouts+"/"+paid.ID, web.Toast{Tone: web.Good, Text: words.PayNowDone.In(r.Context(), web.Yuan(paid.Amount.Minor()))})
}

// A billView is one signed bill.
type billView struct {
	bill  settlement.Bill
	key   string // that signed it
	facts []web.Fact
	good  bool
}

// makeBill makes the bill of a closed day or a month that is over, once.
func (d Deps) makeBill(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx, period := r.Context(), r.PostFormValue("period")
	var b settlement.Bill
	sign, err := d.Bills.Signer(ctx)
	if err != nil {
		return err
	}
	if day, no := calendar.Parse(period); no == nil {
		b, err = settlement.DayBill(ctx, d.Desk.Store, s.Shop.ID, day, sign)
	} else {
		var month calendar.Month
		if month, err = monthOf(period); err != nil {
			return err
		}
		b, err = settlement.MonthBill(ctx, d.Desk.Store, s.Shop.ID, month, sign)
	}
	if err != nil {
		return shell.Sorry(w, r, atStatements, err)
	}
	at := "/merchant/bills/" + b.Period
	return d.Desk.Do(w, r, at, words.BillMade, s.Deed(shell.ActBill, at, b.Period), func(*db.Tx) error { return nil })
}

// bill shows a bill and proves it: its hash, the one before it, the signature,
// the sums.
func (d Deps) bill(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	v, err := d.readBill(r, s)
	if err != nil {
		return err
	}
	b := v.bill
	v.key = d.Bills.KeyOf(r.Context(), &b)
	sum := sha256.Sum256(b.CSV)
	v.facts = []web.Fact{{Name: words.Number, Value: strconv.FormatInt(b.No, 10)}, {Name: words.Period, Value: b.Period}, {Name: words.MadeAt, Value: web.Moment(b.At)},
		{Name: words.FileHash, Value: hex.EncodeToString(sum[:]), Mono: true}, {Name: words.BillHash, Value: hex.EncodeToString(b.Hash[:]), Mono: true},
		{Name: words.BeforeHash, Value: hex.EncodeToString(b.Prev[:]), Mono: true},
		{Name: words.SignKey, Value: v.key, Href: atKeys, Mono: true}, {Name: words.Signature, Value: hex.EncodeToString(b.Signature), Mono: true}}
	return d.Desk.Show(w, r, s, web.Page{Title: words.Bill, Lead: words.BillLead, Back: atStatements, Here: atStatements}, billPage(v))
}

func (d Deps) readBill(r *http.Request, s shell.Seat) (v billView, err error) {
	ctx := r.Context()
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		v.bill, err = settlement.BillOf(q, s.Shop.ID, r.PathValue("period"))
		return err
	})
	if err != nil {
		return v, fmt.Errorf("bill %q of %s: %w", r.PathValue("period"), s.Shop.ID, err)
	}
	err = settlement.VerifyBills([]settlement.Bill{v.bill}, v.bill.Prev, d.Bills.Check(ctx))
	v.good = err == nil
	return v, nil
}

func (d Deps) billFile(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	v, err := d.readBill(r, s)
	if err != nil {
		return err
	}
	return shell.Download(w, "bill-"+v.bill.Period+".csv", "text/csv; charset=utf-8", v.bill.CSV)
}
