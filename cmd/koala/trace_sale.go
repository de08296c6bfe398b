package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/city/street"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/merchant"
	"koala/spec/iso7816"
	"koala/spec/iso8583"
	"koala/spec/poskey"
	"koala/switching"
	"koala/terminal"
	"koala/terminal/pos"
	"koala/terminal/unionpay"
)

func traceSaleCommand() *cobra.Command {
	var f traceFlags
	c := f.command("sale", "A card payment online: chip, ISO 8583, hold, settlement of the batch, fees, payout, bank statement",
		"  koala trace sale\n  koala trace sale --amount 20000 --lang zh\n  koala trace sale --json", (*scene).sale)
	c.Flags().Int64Var(&f.amount, "amount", 125_50, "fen to pay")
	return c
}

// salePIN is what the cardholder knows.
const salePIN = "271828"

// A saleScene is a merchant's terminal of the trace, and what passes on its line.
type saleScene struct {
	*scene
	shop   merchant.Shop
	place  merchant.Terminal
	tmk    [16]byte
	mac    *iso8583.Key // that of the last sign-on
	device *unionpay.Terminal
	talk   []street.Exchange // with the card, not told yet
	said   *saidCard
	fen    int64
	rrn    string
}

// sale tells a sale from the chip to the payout.
func (s *scene) sale(f *traceFlags) error {
	s.product = issuing.DebitCard
	x := &saleScene{scene: s, fen: f.amount}
	for _, part := range []func() error{x.equip, x.start, x.signOn, func() error { return x.insert(f.cut) }, x.told, x.settle, x.fees, s.morning, x.bank, s.proof} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// equip gives the person a debit card and a PIN, and a merchant a terminal with
// its master key, untold.
func (x *saleScene) equip() error {
	if err := x.carry(0); err != nil {
		return err
	}
	keys, err := x.house.Bank.Keys(x.ctx, x.id)
	if err != nil {
		return err
	}
	block, err := x.house.Keys.EncipherPIN(x.ctx, keys.PAN, salePIN)
	if err == nil {
		err = x.house.Bank.SetPIN(x.ctx, x.id, block)
	}
	if err != nil {
		return err
	}
	id, err := trialShop(x.ctx, x.house, "Noodles")
	if err != nil {
		return err
	}
	var form hsm.TransportForm
	if x.place, form, err = x.house.NewTerminal(x.ctx, merchant.Terminal{Shop: id, Kind: merchant.POS, Serial: "TRACE-1"}); err != nil {
		return err
	}
	if err := x.read(func(q *db.Query) (err error) { x.shop, err = merchant.ShopOf(q, id); return err }); err != nil {
		return err
	}
	key, err := form.Key()
	if err != nil {
		return err
	}
	in, err := x.house.Switch.InstallOnce(x.ctx, x.place.TID, nil, func(tx *db.Tx) error { return merchant.Live(tx, x.place.TID, merchant.Injected, "", "") })
	if err == nil {
		x.tmk, _, err = hsm.OpenInjected(hsm.TerminalKey{Use: hsm.TerminalMaster, TID: x.place.TID}, key, in.Block)
	}
	if err == nil {
		err = x.build(in.KCV)
	}
	if err != nil {
		return err
	}
	return x.settled()
}

// build makes the terminal over new flash.
func (x *saleScene) build(kcv [3]byte) error {
	keys, err := x.house.Bank.CAKeys(x.ctx)
	if err != nil {
		return err
	}
	store := unionpay.OpenKeystore(terminal.NewFlash(2))
	if err := store.Inject(x.tmk[:], kcv[:]); err != nil {
		return err
	}
	pad := func(uint64) (string, bool) { return salePIN, true }
	shop := pos.Shop{TID: x.place.TID, MID: x.shop.MID, Name: "NOODLES", Category: 5812, Serial: "TRACE001"}
	x.device, err = unionpay.New(unionpay.Config{
		Till: pos.Config{Kernel: pos.Beijing(shop, keys), Clock: x.clock, Random: clock.Random(traceSeed + 1), Sales: terminal.NewFlash(16), Denied: terminal.NewFlash(4),
			State: terminal.NewFlash(2), Record: true, PIN: func(int) (string, bool) { return salePIN, true }},
		Line: x, Keys: store, Journal: terminal.NewFlash(64), State: terminal.NewFlash(2), Packs: terminal.NewFlash(32), PIN: pad})
	return err
}

func (x *saleScene) start() error {
	x.begin("start", say{"A debit card, a shop's terminal, an acquirer", "一张借记卡、一台商户终端、一家收单机构"}, sayf(say{
		"The band holds a debit card of the house's own bank, written over the air before (koala trace issue --card debit); it works by contacts as a dual-interface card does. The terminal of Noodles speaks the UnionPay POS dialect (docs/terminal-protocol.md). At its installation it got a master key (TMK, check value %s) under a transport key; nothing else.",
		"手环中有一张本平台银行的借记卡，此前已空中发卡写入（koala trace issue --card debit），与双界面卡一样可用触点读取。Noodles 的终端使用银联 POS 报文（docs/terminal-protocol.md）。装机时在传输密钥保护下获得主密钥（TMK，校验值 %s），此外没有任何密钥。"},
		x.check()))
	if err := x.cardRow(); err != nil {
		return err
	}
	x.put(traceLine{Kind: "row", Text: x.in(say{"merchant_terminal, the shop's name for the device", "merchant_terminal，商户终端登记"}), Fields: []traceField{
		x.field(say{"terminal (field 41)", "终端号（41 域）"}, "%s", x.place.TID), x.field(say{"merchant (field 42)", "商户号（42 域）"}, "%s", x.shop.MID),
		x.field(say{"shop", "门店"}, "%s", x.shop.ID), x.field(say{"category", "商户类别"}, "%s  %s", x.shop.MCC, x.in(say{x.shop.Category().Name(false), x.shop.Category().Name(true)}))}})
	return nil
}

func (x *saleScene) check() string {
	kcv := poskey.KCV(x.tmk)
	return upper(kcv[:3])
}

func (x *saleScene) signOn() error {
	x.begin("sign-on", say{"Sign-on: working keys for the day", "签到：当日工作密钥"}, say{
		"The switch draws a PIN key and a MAC key for this terminal and sends them enciphered under its master key (field 62), each with the start of eight zeros under it as check value. The keys of before work on until a message proves that the new ones have arrived.",
		"前置为该终端生成 PIN 密钥与 MAC 密钥，以主密钥加密后在 62 域下发，各附加密八字节零的前段作为校验值。在新密钥被一条报文验证之前，旧密钥仍有效。"})
	if err := x.device.SignOn(); err != nil {
		return err
	}
	return x.happened()
}

// insert has the card served by contacts; what passes on the line is told between
// the commands to the card.
func (x *saleScene) insert(cut int) error {
	x.begin("card", say{"The card in the terminal", "卡片插入终端"}, say{
		"The terminal reads the application, checks certificates and signature offline, and wants the issuer's word: the first GENERATE AC asks for a request cryptogram (ARQC) over amount, counter and chance. Then the line, in the middle of the dialogue; then the card hears the answer.",
		"终端读取应用，脱机验证证书与签名，并要求发卡行批准：首次 GENERATE AC 请求对金额、计数器与随机数计算的请求密文 ARQC。随后在对话中途联机，再把应答交给卡片。"})
	var res unionpay.Result
	serve := func(contact iso7816.Transmit) (err error) {
		res, err = x.device.Insert(x.hear(contact), unionpay.Order{Kind: unionpay.Sale, Fen: uint64(x.fen)})
		return err
	}
	err := x.street.Contact(traceBand, true, band.Fault{Cut: cut}, serve)
	switch {
	case cut > 0 && err == nil && res.Approved:
		x.note(sayf(say{"Nothing was cut: the element made fewer than %d writes.", "未发生中断：芯片写入次数少于 %d。"}, cut))
	case cut > 0:
		if err := x.spoken(say{}, say{}); err != nil {
			return err
		}
		x.clock.Advance(5 * time.Second)
		x.begin("recovery", say{"The card left too early, and comes back", "卡片过早离开后再次插入"}, say{
			"What the terminal asked and cannot end it takes back at the host before anything new (0400); then the sale begins anew. The card ends its own cut first.",
			"终端无法完成的请求，先向主机冲正（0400），再重新交易。芯片先收拾自身的中断。"})
		err = x.street.Contact(traceBand, true, band.Fault{}, serve)
	}
	if err != nil {
		return err
	}
	if err := x.spoken(say{"The answer goes to the card", "应答交给卡片"}, say{
		"The second GENERATE AC hands the issuer's answer to the card, which verifies the issuer and closes the transaction with a certificate (TC).",
		"第二次 GENERATE AC 把发卡行应答交给卡片，卡片认证发卡行，并以交易证书 TC 结束交易。"}); err != nil {
		return err
	}
	if !res.Approved {
		return fmt.Errorf("the sale was not approved: %s %s: %w", res.Code, res.Words(false), errFoundWrong)
	}
	x.rrn = res.Get(37)
	x.slip([2][]string{x.device.Receipt(res.Entry, false, false), x.device.Receipt(res.Entry, false, true)})
	return nil
}

// hear listens to a contact.
func (x *saleScene) hear(contact iso7816.Transmit) iso7816.Transmit {
	return func(c iso7816.Command) (iso7816.Response, error) {
		r, err := contact(c)
		x.talk = append(x.talk, street.Exchange{Where: "card", Command: c, Response: r, Torn: err != nil})
		return r, err
	}
}

// spoken tells what has passed with the card since it was last told.
func (x *saleScene) spoken(title, detail say) error {
	if len(x.talk) == 0 {
		return nil
	}
	if title.en != "" {
		x.begin("answer", title, detail)
	}
	if x.said == nil {
		keys, err := x.house.Bank.CAKeys(x.ctx)
		if err != nil {
			return err
		}
		x.said = newSaidCard(keys)
	}
	for _, t := range x.talk {
		x.put(x.said.line(x.scene, t))
	}
	x.talk = nil
	return nil
}

// Exchange is the terminal's line to the switch: in this process, and told.
func (x *saleScene) Exchange(request []byte) ([]byte, error) {
	var q iso8583.Message
	if err := q.Unpack(iso8583.UnionPayPOS(), request); err != nil {
		return nil, err
	}
	if q.IsMTI("0200") {
		if err := x.spoken(say{}, say{}); err != nil {
			return nil, err
		}
		x.begin("request", say{"Message 0200: the terminal asks", "0200 报文：终端请求"}, say{
			"One ISO 8583 message in a frame of two length bytes. Field 55 is what the card signed, field 52 the PIN under the PIN key, field 64 the MAC over everything before it.",
			"一条 ISO 8583 报文，前置两字节长度。55 域为卡片所签数据，52 域为 PIN 密钥加密的 PIN，64 域为对此前全部内容的 MAC。"})
	}
	if err := x.message8583(request); err != nil {
		return nil, err
	}
	answer, err := x.house.Switch.Handle(x.ctx, request)
	if err != nil {
		return nil, err
	}
	if q.IsMTI("0200") {
		if err := x.decided(); err != nil {
			return nil, err
		}
		x.begin("reply", say{"Message 0210: the host answers", "0210 报文：主机应答"}, say{
			"The answer repeats what it answers; field 39 is the decision, 38 the authorisation, 37 the reference for ever, 55 the issuer's proof for the card. The terminal believes nothing whose MAC is wrong.",
			"应答复述请求要素；39 域为判定，38 域为授权码，37 域为永久参考号，55 域为给卡片的发卡行证明。MAC 不符的应答一概不认。"})
	}
	if q.IsMTI("0800") {
		if err := x.learn(answer); err != nil {
			return nil, err
		}
	}
	return answer, x.message8583(answer)
}

// learn opens the MAC key of a sign-on's answer, as the terminal does.
func (x *saleScene) learn(answer []byte) error {
	var m iso8583.Message
	if err := m.Unpack(iso8583.UnionPayPOS(), answer); err != nil {
		return err
	}
	blocks, err := poskey.ParseField(m.Get(62))
	if err != nil || len(blocks) < 2 {
		return err
	}
	mak, err := blocks[1].Open(x.tmk)
	if err == nil {
		x.mac, err = iso8583.NewKey(mak[:])
	}
	return err
}

// message8583 tells one message field by field, and its MAC.
func (x *saleScene) message8583(wire []byte) error {
	var m iso8583.Message
	if err := m.Unpack(iso8583.UnionPayPOS(), wire); err != nil {
		return err
	}
	d := iso8583.Describe(&m, iso8583.Options{})
	l := traceLine{Kind: "message", Text: d.MTI + "  " + x.in(say{d.EN, d.ZH}) + fmt.Sprintf(x.in(say{", %d bytes", "，%d 字节"}), len(wire)), Fields: []traceField{
		{Name: "TPDU", Value: d.TPDU}, x.field(say{"header", "报文头"}, "%s", d.Head), x.field(say{"bitmap", "位图"}, "%s", d.Bitmap)}}
	for _, line := range d.Lines {
		name := strings.Repeat("  ", line.Depth) + line.Key
		value := strings.TrimSpace(strings.Map(printable, line.Value) + "  " + x.in(say{line.Meaning, line.MeaningZH}))
		l.Fields = append(l.Fields, traceField{Name: name + " " + x.in(say{line.EN, line.ZH}), Value: value})
	}
	x.put(l)
	if m.Has(64) && x.mac != nil {
		return x.macSteps(&m, wire)
	}
	return nil
}

// macSteps tells how field 64 comes about.
func (x *saleScene) macSteps(m *iso8583.Message, wire []byte) error {
	data := wire[len(m.Head()) : len(wire)-8]
	var sum [8]byte
	for i, b := range data {
		sum[i%8] ^= b
	}
	verdict := x.in(say{"is what field 64 carries", "与 64 域一致"})
	if m.Verify(x.mac) != nil {
		verdict = x.in(say{"is NOT what field 64 carries", "与 64 域不符"})
	}
	_, mac, err := m.MACBy(x.mac, m.Spec().MAC)
	if err != nil {
		return err
	}
	x.put(traceLine{Kind: "decision", Text: x.in(say{"the MAC, under the MAC key of the sign-on", "MAC，以签到下发的 MAC 密钥计算"}), Fields: []traceField{
		x.field(say{"data, from the message type", "数据，自报文类型起"}, x.in(say{"%d bytes, zeros behind to a multiple of 8", "%d 字节，补零至 8 的倍数"}), len(data)),
		x.field(say{"exclusive or of its blocks", "各 8 字节块异或"}, "%X", sum),
		x.field(say{"as 16 characters; enciphered", "写成 16 个字符；加密"}, "%s", x.in(say{"E(E(first 8) xor last 8), the first 8 characters of it", "E(E(前 8) ⊕ 后 8)，取结果前 8 个字符"})),
		x.field(say{"field 64", "64 域"}, "%s  %s", mac[:], verdict)}})
	return nil
}

// decided tells what the switch made of the request: rows, hold, events.
func (x *saleScene) decided() error {
	x.begin("house", say{"The switch and the issuer decide, in one unit of work", "前置与发卡行在一个工作单元内判定"}, say{
		"MAC verified; the card's prefix says whose it is: the house's own bank. The hsm opens the PIN block and compares, and makes the card's cryptogram again; then one unit writes the hold in the ledger, the card's counter, the transaction under terminal, batch and trace, and the log: all durable before the answer leaves, or nothing.",
		"验证 MAC；卡号前缀表明发卡行为本平台银行。加密机解开 PIN 块比对，并重算卡片密文；随后一个工作单元写入账簿冻结、卡片计数器、以终端号、批次号、流水号为键的交易与日志：应答发出前全部落盘，否则什么都不发生。"})
	if err := x.txnRow(); err != nil {
		return err
	}
	if err := x.booked(); err != nil {
		return err
	}
	return x.happened()
}

// txnRow tells the switch's newest transaction of the terminal.
func (x *saleScene) txnRow() error {
	return x.read(func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{TID: x.place.TID, Limit: 1})
		if err != nil || len(list) == 0 {
			return err
		}
		t := list[0]
		x.put(traceLine{Kind: "row", Text: x.in(say{"switching_txn, unique by terminal, batch and trace", "switching_txn，终端号、批次号、流水号唯一"}), Fields: []traceField{
			x.field(say{"terminal, batch, trace", "终端号、批次号、流水号"}, "%s %06d %06d", t.TID, t.Batch, t.STAN),
			x.field(say{"reference", "参考号"}, "%s", t.RRN), x.field(say{"kind", "交易类型"}, "%s", switching.KindNamed(t.Kind).Words(x.zh)),
			x.field(say{"state", "状态"}, "%s", coded(t.State, t.State.Words(x.zh))), x.field(say{"card", "卡"}, "%s  %s", t.Masked, t.Class),
			x.field(say{"amount", "金额"}, "%s", t.Amount), x.field(say{"response", "应答码"}, "%s", t.Code)}})
		return nil
	})
}

// saleRef is what the sale's item is called at settlement.
func (x *saleScene) saleRef() string { return "sale:" + x.rrn }
