package city

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"koala/band"
	"koala/city/market"
	"koala/city/street"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/tsm"
	"koala/wallet"
	"koala/web/wearer"
)

var _ wearer.Wrist = (*Live)(nil)

// What a hand on a band can fail with.
var (
	ErrLost     = fail.Define(fail.Refused, "city.lost", "the band is not on your wrist: it is lost")
	ErrPasscode = fail.Define(fail.Refused, "city.passcode", "the band does not take this passcode")
	ErrWait     = fail.Define(fail.Refused, "city.wait", "too many wrong passcodes: the band wants you to wait")
	ErrDigits   = fail.Define(fail.Invalid, "city.digits", "a passcode has 4 to 8 digits")
	ErrNotWorn  = fail.Define(fail.Refused, "city.not_worn", "put the band on before you unlock it")
)

// refusals are the band's own words and what a page says of them.
var refusals = []struct{ own, said error }{
	{band.ErrPasscode, ErrPasscode}, {band.ErrWait, ErrWait}, {band.ErrDigits, ErrDigits}, {band.ErrNotWorn, ErrNotWorn},
}

// change does something to the band on a person's wrist and tells the pages.
func (l *Live) change(ctx context.Context, who string, f func(b *band.Band, now time.Time) error) error {
	id, err := l.bandFor(ctx, who, bandStem(who))
	if err != nil {
		return err
	}
	err = l.street.Change(id, func(b *band.Band) error { return f(b, l.clock.Now()) })
	for _, r := range refusals {
		if errors.Is(err, r.own) {
			return fmt.Errorf("band %s: %w", id, r.said)
		}
	}
	l.cfg.Hub.Publish("my:"+who, "band.changed", struct{}{})
	return err
}

// Wear puts the band on or takes it off.
func (l *Live) Wear(ctx context.Context, who string, on bool) error {
	return l.change(ctx, who, func(b *band.Band, _ time.Time) error { b.Wear(on); return nil })
}

// Unlock types the passcode.
func (l *Live) Unlock(ctx context.Context, who, code string) error {
	return l.change(ctx, who, func(b *band.Band, now time.Time) error { return b.Unlock(code, now) })
}

// SetPasscode sets, changes or removes it.
func (l *Live) SetPasscode(ctx context.Context, who, old, code string) error {
	return l.change(ctx, who, func(b *band.Band, now time.Time) error { return b.SetPasscode(old, code, clock.Entropy(), now) })
}

// SetPolicy says what the locked band still does.
func (l *Live) SetPolicy(ctx context.Context, who string, p wearer.Policy) error {
	return l.change(ctx, who, func(b *band.Band, _ time.Time) error { b.Policy = band.Policy(p); return nil })
}

// Lose leaves the band in a taxi: it is off the wrist, and out of reach.
func (l *Live) Lose(ctx context.Context, who string) error {
	id, err := l.bandFor(ctx, who, bandStem(who))
	if err != nil {
		return err
	}
	if err := l.street.Change(id, func(b *band.Band) error { b.Wear(false); return nil }); err != nil {
		return err
	}
	return l.mark(who, func(lost map[string]bool) { lost[id] = true })
}

// Found brings the person's lost bands back.
func (l *Live) Found(ctx context.Context, who string) error {
	known, err := l.bandsOf(ctx, who)
	if err != nil {
		return err
	}
	return l.mark(who, func(lost map[string]bool) {
		for _, id := range known {
			delete(lost, id)
		}
	})
}

// mark changes which bands are lost, and keeps it.
func (l *Live) mark(who string, f func(lost map[string]bool)) error {
	l.mu.Lock()
	if l.seen.Lost == nil {
		l.seen.Lost = map[string]bool{}
	}
	f(l.seen.Lost)
	l.mu.Unlock()
	l.cfg.Hub.Publish("my:"+who, "band.changed", struct{}{})
	return l.remember()
}

// NewBand is one bought at a kiosk: it is registered for the person and takes
// the house's keys at once.
func (l *Live) NewBand(ctx context.Context, who string) (string, error) {
	l.giving.Lock()
	defer l.giving.Unlock()
	known, err := l.bandsOf(ctx, who)
	if err != nil {
		return "", err
	}
	id, err := l.give(ctx, who, bandStem(who), len(known)+1)
	l.cfg.Hub.Publish("my:"+who, "band.changed", struct{}{})
	return id, err
}

// bandsOf lists a customer's bands that are on this street, the oldest first.
// One whose element is not here (its image was removed) is passed over.
func (l *Live) bandsOf(ctx context.Context, owner string) (ids []string, err error) {
	err = l.house.Store.Read(ctx, func(q *db.Query) error {
		known, err := tsm.BandsOf(q, owner)
		for _, b := range known {
			if l.street.HasBand(b.ID) {
				ids = append(ids, b.ID)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bands of %s: %w", owner, err)
	}
	return ids, nil
}

// bandFor gives the band on a customer's wrist: of those that are not lost the
// newest with cards in it, else the newest. Who has none at all gets one, which
// is registered and takes the house's keys over the air.
func (l *Live) bandFor(ctx context.Context, owner, stem string) (string, error) {
	l.giving.Lock()
	defer l.giving.Unlock()
	known, err := l.bandsOf(ctx, owner)
	if err != nil {
		return "", err
	}
	if len(known) == 0 {
		return l.give(ctx, owner, stem, 1)
	}
	var worn string
	err = l.house.Store.Read(ctx, func(q *db.Query) error {
		for i := len(known) - 1; i >= 0; i-- {
			if l.isLost(known[i]) {
				continue
			}
			cards, err := issuing.InBand(q, known[i])
			if err != nil {
				return err
			}
			if worn == "" {
				worn = known[i]
			}
			if len(cards) > 0 {
				worn = known[i]
				break
			}
		}
		return nil
	})
	if err == nil && worn == "" {
		err = fmt.Errorf("band of %s: %w", owner, ErrLost)
	}
	return worn, err
}

func (l *Live) isLost(band string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Lost[band]
}

// give makes a band of a name that is free, from the n-th on.
func (l *Live) give(ctx context.Context, owner, stem string, n int) (string, error) {
	for k := n; k < n+100; k++ {
		id := fmt.Sprintf("%s-%d", stem, k)
		if l.street.HasBand(id) {
			continue // of another house's time
		}
		return id, l.street.GiveBand(ctx, owner, id)
	}
	return "", fmt.Errorf("band for %s: %w", owner, street.ErrNoBand)
}

// Sign puts a signature onto the slip of a sale, at the terminal that took it.
func (l *Live) Sign(ctx context.Context, who, ref string, picture []byte) error {
	t, known := l.recallTap(who, ref)
	if !known {
		return fmt.Errorf("tap %q: %w", ref, wearer.ErrNoTap)
	}
	if !t.Unsigned {
		return nil
	}
	slip, err := l.market.Sign(ctx, t.Gate, t.stan, picture)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.taps[who] {
		if x := &l.taps[who][i]; x.Ref == ref {
			x.Receipt, x.ReceiptZH, x.Unsigned, x.Signature = slip[0], slip[1], false, picture
		}
	}
	return nil
}

// shopper is who comes next: one in five pays by a code out of a wallet that has
// enough for it, the others with a card of another bank.
func (l *Live) shopper(dice *rand.Rand) market.Shopper {
	const least = 10_00
	l.mu.Lock()
	payers := l.payers
	l.mu.Unlock()
	if len(payers) > 0 && dice.IntN(5) == 0 {
		who := payers[dice.IntN(len(payers))]
		if b, err := wallet.BalanceOf(l.house.Book, who); err == nil && b.Available.Minor() > least {
			return market.Shopper{Payer: who, Most: b.Available.Minor() / 2}
		}
	}
	all := l.market.Institutions()
	cards := all[dice.IntN(len(all))].Cards
	return market.Shopper{Card: &cards[1+dice.IntN(len(cards)-1)]}
}
