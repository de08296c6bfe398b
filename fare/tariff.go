package fare

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"koala/calendar"
	"koala/money"
)

//go:embed tariffs.json
var tariffsJSON []byte

var tariffs = func() []Tariff {
	all, err := ParseTariffs(tariffsJSON)
	if err != nil {
		panic(err) // the embedded data is part of the program
	}
	return all
}()

// A Day is a calendar day that is written 2014-12-28; the zero Day is open.
type Day struct{ calendar.Date }

// MarshalText writes 2014-12-28, or nothing for the open day.
func (d Day) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Day) UnmarshalText(in []byte) error {
	if len(in) == 0 {
		*d = Day{}
		return nil
	}
	date, err := calendar.Parse(string(in))
	d.Date = date
	return err
}

// A Ratio is the share of a price that is paid.
type Ratio struct {
	Num int64 `json:"num"`
	Den int64 `json:"den"`
}

func (r Ratio) valid() bool { return r.Den > 0 && r.Num >= 0 && r.Num <= r.Den && r.Den <= 10_000 }

func (r Ratio) whole() bool { return r.Num == r.Den }

// Percent writes the share as a whole or decimal percentage: 75.
func (r Ratio) percent(off bool) string {
	n := r.Num
	if off {
		n = r.Den - r.Num
	}
	if n*100%r.Den == 0 {
		return fmt.Sprint(n * 100 / r.Den)
	}
	return fmt.Sprintf("%d.%d", n*1000/r.Den/10, n*1000/r.Den%10)
}

// A Tier is a price up to a distance. The last tier has no end (UptoM 0).
type Tier struct {
	UptoM int   `json:"upto_m,omitempty"` // metres, inclusive
	Fen   int64 `json:"fen"`
}

// RegionRule is the price by distance of one region.
type RegionRule struct {
	Region  Region  `json:"region"`
	EN      string  `json:"en"`
	ZH      string  `json:"zh"`
	Rebate  bool    `json:"rebate"` // its fares count for and receive the monthly rebate
	Tiers   []Tier  `json:"tiers"`
	Further Further `json:"further,omitzero"`
	Source  string  `json:"source"`
}

// Further goes on after the last tier: Fen more for each started StepM metres
// beyond AfterM.
type Further struct {
	StepM  int   `json:"step_m"`
	Fen    int64 `json:"fen"`
	AfterM int   `json:"after_m"`
}

// Base returns the price of m metres and the tier that gave it.
func (r RegionRule) Base(m int) (fen int64, upto int) {
	for _, t := range r.Tiers {
		if t.UptoM == 0 || m <= t.UptoM {
			fen, upto = t.Fen, t.UptoM
			break
		}
	}
	if over := m - r.Further.AfterM; upto == 0 && r.Further.StepM > 0 && over > 0 {
		fen += int64((over+r.Further.StepM-1)/r.Further.StepM) * r.Further.Fen
	}
	return fen, upto
}

// Lowest returns the region's lowest single fare, in fen.
func (r RegionRule) Lowest() int64 { return r.Tiers[0].Fen }

// EarlyBird is the off-peak rule: who enters at a listed station before a
// time of day pays a share of the region's fare.
type EarlyBird struct {
	From     Day      `json:"from,omitzero"`
	Before   string   `json:"before"`   // 07:00, Beijing time; exclusive
	Workdays bool     `json:"workdays"` // Monday to Friday without Holidays
	Region   Region   `json:"region"`
	Pay      Ratio    `json:"pay"`
	Stations []string `json:"stations"` // Chinese names
	Holidays []Day    `json:"holidays,omitempty"`
	Source   string   `json:"source"`
}

// A Step of the rebate: who has spent FromFen or more this month pays a share.
type Step struct {
	FromFen int64 `json:"from_fen"`
	Pay     Ratio `json:"pay"`
}

// Stay is the time limit inside: longer costs Fen extra on leaving.
type Stay struct {
	Minutes int    `json:"minutes"`
	Fen     int64  `json:"fen"`
	Source  string `json:"source"`
}

// A Basis says what a ride with one known end costs.
type Basis string

// The bases: the lowest or highest fare of the known station, or nothing.
const (
	Lowest  Basis = "lowest"
	Highest Basis = "highest"
	Free    Basis = "free"
)

// Missing is the price of a ride without entry or without exit.
type Missing struct {
	Entry  Basis  `json:"entry"`
	Exit   Basis  `json:"exit"`
	Source string `json:"source"`
}

// SameStationRule lets a rider out again free within GraceMinutes; later the
// lowest fare is due.
type SameStationRule struct {
	GraceMinutes int    `json:"grace_minutes"`
	Source       string `json:"source"`
}

// BusRule is the price by distance of a bus ride; step 0 is a flat fare.
type BusRule struct {
	FirstMetres int    `json:"first_metres"`
	FirstFen    int64  `json:"first_fen"`
	StepMetres  int    `json:"step_metres"`
	StepFen     int64  `json:"step_fen"`
	Card        Ratio  `json:"card"` // what a card pays of it
	Source      string `json:"source"`
}

// A Concession is a class of riders that pays a share, rail and bus apart.
// The bus share replaces the card's.
type Concession struct {
	Code   string `json:"code"`
	EN     string `json:"en"`
	ZH     string `json:"zh"`
	Rail   Ratio  `json:"rail"`
	Bus    Ratio  `json:"bus"`
	From   Day    `json:"from,omitzero"`
	To     Day    `json:"to,omitzero"`
	Source string `json:"source"`
}

// Rounding: every share is rounded down to UnitFen, in the rider's favour.
type Rounding struct {
	UnitFen int64  `json:"unit_fen"`
	Source  string `json:"source"`
}

// A Tariff is all rules in force from From to To (open when zero), with the
// source of each.
type Tariff struct {
	ID           string          `json:"id"`
	From         Day             `json:"from"`
	To           Day             `json:"to,omitzero"`
	Source       string          `json:"source"`
	Regions      []RegionRule    `json:"regions"`
	EarlyBird    EarlyBird       `json:"early_bird,omitzero"`
	Rebate       []Step          `json:"rebate,omitempty"`
	RebateSource string          `json:"rebate_source,omitempty"`
	Stay         Stay            `json:"stay"`
	SameStation  SameStationRule `json:"same_station"`
	Missing      Missing         `json:"missing"`
	Bus          BusRule         `json:"bus"`
	Concessions  []Concession    `json:"concessions,omitempty"`
	Rounding     Rounding        `json:"rounding"`
}

// Tariffs returns every tariff, oldest first.
func Tariffs() []Tariff { return append([]Tariff(nil), tariffs...) }

// On returns the tariff of day d.
func On(d calendar.Date) (Tariff, error) {
	for _, t := range tariffs {
		if within(d, t.From, t.To) {
			return t, nil
		}
	}
	return Tariff{}, fmt.Errorf("tariff of %s: %w", d, ErrNoTariff)
}

// At returns the tariff of the service day of t.
func At(t time.Time) (Tariff, error) { return On(calendar.ServiceDay(t)) }

// Region returns the rule of region r.
func (t Tariff) Region(r Region) (RegionRule, bool) {
	for _, rule := range t.Regions {
		if rule.Region == r {
			return rule, true
		}
	}
	return RegionRule{}, false
}

// Concession returns the concession code on day d.
func (t Tariff) Concession(code string, d calendar.Date) (Concession, error) {
	for _, c := range t.Concessions {
		if c.Code == code && within(d, c.From, c.To) {
			return c, nil
		}
	}
	return Concession{}, fmt.Errorf("concession %q in %s on %s: %w", code, t.ID, d, ErrNoConcession)
}

// share is what remains of fen after paying only r of it.
func (t Tariff) share(fen int64, r Ratio) int64 {
	paid := money.Fen(fen).Portion(r.Num, r.Den, money.Down).Minor()
	return paid - paid%t.Rounding.UnitFen
}

func within(d calendar.Date, from, to Day) bool {
	return !d.Before(from.Date) && (to.IsZero() || !to.Date.Before(d))
}

// ParseTariffs reads a list of tariffs as in tariffs.json and checks it.
func ParseTariffs(in []byte) ([]Tariff, error) {
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.DisallowUnknownFields()
	var all []Tariff
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("tariffs: %w: %w", ErrTable, err)
	}
	for i, t := range all {
		if err := t.Check(); err != nil {
			return nil, err
		}
		if i > 0 && (all[i-1].To.IsZero() || !all[i-1].To.Before(t.From.Date)) {
			return nil, fmt.Errorf("tariff %s begins before %s ends: %w", t.ID, all[i-1].ID, ErrTable)
		}
	}
	return all, nil
}
