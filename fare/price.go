package fare

import (
	"fmt"
	"slices"
	"time"

	"koala/calendar"
	"koala/money"
)

// Price returns what r costs under t and the rule lines that say why. The
// order of the rules is fixed: base fare of each region, early bird,
// concession, monthly rebate, stay. Every share is rounded down to the
// tariff's unit. Only the region fares with Rebate count for the month; a
// surcharge never does.
func Price(t Tariff, r Ride) (Quote, error) {
	if err := r.check(t); err != nil {
		return Quote{}, err
	}
	q := Quote{Tariff: t.ID, Fen: money.Fen(0), Counts: money.Fen(0), Lines: make([]Line, 0, 4)}
	var err error
	switch r.Case {
	case Complete:
		err = q.ride(t, r)
	case SameStation:
		q.sameStation(t, r)
	case MissingEntry:
		q.oneEnd(t, r, t.Missing.Entry, "missing-entry", "no entry on the card", "卡内无进站记录")
	case MissingExit:
		q.oneEnd(t, r, t.Missing.Exit, "missing-exit", "no exit on the card", "上次乘车无出站记录")
	}
	if err != nil {
		return Quote{}, err
	}
	if r.Case == Complete || r.Case == SameStation {
		q.stay(t, r)
	}
	return q, nil
}

func (r Ride) check(t Tariff) error {
	bad := func(why string) error { return fmt.Errorf("%s ride: %s: %w", r.Case, why, ErrRide) }
	switch {
	case int(r.Case) >= len(caseNames):
		return bad("unknown case")
	case len(r.Parts) == 0 || len(r.Parts) > maxRegions:
		return bad(fmt.Sprintf("%d parts", len(r.Parts)))
	case r.MonthSpent.Sign() < 0:
		return bad("spent less than nothing this month")
	case r.MonthSpent.Currency() != "" && r.MonthSpent.Currency() != money.CNY:
		return bad("the month's spending is not in yuan")
	}
	for _, p := range r.Parts {
		if p.Metres < 0 || p.Metres > MaxMetres {
			return bad(fmt.Sprintf("%d m in %s", p.Metres, p.Region))
		}
		if _, ok := t.Region(p.Region); !ok {
			return fmt.Errorf("region %q in tariff %s: %w", p.Region, t.ID, ErrNoRule)
		}
	}
	return nil
}

// ride prices a complete ride. eligible is the share of the price that takes
// part in the monthly rebate.
func (q *Quote) ride(t Tariff, r Ride) error {
	early := t.EarlyBird.applies(r)
	var eligible, other int64
	for _, p := range r.Parts {
		rule, _ := t.Region(p.Region)
		fen, upto := rule.Base(p.Metres)
		q.base(rule, p.Metres, upto, fen)
		if early && p.Region == t.EarlyBird.Region {
			pay := t.share(fen, t.EarlyBird.Pay)
			q.add("early-bird", pay-fen,
				fmt.Sprintf("entered before %s at an early-bird station: pays %s%%", t.EarlyBird.Before, t.EarlyBird.Pay.percent(false)),
				fmt.Sprintf("低峰优惠站%s前进站,按%s%%计", t.EarlyBird.Before, t.EarlyBird.Pay.percent(false)))
			fen = pay
		}
		if rule.Rebate {
			eligible += fen
		} else {
			other += fen
		}
	}
	if r.Concession != "" {
		c, err := t.Concession(r.Concession, r.day())
		if err != nil {
			return err
		}
		before := eligible + other
		eligible, other = t.share(eligible, c.Rail), t.share(other, c.Rail)
		q.add("concession", eligible+other-before,
			fmt.Sprintf("concession %s: pays %s%% on rail", c.EN, c.Rail.percent(false)),
			fmt.Sprintf("%s:轨道按%s%%计", c.ZH, c.Rail.percent(false)))
	}
	q.rebate(t, r.MonthSpent, eligible)
	return nil
}

func (q *Quote) base(rule RegionRule, metres, upto int, fen int64) {
	en, zh := "flat", "单一票价"
	switch {
	case upto > 0:
		en, zh = fmt.Sprintf("up to %d m", upto), fmt.Sprintf("不超过%d米", upto)
	case len(rule.Tiers) > 1:
		en = fmt.Sprintf("over %d m", rule.Tiers[len(rule.Tiers)-2].UptoM)
		zh = fmt.Sprintf("超过%d米", rule.Tiers[len(rule.Tiers)-2].UptoM)
	}
	q.add("base", fen, fmt.Sprintf("%s %d m, %s", rule.EN, metres, en), fmt.Sprintf("%s%d米,%s", rule.ZH, metres, zh))
}

func (q *Quote) rebate(t Tariff, spent money.Amount, eligible int64) {
	step := Step{Pay: Ratio{1, 1}}
	for _, s := range t.Rebate {
		if spent.Minor() >= s.FromFen {
			step = s
		}
	}
	pay := t.share(eligible, step.Pay)
	q.Counts = money.Fen(pay)
	if step.Pay.whole() || eligible == 0 {
		return
	}
	q.add("rebate", pay-eligible,
		fmt.Sprintf("spent %s yuan this month, from %s on: %s%% off", spent.Yuan(), money.Fen(step.FromFen).Yuan(), step.Pay.percent(true)),
		fmt.Sprintf("本月已支出%s元,满%s元后按%s%%计", spent.Yuan(), money.Fen(step.FromFen).Yuan(), step.Pay.percent(false)))
}

func (q *Quote) sameStation(t Tariff, r Ride) {
	grace := time.Duration(t.SameStation.GraceMinutes) * time.Minute
	if r.inside() <= grace && grace > 0 {
		q.add("same-station", 0,
			fmt.Sprintf("left where entered within %d minutes: free", t.SameStation.GraceMinutes),
			fmt.Sprintf("%d分钟内同站进出,免费", t.SameStation.GraceMinutes))
		return
	}
	rule, _ := t.Region(r.Parts[0].Region)
	q.add("same-station", rule.Lowest(), "left where entered: lowest single fare", "同站进出:按最低票价")
}

func (q *Quote) oneEnd(t Tariff, r Ride, basis Basis, word, en, zh string) {
	switch rule, _ := t.Region(r.Parts[0].Region); basis {
	case Free:
		q.add(word, 0, en+": nothing due", zh+":免收")
	case Lowest:
		q.add(word, rule.Lowest(), en+": lowest single fare", zh+":按最低票价")
	case Highest:
		var fen int64
		for _, p := range r.Parts {
			rule, _ := t.Region(p.Region)
			one, _ := rule.Base(p.Metres)
			fen += one
		}
		q.add(word, fen, en+": highest fare of this station", zh+":按本站最高票价")
	}
}

func (q *Quote) stay(t Tariff, r Ride) {
	if limit := time.Duration(t.Stay.Minutes) * time.Minute; r.inside() > limit {
		q.add("overstay", t.Stay.Fen,
			fmt.Sprintf("inside for %s, over the limit of %s", hm(r.inside()), hm(limit)),
			fmt.Sprintf("在站内%s,超过%s", hm(r.inside()), hm(limit)))
	}
}

func hm(d time.Duration) string {
	m := int(d / time.Minute)
	return fmt.Sprintf("%d:%02d h", m/60, m%60)
}

// inside is the time between the taps. A gate clock that runs backwards gives
// no time: nobody pays for it.
func (r Ride) inside() time.Duration {
	if r.Entered.IsZero() || r.Left.IsZero() {
		return 0
	}
	return max(0, r.Left.Sub(r.Entered))
}

// day is the service day that the ride belongs to.
func (r Ride) day() calendar.Date {
	if r.Entered.IsZero() {
		return calendar.ServiceDay(r.Left)
	}
	return calendar.ServiceDay(r.Entered)
}

func (e EarlyBird) applies(r Ride) bool {
	if !e.on() || !r.EarlyStation || r.Entered.IsZero() {
		return false
	}
	day := calendar.ServiceDay(r.Entered)
	if day.Before(e.From.Date) || e.Workdays && (!day.Workday() || slices.Contains(e.Holidays, Day{day})) {
		return false
	}
	// Between midnight and the turn of the service day it is still last evening.
	clock := r.Entered.In(calendar.Beijing).Format("15:04")
	return clock < e.Before && calendar.Of(r.Entered, calendar.Beijing) == day
}

// Spent is what a card's own counter says about the month of now: what it
// counted when it was last written, or nothing if that was another month.
// Price's MonthSpent is the month in which the rider leaves and pays.
func Spent(accumulated money.Amount, last, now time.Time) money.Amount {
	if calendar.MonthOf(last) != calendar.MonthOf(now) {
		return money.Fen(0)
	}
	return accumulated
}
