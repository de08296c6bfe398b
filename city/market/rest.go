package market

import (
	"context"
	"errors"
	"time"

	"koala/calendar"
)

// maxNights bounds how long a market takes to come to rest.
const maxNights = 20

// Rest ends everything: terminals tell what they hold and settle, then nights
// pass until nothing waits. pass lets time go by and has the house do what is
// due. Nothing may go wrong any more.
func (m *Market) Rest(ctx context.Context, pass func(d time.Duration) error) error {
	m.Flush(ctx)
	for _, t := range m.Tills() {
		for n := 0; ; n++ {
			clean, err := m.Clean(ctx, t.ID)
			if err != nil {
				return err
			}
			if clean {
				break
			}
			if n == maxNights {
				return differs("%s does not tell what it holds", t.ID)
			}
		}
		if t.used() {
			if _, done, err := m.Settle(ctx, t.ID); err != nil || !done {
				return errors.Join(err, differs("%s does not settle", t.ID))
			}
		}
	}
	if err := m.Forgive(ctx); err != nil {
		return err
	}
	for n := 0; ; n++ {
		day := calendar.Of(m.cfg.Clock.Now(), calendar.Beijing)
		if err := pass(day.AddDays(1).Start(calendar.Beijing).Add(5 * time.Hour).Sub(m.cfg.Clock.Now())); err != nil {
			return err
		}
		if err := m.Night(ctx, day); err != nil {
			return err
		}
		waits, err := m.Waits(ctx)
		if err != nil || !waits && n > 1 {
			return err
		}
		if n == maxNights {
			list, err := m.exceptions(ctx)
			for _, x := range list {
				return differs("after %d nights exception %s of %s on %s is %s with %d fen", n, x.Type, x.Host, x.Day, x.State, x.Held)
			}
			return errors.Join(err, differs("after %d nights a payout or the bank still waits", n))
		}
	}
}

// used says whether the terminal was installed.
func (t *Till) used() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flash != nil
}
