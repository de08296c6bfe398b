package risk

import (
	"fmt"
	"time"

	"koala/money"
)

// Evaluate judges a fact by a set and what came before it. It is pure: the same
// facts give the same judgement, today and in a replay.
func Evaluate(s *Set, f *Fact, w *Window) Decision {
	d := Decision{Action: Allow, Version: s.Version}
	for i := range s.Rules {
		r := &s.Rules[i]
		points, en, zh := tests[r.Code](r, f, w)
		if points == 0 {
			continue
		}
		d.Score += points
		d.Hits = append(d.Hits, Hit{Rule: r.Code, Points: points, En: en, Zh: zh})
	}
	level := f.Level
	if _, ok := s.Bars[level]; !ok {
		level = NormalRisk
	}
	d.Action = s.Bars[level].action(d.Score)
	return d
}

// A test is one rule: points, and why in both languages; no points, no text.
type test func(r *Rule, f *Fact, w *Window) (points int, en, zh string)

var tests = map[Code]test{
	CardVelocity: func(r *Rule, f *Fact, w *Window) (int, string, string) {
		return velocity(r, f, w.Card, "this card", "本卡")
	},
	ShopVelocity: func(r *Rule, f *Fact, w *Window) (int, string, string) {
		return velocity(r, f, w.Shop, "this shop", "本商户")
	},
	TerminalVelocity: func(r *Rule, f *Fact, w *Window) (int, string, string) {
		return velocity(r, f, w.Terminal, "this terminal", "本终端")
	},
	OddHour: oddHour, RoundAmounts: roundAmounts, RepeatedCard: repeatedCard, SplitSale: splitSale, Distance: distance, NewTerminal: newTerminal,
	MovedTerminal: movedTerminal, CategoryMismatch: categoryMismatch, CashOut: cashOut, RefundAlone: refundAlone, ManualEntry: manualEntry,
}

// count is how many earlier facts within the rule's window ok takes, f excluded.
func count(r *Rule, f *Fact, past []Past, ok func(*Past) bool) (n int) {
	at := f.At.UnixMicro()
	from, self := at-r.window().Microseconds(), uint64(0)
	for i := len(past) - 1; i >= 0 && past[i].At > from; i-- {
		if past[i].At > at {
			continue
		}
		if past[i].At == at {
			if self == 0 {
				self = hash(f.Ref)
			}
			if past[i].ref == self {
				continue
			}
		}
		if ok(&past[i]) {
			n++
		}
	}
	return n
}

func every(*Past) bool { return true }

func yuan(fen int64) string { return money.Fen(fen).Yuan() }

func (f *Fact) sells() bool { return (f.Kind == Sale || f.Kind == Preauth) && !f.Declined }

// round tells whether an amount is a multiple of unit; nothing is not.
func round(fen, unit int64) bool { return fen > 0 && fen%unit == 0 }

// roundUnit is what cash-out deals in: whole hundreds of yuan.
const roundUnit = 100_00

func velocity(r *Rule, f *Fact, past []Past, en, zh string) (int, string, string) {
	n := count(r, f, past, every) + 1
	if n < r.Count {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%s %d times within %d min", en, n, r.Minutes), fmt.Sprintf("%s %d 分钟内 %d 笔", zh, r.Minutes, n)
}

func oddHour(r *Rule, f *Fact, _ *Window) (int, string, string) {
	if !f.sells() || f.Fen < r.Fen || !r.covers(f.Category) || !r.hours(f.At) {
		return 0, "", ""
	}
	at := f.At.In(time.FixedZone("", 8*3600)).Format("15:04")
	return r.Points, fmt.Sprintf("%s yuan at %s in category %s", yuan(f.Fen), at, f.Category), fmt.Sprintf("类别 %[3]s 商户在 %[2]s 交易 %[1]s 元", yuan(f.Fen), at, f.Category)
}

func roundAmounts(r *Rule, f *Fact, w *Window) (int, string, string) {
	if !f.sells() || !round(f.Fen, r.Fen) {
		return 0, "", ""
	}
	n := count(r, f, w.Shop, func(p *Past) bool { return p.Sale && round(p.Fen, r.Fen) }) + 1
	if n < r.Count {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%d sales of whole %s yuan within %d min", n, yuan(r.Fen), r.Minutes), fmt.Sprintf("%[3]d 分钟内 %[1]d 笔 %[2]s 元整数倍交易", n, yuan(r.Fen), r.Minutes)
}

func repeatedCard(r *Rule, f *Fact, w *Window) (int, string, string) {
	if !f.sells() || f.Card == "" {
		return 0, "", ""
	}
	shop := hash(f.Shop)
	n := count(r, f, w.Card, func(p *Past) bool { return p.Sale && p.Shop == shop }) + 1
	if n < r.Count {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("the same card %d times at the shop within %d min", n, r.Minutes), fmt.Sprintf("同卡 %[2]d 分钟内在本店 %[1]d 笔", n, r.Minutes)
}

func splitSale(r *Rule, f *Fact, w *Window) (int, string, string) {
	low := r.Fen - r.Fen*r.BP/10_000
	under := func(fen int64) bool { return fen < r.Fen && fen >= low }
	if !f.sells() || f.Card == "" || !under(f.Fen) {
		return 0, "", ""
	}
	shop := hash(f.Shop)
	n := count(r, f, w.Card, func(p *Past) bool { return p.Sale && p.Shop == shop && under(p.Fen) }) + 1
	if n < r.Count {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%d sales of one card just under %s yuan within %d min", n, yuan(r.Fen), r.Minutes),
		fmt.Sprintf("同卡 %[3]d 分钟内 %[1]d 笔略低于 %[2]s 元", n, yuan(r.Fen), r.Minutes)
}

func distance(r *Rule, f *Fact, w *Window) (int, string, string) {
	if f.Place == (Place{}) || f.Entry == Manual || f.Entry == QR { // the card itself has to be there
		return 0, "", ""
	}
	at := f.At.UnixMicro()
	for i := len(w.Card) - 1; i >= 0; i-- {
		p := &w.Card[i]
		if at-p.At > generation { // what memory keeps for sure
			break
		}
		if p.At > at || p.Place == (Place{}) || p.At == at && p.ref == hash(f.Ref) {
			continue
		}
		far, hours := km(p.Place, f.Place), float64(at-p.At)/float64(time.Hour/time.Microsecond)
		if far <= float64(r.Km) || far <= hours*float64(r.Speed) {
			return 0, "", ""
		}
		return r.Points, fmt.Sprintf("%.0f km from the card's last place in %.0f min", far, hours*60), fmt.Sprintf("距本卡上一笔 %.0f 公里，仅隔 %.0f 分钟", far, hours*60)
	}
	return 0, "", ""
}

func newTerminal(r *Rule, f *Fact, _ *Window) (int, string, string) {
	age := f.At.Sub(f.Since)
	if !f.sells() || f.Since.IsZero() || age < 0 || age >= r.window() || f.Fen < r.Fen {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%s yuan %.0f h after the terminal was bound", yuan(f.Fen), age.Hours()), fmt.Sprintf("终端绑定 %.0[2]f 小时后交易 %[1]s 元", yuan(f.Fen), age.Hours())
}

func movedTerminal(r *Rule, f *Fact, _ *Window) (int, string, string) {
	if f.Place == (Place{}) || f.Home == (Place{}) {
		return 0, "", ""
	}
	far := km(f.Place, f.Home)
	if far <= float64(r.Km) {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("the terminal is %.0f km from where it is registered", far), fmt.Sprintf("终端距登记地点 %.0f 公里", far)
}

func categoryMismatch(r *Rule, f *Fact, w *Window) (int, string, string) {
	if !f.sells() || !r.covers(f.Category) {
		return 0, "", ""
	}
	sum := f.Fen
	n := count(r, f, w.Shop, func(p *Past) bool {
		if p.Sale {
			sum += p.Fen
		}
		return p.Sale
	}) + 1
	if n < r.Count || sum/int64(n) <= r.Fen {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%d sales of %s yuan on average in category %s", n, yuan(sum/int64(n)), f.Category),
		fmt.Sprintf("类别 %[3]s 商户 %[1]d 笔平均 %[2]s 元", n, yuan(sum/int64(n)), f.Category)
}

func cashOut(r *Rule, f *Fact, w *Window) (int, string, string) {
	like := func(fen int64, credit, sale bool) bool {
		return sale && credit && fen >= r.Fen && round(fen, roundUnit)
	}
	if !like(f.Fen, f.Class == "credit", f.sells()) {
		return 0, "", ""
	}
	past, en, zh := w.Shop, "at the shop", "本店"
	alike := func(p *Past) bool { return like(p.Fen, p.Credit, p.Sale) }
	n := count(r, f, past, alike) + 1
	if m := count(r, f, w.Agent, alike) + 1; f.Agent != "" && n < r.Count && m > n {
		n, en, zh = m, "at shops of one agent", "同一代理商名下商户"
	}
	if n < r.Count {
		return 0, "", ""
	}
	points := r.Points
	if r.From != r.To && r.hours(f.At) {
		points, en, zh = 2*points, en+", at night", zh+"夜间"
	}
	return points, fmt.Sprintf("%d round sales of credit cards from %s yuan %s within %d min", n, yuan(r.Fen), en, r.Minutes),
		fmt.Sprintf("%[3]s %[4]d 分钟内 %[1]d 笔信用卡 %[2]s 元以上整额", n, yuan(r.Fen), zh, r.Minutes)
}

func refundAlone(r *Rule, f *Fact, _ *Window) (int, string, string) {
	if f.Kind != Refund || f.Sale != "" || f.Fen < r.Fen {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("a refund of %s yuan that names no sale", yuan(f.Fen)), fmt.Sprintf("退货 %s 元，无原交易", yuan(f.Fen))
}

func manualEntry(r *Rule, f *Fact, _ *Window) (int, string, string) {
	if !f.sells() || f.Entry != Manual || f.Fen < r.Fen {
		return 0, "", ""
	}
	return r.Points, fmt.Sprintf("%s yuan with the card number keyed in", yuan(f.Fen)), fmt.Sprintf("手工输入卡号交易 %s 元", yuan(f.Fen))
}
