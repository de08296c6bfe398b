package paper

import "koala/web"

// words is the catalog of slips. Field terms follow docs/glossary.md.
var words = struct {
	Again, Amount, Application, Authorisation, Batch, Card, Counter, Entry, EntryChip, EntryKeyed, EntryNone, EntryOther, EntryStripe, EntryTap,
	Hash, Merchant, Number, Original, Picture, Reference, ScanIt, Signature, Terminal, Time web.Text
}{
	Again:         web.Text{ZH: "*** 重打印 ***", EN: "*** REPRINT ***"},
	Amount:        web.Text{ZH: "金额", EN: "Amount"},
	Application:   web.Text{ZH: "应用 AID", EN: "AID"},
	Authorisation: web.Text{ZH: "授权码", EN: "Authorisation"},
	Batch:         web.Text{ZH: "批次号 / 凭证号", EN: "Batch / trace"},
	Card:          web.Text{ZH: "卡号", EN: "Card"},
	Counter:       web.Text{ZH: "交易序号 ATC", EN: "ATC"},
	Entry:         web.Text{ZH: "读卡方式", EN: "Entry"},
	EntryChip:     web.Text{ZH: "插卡", EN: "chip"},
	EntryKeyed:    web.Text{ZH: "手工输入", EN: "keyed in"},
	EntryNone:     web.Text{ZH: "未读卡", EN: "no card"},
	EntryOther:    web.Text{ZH: "方式 %[1]s", EN: "mode %[1]s"},
	EntryStripe:   web.Text{ZH: "刷磁条", EN: "stripe"},
	EntryTap:      web.Text{ZH: "闪付", EN: "tap"},
	Hash:          web.Text{ZH: "哈希", EN: "Hash"},
	Merchant:      web.Text{ZH: "商户号", EN: "Merchant"},
	Number:        web.Text{ZH: "单号", EN: "Slip no."},
	Original:      web.Text{ZH: "原交易参考号", EN: "Original"},
	Picture:       web.Text{ZH: "签名图片的 SHA-256", EN: "SHA-256 of the signature"},
	Reference:     web.Text{ZH: "参考号", EN: "Reference"},
	ScanIt:        web.Text{ZH: "扫码验真伪", EN: "Scan to check this slip"},
	Signature:     web.Text{ZH: "持卡人签名", EN: "Cardholder’s signature"},
	Terminal:      web.Text{ZH: "终端号", EN: "Terminal"},
	Time:          web.Text{ZH: "时间", EN: "Time"},
}
