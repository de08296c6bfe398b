package pos

import (
	"fmt"

	"koala/money"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
)

// Receipt is what the till prints of a transaction, in Chinese if zh: the
// card's number masked, and everything a dispute needs.
func (t *Till) Receipt(r Result, zh bool) []string {
	say := func(en, cn string, args ...any) string { return fmt.Sprintf(terminal.Words{en, cn}.In(zh), args...) }
	o := &r.Outcome
	lines := []string{
		t.cfg.Kernel.MerchantName,
		say("merchant %s", "商户号 %s", t.cfg.Kernel.MerchantID),
		say("terminal %s", "终端号 %s", t.cfg.Kernel.TerminalID),
		say("batch %06d  trace %06d", "批次号 %06d  流水号 %06d", r.Batch, r.STAN),
		r.At.In(zoneOf(t.cfg.Kernel)).Format("2006-01-02 15:04:05"),
		say("%s %s", "%s %s 元", typeWords(r.Sale.Type, zh), yuan(r.Sale.Fen)),
	}
	if o.PAN != "" {
		lines = append(lines, say("card %s  sequence %02d", "卡号 %s  序号 %02d", pboc.MaskPAN(o.PAN), o.PSN))
	}
	if aid := o.Get(emv.TagDFName); aid != nil {
		lines = append(lines, fmt.Sprintf("%s  AID %X", o.Label, aid))
	}
	switch ac := o.Get(emv.TagAC); {
	case o.Reason == kernel.Recovered && r.Record != nil: // of the time before
		lines = append(lines, fmt.Sprintf("TC %X  ATC %04X", r.Record.AC, r.Record.ATC))
	case ac != nil:
		kind := map[byte]string{emv.TC: "TC", emv.ARQC: "ARQC", emv.AAC: "AAC"}[o.CID]
		lines = append(lines, fmt.Sprintf("%s %X  ATC %X", kind, ac, o.Get(emv.TagATC)), fmt.Sprintf("TVR %X  TSI %X", o.TVR, o.TSI))
	}
	lines = append(lines, o.Words(zh))
	if o.Result != kernel.Approved {
		return lines
	}
	if o.ARC != "" {
		lines = append(lines, say("response %s", "应答码 %s", o.ARC))
	}
	if o.Available != nil {
		lines = append(lines, say("offline funds %s", "脱机可用余额 %s 元", yuan(*o.Available)))
	}
	switch o.CVM {
	case kernel.Signature, kernel.PINAndSignature:
		return append(lines, say("signature ______________", "持卡人签名 ______________"))
	case kernel.NoCVMNeeded:
		return append(lines, say("no signature, no PIN", "免签免密"))
	}
	return append(lines, o.CVM.Words(zh))
}

func typeWords(kind byte, zh bool) string {
	return map[byte]terminal.Words{Goods: {"sale", "消费"}, Refund: {"refund", "退货"}, Load: {"load", "圈存"}}[kind].In(zh)
}

// yuan prints minor units with two decimals.
func yuan(fen uint64) string { return money.Fen(int64(fen)).Yuan() }

// TotalsSlip is what the till prints when a batch is closed.
func (t *Till) TotalsSlip(batch uint32, sum Totals, zh bool) []string {
	title, net := terminal.Words{"batch %06d", "批次号 %06d 结算"}, terminal.Words{"net %s", "净额 %s 元"}
	lines := []string{fmt.Sprintf(title.In(zh), batch)}
	for _, x := range []struct {
		name terminal.Words
		n    uint32
		fen  uint64
	}{
		{terminal.Words{"offline sales", "脱机消费"}, sum.Sales, sum.SalesFen}, {terminal.Words{"online sales", "联机消费"}, sum.Online, sum.OnlineFen},
		{terminal.Words{"refunds", "退货"}, sum.Refunds, sum.RefundsFen}, {terminal.Words{"reversals", "冲正"}, sum.Reversals, sum.ReversalsFen},
		{terminal.Words{"returned to cards", "退回持卡人"}, sum.Returned, sum.ReturnedFen},
	} {
		lines = append(lines, fmt.Sprintf("%s %d  %s", x.name.In(zh), x.n, yuan(x.fen)))
	}
	return append(lines, fmt.Sprintf(net.In(zh), money.Fen(sum.Net()).Yuan()))
}
