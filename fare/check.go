package fare

import (
	"fmt"
	"time"
)

// The limits of a tariff, which a gate's table carries whole.
const (
	maxRegions = 32
	maxTiers   = 64
	maxSteps   = 16
	maxFen     = 1_000_000 // 10,000 yuan: no single fare is dearer
	maxMinutes = 24 * 60
)

// Check says what is wrong with a tariff's data.
func (t Tariff) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("tariff %s: %s: %w", t.ID, fmt.Sprintf(format, args...), ErrTable)
	}
	switch {
	case t.ID == "" || len(t.ID) > 64:
		return bad("the id must have 1 to 64 bytes")
	case t.From.IsZero() || !t.To.IsZero() && t.To.Before(t.From.Date):
		return bad("valid from %s to %s", t.From, t.To)
	case len(t.Regions) == 0 || len(t.Regions) > maxRegions:
		return bad("%d regions", len(t.Regions))
	case t.Stay.Minutes < 1 || t.Stay.Minutes > maxMinutes || !price(t.Stay.Fen):
		return bad("stay of %d minutes costs %d fen", t.Stay.Minutes, t.Stay.Fen)
	case t.SameStation.GraceMinutes < 0 || t.SameStation.GraceMinutes > maxMinutes:
		return bad("grace of %d minutes", t.SameStation.GraceMinutes)
	case !t.Missing.Entry.valid() || !t.Missing.Exit.valid():
		return bad("missing entry %q, exit %q", t.Missing.Entry, t.Missing.Exit)
	case t.Rounding.UnitFen < 1 || t.Rounding.UnitFen > 100:
		return bad("rounding to %d fen", t.Rounding.UnitFen)
	}
	seen := map[Region]bool{}
	for _, r := range t.Regions {
		if why := r.wrong(); why != "" || seen[r.Region] {
			return bad("region %q: %s", r.Region, why)
		}
		seen[r.Region] = true
	}
	for _, why := range []string{t.EarlyBird.wrong(), stepsWrong(t.Rebate), t.Bus.wrong(), concessionsWrong(t.Concessions)} {
		if why != "" {
			return bad("%s", why)
		}
	}
	return nil
}

func price(fen int64) bool { return fen >= 0 && fen <= maxFen }

func (b Basis) valid() bool { return b == Lowest || b == Highest || b == Free }

// wrong also checks that the price never falls with the distance.
func (r RegionRule) wrong() string {
	if r.Region == "" || len(r.Region) > 64 || len(r.Tiers) == 0 || len(r.Tiers) > maxTiers {
		return "it needs a name and 1 to 64 tiers, and may stand once"
	}
	upto, fen := 0, int64(0)
	for i, t := range r.Tiers {
		last := i == len(r.Tiers)-1
		if !price(t.Fen) || t.Fen < fen || (t.UptoM == 0) != last || !last && (t.UptoM <= upto || t.UptoM > MaxMetres) {
			return fmt.Sprintf("tier %d (to %d m, %d fen) does not follow the one before", i+1, t.UptoM, t.Fen)
		}
		upto, fen = t.UptoM, t.Fen
	}
	f := r.Further
	if f != (Further{}) && (f.StepM < 100 || f.StepM > MaxMetres || !price(f.Fen) || f.AfterM < 0 || f.AfterM > MaxMetres) {
		return "the steps beyond the last tier are out of range"
	}
	return ""
}

func (e EarlyBird) on() bool { return e.Before != "" }

func (e EarlyBird) wrong() string {
	if !e.on() {
		return ""
	}
	if _, err := time.Parse("15:04", e.Before); err != nil || len(e.Before) != 5 || !e.Pay.valid() || e.Region == "" {
		return fmt.Sprintf("early bird before %q", e.Before)
	}
	return ""
}

func stepsWrong(steps []Step) string {
	if len(steps) > maxSteps {
		return "too many rebate steps"
	}
	for i, s := range steps {
		if !s.Pay.valid() || i == 0 && s.FromFen != 0 || i > 0 && s.FromFen <= steps[i-1].FromFen {
			return fmt.Sprintf("rebate step %d from %d fen", i+1, s.FromFen)
		}
	}
	return ""
}

func (b BusRule) wrong() string {
	if !price(b.FirstFen) || !price(b.StepFen) || b.FirstMetres < 0 || b.StepMetres < 0 ||
		b.StepMetres > 0 && b.StepMetres < 100 || !b.Card.valid() {
		return "the bus rule is out of range"
	}
	return ""
}

func concessionsWrong(all []Concession) string {
	for _, c := range all {
		if c.Code == "" || !c.Rail.valid() || !c.Bus.valid() {
			return fmt.Sprintf("concession %q", c.Code)
		}
	}
	return ""
}
