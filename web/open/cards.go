package open

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/tsm"
)

type createTemplate struct {
	Keyed
	Body    NewTemplate
	RawBody []byte
}

// createTemplate keeps a draft. It is checked when it is submitted; here only
// its shape is.
func (a *api) createTemplate(ctx context.Context, in *createTemplate) (*Answered[CardTemplate], error) {
	if _, err := in.Body.template(partner(ctx)); err != nil {
		return nil, err
	}
	return exactly(ctx, a, "POST /v1/card-templates", in.Keyed, in.RawBody, func(tx *db.Tx) (t CardTemplate, where string, err error) {
		t = CardTemplate{ID: tx.NewID("ct"), State: draft, Made: tx.Now().UTC(), NewTemplate: in.Body}
		body, err := json.Marshal(in.Body)
		if err == nil {
			_, err = tx.Exec(`INSERT INTO open_template (id, partner, body, template, made) VALUES ($1, $2, $3, '', $4)`,
				t.ID, partner(ctx), string(body), tx.Now().UnixMicro())
		}
		return t, "/v1/card-templates/" + t.ID, err
	})
}

type listTemplates struct {
	After string `query:"after" maxLength:"64" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Templates on a page"`
}

func (a *api) listTemplates(ctx context.Context, in *listTemplates) (*Read[TemplatePage], error) {
	out := &Read[TemplatePage]{TemplatePage{Data: []CardTemplate{}}}
	before := in.After
	if before == "" {
		before = "~" // behind every id
	}
	err := a.Store.Read(ctx, func(q *db.Query) (err error) {
		out.Body.Data, err = templates(q, `partner = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, partner(ctx), before, in.Limit+1)
		return err
	})
	if n := in.Limit; len(out.Body.Data) > n {
		out.Body.Data, out.Body.Next = out.Body.Data[:n], out.Body.Data[n-1].ID
	}
	return out, err
}

// templates reads a partner's templates with where each stands.
func templates(q db.Reader, where string, args ...any) ([]CardTemplate, error) {
	out, ids := []CardTemplate{}, []string{}
	err := db.Each(q, func(scan func(...any) error) error {
		var t CardTemplate
		var body, id string
		var made int64
		if err := scan(&t.ID, &body, &id, &made); err != nil {
			return err
		}
		t.State, t.Made = draft, db.Moment(made).UTC()
		out, ids = append(out, t), append(ids, id)
		return json.Unmarshal([]byte(body), &out[len(out)-1].NewTemplate)
	}, `SELECT id, body, template, made FROM open_template WHERE `+where, args...)
	for i := range out {
		if err != nil || ids[i] == "" {
			continue
		}
		var t issuing.Template
		if t, err = issuing.TemplateOf(q, ids[i]); err == nil {
			out[i].decided(t)
		}
	}
	return out, err
}

// templateOf reads one, and its name at issuing.
func templateOf(q db.Reader, partner, id string) (t CardTemplate, at string, err error) {
	list, err := templates(q, `partner = $1 AND id = $2`, partner, id)
	if err == nil && len(list) == 0 {
		err = ErrNoThing
	}
	if err == nil {
		t = list[0]
		err = q.QueryRow(`SELECT template FROM open_template WHERE id = $1`, id).Scan(&at)
	}
	if err != nil {
		return CardTemplate{}, "", fmt.Errorf("template %q of %s: %w", id, partner, err)
	}
	return t, at, nil
}

// ByID names one thing in the address.
type ByID struct {
	ID string `path:"id" maxLength:"64" doc:"Its id"`
}

func (a *api) getTemplate(ctx context.Context, in *ByID) (*Read[CardTemplate], error) {
	out := &Read[CardTemplate]{}
	err := a.Store.Read(ctx, func(q *db.Query) (err error) {
		out.Body, _, err = templateOf(q, partner(ctx), in.ID)
		return err
	})
	return out, err
}

type submitTemplate struct {
	Keyed
	ByID
}

// submitTemplate hands a draft to staff as the next version of its code; one
// that was submitted before stays as it is.
func (a *api) submitTemplate(ctx context.Context, in *submitTemplate) (*Answered[CardTemplate], error) {
	where := "/v1/card-templates/" + in.ID
	return exactly(ctx, a, "POST "+where+"/submit", in.Keyed, nil, func(tx *db.Tx) (CardTemplate, string, error) {
		t, at, err := templateOf(tx, partner(ctx), in.ID)
		if err != nil || at != "" {
			return t, where, err
		}
		described, err := t.template(partner(ctx))
		if err != nil {
			return t, where, err
		}
		submitted, err := issuing.Submit(tx, described)
		if err != nil {
			return t, where, err
		}
		t.decided(submitted)
		_, err = tx.Exec(`UPDATE open_template SET template = $2 WHERE id = $1`, t.ID, submitted.ID)
		return t, where, err
	})
}

type issueCard struct {
	Keyed
	Band    string `path:"band" maxLength:"64" doc:"The band's number, which its wearer gives to the partner"`
	Body    NewCard
	RawBody []byte
}

// issueCard opens a card that the band's wearer agreed to and orders it to be
// written into the band.
func (a *api) issueCard(ctx context.Context, in *issueCard) (*Answered[Order], error) {
	out, err := exactly(ctx, a, "POST /v1/bands/"+in.Band+"/cards", in.Keyed, in.RawBody, func(tx *db.Tx) (Order, string, error) {
		o, err := a.issue(tx, partner(ctx), in.Band, in.Body)
		return o, "/v1/orders/" + o.ID, err
	})
	if err == nil && a.Connect != nil && out.Replayed == "" {
		a.Connect(ctx, in.Band)
	}
	return out, err
}

func (a *api) issue(tx *db.Tx, partner, band string, n NewCard) (Order, error) {
	if o, err := ordered(tx, `partner = $1 AND reference = $2`, partner, n.Reference); err == nil {
		if o.template != n.Template || o.band != band {
			return Order{}, fmt.Errorf("reference %q of %s: %w", n.Reference, partner, ErrReference)
		}
		return o.wire(tx)
	} else if !errors.Is(err, ErrNoThing) {
		return Order{}, err
	}
	t, at, err := templateOf(tx, partner, n.Template)
	if err != nil {
		return Order{}, err
	}
	code := partner + "/" + t.Code
	if p, err := issuing.ProductOn(tx, code, tx.Now()); err != nil || at == "" || p.Template != at {
		return Order{}, fmt.Errorf("template %s: %w", t.ID, ErrNotOnSale)
	}
	b, err := tsm.BandOf(tx, band)
	if err != nil {
		return Order{}, err
	}
	consent, err := agreed(tx, a.Now(), partner, b, n.Consent)
	if err != nil {
		return Order{}, err
	}
	ref := "open:" + partner + ":" + n.Reference
	c, err := issuing.Open(tx, issuing.Application{Ref: ref, Customer: customer.ID(b.Owner), Band: band, Product: code})
	if err != nil {
		return Order{}, err
	}
	o, err := a.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.Issue, Band: band, Card: c.ID, Customer: b.Owner})
	if err != nil {
		return Order{}, err
	}
	if err := consent.useUp(tx, partner, o.ID); err != nil {
		return Order{}, err
	}
	row := orderRow{o.ID, n.Reference, t.ID, band, c.ID}
	_, err = tx.Exec(`INSERT INTO open_order (id, partner, reference, template, band, card, made) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		row.id, partner, row.reference, row.template, row.band, row.card, tx.Now().UnixMicro())
	if err != nil {
		return Order{}, err
	}
	return row.wire(tx)
}

// An orderRow is what a partner ordered.
type orderRow struct {
	id, reference, template, band string
	card                          issuing.CardID
}

func ordered(q db.Reader, where string, args ...any) (o orderRow, err error) {
	err = q.QueryRow(`SELECT id, reference, template, band, card FROM open_order WHERE `+where, args...).Scan(&o.id, &o.reference, &o.template, &o.band, &o.card)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoThing
	}
	return o, err
}

func (r orderRow) wire(q db.Reader) (Order, error) {
	o, err := tsm.OrderOf(q, r.id)
	if err != nil {
		return Order{}, err
	}
	out := Order{ID: r.id, Reference: r.reference, State: orderStates[o.State], Reason: string(o.Why), Template: r.template, Band: r.band, Card: string(r.card),
		Placed: o.Placed.UTC(), Changed: o.Changed.UTC()}
	for _, s := range o.Progress() {
		out.Steps++
		if s.Done {
			out.Done++
		}
	}
	return out, nil
}

func (a *api) getOrder(ctx context.Context, in *ByID) (*Read[Order], error) {
	out := &Read[Order]{}
	err := a.Store.Read(ctx, func(q *db.Query) error {
		row, err := ordered(q, `partner = $1 AND id = $2`, partner(ctx), in.ID)
		if err != nil {
			return fmt.Errorf("order %q: %w", in.ID, err)
		}
		out.Body, err = row.wire(q)
		return err
	})
	return out, err
}

func (a *api) getCard(ctx context.Context, in *ByID) (*Read[Card], error) {
	out := &Read[Card]{}
	err := a.Store.Read(ctx, func(q *db.Query) error {
		row, err := ordered(q, `partner = $1 AND card = $2 ORDER BY id DESC LIMIT 1`, partner(ctx), in.ID)
		if err != nil {
			return fmt.Errorf("card %q: %w", in.ID, err)
		}
		c, err := issuing.Get(q, row.card)
		out.Body = Card{ID: string(c.ID), Kind: string(c.Kind), Template: row.template, Reference: row.reference, Band: c.Band, State: cardStates[c.State],
			Suspended: !c.Suspended.IsZero(), From: c.From.UTC(), To: c.To.UTC(), Made: c.Opened.UTC(), Changed: c.Changed.UTC()}
		return err
	})
	return out, err
}
