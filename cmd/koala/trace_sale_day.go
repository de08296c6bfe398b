package main

import (
	"fmt"
	"time"

	"koala/calendar"
	"koala/city/street"
	"koala/internal/db"
	"koala/reconcile"
	"koala/settlement"
	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/wallet"
)

// told tells what the sale came to for the cardholder.
func (x *saleScene) told() error {
	b, err := x.house.Book.Balance(wallet.Account(x.who))
	if err != nil {
		return err
	}
	x.put(traceLine{Kind: "decision", Text: x.in(say{"the cardholder's account: the money is held, and not gone", "持卡人账户：资金已冻结，尚未支出"}), Fields: []traceField{
		x.field(say{"balance", "余额"}, "%s", b.Posted), x.field(say{"held", "冻结"}, "%s", b.Held), x.field(say{"may be spent", "可用"}, "%s", b.Available)}})
	return nil
}

// settle tells the end of the batch.
func (x *saleScene) settle() error {
	x.clock.Advance(10 * time.Hour)
	x.begin("batch", say{"The evening: the batch is settled", "晚间：批结算"}, say{
		"0500 brings the terminal's totals, the answer the host's and whether they are the same; with 0320 come the chip's certificates and the end. Then what the batch holds is the shop's: each hold becomes a posting, each posting a clearing item. In the ledger plus is credit and minus is debit, so what the house has at the bank shows below zero.",
		"0500 报终端总额，应答给出主机总额与是否相符；0320 上送芯片交易证书与批结束。此后批内交易归商户：每笔冻结转为入账，每笔入账成为一条清算明细。分类账中正数为贷、负数为借，故在银行的存款显示为负。"})
	done, err := x.device.Settle()
	if err != nil {
		return err
	}
	x.slip([2][]string{x.device.TotalsSlip(done, false), x.device.TotalsSlip(done, true)})
	if err := x.txnRow(); err != nil {
		return err
	}
	if err := x.booked(); err != nil {
		return err
	}
	if err := x.captures(); err != nil {
		return err
	}
	return x.happened()
}

// fees tells what the sale costs the shop, and who gets it.
func (x *saleScene) fees() error {
	x.begin("fees", say{"What it costs the shop, and why", "手续费及其由来"}, say{
		"A fee is a pure function of the item, the day's price card and the merchant's category; it is computed at the payout and kept nowhere else.",
		"手续费由明细、当日费率表与商户类别计算得出；在付款时计算，不另存储。"})
	return x.read(func(q *db.Query) error {
		p, lines, err := settlement.Explain(q, x.saleRef())
		if err != nil {
			return err
		}
		l := traceLine{Kind: "decision", Text: x.in(sayf(say{"clearing item %s", "清算明细 %s"}, p.Ref)), Fields: []traceField{
			x.field(say{"amount", "金额"}, "%s", p.Amount)}}
		for _, line := range lines {
			l.Fields = append(l.Fields, x.field(say{line.EN, line.ZH}, "%s", line.Fen))
		}
		l.Fields = append(l.Fields, x.field(say{"fee in all", "手续费合计"}, "%s", fenText(p.Fee.Fee)),
			x.field(say{"of it the issuer's", "其中发卡行"}, "%s", fenText(p.Fee.Issuer)), x.field(say{"the network's", "银联"}, "%s", fenText(p.Fee.Network)),
			x.field(say{"the acquirer's", "收单机构"}, "%s", fenText(p.Fee.Acquirer)))
		x.put(l)
		return nil
	})
}

func fenText(n int64) string { return fmt.Sprintf("%d.%02d CNY", n/100, n%100) }

// bank tells how the payout is found on the custody bank's statement.
func (x *saleScene) bank() error {
	x.clock.Advance(6 * time.Hour)
	x.begin("statement", say{"The bank's statement: the third side", "银行流水：第三方核对"}, say{
		"The switch said what was sold, the clearing items what is owed; the bank, which is simulated, says what moved. Each line of the statement finds what was expected, or becomes an exception with a name and a proposal.",
		"前置说明卖了什么，清算明细说明欠付多少；银行（模拟）说明实际动了什么。流水逐行找到预期项，否则成为有名称、有处理建议的差错。"})
	var paid []settlement.Payout
	err := x.read(func(q *db.Query) (err error) {
		paid, err = settlement.Payouts(q, x.shop.ID, "", 1)
		return err
	})
	if err != nil || len(paid) == 0 {
		return err
	}
	p := paid[0]
	day := calendar.Of(x.clock.Now(), calendar.Beijing)
	line := reconcile.StatementLine{Ref: "0001", Booked: x.clock.Now(), Fen: -p.Amount.Minor(), Reference: "payout " + p.ID, Party: "Noodles"}
	file := reconcile.AppendStatement(nil, reconcile.Statement{Account: "custody", From: day, To: day, Lines: []reconcile.StatementLine{line}})
	fresh, err := x.house.TakeStatement(x.ctx, file, "statement of "+day.String())
	if err != nil {
		return err
	}
	x.put(traceLine{Kind: "row", Text: x.in(say{"the statement's line", "流水行"}), Fields: []traceField{
		x.field(say{"booked", "记账时间"}, "%s", beijing(line.Booked)), x.field(say{"amount", "金额"}, "-%s", p.Amount),
		x.field(say{"reference", "附言"}, "%s", line.Reference), x.field(say{"new lines", "新增行"}, "%d", fresh)}})
	return x.compared(p)
}

// compared tells whether the line met what was expected.
func (x *saleScene) compared(p settlement.Payout) error {
	if err := x.booked(); err != nil {
		return err
	}
	err := x.read(func(q *db.Query) error {
		open, err := reconcile.Exceptions(q, reconcile.BankDesk, "", "", 10)
		if err != nil {
			return err
		}
		l := traceLine{Kind: "decision", Text: x.in(say{"expected and seen: nothing is left to explain", "预期与流水相符：无待查差错"}), Fields: []traceField{
			x.field(say{"payout", "付款"}, "%s", p.ID), x.field(say{"exceptions", "差错"}, "%d", len(open))}}
		for _, e := range open {
			l.Text = e.Type.Words(x.zh)
			l.Fields = append(l.Fields, x.field(say{"proposal", "建议"}, "%s", e.Type.Proposal(x.zh)))
		}
		x.put(l)
		return nil
	})
	if err != nil {
		return err
	}
	return x.happened()
}

// A saidCard explains a card's dialogue in several goes.
type saidCard struct{ session *dialogue.Session }

func newSaidCard(keys []emv.CAKey) *saidCard {
	return &saidCard{dialogue.NewSession(dialogue.Options{CAs: keys})}
}

func (c *saidCard) line(s *scene, x street.Exchange) traceLine {
	e := dialogue.Exchange{Command: x.Command.Bytes()}
	if !x.Torn {
		e.Response = x.Response.Bytes()
	}
	l := c.session.Say(e)
	return traceLine{Kind: "apdu", Where: "card", Text: s.both(say{l.Explanation.EN, l.Explanation.ZH}), Command: s.shown(l.Command, e.Command),
		Answer: s.shown(l.Response, e.Response), Torn: x.Torn, Fields: s.fields(l.Fields())}
}
