package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/tsm"
	"koala/web"
	"koala/web/open"
	"koala/web/wearer"
)

// firms is wearer.Firms over the partners' door.
type firms struct {
	store *db.Store
	keys  *hsm.HSM
	now   func() time.Time
}

// NewFirms is a person's leave for firms to write cards into the band; keys
// gives the chance that codes are made of, now the time that people live by.
func NewFirms(store *db.Store, keys *hsm.HSM, now func() time.Time) wearer.Firms {
	return firms{store, keys, now}
}

const (
	maxFirms  = 500
	firmsBack = 30 * 24 * time.Hour // how far back a person's codes are listed
)

func (f firms) Firms(ctx context.Context, who string) (out []wearer.Firm, err error) {
	err = f.store.Read(ctx, func(q *db.Query) error {
		used, err := spaceUsed(q, who)
		if err != nil {
			return err
		}
		list, err := open.Partners(q, "", maxFirms)
		for _, p := range list {
			x := wearer.Firm{Code: p.Code, Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Used: used[p.Code]}
			if x.Used > 0 {
				firm, err := issuing.FirmOf(q, p.Code)
				if err != nil {
					return err
				}
				x.Space = firm.Space
			}
			out = append(out, x)
		}
		return err
	})
	return out, err
}

// spaceUsed is what each firm's cards take of a person's band; nothing without
// one.
func spaceUsed(q db.Reader, who string) (map[string]int, error) {
	band, err := bandOf(q, who)
	if errors.Is(err, tsm.ErrBand) {
		return nil, nil // no band, no cards
	}
	if err != nil {
		return nil, err
	}
	return issuing.SpaceUsed(q, band)
}

func (f firms) Consents(ctx context.Context, who string) (out []wearer.Consent, err error) {
	err = f.store.Read(ctx, func(q *db.Query) error {
		list, err := open.ConsentsOf(q, who, f.store.Now().Add(-firmsBack))
		if err != nil {
			return err
		}
		for _, c := range list {
			x, err := consentOf(q, c, f.now())
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("consents of %s: %w", who, err)
	}
	return out, nil
}

func consentOf(q db.Reader, c open.Consent, now time.Time) (x wearer.Consent, err error) {
	x = wearer.Consent{ID: c.ID, Band: c.Band, Made: c.Made, Left: c.Until.Sub(now), Lives: c.Lives(now), Order: c.Order}
	if x.Firm, err = partnerName(q, c.Partner); err != nil {
		return x, err
	}
	if x.By, err = partnerName(q, c.By); err != nil {
		return x, err
	}
	switch c.End {
	case open.ConsentUsed:
		x.State, x.Tone = words.ConsentUsed, web.Good
	case open.ConsentWithdrawn:
		x.State = words.ConsentWithdrawn
	case open.ConsentGuessed:
		x.State, x.Tone = words.ConsentGuessed, web.Bad
	default:
		if x.State, x.Tone = words.ConsentOld, web.Neutral; x.Lives {
			x.State, x.Tone = words.ConsentLives, web.Info
		}
	}
	return x, nil
}

// partnerName names a partner; no partner has no name.
func partnerName(q db.Reader, code string) (web.Text, error) {
	if code == "" {
		return web.Text{}, nil
	}
	p, err := open.PartnerOf(q, code)
	return web.Text{ZH: p.NameZH, EN: p.NameEN}, err
}

func (f firms) Agree(ctx context.Context, who, ref, firm string) (c wearer.Consent, code string, err error) {
	form, err := refOf(who, ref)
	if err != nil {
		return c, "", err
	}
	var chance [16]byte
	if err := f.keys.Random(ctx, chance[:]); err != nil {
		return c, "", fmt.Errorf("code: %w", err)
	}
	err = f.store.Write(ctx, func(tx *db.Tx) error {
		band, err := bandOf(tx, who)
		if err != nil {
			return err
		}
		made, text, err := open.Agree(tx, f.now(), who, band, firm, form, chance[:])
		if err != nil {
			return err
		}
		code = text
		c, err = consentOf(tx, made, f.now())
		return err
	})
	if err != nil {
		return wearer.Consent{}, "", fmt.Errorf("consent of %s: %w", who, err)
	}
	return c, code, nil
}

func (f firms) TakeBack(ctx context.Context, who, id string) error {
	return f.store.Write(ctx, func(tx *db.Tx) error { return open.Withdraw(tx, who, id) })
}
