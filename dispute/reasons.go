package dispute

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
)

// A Group is what kind of quarrel a reason is.
type Group string

// The groups.
const (
	Fraud      Group = "fraud"
	Authorised Group = "authorisation"
	Processing Group = "processing"
	Consumer   Group = "consumer"
	Receipt    Group = "receipt"
)

// A Reason is one code. Wants names the pieces of evidence that answer it, most
// telling first.
type Reason struct {
	Code   string
	Group  Group
	En, Zh string
	Wants  []Kind
	Source string
}

const (
	listed  = "UnionPay codes outside America as docs.antom.com/ac/dispute/oc lists them"
	ownCode = "house code: no public list has one"
)

// Reasons lists the codes: UnionPay's where they are public, codes of the house
// (H…) for the rest.
var Reasons = []Reason{
	{"4515", Fraud, "the cardholder does not know the sale", "持卡人否认交易", []Kind{ChipData, Signature, ReceiptCopy, Messages}, listed},
	{"4562", Fraud, "counterfeit card", "伪卡交易", []Kind{ChipData, Messages, ReceiptCopy}, listed},
	{"4547", Fraud, "the card was on the stop list", "止付名单卡片", []Kind{Messages}, listed},
	{"4803", Fraud, "the shop is on the network's risk list", "风险商户", []Kind{Messages}, listed},
	{"4514", Fraud, "several sales in a row that the cardholder did not make", "欺诈性多笔交易", []Kind{ChipData, Signature, Messages}, listed},
	{"4522", Authorised, "cleared although declined", "授权拒绝仍清算", []Kind{Messages, ChipData}, listed},
	{"4508", Authorised, "over the limit or without authorisation", "超限额或未授权", []Kind{Messages, ChipData}, listed},
	{"4532", Processing, "a promised refund did not come", "退款未处理", []Kind{Messages, Delivery}, listed},
	{"H101", Processing, "booked twice", "重复扣款", []Kind{Messages, ReceiptCopy}, ownCode},
	{"H102", Processing, "another amount than on the receipt", "金额与签购单不符", []Kind{ReceiptCopy, Messages}, ownCode},
	{"H103", Processing, "handed in too late", "逾期请款", []Kind{Messages}, ownCode},
	{"H104", Processing, "paid in another way", "已用其他方式付款", []Kind{ReceiptCopy, Delivery}, ownCode},
	{"H201", Consumer, "goods or service not received", "未收到商品或服务", []Kind{Delivery, Signature, ReceiptCopy}, ownCode},
	{"H202", Consumer, "not as described, or damaged", "商品或服务与描述不符", []Kind{Delivery, ReceiptCopy}, ownCode},
	{"H301", Receipt, "the cardholder asks for the receipt", "持卡人要求查看签购单", []Kind{ReceiptCopy, Signature}, ownCode},
}

// ReasonOf finds a code.
func ReasonOf(code string) (Reason, bool) {
	for _, r := range Reasons {
		if r.Code == code {
			return r, true
		}
	}
	return Reason{}, false
}

// Words says the reason for people, in Chinese if zh.
func (r Reason) Words(zh bool) string {
	if zh {
		return r.Zh
	}
	return r.En
}

// A Rule names a number of days, or of rounds, that the world sets.
type Rule string

// The rules. Days are calendar days.
const (
	RuleAsk     Rule = "retrieval.ask"    // after the sale: the issuer may ask for the receipt
	RuleAnswer  Rule = "retrieval.answer" // after asking: we answer
	RuleCharge  Rule = "chargeback.ask"   // after the sale: the issuer may charge back
	RulePresent Rule = "represent"        // after the chargeback: we represent
	RuleAgain   Rule = "second"           // after that: the issuer charges back again
	RuleFile    Rule = "arbitration.file" // after that: we file
	RuleDecide  Rule = "arbitration.decide"
	RuleRounds  Rule = "rounds"       // chargebacks that a card may have
	RuleDebit   Rule = "rounds.debit" // the same of a debit card

	// RuleSecond is the amount in fen above which a second person confirms what
	// the desk does.
	RuleSecond Rule = "second.person"
)

// Rules lists them, in the order of a case.
var Rules = []Rule{RuleAsk, RuleAnswer, RuleCharge, RulePresent, RuleAgain, RuleFile, RuleDecide, RuleRounds, RuleDebit, RuleSecond}

var ruleWords = map[Rule][2]string{
	RuleAsk: {"the issuer asks for the receipt, days after the sale", "发卡行调单：交易后天数"}, RuleAnswer: {"the receipt is sent, days after it was asked for", "回复调单：调单后天数"},
	RuleCharge: {"the issuer charges back, days after the sale", "一次退单：交易后天数"}, RulePresent: {"we represent, days after the chargeback", "再请款：退单后天数"},
	RuleAgain: {"the issuer charges back again, days after that", "二次退单：再请款后天数"}, RuleFile: {"we file for arbitration, days after that", "提交仲裁：二次退单后天数"},
	RuleDecide: {"the arbiter decides, days after the filing", "裁定：提交后天数"}, RuleRounds: {"chargebacks that a sale may have", "一笔交易可退单次数"},
	RuleDebit: {"chargebacks that a debit card's sale may have", "借记卡交易可退单次数"}, RuleSecond: {"above this amount a second person confirms", "超过此金额须第二人复核"},
}

// Words says the rule for people, in Chinese if zh.
func (r Rule) Words(zh bool) string { return pick(ruleWords, r, zh) }

// Money tells whether the rule's value is an amount, in fen.
func (r Rule) Money() bool { return r == RuleSecond }

// Most is the largest value a rule may have: ten years, nine rounds, a hundred
// million yuan.
func (r Rule) Most() int64 {
	switch r {
	case RuleSecond:
		return 100_000_000_00
	case RuleRounds, RuleDebit:
		return 9
	}
	return 3_650
}

// rules are the rows that Schema begins with.
const rules = `INSERT INTO dispute_rule (rule, valid_from, value, source) VALUES
	('retrieval.ask', 0, 120, 'public summary of the error-handling rules: within 120 days of the sale'),
	('retrieval.answer', 0, 20, 'the same: the acquirer answers within 20 days'),
	('chargeback.ask', 0, 180, 'house default: the rules are not public'),
	('represent', 0, 30, 'house default: the rules are not public'),
	('second', 0, 30, 'house default: the rules are not public'),
	('arbitration.file', 0, 30, 'house default: the rules are not public'),
	('arbitration.decide', 0, 60, 'house default: the rules are not public'),
	('rounds', 0, 2, 'public summary: first and second chargeback'),
	('rounds.debit', 0, 1, 'the same: no second chargeback of a debit card')`

// A RuleRow is a rule's value from a day on.
type RuleRow struct {
	Rule   Rule
	From   time.Time
	Value  int64 // days, rounds, or fen: see Rule.Money
	Source string
}

// SetRule puts a value in force from a moment on; the source says who set it.
func SetRule(tx *db.Tx, r RuleRow) error {
	if r.Rule == "" || r.Value < 0 || r.Value > r.Rule.Most() || r.Source == "" {
		return fmt.Errorf("rule %q: %w", r.Rule, ErrRule)
	}
	_, err := tx.Exec(`INSERT INTO dispute_rule (rule, valid_from, value, source) VALUES ($1, $2, $3, $4)
		ON CONFLICT (rule, valid_from) DO UPDATE SET value = excluded.value, source = excluded.source`,
		string(r.Rule), r.From.UnixMicro(), r.Value, r.Source)
	return err
}

// RuleAt is the value in force at t.
func RuleAt(q db.Reader, r Rule, t time.Time) (n int64, err error) {
	err = q.QueryRow(`SELECT value FROM dispute_rule WHERE rule = $1 AND valid_from <= $2 ORDER BY valid_from DESC LIMIT 1`,
		string(r), t.UnixMicro()).Scan(&n)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrRule
	}
	if err != nil {
		return 0, fmt.Errorf("rule %s: %w", r, err)
	}
	return n, nil
}

// RuleRows reads all rules, by name and date.
func RuleRows(q db.Reader) (out []RuleRow, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r RuleRow
		var from int64
		err := scan(&r.Rule, &from, &r.Value, &r.Source)
		r.From = db.Moment(from)
		out = append(out, r)
		return err
	}, `SELECT rule, valid_from, value, source FROM dispute_rule ORDER BY rule, valid_from`)
	return out, err
}
