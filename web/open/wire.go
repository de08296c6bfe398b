package open

import (
	"encoding/json"
	"time"

	"koala/issuing"
	"koala/tsm"
)

// The types of this file are the contract: names and meanings stay, fields may
// be added. Times are RFC 3339 in UTC; amounts are whole fen.

// NewTemplate describes a card, as its partner wants it.
type NewTemplate struct {
	Code    string   `json:"code" pattern:"^[a-z0-9][a-z0-9-]{0,31}$" example:"lunch-club" doc:"Name of the card among the partner's; the same code again is the next version"`
	Kind    string   `json:"kind" enum:"canteen,door,coupon" doc:"What the card is for; it decides which of the objects below is given"`
	NameEN  string   `json:"name_en" minLength:"1" maxLength:"60" example:"Lunch club" doc:"The card's name in English"`
	NameZH  string   `json:"name_zh" minLength:"1" maxLength:"60" example:"午餐会" doc:"The card's name in Chinese, at most 60 bytes of UTF-8"`
	Space   int      `json:"space_bytes,omitempty" minimum:"0" maximum:"65536" example:"2048" doc:"Bytes of the band's element that one card takes"`
	Canteen *Canteen `json:"canteen,omitempty" doc:"Of kind canteen"`
	Door    *Door    `json:"door,omitempty" doc:"Of kind door"`
	Coupon  *Coupon  `json:"coupon,omitempty" doc:"Of kind coupon"`
}

// Canteen is a card with a value file that canteen tills debit.
type Canteen struct {
	Site string `json:"site" minLength:"1" maxLength:"64" example:"wangfujing-office" doc:"Whose canteen"`
}

// Door is a credential that doors check.
type Door struct {
	Site uint32 `json:"site" minimum:"1" example:"7" doc:"Number of the site, as its doors have it"`
	Days int    `json:"days" minimum:"1" maximum:"3660" example:"365" doc:"How long a card is valid, from its issue"`
}

// Coupon is a discount card.
type Coupon struct {
	Merchant string `json:"merchant,omitempty" maxLength:"64" doc:"Who redeems; the partner itself when not given"`
	Gives    string `json:"gives" enum:"amount,percent,stamps,thing" doc:"What it gives"`
	Value    uint32 `json:"value" example:"500" doc:"Fen off, or hundredths of a percent off, by what it gives"`
	Ceiling  uint32 `json:"ceiling_fen,omitempty" doc:"Of a percentage: at most so much off; 0 no ceiling"`
	Minimum  uint32 `json:"minimum_fen,omitempty" doc:"A sale below gives nothing"`
	Uses     int    `json:"uses" minimum:"1" maximum:"65535" example:"1" doc:"How often it may be redeemed"`
	Needed   int    `json:"stamps_needed,omitempty" minimum:"0" maximum:"255" doc:"Of stamps: how many one redemption takes"`
	Days     int    `json:"days" minimum:"1" maximum:"3660" example:"90" doc:"How long a card is valid, from its issue"`
}

// A CardTemplate is a described card and where its approval stands.
type CardTemplate struct {
	ID      string     `json:"id" example:"ct_01j8" doc:"Name of the template"`
	State   string     `json:"state" enum:"draft,submitted,approved,refused,withdrawn" doc:"draft: the partner submits. submitted: the house's staff decide. approved: cards may be ordered. refused, withdrawn: nobody acts"`
	Version int        `json:"version,omitempty" doc:"Counts the submitted versions of a code from 1; not in a draft"`
	Reason  string     `json:"reason,omitempty" doc:"Why it was refused or withdrawn"`
	Made    time.Time  `json:"created_at" doc:"When the draft was made"`
	Decided *time.Time `json:"decided_at,omitempty" doc:"When staff decided"`
	NewTemplate
}

// A TemplatePage is a part of a partner's templates, newest first.
type TemplatePage struct {
	Data []CardTemplate `json:"data" doc:"The templates"`
	Next string         `json:"next,omitempty" doc:"Give it as after for the next page; absent on the last"`
}

// NewCard orders a card for a band.
type NewCard struct {
	Template  string `json:"template" minLength:"1" maxLength:"64" doc:"id of an approved template"`
	Reference string `json:"reference" minLength:"1" maxLength:"40" pattern:"^[!-~]+$" example:"member-1001" doc:"The partner's own name for this order; the same again is the same order"`
	Consent   string `json:"consent" minLength:"8" maxLength:"16" pattern:"^[0-9A-Za-z -]+$" example:"7KQ2-M9XT" doc:"The one-time code that the band's wearer made for the partner, or for any; this order uses it up"`
}

// An Order is a card being written into a band over the air.
type Order struct {
	ID        string    `json:"id" example:"ord_01j8" doc:"Name of the order"`
	Reference string    `json:"reference" doc:"As it was ordered"`
	State     string    `json:"state" enum:"waiting,running,unconfirmed,done,failed,cancelled" doc:"waiting: for the band to come. running: the band is being written. unconfirmed: cut in the middle, the band is read at its next contact. The others are ends"`
	Reason    string    `json:"reason,omitempty" doc:"Code of why it stands where it stands"`
	Template  string    `json:"template" doc:"id of the template"`
	Band      string    `json:"band" doc:"The band"`
	Card      string    `json:"card" doc:"id of the card"`
	Done      int       `json:"steps_done" doc:"How many of its steps are done"`
	Steps     int       `json:"steps" doc:"How many steps it has"`
	Placed    time.Time `json:"placed_at" doc:"When it was ordered"`
	Changed   time.Time `json:"changed_at" doc:"When it last moved"`
}

// A Card is a card that the partner issued. Who wears it is not told.
type Card struct {
	ID        string    `json:"id" example:"card_01j8" doc:"Name of the card"`
	Kind      string    `json:"kind" enum:"canteen,door,coupon" doc:"What it is for"`
	Template  string    `json:"template" doc:"id of the template it was ordered by"`
	Reference string    `json:"reference" doc:"As it was ordered"`
	Band      string    `json:"band" doc:"The band that holds it"`
	State     string    `json:"state" enum:"ordered,writing,active,blocked,returning,returned,not_issued,replaced" doc:"returned, not_issued and replaced are ends"`
	Suspended bool      `json:"suspended" doc:"Reported lost: refused everywhere until it is found"`
	From      time.Time `json:"valid_from" doc:"First moment"`
	To        time.Time `json:"valid_to" doc:"First moment after"`
	Made      time.Time `json:"created_at" doc:"When it was ordered"`
	Changed   time.Time `json:"changed_at" doc:"When it last changed"`
}

// The words of the contract for the house's own states. A state that is not
// here would be a break of the contract; a test asks for each.
var (
	templateStates = map[issuing.TemplateState]string{issuing.Submitted: "submitted", issuing.Approved: "approved", issuing.Refused: "refused", issuing.Withdrawn: "withdrawn"}
	orderStates    = map[tsm.State]string{tsm.Placed: "waiting", tsm.Running: "running", tsm.Unconfirmed: "unconfirmed", tsm.Done: "done", tsm.Failed: "failed", tsm.Cancelled: "cancelled"}
	cardStates     = map[issuing.State]string{issuing.Ordered: "ordered", issuing.Personalising: "writing", issuing.Active: "active", issuing.Blocked: "blocked",
		issuing.Closing: "returning", issuing.Closed: "returned", issuing.Abandoned: "not_issued", issuing.Replaced: "replaced"}
	kinds = map[string]issuing.Kind{"canteen": issuing.Canteen, "door": issuing.Door, "coupon": issuing.Coupon}
)

const draft = "draft"

// template is the description as issuing keeps it.
func (n NewTemplate) template(partner string) (issuing.Template, error) {
	t := issuing.Template{Issuer: partner, Code: n.Code, Kind: kinds[n.Kind], NameEN: n.NameEN, NameZH: n.NameZH, Art: n.Kind, Space: n.Space}
	var data any
	switch {
	case n.Canteen != nil && n.Door == nil && n.Coupon == nil && t.Kind == issuing.Canteen:
		data = issuing.CanteenData{Site: n.Canteen.Site}
	case n.Door != nil && n.Canteen == nil && n.Coupon == nil && t.Kind == issuing.Door:
		data = issuing.DoorData{Site: n.Door.Site, Days: n.Door.Days}
	case n.Coupon != nil && n.Canteen == nil && n.Door == nil && t.Kind == issuing.Coupon:
		c := *n.Coupon
		if c.Merchant == "" {
			c.Merchant = partner
		}
		data = issuing.CouponData{Merchant: c.Merchant, Gives: c.Gives, Value: c.Value, Ceiling: c.Ceiling, Minimum: c.Minimum,
			Uses: uint16(c.Uses), Needed: byte(c.Needed), Days: c.Days}
	default:
		p := newProblem(422, ErrBody.Code, ErrBody.Text)
		p.Fields = []FieldProblem{{"body." + n.Kind, "exactly this object is needed, and no other"}}
		return t, p
	}
	var err error
	t.Data, err = json.Marshal(data)
	return t, err
}

// decided fills in where a submitted template stands.
func (c *CardTemplate) decided(t issuing.Template) {
	c.State, c.Version, c.Reason = templateStates[t.State], t.Version, t.Why
	if !t.Decided.IsZero() {
		at := t.Decided.UTC()
		c.Decided = &at
	}
}
