package wearer

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/web"
)

// securityView is what keeps the band to its wearer.
type securityView struct {
	band  BandView
	wrist bool
	notes web.Text // of the release that runs
	wait  web.Text // until when no passcode is taken; empty: now
	firms bool     // other firms may be given leave
	loss  bool     // bands can be reported lost
	lost  bool     // and one is
}

func (p pages) security(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	v := securityView{wrist: p.Wrist != nil, firms: p.Firms != nil, loss: p.Losses != nil}
	var err error
	if v.band, err = p.Street.Band(ctx, me); err != nil {
		return fmt.Errorf("band: %w", err)
	}
	if v.loss {
		if _, v.lost, err = p.Losses.Loss(ctx, me); err != nil {
			return fmt.Errorf("loss: %w", err)
		}
	}
	if p.Notes != nil && v.band.Firmware != 0 {
		if v.notes, err = p.Notes(ctx, v.band.Firmware); err != nil {
			return fmt.Errorf("release notes: %w", err)
		}
	}
	if v.band.Waits.After(p.Now()) {
		v.wait = words.WaitUntil.F(web.Clock(v.band.Waits))
	}
	return p.show(w, r, web.Page{Title: words.Security, Lead: words.SecurityLead, Here: "/my/security"}, securityPage(v))
}

// passcode sets, changes or removes the band's passcode. It goes to the band
// and is kept nowhere else.
func (p pages) passcode(w http.ResponseWriter, r *http.Request) error {
	if p.Wrist == nil {
		return ErrNoWrist
	}
	ctx := r.Context()
	old, code, again := r.PostFormValue("old"), r.PostFormValue("code"), r.PostFormValue("again")
	did := words.CodeSet
	if r.PostFormValue("remove") != "" {
		code, again, did = "", "", words.CodeRemoved
	} else if code != again || !digits(code, 4, 8) {
		return p.sorry(w, r, "/my/security", ErrCode)
	}
	if err := p.Wrist.SetPasscode(ctx, who(r), old, code); err != nil {
		return p.sorry(w, r, "/my/security", err)
	}
	return web.Redirect(w, r, "/my/security", web.Toast{Tone: web.Good, Text: did.In(ctx)})
}

// policy says what the band may do while it is locked.
func (p pages) policy(w http.ResponseWriter, r *http.Request) error {
	if p.Wrist == nil {
		return ErrNoWrist
	}
	on := func(name string) bool { return r.PostFormValue(name) != "" }
	err := p.Wrist.SetPolicy(r.Context(), who(r), Policy{Ride: on("ride"), Enter: on("enter"), Pay: on("pay"), Offer: on("offer")})
	if err != nil {
		return p.sorry(w, r, "/my/security", err)
	}
	return web.Redirect(w, r, "/my/security", web.Toast{Tone: web.Good, Text: words.PolicySet.In(r.Context())})
}

// A policyLine is one switch of what a locked band may do.
type policyLine struct {
	name, icon string
	word, hint web.Text
	on         bool
}

func policyLines(p Policy) []policyLine {
	return []policyLine{
		{"ride", "train-front", words.PolicyRide, words.PolicyRideHint, p.Ride},
		{"enter", "door-open", words.PolicyEnter, words.PolicyEnterHint, p.Enter},
		{"offer", "ticket", words.PolicyOffer, words.PolicyOfferHint, p.Offer},
		{"pay", "store", words.PolicyPay, words.PolicyPayHint, p.Pay},
	}
}

// firmsView is the leave that other firms have, and a code just made.
type firmsView struct {
	firms []Firm
	codes []Consent
	made  Consent
	code  string // empty: none was made just now
	ref   string
}

// spaces lists what the cards of each firm that has any take of the band.
func (v firmsView) spaces() (out []web.Fact) {
	for _, f := range v.firms {
		if f.Used > 0 {
			out = append(out, web.Fact{Name: f.Name, Value: kilo(f.Used) + " / " + kilo(f.Space)})
		}
	}
	return out
}

// shownConsents are the newest codes that the page lists.
const shownConsents = 20

func (p pages) firms(w http.ResponseWriter, r *http.Request) error {
	return p.showFirms(w, r, firmsView{})
}

func (p pages) showFirms(w http.ResponseWriter, r *http.Request, v firmsView) error {
	if p.Firms == nil {
		return web.ErrNoPage
	}
	var err error
	if v.firms, err = p.Firms.Firms(r.Context(), who(r)); err != nil {
		return fmt.Errorf("firms: %w", err)
	}
	if v.codes, err = p.Firms.Consents(r.Context(), who(r)); err != nil {
		return err
	}
	v.codes, v.ref = v.codes[:min(len(v.codes), shownConsents)], p.Ref()
	return p.show(w, r, web.Page{Title: words.Firms, Lead: words.FirmsLead, Back: "/my/security", Here: "/my/security"}, firmsPage(v))
}

// agree makes a code and shows it, this once.
func (p pages) agree(w http.ResponseWriter, r *http.Request) error {
	if p.Firms == nil {
		return web.ErrNoPage
	}
	var v firmsView
	var err error
	if v.made, v.code, err = p.Firms.Agree(r.Context(), who(r), r.PostFormValue("ref"), r.PostFormValue("firm")); err != nil {
		return p.sorry(w, r, "/my/firms", err)
	}
	return p.showFirms(w, r, v)
}

func (p pages) takeBack(w http.ResponseWriter, r *http.Request) error {
	if p.Firms == nil {
		return web.ErrNoPage
	}
	if err := p.Firms.TakeBack(r.Context(), who(r), r.PostFormValue("id")); err != nil {
		return p.sorry(w, r, "/my/firms", err)
	}
	return web.Redirect(w, r, "/my/firms", web.Toast{Tone: web.Good, Text: words.TookBack.In(r.Context())})
}

// firmOptions are whom a code can be for.
func firmOptions(list []Firm) []web.Option {
	out := []web.Option{{Value: "", Name: words.AnyFirm}}
	for _, f := range list {
		out = append(out, web.Option{Value: f.Code, Name: f.Name})
	}
	return out
}

// minutesLeft rounds up: a code that lives has a minute.
func minutesLeft(c Consent) int { return int((c.Left + time.Minute - 1) / time.Minute) }

// forWhom names whom a code is for.
func forWhom(c Consent) web.Text {
	if c.Firm.Empty() {
		return words.AnyFirm
	}
	return c.Firm
}

// lostView is what happens, or happened, when the band is lost.
type lostView struct {
	band  BandView
	cards []Card // living ones, while nothing is reported
	fen   int64  // on them
	loss  Loss
	lost  bool
	wrist bool
	ref   string
}

func (p pages) lost(w http.ResponseWriter, r *http.Request) error {
	if p.Losses == nil {
		return web.ErrNoPage
	}
	ctx, me := r.Context(), who(r)
	v := lostView{wrist: p.Wrist != nil, ref: p.Ref()}
	var err error
	if v.loss, v.lost, err = p.Losses.Loss(ctx, me); err != nil {
		return fmt.Errorf("loss: %w", err)
	}
	page := web.Page{Title: words.LostTitle, Back: "/my/security", Here: "/my/security"}
	if v.lost {
		if page.Title = words.LostNow; v.loss.Next != "" {
			page.Title = words.LostMovedTitle
		}
		return p.show(w, r, page, lossPage(v))
	}
	if v.cards, v.band, err = p.hand(ctx, me); err != nil {
		return err
	}
	for _, c := range v.cards {
		if c.Worth() {
			v.fen += c.Fen
		}
	}
	return p.show(w, r, page, lostPage(v))
}

// lose carries out what is decided on the page of a lost band.
func (p pages) lose(w http.ResponseWriter, r *http.Request) error {
	if p.Losses == nil {
		return web.ErrNoPage
	}
	ctx, me := r.Context(), who(r)
	var err error
	var did web.Text
	switch r.PathValue("act") {
	case "report":
		did, err = words.LostDone, p.report(ctx, me)
	case "found":
		did, err = words.FoundDone, p.found(ctx, me)
	case "move":
		did, err = words.MoveDone, p.move(ctx, me, r.PostFormValue("ref"))
	case "claim":
		did, err = words.ClaimDone, p.claim(ctx, me, r.PostFormValue("card"))
	default:
		return web.ErrNoPage
	}
	if err != nil {
		return p.sorry(w, r, "/my/lost", err)
	}
	return web.Redirect(w, r, "/my/lost", web.Toast{Tone: web.Good, Text: did.In(ctx)})
}

// report suspends first: the cards must be dead before the taxi is gone.
func (p pages) report(ctx context.Context, me string) error {
	if err := p.Losses.Report(ctx, me); err != nil {
		return err
	}
	if p.Wrist != nil {
		return p.Wrist.Lose(ctx, me)
	}
	return nil
}

func (p pages) found(ctx context.Context, me string) error {
	if p.Wrist != nil {
		if err := p.Wrist.Found(ctx, me); err != nil {
			return err
		}
	}
	if err := p.Losses.Withdraw(ctx, me); err != nil {
		return err
	}
	p.Street.Connect(ctx, me)
	return nil
}

func (p pages) move(ctx context.Context, me, ref string) error {
	if p.Wrist == nil {
		return ErrNoWrist
	}
	band, err := p.Wrist.NewBand(ctx, me)
	if err != nil {
		return err
	}
	if err := p.Losses.Move(ctx, me, ref, band); err != nil {
		return err
	}
	p.Street.Connect(ctx, me)
	return nil
}

func (p pages) claim(ctx context.Context, me, key string) error {
	loss, lost, err := p.Losses.Loss(ctx, me)
	if err != nil || !lost {
		return fmt.Errorf("loss: %w", orElse(err, ErrNoLoss))
	}
	for _, c := range loss.Cards {
		if c.Card.Key() == key {
			return p.Losses.Claim(ctx, me, c.Card.Number)
		}
	}
	return ErrNoCard
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// activityDays are shown at once.
const activityDays = 14

// activityView is two weeks of steps and sleep.
type activityView struct {
	days         []Day
	steps, sleep chart
	today        Day
}

// A chart is bars with a round figure on top.
type chart struct {
	top  int64 // what the full height stands for
	bars []bar
}

// A bar stands in a chart of 14 columns of 24 units and 100 units of height.
type bar struct {
	x, y, height string
	value        int64
	day          time.Time
}

func (p pages) activity(w http.ResponseWriter, r *http.Request) error {
	if p.Body == nil {
		return web.ErrNoPage
	}
	days, err := p.Body.Days(r.Context(), who(r), activityDays)
	if err != nil {
		return fmt.Errorf("activity: %w", err)
	}
	v := activityView{days: days}
	if n := len(days); n > 0 {
		v.today = days[n-1]
	}
	v.steps = chartOf(days, 10_000, func(d Day) int64 { return d.Steps })
	v.sleep = chartOf(days, 8*60, func(d Day) int64 { return d.Asleep })
	return p.show(w, r, web.Page{Title: words.Activity, Lead: words.ActivityLead, Back: "/my/", Here: "/my/"}, activityPage(v))
}

// chartOf draws days; the top is least or the highest day, whichever is more.
func chartOf(days []Day, least int64, value func(Day) int64) chart {
	c := chart{top: least}
	for _, d := range days {
		c.top = max(c.top, value(d))
	}
	for i, d := range days {
		height := float64(value(d)) * 100 / float64(c.top)
		c.bars = append(c.bars, bar{strconv.Itoa(i*24 + 4), fmt.Sprintf("%.1f", 100-height), fmt.Sprintf("%.1f", height), value(d), d.Start})
	}
	return c
}

// empty tells whether there is nothing to draw.
func (c chart) empty() bool {
	for _, b := range c.bars {
		if b.value != 0 {
			return false
		}
	}
	return true
}

func (p pages) forget(w http.ResponseWriter, r *http.Request) error {
	if p.Body == nil {
		return web.ErrNoPage
	}
	if err := p.Body.Forget(r.Context(), who(r)); err != nil {
		return p.sorry(w, r, "/my/activity", err)
	}
	return web.Redirect(w, r, "/my/activity", web.Toast{Tone: web.Good, Text: words.Forgotten.In(r.Context())})
}

// hours writes minutes asleep: 7 h 20 min.
func hours(ctx context.Context, minutes int64) string {
	return words.Hours.In(ctx, minutes/60, minutes%60)
}

// versionWords is a firmware version for people; 0 is the factory's.
func versionWords(v uint32) web.Text {
	if v == 0 {
		return words.Factory
	}
	return web.Same(strconv.FormatUint(uint64(v), 10))
}
