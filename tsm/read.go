package tsm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
)

// A Band is a band or gate whose element the house manages.
type Band struct {
	ID      string
	Owner   string // customer or operator
	Adopted bool   // has keys of its own
	Placed  time.Time
	Seen    time.Time // when a session with it began last; zero: never
	Lost    time.Time // when it was reported lost; zero: it is not
}

func insertBand(tx *db.Tx, id, owner string) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO tsm_band (id, owner, adopted, placed, seen) VALUES ($1, $2, $3, $4, 0)
		ON CONFLICT (id) DO NOTHING`, id, owner, false, tx.Now().UnixMicro())
	return n == 1, err
}

func setAdopted(tx *db.Tx, id string) error {
	_, err := tx.Exec(`UPDATE tsm_band SET adopted = $2 WHERE id = $1`, id, true)
	return err
}

func setSeen(tx *db.Tx, id string) error {
	_, err := tx.Exec(`UPDATE tsm_band SET seen = $2 WHERE id = $1`, id, tx.Now().UnixMicro())
	return err
}

func setLost(tx *db.Tx, id string, at time.Time) error {
	lost := int64(0)
	if !at.IsZero() {
		lost = at.UnixMicro()
	}
	_, err := tx.Exec(`UPDATE tsm_band SET lost = $2 WHERE id = $1`, id, lost)
	return err
}

const bandColumns = `id, owner, adopted, placed, seen, lost`

func scanBand(scan func(...any) error) (b Band, err error) {
	var placed, seen, lost int64
	err = scan(&b.ID, &b.Owner, &b.Adopted, &placed, &seen, &lost)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrBand
	}
	b.Placed, b.Seen, b.Lost = db.Moment(placed), db.Moment(seen), db.Moment(lost)
	return b, err
}

// BandOf reads one band.
func BandOf(q db.Reader, id string) (Band, error) {
	b, err := scanBand(q.QueryRow(`SELECT `+bandColumns+` FROM tsm_band WHERE id = $1`, id).Scan)
	if err != nil {
		return Band{}, fmt.Errorf("band %s: %w", id, err)
	}
	return b, nil
}

// BandsOf reads the bands of an owner.
func BandsOf(q db.Reader, owner string) (out []Band, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		b, err := scanBand(scan)
		out = append(out, b)
		return err
	}, `SELECT `+bandColumns+` FROM tsm_band WHERE owner = $1 ORDER BY id`, owner)
	return out, err
}

// OrderOf reads one order.
func OrderOf(q db.Reader, id string) (Order, error) {
	o, err := orderByID(q, id)
	if err != nil {
		return Order{}, fmt.Errorf("order %s: %w", id, err)
	}
	return o, nil
}

// A Filter picks orders for pages; empty fields pick all.
type Filter struct {
	Card     issuing.CardID
	Customer string
	Band     string
	State    State
	Desk     bool   // only those that wait for staff
	Before   string // id of the last order of the page before; newest come first
	Limit    int
}

// Orders reads a page of orders, newest first.
func Orders(q db.Reader, f Filter) ([]Order, error) {
	if f.Before == "" {
		f.Before = "~" // sorts behind every id
	}
	return orders(q, `id < $1 AND (card = $2 OR $2 = '') AND (customer = $3 OR $3 = '') AND (band = $4 OR $4 = '')
		AND (state = $5 OR $5 = '') AND (desk = $6 OR $6 = $7) ORDER BY id DESC LIMIT $8`,
		f.Before, f.Card, f.Customer, f.Band, f.State, f.Desk, false, min(max(f.Limit, 1), maxPage))
}

// Counts tells how many orders stand in each state.
func Counts(q db.Reader) (map[State]int, error) {
	out := map[State]int{}
	err := db.Each(q, func(scan func(...any) error) error {
		var s State
		var n int
		err := scan(&s, &n)
		out[s] = n
		return err
	}, `SELECT state, COUNT(*) FROM tsm_order GROUP BY state ORDER BY state`)
	return out, err
}

// A Line is one command of an order's log, with what came back. Plain is what
// the command says; Wire differs from it under the secure channel. Key material
// is in neither: the hsm puts it into the wire form only, enciphered.
type Line struct {
	Script  string
	Phase   Phase
	Plain   iso7816.Command
	Wire    []byte
	Secret  []string // names of keys inside
	Asked   time.Time
	Heard   time.Time         // zero: no report yet
	Answer  *iso7816.Response // nil: none came
	Good    bool              // the answer was one that the script expected
	Cut     bool              // the link was lost right here
	Meaning iso7816.Explanation
}

// Log reads everything an order said to its element and heard back, in order,
// each line explained by what was said before it. The words show no whole card
// number.
func Log(q db.Reader, order string) ([]Line, error) {
	o, err := orderByID(q, order)
	var scripts []scriptRow
	if err == nil {
		scripts, err = scriptsOf(q, order)
	}
	if err != nil {
		return nil, fmt.Errorf("log of order %s: %w", order, err)
	}
	told := dialogue.NewSession(dialogue.Options{})
	var out []Line
	for _, r := range scripts {
		out = append(out, r.lines(told)...)
	}
	if n := string(o.Card.Purse()); n != "" { // it stands in BCD in files of the purse
		hushed := n[:6] + strings.Repeat("X", len(n)-10) + n[len(n)-4:]
		for i := range out {
			for j, f := range out[i].Meaning.Fields {
				out[i].Meaning.Fields[j].Value = strings.ReplaceAll(f.Value, n, hushed)
			}
		}
	}
	return out, nil
}

func (r scriptRow) lines(told *dialogue.Session) []Line {
	out := make([]Line, len(r.steps))
	for i, s := range r.steps {
		l := Line{Script: r.id, Phase: Phase(s.Phase), Plain: s.Plain, Wire: s.Wire, Secret: s.Secret, Asked: r.made, Heard: r.heard}
		var a iso7816.Response
		if i < len(r.answers) {
			if got, err := iso7816.ParseResponse(r.answers[i]); err == nil {
				a, l.Answer, l.Good = got, &got, s.Expects(got.SW)
			}
		}
		l.Cut = r.cut && i == len(r.answers)
		l.Meaning = told.Exchange(l.Plain, a)
		for _, k := range l.Secret {
			l.Meaning.Fields = append(l.Meaning.Fields, iso7816.Field{Name: "key", NameZH: "密钥", Value: k, Secret: true})
		}
		out[i] = l
	}
	return out
}

// A Step is one phase of an order as its progress page shows it.
type Step struct {
	Phase  Phase
	EN, ZH string
	Done   bool
	Now    bool // the order is in it
}

// Progress lists the phases of an order's kind and how far the order is.
func (o Order) Progress() []Step {
	reached := o.rank(o.Phase)
	walk := o.Walk()
	out := make([]Step, 0, len(walk))
	for i, p := range walk {
		out = append(out, Step{Phase: p, EN: p.Words(false), ZH: p.Words(true),
			Done: o.State == Done || i < reached || i == reached && o.State != Placed && i > 0,
			Now:  !o.State.Over() && (i == reached+1 || i == 0 && o.State == Placed)})
	}
	return out
}

// A Phase is one step of an order that people can follow.
type Phase string

// The phases, in no order of their own: see Order.Walk.
const (
	PhaseWait         Phase = "wait"
	PhaseChannel      Phase = "channel"
	PhaseLook         Phase = "look"
	PhaseKeys         Phase = "keys"
	PhaseInstall      Phase = "install"
	PhasePersonalise  Phase = "personalise"
	PhaseActivate     Phase = "activate"
	PhaseReadBack     Phase = "readback"
	PhaseInitLoad     Phase = "initload"
	PhaseCryptogram   Phase = "cryptogram"
	PhaseAuthenticate Phase = "authenticate"
	PhaseCredit       Phase = "credit"
	PhaseProve        Phase = "prove"
	PhaseChallenge    Phase = "challenge"
	PhaseLock         Phase = "lock"
	PhaseBalance      Phase = "balance"
	PhaseRemove       Phase = "remove"
	PhaseScript       Phase = "script"
	PhaseDefault      Phase = "default"
)

// walks gives for each kind the phases it passes when nothing goes wrong; the
// cards that walk another way are in walksOf.
var walks = map[Kind][]Phase{
	Adopt:   {PhaseWait, PhaseChannel, PhaseKeys, PhaseReadBack},
	Issue:   {PhaseWait, PhaseChannel, PhaseInstall, PhasePersonalise, PhaseActivate, PhaseReadBack},
	SAM:     {PhaseWait, PhaseChannel, PhaseInstall, PhasePersonalise, PhaseActivate, PhaseReadBack},
	TopUp:   {PhaseWait, PhaseInitLoad, PhaseCredit},
	Block:   {PhaseWait, PhaseChallenge, PhaseLock, PhaseReadBack},
	Unblock: {PhaseWait, PhaseChallenge, PhaseLock, PhaseReadBack},
	Delete:  {PhaseWait, PhaseBalance, PhaseChannel, PhaseRemove},
	Default: {PhaseWait, PhaseDefault, PhaseReadBack},
	Update:  {PhaseWait, PhaseCryptogram, PhaseScript, PhaseReadBack},
}

var (
	bankLoad     = []Phase{PhaseWait, PhaseInitLoad, PhaseCryptogram, PhaseCredit}
	desfireLoad  = []Phase{PhaseWait, PhaseAuthenticate, PhaseCredit}
	channelLock  = []Phase{PhaseWait, PhaseChannel, PhaseLock, PhaseReadBack}
	desfireLock  = []Phase{PhaseWait, PhaseAuthenticate, PhaseLock, PhaseReadBack}
	couponLock   = []Phase{PhaseWait, PhaseBalance, PhaseChannel, PhaseLock}
	plainRemoval = []Phase{PhaseWait, PhaseChannel, PhaseRemove}
	desfireIssue = append(slices.Clone(walks[Issue]), PhaseAuthenticate)
)

var walksOf = map[issuing.Kind]map[Kind][]Phase{
	issuing.ECash:   {TopUp: bankLoad, Block: channelLock, Unblock: channelLock},
	issuing.Debit:   {TopUp: bankLoad, Block: channelLock, Unblock: channelLock},
	issuing.Credit:  {TopUp: bankLoad, Block: channelLock, Unblock: channelLock},
	issuing.Canteen: {Issue: desfireIssue, TopUp: desfireLoad, Block: desfireLock, Unblock: desfireLock},
	issuing.Door:    {Issue: desfireIssue, Block: desfireLock, Unblock: desfireLock, Delete: plainRemoval},
	issuing.Coupon:  {Block: couponLock, Unblock: couponLock, Delete: plainRemoval},
}

// Walk lists the phases of a kind for a transit card in the order they happen.
func Walk(k Kind) []Phase { return slices.Clone(walks[k]) }

// Walk lists the phases of the order in the order they happen.
func (o Order) Walk() []Phase {
	w, ok := walksOf[o.CardKind][o.Kind]
	if !ok {
		w = walks[o.Kind]
	}
	if w = slices.Clone(w); o.Kind == Issue && !o.Amount.IsZero() {
		load := Order{Kind: TopUp, CardKind: o.CardKind}
		for _, p := range load.Walk()[1:] {
			if !slices.Contains(w, p) {
				w = append(w, p)
			}
		}
	}
	return w
}

// Words says what happens in the phase, in Chinese if zh.
func (p Phase) Words(zh bool) string { return pick(phaseWords[p], string(p), zh) }

var phaseWords = map[Phase][2]string{
	PhaseWait:         {"Waiting for the band", "等待手环连接"},
	PhaseChannel:      {"Opening a secure channel to the element", "与安全芯片建立安全通道"},
	PhaseLook:         {"Reading what the element already holds", "读取芯片现有状态"},
	PhaseKeys:         {"Replacing the factory keys", "替换出厂密钥"},
	PhaseInstall:      {"Installing the card application", "安装卡应用"},
	PhasePersonalise:  {"Writing number, limits and keys", "写入卡号、限额与密钥"},
	PhaseActivate:     {"Switching the card on", "启用卡片"},
	PhaseReadBack:     {"Reading the result back", "回读核对"},
	PhaseInitLoad:     {"The card prepares the load", "圈存初始化"},
	PhaseCredit:       {"The card takes the money", "圈存写卡"},
	PhaseProve:        {"Asking the card what became of the load", "向卡片查证圈存结果"},
	PhaseChallenge:    {"The card gives a challenge", "取卡片随机数"},
	PhaseLock:         {"Changing the card's lock", "更改卡片锁定状态"},
	PhaseBalance:      {"The card proves its balance", "卡片证明余额"},
	PhaseRemove:       {"Removing the card from the element", "从芯片删除卡应用"},
	PhaseCryptogram:   {"The card asks its bank", "卡片请求银行授权"},
	PhaseAuthenticate: {"Card and house prove themselves to each other", "卡片与后台相互认证"},
	PhaseScript:       {"The bank's commands to the card", "执行发卡行脚本"},
	PhaseDefault:      {"Putting the card first", "设置默认卡"},
}

// reached tells which of the walk's phases lies further: an order's phase
// never goes back when a session has to begin again.
func (o Order) reached(now Phase) Phase {
	if o.rank(now) > o.rank(o.Phase) {
		return now
	}
	return o.Phase
}

func (o Order) rank(p Phase) int { return slices.Index(o.Walk(), p) }
