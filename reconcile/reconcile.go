// Package reconcile compares three records of one day with a host, an issuer or
// a network: the switch's own transactions, the host's clearing file and the
// bank's statement. What agrees is counted and summed; what does not becomes an
// exception of a named type with a proposal that people sign.
//
// Match is the comparison, pure and by external merge. Run keeps a day's result
// once, Import takes a bank statement, Tick finds what is overdue. An exception
// goes through Propose, Sign or Reject, and Close. Bookings keep one equality:
// once the bank's line is in, receivable.<host> is exactly what the exceptions
// that nobody has booked explain, and zero when there are none.
package reconcile

import (
	"time"

	"koala/calendar"
	"koala/internal/fail"
	"koala/money"
)

// Kind is what a transaction does.
type Kind string

// The kinds.
const (
	Sale       Kind = "sale"
	Void       Kind = "void"
	Refund     Kind = "refund"
	Completion Kind = "completion" // of a pre-authorisation
	Reversal   Kind = "reversal"   // takes back the line of the same reference
	Chargeback Kind = "chargeback" // an issuer takes a sale's money back in a dispute
	Presented  Kind = "presented"  // and we get it again
	Copy       Kind = "copy"       // the issuer pays for the copy of a receipt
)

// alike tells whether two halves of one transaction may be called so: the file
// knows a completion and a void by other marks than the switch does.
func alike(a, b Kind) bool {
	sells := func(k Kind) bool { return k == Sale || k == Completion }
	backs := func(k Kind) bool { return k == Void || k == Refund }
	return a == b || sells(a) && sells(b) || backs(a) && backs(b)
}

// State is how the switch sees a transaction. A host's lines are all Cleared.
type State string

// The states.
const (
	Cleared  State = "cleared"  // booked: the host owes it
	Reversed State = "reversed" // approved, then taken back: nothing is owed
	Declined State = "declined" // never approved
)

// An Item is one transaction as one side has it. Amounts are fen; Fen is what
// the host owes us before fees, negative when we owe the host.
type Item struct {
	RRN      string        // field 37, 12 characters; empty: not known
	Acquirer string        // institution, 11 digits at most
	TID      string        // terminal
	STAN     string        // field 11, 6 digits
	Date     calendar.Date // of the transaction, terminal's
	Kind     Kind
	State    State
	Fen      int64
	Fee      int64          // kept by the issuer
	Network  int64          // kept by the network
	Currency money.Currency // empty: CNY
	Class    string         // debit, credit, prepaid; empty: not told
	At       time.Time      // when it happened; zero: not told
	Payee    string         // ours only: whose sale it is
	Line     int            // theirs only: where it stands in the file, from 1
}

// Key is what orders items: the retrieval reference, or else Fallback.
func (x *Item) Key() string {
	if x.RRN != "" {
		return x.RRN
	}
	return x.Fallback()
}

// Fallback names a transaction without its retrieval reference: acquirer,
// terminal, trace and date. It is empty when one of the last three is missing.
func (x *Item) Fallback() string {
	if x.TID == "" || x.STAN == "" || x.Date.IsZero() {
		return ""
	}
	return "~" + x.Acquirer + "/" + x.TID + "/" + x.STAN + "/" + x.Date.String()
}

func (x *Item) currency() money.Currency {
	if x.Currency == "" {
		return money.CNY
	}
	return x.Currency
}

// owed is what the item adds to the host's debt in the books, in fen: nothing of
// what never stood, nor of what is in other money, whose rate nobody has told.
func (x *Item) owed() (fen, fee, network int64) {
	if x.State != Cleared || x.currency() != money.CNY {
		return 0, 0, 0
	}
	return x.Fen, x.Fee, x.Network
}

// Sum is a number of items and what they add up to, in fen.
type Sum struct {
	Count   int64
	Fen     int64
	Fee     int64 // the issuer's
	Network int64
}

// Net is what is left of the sum when the fees are kept, in fen.
func (s Sum) Net() int64 { return s.Fen - s.Fee - s.Network }

// sane tells whether the sum is one that books can take.
func (s *Sum) sane() bool {
	return max(abs(s.Fen), abs(s.Fee), abs(s.Network)) <= money.MaxMinor/4
}

// add counts an item; one in other money adds no fen.
func (s *Sum) add(x *Item) {
	if s.Count++; x.currency() == money.CNY {
		s.Fen, s.Fee, s.Network = s.Fen+x.Fen, s.Fee+x.Fee, s.Network+x.Network
	}
}

// Type names what is wrong.
type Type string

// The types of exceptions.
const (
	MissingAtNetwork Type = "missing_at_network" // booked here, not in the file
	MissingHere      Type = "missing_here"       // in the file, not known here
	AmountDiffers    Type = "amount_differs"
	FeeDiffers       Type = "fee_differs"
	DuplicateInFile  Type = "duplicate_in_file"
	Late             Type = "late" // after the host's cut-off: in tomorrow's file
	ReversedCleared  Type = "reversed_but_cleared"
	DeclinedCleared  Type = "cleared_but_declined"
	CurrencyDiffers  Type = "currency"
	ClassDiffers     Type = "card_class_differs"
	StatementShort   Type = "statement_short"          // the bank's line is below the file's net
	StatementMissing Type = "statement_missing"        // no line although it is due
	UnknownCredit    Type = "statement_unknown_credit" // money nobody expects (or a debit)
	PayoutReturned   Type = "payout_returned"          // a shop's bank sent it back
	PayoutMissing    Type = "payout_missing"           // ordered, not on the statement
	PayoutDiffers    Type = "payout_differs"
)

// Actor is who has to act next on an exception.
type Actor string

// The actors.
const (
	Nobody  Actor = "nobody"
	Desk    Actor = "desk"    // reconciliation desk
	Network Actor = "network" // the host's desk, after ours has asked
	BankRep Actor = "bank"    // the custody bank
	ShopRep Actor = "shop"    // the shop: a new account
)

var actorWords = map[Actor][2]string{
	Nobody: {"nobody", "无"}, Desk: {"reconciliation desk", "对账岗"}, Network: {"the host's desk", "对方机构"}, BankRep: {"the bank", "银行"}, ShopRep: {"the shop", "商户"},
}

// Words says the actor for people, in Chinese if zh.
func (a Actor) Words(zh bool) string { return pick(actorWords, a, zh) }

func pick[K ~string](words map[K][2]string, k K, zh bool) string {
	w, ok := words[k]
	switch {
	case !ok:
		return string(k)
	case zh:
		return w[1]
	}
	return w[0]
}

// A Meaning is what is known of a type: what happened, who acts and what is
// proposed, in both languages.
type Meaning struct {
	Type      Type
	En, Zh    string
	Next      Actor
	DoEn      string // the proposal
	DoZh      string
	Books     bool // signing it books the difference to suspense
	Afterward Actor
}

// Meanings lists every type, in the order of pages.
var Meanings = []Meaning{
	{MissingAtNetwork, "booked here, missing in the host's file", "我方已入账，对账文件无此笔", Desk, "ask the host to clear it; hold the amount on suspense until then", "向对方请款，金额先挂账", true, Network},
	{MissingHere, "in the host's file, not known here", "对账文件有此笔，我方无记录", Desk, "look for the terminal's record; hold the amount on suspense", "查找终端记录，金额先挂账", true, Desk},
	{AmountDiffers, "the amounts differ", "金额不符", Desk, "take the host's amount; hold the difference on suspense", "按对方金额入账，差额挂账", true, Network},
	{FeeDiffers, "the host kept another fee", "手续费不符", Desk, "ask for the fee table's row; hold the difference on suspense", "核对费率，差额挂账", true, Network},
	{DuplicateInFile, "twice in the host's file", "对账文件重复", Desk, "tell the host; hold the second amount on suspense until it is taken back", "通知对方冲回，重复金额挂账", true, Network},
	{Late, "after the cut-off: expected in the next file", "过清算截止时间，应在次日文件中", Nobody, "wait for the next file", "等待次日文件", false, Nobody},
	{ReversedCleared, "reversed here, cleared by the host", "我方已冲正，对方已清算", Desk, "give the amount back to the issuer; hold it on suspense until then", "退还发卡行，金额先挂账", true, Network},
	{DeclinedCleared, "declined here, cleared by the host", "我方已拒绝，对方已清算", Desk, "give the amount back to the issuer; hold it on suspense until then", "退还发卡行，金额先挂账", true, Network},
	{CurrencyDiffers, "the currencies differ", "币种不符", Desk, "ask the host to clear it in the right currency; hold the amount on suspense until then", "请对方按正确币种清算，金额先挂账", true, Network},
	{ClassDiffers, "the kinds of card differ", "卡种不符", Desk, "check the card's range; hold the difference of the fee on suspense", "核对卡BIN，手续费差额挂账", true, Desk},
	{StatementShort, "the bank received less than the file's net", "银行到账少于清算净额", Desk, "claim the rest from the host; it stands on suspense", "向对方追收差额，差额已挂账", false, Network},
	{StatementMissing, "the bank's line is overdue", "银行未到账", Desk, "ask the bank and the host", "向银行和对方查询", false, BankRep},
	{UnknownCredit, "a line nobody expects", "不明来账", Desk, "ask the bank for the sender; the amount stands on suspense", "向银行查询来源，金额已挂账", false, BankRep},
	{PayoutReturned, "the shop's bank sent the payout back", "付款被退回", Desk, "owe it to the shop again and ask for a right account", "重新计入应付商户款，并核对收款账户", true, ShopRep},
	{PayoutMissing, "a payout is not on the statement", "付款未出账", Desk, "ask the bank whether the order was carried out", "向银行查询付款指令", false, BankRep},
	{ECashGap, "money left a card that nobody handed in", "卡片余额与已交记录不符", Desk, "ask the tills for records; the card's money stays in its float until they come", "向终端追索记录，卡内资金留在备付", false, ShopRep},
	{ECashTwice, "a counter or number comes twice, as something else", "计数器或流水号重复且内容不同", Desk, "compare both records; the second one stays in suspense", "核对两条记录，后一条挂账", false, ShopRep},
	{ECashProof, "cryptogram or TAC does not verify", "应用密文或 TAC 校验不符", Desk, "do not pay it; take the terminal or card out of use if it comes again", "不予入账，再次出现则停用终端或卡片", false, ShopRep},
	{ECashUnknown, "a card that is not known here", "未知卡片", Desk, "ask whose card it is; the record stays in suspense", "核实卡片归属，记录挂账", false, ShopRep},
	{ECashDoubt, "a tap whose end nobody knows", "挥卡结果未知", Desk, "wait for the card to be heard; else decide on the e-cash desk", "等待卡片再次使用，否则在电子现金台裁定", false, Desk},
	{ECashWaits, "a record that does not fit what is booked", "记录与账务不符", Desk, "look at the record on the e-cash desk", "在电子现金台查看该记录", false, Desk},
	{PayoutDiffers, "a payout has another amount", "付款金额不符", Desk, "claim the difference from the bank; it stands on suspense", "向银行追索差额，差额已挂账", false, BankRep},
}

var meaningOf = func() map[Type]Meaning {
	m := map[Type]Meaning{}
	for _, x := range Meanings {
		m[x.Type] = x
	}
	return m
}()

// Words says the type for people, in Chinese if zh.
func (t Type) Words(zh bool) string {
	m, ok := meaningOf[t]
	switch {
	case !ok:
		return string(t)
	case zh:
		return m.Zh
	}
	return m.En
}

// Proposal says what is proposed for the type, in Chinese if zh.
func (t Type) Proposal(zh bool) string {
	if zh {
		return meaningOf[t].DoZh
	}
	return meaningOf[t].DoEn
}

// Next is who has to act on a new exception of the type.
func (t Type) Next() Actor { return meaningOf[t].Next }

// Limits.
const (
	MaxHost       = 40        // bytes of a host's name
	MaxExceptions = 100_000   // of one comparison: beyond it the file is not of this day
	MaxWhy        = 500       // bytes of a reason
	MaxStatement  = 200_000   // lines of a bank statement
	MaxItems      = 100 << 20 // of one file
	maxSame       = 64        // items under one key
	maxPage       = 500
)

// What can go wrong.
var (
	ErrOrder    = fail.Define(fail.Broken, "reconcile.order", "the items are not sorted by their key")
	ErrMany     = fail.Define(fail.Invalid, "reconcile.too_many", "so much differs that the file cannot be of this day and host: check which file it is")
	ErrFormat   = fail.Define(fail.Invalid, "reconcile.format", "the file cannot be read at the place named")
	ErrHost     = fail.Define(fail.NotFound, "reconcile.no_host", "there is no such host")
	ErrNoRun    = fail.Define(fail.NotFound, "reconcile.no_run", "this day of the host is not reconciled yet")
	ErrOther    = fail.Define(fail.Conflict, "reconcile.other_file", "this day was reconciled with another file")
	ErrTaken    = fail.Define(fail.Conflict, "reconcile.file_taken", "this file was taken for another day or host")
	ErrLine     = fail.Define(fail.Conflict, "reconcile.line_differs", "this statement line was taken before with another amount")
	ErrNone     = fail.Define(fail.NotFound, "reconcile.no_exception", "there is no such exception")
	ErrState    = fail.Define(fail.Refused, "reconcile.state", "the exception is not in a state for this")
	ErrWhy      = fail.Define(fail.Invalid, "reconcile.why", "say who acts and why, in up to 500 bytes")
	ErrFourEyes = fail.Define(fail.Refused, "reconcile.four_eyes", "above the limit somebody else has to sign")
	ErrOutcome  = fail.Define(fail.Invalid, "reconcile.outcome", "money on suspense must go somewhere: to the shop, to the house's loss, or against a bank line")
	ErrPayout   = fail.Define(fail.Invalid, "reconcile.payout", "a payout needs an id, a payee, an amount above zero and a day")
)
