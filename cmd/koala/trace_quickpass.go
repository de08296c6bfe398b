package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/city/street"
	"koala/internal/fail"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/money"
	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/pos"
)

// The till of the trace, what a card holds before, and what a payment may take
// in the field.
const (
	traceTill = "haolin.till"
	cashFloat = 100_00
)

func traceQuickpassCommand() *cobra.Command {
	var f traceFlags
	c := f.command("quickpass", "A payment by Quickpass: from the payment directory to clearing and payout",
		"  koala trace quickpass\n  koala trace quickpass --online --lang zh\n  koala trace quickpass --cut 3", (*scene).quickpass)
	c.Flags().Int64Var(&f.amount, "amount", 12_50, "fen to pay")
	c.Flags().BoolVar(&f.online, "online", false, "the cashier asks the card's issuer, with a debit card")
	return c
}

// quickpass tells a payment at a shop's till.
func (s *scene) quickpass(f *traceFlags) error {
	s.product = issuing.ECashCard
	if f.online {
		s.product = issuing.DebitCard
	}
	if err := s.shopping(cashFloat, traceTill, "/sales"); err != nil {
		return err
	}
	s.begin("start", say{"A card that pays offline, a till that has never seen it", "一张可脱机支付的卡，一台从未见过它的收银机"}, sayf(say{
		"The band holds a card of the house's own bank with %s yuan of e-cash, written and loaded over the air before (koala trace issue --card quickpass, koala trace load). The till of %s knows the public key of the house's certification authority and the exception list. It has no key of the card.",
		"手环中有一张本平台银行的卡，电子现金 %s 元，此前已空中发卡与圈存（koala trace issue --card quickpass、koala trace load）。%s 的收银机只有平台认证中心公钥与黑名单，没有卡片的任何密钥。"},
		money.Fen(cashFloat).Yuan(), s.in(shopOf(traceTill))))
	if err := s.cardRow(); err != nil {
		return err
	}
	v, err := s.presented(f, street.Wish{Fen: uint64(f.amount), Online: f.online}, say{
		"The reader asks the payment directory, tells the card amount and place, and the card decides: in one answer it gives cryptogram and signature, and commits with the last record.",
		"读卡器查询支付目录，告知金额与地点，由卡片决定：一次应答给出密文与签名，读出末条记录时提交交易。"})
	if err != nil {
		return err
	}
	if f.online {
		if err := s.issuerSays(v); err != nil {
			return err
		}
	}
	if err := s.tillSays(v); err != nil {
		return err
	}
	if err := s.cleared(v); err != nil {
		return err
	}
	if err := s.again(kindTill, func([]byte) (string, error) { return v.At.TID(), nil }); err != nil {
		return err
	}
	if err := s.morning(); err != nil {
		return err
	}
	return s.proof()
}

// shopping gives the person a card of the scene's product with money on it and
// installs a device, untold; handed-over requests that end so are kept.
func (s *scene) shopping(fen int64, post, ends string) error {
	if err := s.street.OpenShops(s.ctx); err != nil {
		return err
	}
	if err := s.carry(fen); err != nil {
		return err
	}
	if _, err := s.street.Acceptor(s.ctx, post); err != nil {
		return err
	}
	if err := s.street.Refresh(s.ctx, post); err != nil {
		return err
	}
	s.post = post
	s.watch(ends)
	return s.settled()
}

// shopOf names the shop or site of a device.
func shopOf(id string) say {
	p, _ := street.PostOf(id)
	return say{p.Shop.EN, p.Shop.ZH}
}

// placeOf names a device of a shop or site.
func placeOf(id string) say {
	p, _ := street.PostOf(id)
	return say{p.Shop.EN + ", " + p.EN, p.Shop.ZH + "，" + p.ZH}
}

// presented holds the band to a device, once more when --cut tore the first
// time, and tells every command.
func (s *scene) presented(f *traceFlags, w street.Wish, how say) (street.Visit, error) {
	at := placeOf(s.post)
	s.begin("card", say{"At " + at.en, at.zh}, how)
	v, err := s.street.Present(s.ctx, traceBand, s.post, w, street.Options{Talk: true, Fault: band.Fault{Cut: f.cut}})
	if err != nil {
		return v, err
	}
	if err := s.explained(v.Talk); err != nil || f.cut == 0 {
		return v, err
	}
	if v.End != street.Again {
		s.note(sayf(say{"Nothing was cut: the element made fewer than %d writes.", "未发生中断：芯片写入次数少于 %d。"}, f.cut))
		return v, nil
	}
	s.begin("torn", say{"The band left too early", "手环过早离开"}, say{
		"The field went in the middle of a write to the element's EEPROM. What the device was about to accept is in its flash; what became of it only the card knows.",
		"芯片写 EEPROM 途中射频场消失。设备即将受理的交易已在闪存中；结果如何，只有卡片知道。"})
	s.put(traceLine{Kind: "decision", Text: s.in(say{v.Words[0], v.Words[1]})})
	s.clock.Advance(4 * time.Second)
	s.begin("recovery", say{"The band comes back", "手环再次出示"}, say{
		"The element first ends what the cut left: a complete journal record is carried out, an incomplete one is dropped. The device reads from the card whether the act before happened, and takes it once.",
		"芯片先收拾中断：日志记录完整则执行完毕，不完整则丢弃。设备从卡片得知上次交易是否发生，只受理一次。"})
	if v, err = s.street.Present(s.ctx, traceBand, s.post, w, street.Options{Talk: true}); err != nil {
		return v, err
	}
	return v, s.explained(v.Talk)
}

// explained tells a dialogue, then what the card's certificates and signatures
// are worth under the keys the till has.
func (s *scene) explained(talk []street.Exchange) error {
	ca, err := s.house.Bank.CAKey(s.ctx)
	if err != nil {
		return err
	}
	told := s.told(talk, ca)
	for _, c := range told.Report().Certificates {
		s.put(s.certificate(c))
	}
	return nil
}

// issuerSays tells what the till asked the card's issuer and what came back.
func (s *scene) issuerSays(v street.Visit) error {
	s.begin("host", say{"The till asks the card's issuer", "收银机联机请求发卡行"}, say{
		"The card has left; it made a cryptogram that only its issuer can check. The till sends what the card signed (field 55), the house verifies it in the hsm and holds the money on the card's account.",
		"卡片已离开；它生成的密文只有发卡行能验证。收银机上送卡片所签数据（55 域），平台在加密机中验证并冻结卡账户资金。"})
	l := dialogue.NewSession(dialogue.Options{}).Say(dialogue.Exchange{Response: s.asked, Bare: true})
	s.put(traceLine{Kind: "message", Text: "POST /device/tills/" + v.At.TID() + "/authorise", Body: l.Response, Fields: s.fields(l.Fields())})
	o := &v.Sale.Outcome
	s.put(traceLine{Kind: "decision", Text: s.in(say{"the issuer answers", "发卡行应答"}), Fields: []traceField{
		s.field(say{"response code", "应答码"}, "%s", o.ARC)}})
	if err := s.booked(); err != nil {
		return err
	}
	return s.happened()
}

// tillSays tells what the till decided, what it printed and what it keeps.
func (s *scene) tillSays(v street.Visit) error {
	s.begin("till", say{"What the till decided, printed and stored", "收银机的判定、签购单与存储"}, say{
		"An offline approval needs no host: the signature proves the card, the limits allow the amount. The time is computed from the bytes and a model of the chip: the radio is simulated.",
		"脱机批准不需要主机：签名证明卡片为真，限额允许该金额。时间由字节数与芯片模型计算：射频为模拟。"})
	o := &v.Sale.Outcome
	l := traceLine{Kind: "decision", Text: s.in(say{v.Words[0], v.Words[1]}), Fields: []traceField{
		s.field(say{"verification of the cardholder", "持卡人验证"}, "%s", o.CVM.Words(s.zh)),
		s.field(say{"TVR, nothing wrong is 00", "终端验证结果 TVR"}, "%X", o.TVR)}}
	if o.Available != nil {
		l.Fields = append(l.Fields, s.field(say{"may be spent offline now", "脱机可用余额"}, "%s CNY", money.Fen(int64(*o.Available)).Yuan()))
	}
	s.put(l)
	s.fieldTime(v.Time, quickpassBudget)
	s.slip(v.Receipt)
	if v.Sale.Record == nil {
		return fmt.Errorf("the till kept no record: %s: %w", v.Words[0], errFoundWrong)
	}
	s.put(traceLine{Kind: "row", Text: s.in(say{"the record in the till's flash, kept until the house acknowledges its number", "收银机闪存中的记录，平台确认其编号前一直保留"}),
		Fields: s.clearing(v.Sale.Record)})
	return nil
}

// slip tells what a device printed.
func (s *scene) slip(both [2][]string) {
	lines := both[0]
	if s.zh {
		lines = both[1]
	}
	l := traceLine{Kind: "row", Text: s.in(say{"the slip", "签购单"})}
	for i, line := range lines {
		l.Fields = append(l.Fields, s.field(sayf(say{"line %d", "第 %d 行"}, i+1), "%s", line))
	}
	s.put(l)
}

// fieldTime tells where a card's time in a field goes.
func (s *scene) fieldTime(t street.Timing, budget time.Duration) {
	verdict := say{"within", "达标"}
	if t.Total106 > budget {
		verdict = say{"over", "超时"}
	}
	s.put(traceLine{Kind: "time", Text: s.in(sayf(say{"%s at 106 kbit/s, %s at 424: %s the %d ms that it may take",
		"106 kbit/s 时 %s，424 kbit/s 时 %s：%s（限时 %d 毫秒）"}, millis(t.Total106), millis(t.Total424), s.in(verdict), budget.Milliseconds())),
		TookUS: t.Total106.Microseconds(), Fields: []traceField{
			s.field(say{"activation", "激活"}, "%s / %s", millis(terminal.Activation(terminal.Kbit106)), millis(t.Activation)),
			s.field(say{"on the air at 106 kbit/s", "空中传输 106 kbit/s"}, "%s", millis(t.Air106)),
			s.field(say{"on the air at 424 kbit/s", "空中传输 424 kbit/s"}, "%s", millis(t.Air424)),
			s.field(say{"chip computing and writing", "芯片运算与写入"}, "%s", millis(t.Chip))}})
}

// clearing names a clearing record's parts, the card's number masked.
func (s *scene) clearing(r *pos.Numbered) []traceField {
	return []traceField{
		s.field(say{"number", "编号"}, "%d", r.Number),
		{Name: s.in(say{"5A card number", "5A 卡号"}), Value: pboc.MaskPAN(r.PAN)},
		s.field(say{"9F36 transaction counter", "9F36 交易计数器 ATC"}, "%d", r.ATC),
		s.field(say{"9F02 amount", "9F02 授权金额"}, "%s CNY", money.Fen(int64(r.Fen)).Yuan()),
		s.field(say{"9F26 cryptogram", "9F26 应用密文"}, "%X", r.AC),
		s.field(say{"9F10 issuer data", "9F10 发卡行应用数据"}, "%X", r.IAD),
		s.field(say{"9F37 unpredictable number", "9F37 不可预知数"}, "%X", r.UN),
		s.field(say{"95 TVR that the card signed", "95 卡片所签 TVR"}, "%X", r.TVR),
		s.field(say{"9A, 9F21 date and time", "9A、9F21 日期时间"}, "%X %X", r.Date, r.Time),
		s.field(say{"batch, trace number", "批次号、流水号"}, "%06d %06d", r.Batch, r.STAN)}
}

// cleared tells how the till hands its record over and what the house does.
func (s *scene) cleared(v street.Visit) error {
	s.clock.Advance(time.Minute)
	s.begin("house", say{"The till hands over to the house", "收银机上传平台"}, say{
		"At the close of its batch the till sends what it has. The house makes every cryptogram again in the hsm before it books anything, and answers the number up to which the till may forget.",
		"批结算时收银机上传所存交易。平台记账前在加密机中重算每个密文，并应答收银机可以清除到的编号。"})
	n, err := s.street.HandIn(s.ctx, v.At.ID)
	if err != nil {
		return err
	}
	s.put(traceLine{Kind: "message", Text: s.sent.Method + " " + s.sent.URL.Path, Body: upper(s.body), Fields: []traceField{
		{Name: "Authorization", Value: "Bearer ••••", Secret: true},
		s.field(say{"length", "长度"}, s.in(say{"%d bytes, the last four CRC-32", "%d 字节，末四字节为 CRC-32"}), len(s.body)),
		s.field(say{"acknowledged", "已确认"}, "%d", n)}})
	s.cryptogram(v.Sale.Record.Clearing)
	s.begin("book", say{"The unit of work", "工作单元"}, say{
		"One unit for each record: (card, counter, kind) is booked once; the card's float pays the shop, the shop's claim is captured for settlement, the event is kept; all of it or nothing.",
		"每条记录一个工作单元：（卡、计数器、类别）只记一次；卡片资金账户付给商户，商户应收登记待结算，保存事件；要么全部完成，要么什么都不发生。"})
	if err := s.saleRow(); err != nil {
		return err
	}
	if err := s.booked(); err != nil {
		return err
	}
	if err := s.captures(); err != nil {
		return err
	}
	return s.happened()
}

// cryptogram verifies a record in front of the reader, and one that is wrong.
func (s *scene) cryptogram(c pboc.Clearing) {
	verdict := func(c pboc.Clearing) string {
		if _, err := s.house.Keys.CheckClearing(s.ctx, c); err != nil {
			return s.in(say{"refused: ", "不通过："}) + fail.Of(err).Code
		}
		return s.in(say{"verified", "通过"})
	}
	other := c
	other.Fen++
	s.put(traceLine{Kind: "decision", Text: s.in(say{
		"the cryptogram covers amount, country, TVR, currency, date, type, unpredictable number, AIP, counter and the card's decision, under a session key of bank.AC dispersed by the card's number and its counter; the keys stay in the hsm",
		"密文以 bank.AC 按卡号分散、再按交易计数器得到的过程密钥，覆盖金额、国家、TVR、货币、日期、类型、不可预知数、AIP、计数器与卡片判定；密钥不出加密机"}), Fields: []traceField{
		s.field(say{"TC", "TC"}, "%X  %s", c.AC, verdict(c)),
		s.field(say{"the same with one fen more", "金额改多一分"}, "%X  %s", other.AC, verdict(other))}})
}

// saleRow tells what the acquirer keeps of the sale that the next event names.
func (s *scene) saleRow() error {
	events, err := s.house.Outbox.After(s.ctx, s.event, outbox.MaxPage)
	if err != nil {
		return err
	}
	for _, e := range events {
		if !strings.HasPrefix(e.Name, "sale.") {
			continue
		}
		x, err := s.house.Acquiring.TraceOf(s.ctx, e.Subject)
		if err != nil {
			return err
		}
		s.put(traceLine{Kind: "row", Text: s.in(say{"acquiring_record, unique by till and number", "acquiring_record，收银机与编号唯一"}), Fields: []traceField{
			s.field(say{"record", "记录"}, "%s", x.ID), s.field(say{"till", "收银机"}, "%s", x.TID),
			s.field(say{"shop", "商户"}, "%s", x.Shop), s.field(say{"card", "卡"}, "%s", x.Card.Masked()),
			s.field(say{"fate", "结果"}, "%s", coded(x.Fate, x.Fate.Words(s.zh))), s.field(say{"received", "收到"}, "%s", beijing(x.Got))}})
		return nil
	}
	return fmt.Errorf("the house says nothing about the sale: %w", errFoundWrong)
}

// told explains a dialogue with the card in one session and with the PSAM in
// another, and puts a line for each exchange.
func (s *scene) told(talk []street.Exchange, cas ...emv.CAKey) *dialogue.Session {
	o := dialogue.Options{CAs: cas, Station: func(code uint32) (string, bool) { return stationName(code) }}
	card, sam := dialogue.NewSession(o), dialogue.NewSession(o)
	for _, x := range talk {
		where, with := "band", card
		if x.Where == "PSAM" {
			where, with = "PSAM", sam
		}
		e := dialogue.Exchange{Command: x.Command.Bytes()}
		if !x.Torn {
			e.Response = x.Response.Bytes()
		}
		l := with.Say(e)
		s.put(traceLine{Kind: "apdu", Where: where, Text: s.both(say{l.Explanation.EN, l.Explanation.ZH}), Command: s.shown(l.Command, e.Command),
			Answer: s.shown(l.Response, e.Response), Torn: x.Torn, TookUS: x.Took.Microseconds(), Fields: s.fields(l.Fields())})
	}
	return card
}

// shown is what a session shows of bytes; where it hides nothing, the bytes.
func (s *scene) shown(masked string, raw []byte) string {
	if strings.Contains(masked, "X") {
		return masked
	}
	return strings.ToUpper(hex.EncodeToString(raw))
}
