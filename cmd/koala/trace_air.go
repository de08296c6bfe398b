package main

import (
	"fmt"

	"koala/band"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/purse"
	"koala/tsm"
)

// issue tells how a card comes into a band.
func (s *scene) issue(f *traceFlags) error {
	if s.product = traceProducts[f.card]; f.card != cardPurse {
		if err := s.street.OpenShops(s.ctx); err != nil {
			return err
		}
	}
	s.begin("start", say{"A person, a band, no card", "一位用户、一只手环、还没有卡"}, say{
		"Lin has a wallet and a band whose secure element still has the public keys of its factory; the house has its own keys in the hsm, sealed under a key file.",
		"林有钱包和手环，手环的安全芯片仍是出厂密钥；平台的密钥在加密机中，由密钥文件封存。"})
	if err := s.keys(); err != nil {
		return err
	}
	if err := s.settled(); err != nil {
		return err
	}
	if err := s.adopted(); err != nil {
		return err
	}
	s.begin("order", say{"The order", "订单"}, say{
		"One unit of work makes the card, takes its deposit, if it has one, out of the wallet and places the order; the phone is answered at once and the rest happens over the air.",
		"一个工作单元内建卡、从钱包收取押金（如有）并下单；手机立即得到应答，其余通过空中完成。"})
	o, err := s.ordered()
	if err != nil {
		return err
	}
	if err := s.cardRow(); err != nil {
		return err
	}
	s.orderRow(o)
	if err := s.booked(); err != nil {
		return err
	}
	if err := s.happened(); err != nil {
		return err
	}
	s.begin("over-the-air", say{"The card is written over the air", "空中写卡"}, say{
		"The agent fetches scripts and reports answers. '>' is what the element gets, '=' what it says inside the SCP03 channel, '<' the answer. What the card is personalised with was sealed with the order before the first byte went out; key values leave the hsm only enciphered for this one element.",
		"手环代理取脚本并回报应答。“>”为发给芯片的命令，“=”为 SCP03 通道内的明文含义，“<”为应答。个人化数据在首字节发出前已随订单封存；密钥只以对本芯片加密的形式离开加密机。"})
	if err := s.overAir(o.ID, band.Fault{Cut: f.cut}); err != nil {
		return err
	}
	if err := s.wasCut(o.ID, f.cut); err != nil {
		return err
	}
	s.begin("active", say{"The card is active", "卡片已启用"}, say{
		"The element proved with its new keys that it is the card ordered; in the same unit the order ended and the card became active.",
		"芯片以新写入的密钥证明自己就是所订的卡；同一工作单元内订单结束、卡片启用。"})
	if err := s.cardRow(); err != nil {
		return err
	}
	if err := s.happened(); err != nil {
		return err
	}
	return s.proof()
}

// adopted tells how the house's keys replace the factory's.
func (s *scene) adopted() error {
	s.begin("own-keys", say{"The band gets keys of its own", "手环换上自己的密钥"}, say{
		"Registering a band orders that its factory keys be replaced. PUT KEY runs under a channel made with the factory keys; the new ones are derived in the hsm from the roots and the element's own number.",
		"登记手环即下单更换出厂密钥。PUT KEY 在以出厂密钥建立的通道内执行；新密钥由加密机根据根密钥和芯片编号分散得到。"})
	if err := s.registered(); err != nil {
		return err
	}
	var list []tsm.Order
	err := s.read(func(q *db.Query) (err error) {
		list, err = tsm.Orders(q, tsm.Filter{Band: traceBand, Limit: 1})
		return err
	})
	if err != nil || len(list) == 0 {
		return fmt.Errorf("band %s has %d orders: %w", traceBand, len(list), err)
	}
	s.orderRow(list[0])
	if err := s.overAir(list[0].ID, band.Fault{}); err != nil {
		return err
	}
	return s.happened()
}

// keys lists the keys of the hsm by name: values are shown nowhere.
func (s *scene) keys() error {
	list, err := s.house.Keys.List(s.ctx)
	if err != nil {
		return err
	}
	l := traceLine{Kind: "row", Text: s.in(say{"keys in the hsm: check values only", "加密机中的密钥：仅示校验值"})}
	for _, k := range list {
		l.Fields = append(l.Fields, traceField{Name: k.Label, Secret: true,
			Value: fmt.Sprintf("•••• %s, %s %d, %s %X", k.Usage, s.in(say{"version", "版本"}), k.Version, s.in(say{"check value", "校验值"}), k.KCV)})
	}
	s.put(l)
	return nil
}

func (s *scene) cardRow() error {
	var c issuing.Card
	err := s.read(func(q *db.Query) (err error) {
		c, err = issuing.Get(q, s.id)
		return err
	})
	if err != nil {
		return err
	}
	l := traceLine{Kind: "row", Text: s.in(sayf(say{"card %s", "卡 %s"}, c.ID)), Fields: []traceField{
		s.field(say{"state", "状态"}, "%s", coded(c.State, c.State.Words(s.zh))),
		s.field(say{"product", "产品"}, "%s", c.Product),
		s.field(say{"band", "手环"}, "%s", c.Band),
		s.field(say{"instance", "应用标识"}, "%X", c.Instance),
		s.field(say{"deposit", "押金"}, "%s", c.Deposit)}}
	if k := c.Known; !k.At.IsZero() {
		if c.Kind.Money() {
			l.Fields = append(l.Fields, s.field(say{"balance proven", "已证余额"}, "%s", k.Balance))
		}
		switch {
		case c.Kind.Bank():
			l.Fields = append(l.Fields, s.field(say{"transaction counter", "交易计数器 ATC"}, "%d", k.Online))
		case k.Online >= 0:
			l.Fields = append(l.Fields, s.field(say{"next sequences", "下一序号"}, s.in(say{"online %d, offline %d", "联机 %d，脱机 %d"}), k.Online, k.Offline))
		}
		l.Fields = append(l.Fields, s.field(say{"proven by", "证明来源"}, "%s", k.By))
	}
	s.put(l)
	return nil
}

func (s *scene) orderRow(o tsm.Order) {
	l := traceLine{Kind: "row", Text: s.in(sayf(say{"order %s", "订单 %s"}, o.ID)), Fields: []traceField{
		s.field(say{"kind", "种类"}, "%s", coded(o.Kind, o.Kind.Words(s.zh))),
		s.field(say{"state", "状态"}, "%s", coded(o.State, o.State.Words(s.zh)))}}
	for i, p := range o.Progress() {
		l.Fields = append(l.Fields, s.field(sayf(say{"phase %d", "阶段 %d"}, i+1), "%s  %s", p.Phase, s.in(say{p.EN, p.ZH})))
	}
	s.put(l)
}

// wasCut says so when --cut named a write that the act did not come to.
func (s *scene) wasCut(order string, cut int) error {
	if cut == 0 {
		return nil
	}
	lines, err := s.logOf(order)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if l.Cut {
			return nil
		}
	}
	s.note(sayf(say{"Nothing was cut: the element made fewer than %d writes.", "未发生中断：芯片写入次数少于 %d。"}, cut))
	return nil
}

func (s *scene) logOf(order string) (lines []tsm.Line, err error) {
	err = s.read(func(q *db.Query) error {
		lines, err = tsm.Log(q, order)
		return err
	})
	return lines, err
}

// topUp tells how money comes onto a transit card.
func (s *scene) topUp(f *traceFlags) error {
	return s.topping(f, "top-up", [4][2]say{
		{say{"A card without money", "一张没有钱的卡"}, say{
			"Lin has a wallet with money and a transit card in the band. The card has been issued over the air before (koala trace issue).",
			"林的钱包里有钱，手环里有一张交通卡，此前已通过空中发卡写入（koala trace issue）。"}},
		{say{"The order holds the money", "下单并冻结资金"}, say{
			"Placing the order sets the amount aside in the wallet, in the same unit of work: it can be spent on nothing else, and it is not gone.",
			"下单的同一工作单元内冻结钱包中的金额：不能另作他用，也尚未支出。"}},
		{say{"The card takes the money", "卡片收款"}, say{
			"INITIALIZE FOR LOAD asks the card for its balance and online sequence under MAC1; CREDIT FOR LOAD carries the house's MAC2, which the card accepts once; the TAC in its answer is the proof.",
			"圈存初始化取得卡片余额与联机序号及其 MAC1；圈存命令携带平台的 MAC2，卡片只接受一次；应答中的 TAC 即为证明。"}},
		{say{"What it came to", "结果"}, say{
			"The float account of the card is what the card holds: loaded less spent.",
			"卡片资金账户即卡内余额：充入减去消费。"}},
	})
}

// topping tells how money comes onto a card: what is said of its start, its
// order, its writing and its result differs by the kind of card.
func (s *scene) topping(f *traceFlags, ref string, words [4][2]say) error {
	if err := s.carry(0); err != nil {
		return err
	}
	if err := s.settled(); err != nil {
		return err
	}
	s.begin("start", words[0][0], words[0][1])
	if err := s.cardRow(); err != nil {
		return err
	}
	s.begin("order", words[1][0], words[1][1])
	o, err := s.wish(ref, f.amount)
	if err != nil {
		return err
	}
	s.orderRow(o)
	if err := s.booked(); err != nil {
		return err
	}
	if err := s.happened(); err != nil {
		return err
	}
	s.begin("over-the-air", words[2][0], words[2][1])
	if err := s.overAir(o.ID, band.Fault{Cut: f.cut}); err != nil {
		return err
	}
	if err := s.wasCut(o.ID, f.cut); err != nil {
		return err
	}
	if o, err = s.orderNow(o.ID); err != nil {
		return err
	}
	s.begin("result", words[3][0], words[3][1])
	s.orderRow(o)
	if err := s.cardRow(); err != nil {
		return err
	}
	if err := s.happened(); err != nil {
		return err
	}
	return s.proof()
}

// comment says what the house made of a report, where the order's state alone
// does not tell.
func (l *listener) comment(o tsm.Order) {
	x := l.last
	switch {
	case x.Answer == nil:
		l.note(say{"The contact was lost. Nothing is sent again blindly: the next session begins by reading what the element holds.",
			"接触中断。平台不会盲目重发：下一次会话先读取芯片的实际状态。"})
	case x.Phase == tsm.PhaseChannel && o.State == tsm.Running:
		l.note(sayf(say{"The hsm derived the session keys from %s and both challenges, found the element's cryptogram right and wrapped the commands that follow: enciphered, each with a MAC chained to the one before.",
			"加密机用 %s 与双方随机数得到会话密钥，验证芯片密文正确，并包装其后命令：加密，且每条 MAC 与前一条相连。"}, hsm.LabelENC+" "+hsm.LabelMAC))
	case x.Phase == tsm.PhaseInitLoad && o.State == tsm.Running:
		a, err := purse.ParseInitLoadAnswer(x.Answer.Data)
		if err == nil {
			l.note(sayf(say{"MAC1 verified under transit.DLK dispersed by the card number: balance and sequence are the card's own words. In one unit the order was bound to online sequence %d of this card, which no other order can be; only then MAC2, made in the hsm, leaves the house.",
				"MAC1 以按卡号分散的 transit.DLK 验证通过：余额与序号确为卡片所述。同一工作单元内订单绑定本卡联机序号 %d，其他订单不能再绑定；此后加密机生成的 MAC2 才离开平台。"}, a.Seq))
		}
	case o.CardKind != issuing.Transit:
		l.remark(o)
	case x.Phase == tsm.PhaseProve && o.State == tsm.Running:
		l.note(say{"A fresh MAC1 proves the bound sequence unused: the card did not take the money. The order is free of the sequence and tries again with a new INITIALIZE FOR LOAD.",
			"新的 MAC1 证明所绑定的序号未被使用：卡片未收款。订单解除绑定，以新的圈存初始化重试。"})
	case x.Phase == tsm.PhaseProve && o.State == tsm.Done, x.Phase == tsm.PhaseCredit && o.State == tsm.Done:
		l.note(say{"The TAC verified under transit.DTK dispersed by the card number: the card holds the money. The hold is captured: wallet to the card's float.",
			"TAC 以按卡号分散的 transit.DTK 验证通过：钱已在卡上。冻结转为入账：从钱包到卡片资金账户。"})
	case x.Phase == tsm.PhaseReadBack && o.State == tsm.Done && o.Kind == tsm.Issue:
		l.note(say{"The read-back agrees: the number ordered, no money, and a MAC1 that only the new load key makes.",
			"回读一致：卡号正确、余额为零，且 MAC1 只有新写入的圈存密钥才能生成。"})
	}
}

// remark says the same of cards that are no transit cards.
func (l *listener) remark(o tsm.Order) {
	x := l.last
	switch {
	case x.Phase == tsm.PhaseCryptogram && o.State == tsm.Running:
		l.note(say{"The request cryptogram verified under bank.AC dispersed by the card: balance and counter are the card's own words. The bank bound the load to this value of the counter, which no other load can have; only then ARPC and script, made in the hsm, leave the house.",
			"请求密文以按卡分散的 bank.AC 验证通过：余额与计数器确为卡片所述。银行已把圈存绑定到该计数器值，其他圈存不能再绑定；此后加密机生成的 ARPC 与脚本才离开平台。"})
	case o.Kind == tsm.TopUp && o.CardKind.Bank() && o.State == tsm.Running && x.Phase == tsm.PhaseProve:
		l.note(say{"The card's signed log has no line of the bound counter: it did not take the money. The load is free and tries again with a new cryptogram.",
			"卡片签名日志中没有所绑定计数器的记录：卡片未收款。圈存解除绑定，以新的密文重试。"})
	case o.Kind == tsm.TopUp && o.CardKind.Bank() && o.State == tsm.Done:
		l.note(say{"The load log verified under the card's own MAC key: its line of the bound counter says old and new balance. The status word alone would prove nothing. The money goes from the account to the card's float.",
			"圈存日志以卡片自己的 MAC 密钥验证通过：所绑定计数器的记录写明旧余额与新余额；仅凭状态字不能证明。资金从账户转到卡片资金账户。"})
	case o.Kind == tsm.Issue && o.CardKind.Bank() && o.State == tsm.Done:
		l.note(say{"The read-back agrees: both certificates recover under the house's authority to this card's number, the card signed a fresh challenge, and its cryptogram verified under its new keys.",
			"回读一致：两级证书在本平台认证中心下还原出本卡卡号，卡片对新随机数签名，且其密文以新密钥验证通过。"})
	case o.Kind == tsm.Issue && o.State == tsm.Done:
		l.note(say{"The read-back agrees: the card answered a fresh challenge with its new key.", "回读一致：卡片以新密钥应答了新的随机数。"})
	}
}

// proof ends a trace with a proof of the books.
func (s *scene) proof() error {
	s.begin("proof", say{"The books are proven", "账簿核验"}, say{
		"What koala verify does: every hash of the journal, every zero sum, views, cards, orders and captures.",
		"与 koala verify 相同：日记账每个哈希、每笔平衡、视图、卡片、订单与应付明细。"})
	p, err := s.house.Verify(s.ctx)
	if err != nil {
		return err
	}
	result := say{"everything holds", "全部一致"}
	if !p.OK {
		result = say{"WRONG", "有误"}
	}
	l := traceLine{Kind: "row", Text: s.in(result), Fields: []traceField{
		s.field(say{"batches", "批次"}, "%d", p.Batches), s.field(say{"entries", "分录"}, "%d", p.Entries), s.field(say{"hash", "哈希"}, "%s", p.Hash)}}
	for _, wrong := range p.Problems {
		l.Fields = append(l.Fields, s.field(say{"problem", "问题"}, "%s", wrong))
	}
	s.put(l)
	if !p.OK {
		return errFoundWrong
	}
	return nil
}
