// Package tsm is the trusted service manager: it turns a wish about a card
// ("write it", "load 50 yuan", "block it") into scripts of card commands, hands
// them to the band's agent, and reads from the answers what happened.
//
// Start with Manager: Place puts an order into the books, Next gives a band its
// next script, Report takes the answers. The rules that keep money and cards
// whole are:
//
//   - Personalisation data is sealed with the order before the first byte goes
//     out, so a card that was half written is finished as the same card.
//   - After any loss nothing is sent again blindly: the next script reads the
//     element (GET STATUS, GET TRANSACTION PROVE, a log) and the order goes on at
//     the first missing phase.
//   - A top-up's money is held when it is ordered and bound to something the card
//     does once before the command that credits leaves the house: the online
//     sequence of a purse, the transaction counter of an e-cash card, a line in
//     the log of a canteen card. What became of it is decided by proof from the
//     card, never by a status word and never by guess.
//   - A new card is active when it has proved itself with the keys it was given.
//
// Where a change goes: place.go takes orders and ends them by hand and by clock,
// manager.go hands scripts out and takes reports, and what an order does is in
// its course. issue.go writes cards, channel.go is the secure channel that it and
// removals go through; topup.go loads purses and e-cash, desfire.go is all of
// DESFire applications; lock.go has blocks and returns; bank.go is what bank cards
// prove, their default and their updates; firm.go is the security domain that a
// firm's cards live in; lost.go has bands, lost ones too, and moved cards. store.go
// has the tables and what pages ask for. See docs/cycles for what is durable when.
//
// A script may be delivered, run or reported twice or late: the first report
// counts, everything else changes nothing.
package tsm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/money"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm/script"
)

// Kind is what an order does.
type Kind string

const (
	Adopt   Kind = "adopt"   // factory keys of a band become its own
	Issue   Kind = "issue"   // a card is written into the element; one that replaces another is loaded with its money
	TopUp   Kind = "topup"   // wallet money goes onto the card
	Block   Kind = "block"   // the card stops working
	Unblock Kind = "unblock" // and works again
	Delete  Kind = "delete"  // balance proven, card removed, money returned
	Default Kind = "default" // the payment card that readers get first
	Update  Kind = "update"  // limits or PIN of a bank card, by issuer script
	SAM     Kind = "psam"    // a gate's security module is written
)

// State is where an order stands.
type State string

// The states, and who acts next.
const (
	Placed      State = "placed"      // the band: ask for the first script (or the customer: cancel)
	Running     State = "running"     // the band: run the script in its hands and report
	Unconfirmed State = "unconfirmed" // the band: come back, so that the element can be read; the customer may press Verify; staff Recover when Desk is set
	Done        State = "done"        // nobody
	Failed      State = "failed"      // nobody: nothing happened, or what happened was taken back; the reason is in Why
	Cancelled   State = "cancelled"   // nobody: given up before anything irrevocable
)

// transitions lists what may follow what. A state may also follow itself.
var transitions = map[State][]State{
	Placed:      {Running, Cancelled, Failed},
	Running:     {Unconfirmed, Done, Failed, Cancelled},
	Unconfirmed: {Running, Done, Failed, Cancelled},
	Done:        {},
	Failed:      {},
	Cancelled:   {},
}

// May tells whether an order in state s may go to state to.
func (s State) May(to State) bool {
	if s == to {
		return !s.Over()
	}
	for _, t := range transitions[s] {
		if t == to {
			return true
		}
	}
	return false
}

// Over tells whether the order has ended.
func (s State) Over() bool { return s == Done || s == Failed || s == Cancelled }

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string { return pick(stateWords[s], string(s), zh) }

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string { return pick(kindWords[k], string(k), zh) }

func pick(w [2]string, otherwise string, zh bool) string {
	switch {
	case w[0] == "":
		return otherwise
	case zh:
		return w[1]
	}
	return w[0]
}

var stateWords = map[State][2]string{
	Placed: {"waiting for the band", "等待手环"}, Running: {"running", "执行中"},
	Unconfirmed: {"not confirmed yet", "待确认"}, Done: {"done", "完成"},
	Failed: {"failed, nothing was changed", "失败，未作更改"}, Cancelled: {"cancelled", "已取消"},
}

var kindWords = map[Kind][2]string{
	Adopt: {"take the band over", "接管手环"}, Issue: {"write a card", "发卡"}, TopUp: {"top up", "充值"},
	Block: {"block the card", "锁卡"}, Unblock: {"unblock the card", "解锁"}, Delete: {"return the card", "退卡"},
	Default: {"make it the default card", "设为默认卡"}, Update: {"update the card", "更新卡片"},
	SAM: {"write a gate's security module", "写入闸机安全模块"},
}

// An Order is one wish and what became of it.
type Order struct {
	ID       string
	Ref      string // names the wish: the same again is the same order
	Kind     Kind
	Band     string
	Card     issuing.CardID // empty for Adopt and SAM
	CardKind issuing.Kind   // of that card
	Customer string
	Amount   money.Amount // of a top-up; of an issue what the card it replaces held
	State    State
	Phase    Phase // the last phase reached
	Session  int   // sessions with the element so far
	Stalled  int   // of them in a row without progress
	Desk     bool  // only staff can go on (Recover)
	Stop     bool  // the customer wants it given up as soon as that is proven safe
	Why      Reason
	Placed   time.Time
	Changed  time.Time
	Deadline time.Time // when Tick looks at it; far ahead when nothing is due

	instance []byte // that cards of the kind share, of orders since each firm has its own
	script   string // id of the script in the band's hands; empty: none prepared
	seq      int    // what the load is bound to: online sequence, transaction counter or number of the load; -1: none yet
	version  int    // counts changes; a unit that finds another one starts over
	data     []byte // what its sessions work with: personalisation data sealed, a proven balance
}

// Reason says in a word why an order stands where it stands.
type Reason string

const (
	NoReason      Reason = ""
	LinkLost      Reason = "link_lost"      // the band left in the middle
	Silent        Reason = "silent"         // the band did not report in time
	CardRefused   Reason = "card_refused"   // the element answered an unexpected status word
	WrongCard     Reason = "wrong_card"     // the element holds another card than ordered
	WrongProof    Reason = "wrong_proof"    // a MAC or TAC of the card did not verify
	OverCardLimit Reason = "over_limit"     // the card would hold more than it may
	NeverCame     Reason = "band_not_seen"  // the band was not seen in time
	Given         Reason = "given_up"       // the customer cancelled
	ByStaff       Reason = "by_staff"       // decided by staff
	OtherLoad     Reason = "other_load"     // the sequence was used, but not by this order
	KeepsFailing  Reason = "keeps_failing"  // several sessions in a row brought no progress
	NotThere      Reason = "card_not_there" // the instance is not in the element
	NoSpace       Reason = "no_space"       // the element, or its issuer's part of it, is full
	NoMoney       Reason = "no_money"       // the account has not so much
	BankRefused   Reason = "bank_refused"   // the issuing bank declined
	NoPIN         Reason = "no_pin"         // the card checks its PIN by itself, and waits for it to be set
)

// Words says the reason for people, in Chinese if zh.
func (r Reason) Words(zh bool) string { return pick(reasonWords[r], string(r), zh) }

var reasonWords = map[Reason][2]string{
	LinkLost: {"the band left the reader", "手环离开了读卡区"}, Silent: {"the band did not report back", "手环没有回报"},
	CardRefused: {"the card refused a command", "卡片拒绝了命令"}, WrongCard: {"another card is in the band", "手环中是另一张卡"},
	WrongProof: {"the card's proof does not verify", "卡片证明校验失败"}, OverCardLimit: {"the card would hold more than it may", "超过卡内余额上限"},
	NeverCame: {"the band was not seen in time", "手环超时未连接"}, Given: {"cancelled by the customer", "客户取消"},
	ByStaff: {"decided by the service desk", "由客服裁定"}, OtherLoad: {"another load used the card's sequence", "序号已被其他充值使用"},
	KeepsFailing: {"several tries brought no progress", "多次尝试没有进展"}, NotThere: {"the card is not in the band", "手环中没有此卡"},
	NoSpace: {"the band has no room for another card", "手环空间不足"}, NoMoney: {"not enough money", "余额不足"},
	BankRefused: {"the bank declined", "银行拒绝"}, NoPIN: {"the card's PIN has to be set first", "请先设置卡片密码"},
}

// A Request asks for an order.
type Request struct {
	Ref      string // unique name of the wish, at most MaxRef bytes
	Kind     Kind
	Band     string
	Card     issuing.CardID // of every kind but Adopt and SAM
	Customer string
	Amount   money.Amount // of TopUp: positive whole fen
	SAM      *SAMData     // of SAM
	Update   *Change      // of Update

	behind  bool // placed behind the card's open orders, whatever their end
	follows bool // money of a lost card, which one top-up's limit does not bound
}

// SAMData is what a gate's security module carries besides keys.
type SAMData struct {
	Serial   [10]byte // PSAM number, file 15
	Terminal purse.Terminal
}

// Limits and times.
const (
	MaxRef     = 80                       // bytes
	MaxBand    = 64                       // bytes
	MaxAnswers = script.MaxAnswers        // answers in one report
	maxStalled = 5                        // sessions without progress before an order ends or goes to the desk
	scriptTime = 2 * time.Minute          // a band reports a script within this
	orderTime  = 24 * time.Hour           // a placed order waits so long for its band
	blockTime  = 5 * 365 * 24 * time.Hour // but a block waits for a lost band to turn up, as long as a card lives
	verifyTime = 48 * time.Hour           // an unconfirmed top-up waits so long before the desk is asked
	maxPage    = 500
)

// What can go wrong.
var (
	ErrNotFound  = fail.Define(fail.NotFound, "tsm.order_not_found", "there is no such order")
	ErrRequest   = fail.Define(fail.Invalid, "tsm.bad_request", "this order lacks something or names something impossible")
	ErrDiffers   = fail.Define(fail.Conflict, "tsm.reference_differs", "this reference was used for another order")
	ErrBusy      = fail.Define(fail.Conflict, "tsm.card_busy", "an earlier order for this card is not finished")
	ErrAmount    = fail.Define(fail.Invalid, "tsm.amount", "a top-up is a positive number of whole fen")
	ErrOverOnce  = fail.Define(fail.Refused, "tsm.over_single_limit", "one top-up may not be that large")
	ErrOverCard  = fail.Define(fail.Refused, "tsm.over_card_limit", "the card may not hold that much")
	ErrState     = fail.Define(fail.Conflict, "tsm.wrong_state", "the order is past the point where this is possible")
	ErrBand      = fail.Define(fail.NotFound, "tsm.band_not_found", "this band is not registered")
	ErrBandTaken = fail.Define(fail.Conflict, "tsm.band_taken", "this band belongs to somebody else")
	ErrScript    = fail.Define(fail.NotFound, "tsm.script_not_found", "there is no such script for this band")
	ErrAnswers   = fail.Define(fail.Invalid, "tsm.bad_answers", "the answers do not fit the script")
	ErrBound     = fail.Define(fail.Conflict, "tsm.sequence_bound", "the card's sequence already belongs to another top-up")
	ErrLost      = fail.Define(fail.Refused, "tsm.band_lost", "the band was reported lost")
	ErrMoved     = fail.Define(fail.Busy, "tsm.order_moved", "the order changed meanwhile: ask again")
)

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
