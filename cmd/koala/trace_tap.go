package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"koala/band"
	"koala/calendar"
	"koala/city/street"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
	"koala/settlement"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit"
	"koala/transit/network"
)

// tapFloat is what the card has before the ride, fen.
const tapFloat = 50_00

// A ride is what a trace of taps goes by.
type ride struct {
	from, to *network.Station
	route    network.Route
}

// tap tells a whole ride.
func (s *scene) tap(f *traceFlags) error {
	r, err := s.plan(f)
	if err != nil {
		return err
	}
	if err := s.carry(tapFloat); err != nil {
		return err
	}
	for _, id := range []string{r.from.ID + ".in", r.to.ID + ".out"} {
		if _, err := s.street.Reader(s.ctx, id); err != nil {
			return err
		}
	}
	s.watch("/debits")
	if err := s.settled(); err != nil {
		return err
	}
	s.rideBegins(r)
	if err := s.enter(r); err != nil {
		return err
	}
	if err := s.leave(r, f.cut); err != nil {
		return err
	}
	if err := s.again(kindTerminal, s.gateOf); err != nil {
		return err
	}
	if err := s.morning(); err != nil {
		return err
	}
	return s.proof()
}

func (s *scene) plan(f *traceFlags) (r *ride, err error) {
	r = &ride{}
	if r.from, err = s.house.Network.Find(f.from); err != nil {
		return nil, err
	}
	if r.to, err = s.house.Network.Find(f.to); err != nil {
		return nil, err
	}
	r.route, err = s.house.Network.Route(r.from, r.to)
	return r, err
}

func (s *scene) rideBegins(r *ride) {
	s.begin("start", sayf(say{"From %[1]s %[2]s to %[3]s %[4]s", "从 %[1]s %[2]s 到 %[3]s %[4]s"}, r.from.ZH, r.from.EN, r.to.ZH, r.to.EN), sayf(say{
		"Lin rides by metro on the morning of %s. The band holds a transit card with %s yuan, written and loaded over the air before (koala trace issue, koala trace topup). Both gates have their PSAM, tariff table and deny list; no gate asks a host while somebody taps.",
		"林于 %s 早晨乘地铁。手环中的交通卡有 %s 元，此前已通过空中写卡与充值（koala trace issue、koala trace topup）。两台闸机已备好 PSAM、票价表与黑名单；刷卡时闸机不联机。"},
		beijing(s.clock.Now())[:10], money.Fen(tapFloat).Yuan()))
	l := traceLine{Kind: "row", Text: s.in(say{"the shortest way on the network", "路网最短路径"}), Fields: []traceField{
		s.field(say{"distance", "里程"}, "%d m", r.route.Metres)}}
	for _, leg := range r.route.Legs {
		l.Fields = append(l.Fields, s.field(say{leg.Line.EN, leg.Line.ZH}, "%s → %s, %d m", s.in(say{leg.From.EN, leg.From.ZH}), s.in(say{leg.To.EN, leg.To.ZH}), leg.Metres))
	}
	s.put(l)
	s.put(traceLine{Kind: "row", Text: s.in(say{"the card", "卡片"}), Fields: []traceField{
		s.field(say{"card number", "卡号"}, "%s", s.card), s.field(say{"float account", "资金账户"}, "%s", "float."+string(s.card))}})
}

func (s *scene) enter(r *ride) error {
	s.begin("in-card", say{"In at " + r.from.EN, r.from.ZH + "站进站"}, say{
		"The gate talks to the band over the air and to its own security module (PSAM) by contacts; entering is a purchase of nothing that writes 'entered' and the station into the card.",
		"闸机通过射频与手环、通过触点与自带安全模块（PSAM）通信；进站是一笔零元复合消费，把“已进站”与站点写入卡片。"})
	o, err := s.street.Tap(s.ctx, traceBand, r.from.ID+".in", street.Options{Talk: true})
	if err != nil {
		return err
	}
	s.told(o.Talk)
	if err := s.gateSays("in-gate", o); err != nil {
		return err
	}
	return s.collected("in", r, r.from.ID+".in", o)
}

func (s *scene) leave(r *ride, cut int) error {
	const metresPerSecond = 9.5 // 34 km/h with the stops
	s.clock.Advance(time.Duration(float64(r.route.Metres)/metresPerSecond)*time.Second + 3*time.Minute)
	gate := r.to.ID + ".out"
	s.begin("out-card", say{"Out at " + r.to.EN, r.to.ZH + "站出站"}, say{
		"The gate reads where and when the card entered, prices the ride by its own table, and takes the fare: the PSAM proves the gate to the card (MAC1), the card pays, writes its records and proves itself (MAC2, TAC) in one step.",
		"闸机读取进站站点与时间，按自己的票价表计价并扣款：PSAM 向卡证明闸机（MAC1），卡片在一步之内扣款、写记录并证明自己（MAC2、TAC）。"})
	o, err := s.street.Tap(s.ctx, traceBand, gate, street.Options{Talk: true, Fault: band.Fault{Cut: cut}})
	if err != nil {
		return err
	}
	s.told(o.Talk)
	if cut > 0 {
		if o, err = s.torn(gate, cut, o); err != nil {
			return err
		}
	}
	if err := s.gateSays("out-gate", o); err != nil {
		return err
	}
	if err := s.collected("out", r, gate, o); err != nil {
		return err
	}
	return s.shared()
}

// torn tells what the gate keeps of a contact that was lost, and the second try.
func (s *scene) torn(gate string, cut int, o street.Outcome) (street.Outcome, error) {
	if o.Result != terminal.TryAgain {
		s.note(sayf(say{"Nothing was cut: the element made fewer than %d writes.", "未发生中断：芯片写入次数少于 %d。"}, cut))
		return o, nil
	}
	en, zh := o.Words()
	s.begin("torn", say{"The band left too early", "手环过早离开"}, say{
		"The field went in the middle of a write to the element's EEPROM. The gate kept its intent in flash before it told the card to pay; whether the card paid, only the card knows.",
		"芯片写 EEPROM 途中射频场消失。闸机在命令扣款前已把意图写入闪存；卡片是否扣款，只有卡片知道。"})
	s.put(traceLine{Kind: "decision", Text: s.in(say{en, zh})})
	reader, err := s.street.Reader(s.ctx, gate)
	if err != nil {
		return o, err
	}
	held, err := reader.Held()
	if err != nil {
		return o, err
	}
	for _, d := range held.Doubts {
		s.put(traceLine{Kind: "row", Text: s.in(say{"in doubt, in the gate's flash", "闸机闪存中的待定交易"}), Fields: s.debit(d.Intent)[:5]})
	}
	s.clock.Advance(4 * time.Second)
	s.begin("recovery", say{"The band comes back", "手环再次刷卡"}, say{
		"The element first ends what the cut left: a complete journal record is carried out, an incomplete one is dropped. Then the gate looks at the card's sequence: one higher means paid, and GET TRANSACTION PROVE gives the proofs again; the same means not paid, and the tap begins anew.",
		"芯片先收拾中断：日志记录完整则执行完毕，不完整则丢弃。闸机再看卡片序号：加一即已扣款，用取交易认证命令重新取得证明；未变即未扣款，重新交易。"})
	o, err = s.street.Tap(s.ctx, traceBand, gate, street.Options{Talk: true})
	if err == nil {
		s.told(o.Talk)
	}
	return o, err
}

// gateSays tells what the gate decided and how long it took by the model.
func (s *scene) gateSays(section string, o street.Outcome) error {
	en, zh := o.Words()
	s.begin(section, say{"What the gate decided and stored", "闸机的判定与存储"}, say{
		"All of it offline. The time is computed from the bytes and a model of the chips: the radio is simulated.",
		"全部脱机完成。时间由字节数与芯片模型计算：射频为模拟。"})
	s.put(traceLine{Kind: "decision", Text: s.in(say{en, zh}), Lines: o.Lines, Fields: []traceField{
		s.field(say{"fare", "票价"}, "%s CNY", purse.Yuan(o.Fen)),
		s.field(say{"balance on the card", "卡内余额"}, "%s CNY", purse.Yuan(o.Balance))}})
	s.timing(o.Time)
	if o.Stored == nil {
		return fmt.Errorf("the gate let nobody through: %s: %w", en, errFoundWrong)
	}
	s.put(traceLine{Kind: "row", Text: s.in(say{"the debit in the gate's flash, kept until the house acknowledges its number", "闸机闪存中的交易，平台确认其编号前一直保留"}),
		Fields: append([]traceField{s.field(say{"number", "编号"}, "%d", o.Stored.Number)}, s.debit(o.Stored.Debit)...)})
	return nil
}

func (s *scene) timing(t street.Timing) {
	verdict := say{"within", "达标"}
	if t.Total106 > terminal.Budget {
		verdict = say{"over", "超时"}
	}
	s.put(traceLine{Kind: "time", Text: s.in(sayf(say{"%s at 106 kbit/s, %s at 424: %s the 300 ms that a tap may take",
		"106 kbit/s 时 %s，424 kbit/s 时 %s：刷卡限时 300 毫秒，%s"}, millis(t.Total106), millis(t.Total424), s.in(verdict))),
		TookUS: t.Total106.Microseconds(), Fields: []traceField{
			s.field(say{"activation", "激活"}, "%s / %s", millis(terminal.Activation(terminal.Kbit106)), millis(t.Activation)),
			s.field(say{"on the air at 106 kbit/s", "空中传输 106 kbit/s"}, "%s", millis(t.Air106)),
			s.field(say{"on the air at 424 kbit/s", "空中传输 424 kbit/s"}, "%s", millis(t.Air424)),
			s.field(say{"contacts of the PSAM", "PSAM 触点"}, "%s", millis(t.PSAM)),
			s.field(say{"chips computing and writing", "芯片运算与写入"}, "%s", millis(t.Chip))}})
}

func (s *scene) debit(d purse.Debit) []traceField {
	out := []traceField{
		s.field(say{"card number", "卡号"}, "%s", d.Card),
		s.field(say{"offline sequence", "脱机交易序号"}, "%d", d.Seq),
		s.field(say{"amount", "交易金额"}, "%s CNY", purse.Yuan(d.Fen)),
		s.field(say{"terminal", "终端编号"}, "%s", d.Terminal),
		s.field(say{"terminal sequence", "终端交易序号"}, "%d", d.TSeq),
		s.field(say{"type", "交易类型"}, "%02X %s", byte(d.Type), d.Type.Words(s.zh)),
		s.field(say{"date and time", "日期时间"}, "%s", d.At),
		s.field(say{"TAC", "交易认证码 TAC"}, "%X", d.TAC),
		s.field(say{"balance after", "交易后余额"}, "%s CNY", purse.Yuan(d.Balance))}
	if len(d.Record) > 0 {
		out = append(out, s.field(say{"rail record, file 1A", "轨道记录 1A 文件"}, "%X", d.Record))
	}
	return out
}

// collected tells how the gate hands its debit over and what the house does.
func (s *scene) collected(way string, r *ride, gate string, o street.Outcome) error {
	s.clock.Advance(time.Minute)
	s.begin(way+"-house", say{"The gate hands over to the house", "闸机上传平台"}, say{
		"A minute later the gate sends what it has: a batch in its own binary form over HTTP. The house verifies every TAC before it books anything, and answers the number up to which the gate may forget.",
		"一分钟后闸机上传所存交易：HTTP 承载的二进制批次。平台记账前先验证每个 TAC，并应答闸机可以清除到的编号。"})
	n, err := s.street.Collect(s.ctx, gate)
	if err != nil {
		return err
	}
	batch, err := purse.ParseBatch(s.body)
	if err != nil {
		return err
	}
	s.put(traceLine{Kind: "message", Text: s.sent.Method + " " + s.sent.URL.Path, Body: upper(s.body), Fields: []traceField{
		{Name: "Authorization", Value: "Bearer ••••", Secret: true},
		s.field(say{"magic, terminal", "标识、终端编号"}, "KDB 01, %s", batch.Terminal),
		s.field(say{"numbers", "编号"}, "%s", span(batch.First, batch.First+uint32(len(batch.Debits))-1)),
		s.field(say{"length", "长度"}, s.in(say{"%d bytes, the last four CRC-32", "%d 字节，末四字节为 CRC-32"}), len(s.body)),
		s.field(say{"acknowledged", "已确认"}, "%d", n)}})
	d := o.Stored.Debit
	s.tac(d)
	s.begin(way+"-book", say{"The unit of work", "工作单元"}, say{
		"One unit for each debit: (card, sequence) is taken once, the journeys of the card are folded again from its taps, money moves, operators get their shares, events are kept; all of it or nothing.",
		"每笔交易一个工作单元：（卡号，序号）只收一次，由刷卡记录重新推演行程，资金入账，分配运营商份额，保存事件；要么全部完成，要么什么都不发生。"})
	if err := s.tapRows(d); err != nil {
		return err
	}
	if d.Fen == 0 {
		s.note(say{"No money moved, so the journal has nothing new.", "没有资金变动，日记账无新增。"})
	}
	if err := s.booked(); err != nil {
		return err
	}
	return s.happened()
}

// tac verifies the card's proof in front of the reader, and one that is wrong.
func (s *scene) tac(d purse.Debit) {
	verdict := func(d purse.Debit) string {
		if err := s.house.Keys.CheckDebitTAC(s.ctx, d); err != nil {
			return s.in(say{"refused: ", "不通过："}) + fail.Of(err).Code
		}
		return s.in(say{"verified", "通过"})
	}
	other := d
	other.Fen++
	s.put(traceLine{Kind: "decision", Text: s.in(say{
		"the TAC covers amount, type, terminal, terminal sequence, date and time under transit.DTK, dispersed by the card number; the key stays in the hsm",
		"TAC 以按卡号分散的 transit.DTK 覆盖金额、类型、终端、终端序号与日期时间；密钥不出加密机"}), Fields: []traceField{
		s.field(say{"TAC", "交易认证码 TAC"}, "%X  %s", d.TAC, verdict(d)),
		s.field(say{"the same with one fen more", "金额改多一分"}, "%X  %s", other.TAC, verdict(other))}})
}

func (s *scene) tapRows(d purse.Debit) error {
	var number uint32
	var got time.Time
	var list []transit.Journey
	err := s.read(func(q *db.Query) (err error) {
		if _, number, got, err = transit.TapOf(q, d.Card, d.Seq); err != nil {
			return err
		}
		list, err = transit.JourneysOfCard(q, d.Card, -1, 1)
		return err
	})
	if err != nil || len(list) == 0 {
		return fmt.Errorf("tap %d has %d journeys: %w", d.Seq, len(list), err)
	}
	s.put(traceLine{Kind: "row", Text: s.in(say{"transit_debit, unique by card and sequence", "transit_debit，卡号与序号唯一"}), Fields: []traceField{
		s.field(say{"card / sequence", "卡号 / 序号"}, "%s / %d", d.Card, d.Seq),
		s.field(say{"running number of the gate", "闸机流水编号"}, "%d", number),
		s.field(say{"received", "收到"}, "%s", beijing(got))}})
	s.journey(list[0])
	return nil
}

func (s *scene) journey(j transit.Journey) {
	place := func(at time.Time, code interface{ String() string }, name string) string {
		if at.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%s %s  %s", code, name, beijing(at))
	}
	name := func(j transit.Journey, to bool) string {
		code := j.From
		if to {
			code = j.To
		}
		st, ok := s.house.Network.ByCode(code)
		if !ok {
			return "?"
		}
		return s.in(say{st.EN, st.ZH})
	}
	l := traceLine{Kind: "row", Text: s.in(sayf(say{"journey %s", "行程 %s"}, j.ID)), Lines: j.Lines, Fields: []traceField{
		s.field(say{"state", "状态"}, "%s", coded(j.State, j.State.Words(s.zh))),
		s.field(say{"from", "进站"}, "%s", place(j.Entered, j.From, name(j, false))),
		s.field(say{"to", "出站"}, "%s", place(j.Left, j.To, name(j, true))),
		s.field(say{"card sequences", "卡片序号"}, "%v", j.Taps)}}
	if j.State == transit.Open {
		l.Fields = append(l.Fields, s.field(say{"exit missing after", "缺出站时限"}, "%s", beijing(j.Deadline)))
	} else {
		l.Fields = append(l.Fields, s.field(say{"distance", "里程"}, "%d m", j.Metres),
			s.field(say{"charged by the gate", "闸机扣款"}, "%s", j.Charged),
			s.field(say{"due by the tariff", "票价应收"}, "%s  %s", j.Due, j.Tariff),
			s.field(say{"counts for the month", "计入当月"}, "%s  %s", j.Counts, j.Month))
	}
	s.put(l)
}

// shared tells who gets what of the fare.
func (s *scene) shared() error {
	var shares []network.Share
	err := s.read(func(q *db.Query) error {
		list, err := transit.JourneysOfCard(q, s.card, -1, 1)
		if err != nil || len(list) == 0 {
			return err
		}
		shares, err = transit.SharesOf(q, list[0])
		return err
	})
	if err != nil {
		return err
	}
	s.begin("clearing", say{"Who gets what", "清分"}, sayf(say{
		"The fare is shared %s. What each operator earned is captured for settlement; a capture is paid exactly once.",
		"票款%s。各运营商所得登记为待结算明细；每条明细只结算一次。"}, s.in(say{network.MethodEN, network.MethodZH})))
	for _, x := range shares {
		s.put(traceLine{Kind: "row", Text: s.in(say{"share of a line", "线路份额"}), Fields: []traceField{
			s.field(say{"line", "线路"}, "%s", x.Line), s.field(say{"operator", "运营商"}, "%s", x.Operator),
			s.field(say{"metres", "里程（米）"}, "%d", x.Metres), s.field(say{"amount", "金额"}, "%s", x.Fen)}})
	}
	return s.captures()
}

// captures tells what waits for settlement.
func (s *scene) captures() error {
	var items []settlement.Item
	err := s.read(func(q *db.Query) (err error) {
		items, err = settlement.ItemsOf(q, "", "", 100)
		return err
	})
	for _, x := range items {
		s.put(traceLine{Kind: "row", Text: s.in(say{"capture", "待结算明细"}), Fields: []traceField{
			s.field(say{"reference", "参考号"}, "%s", x.Ref), s.field(say{"payee", "收款方"}, "%s", x.Payee),
			s.field(say{"amount", "金额"}, "%s", x.Amount), s.field(say{"earned", "发生时间"}, "%s", beijing(x.At))}})
	}
	return err
}

// watch keeps the last request whose path ends so.
func (s *scene) watch(ends string) {
	s.street.Wire.Faults = func(q *http.Request) street.WireFault {
		if strings.HasSuffix(q.URL.Path, ends) {
			s.sent = q
			s.body, _ = bodyOf(q)
		}
		if strings.HasSuffix(q.URL.Path, "/authorise") {
			s.asked, _ = bodyOf(q)
		}
		return street.Delivered
	}
}

// gateOf reads which gate a batch comes from.
func (s *scene) gateOf(body []byte) (string, error) {
	b, err := purse.ParseBatch(body)
	return strings.ToLower(b.Terminal.String()), err
}

// again sends the last batch once more, as a device does that lost the answer.
func (s *scene) again(kind string, device func(body []byte) (id string, err error)) error {
	s.begin("again", say{"The same batch once more", "同一批次再次上传"}, say{
		"A device whose answer was lost sends the batch again. Its records are known, byte for byte: nothing is booked, and the device may forget as much as before.",
		"应答丢失的设备会重发批次。交易逐字节已知：不再记账，设备可清除的范围与之前相同。"})
	id, err := device(s.body)
	if err != nil {
		return err
	}
	token, err := s.house.DeviceToken(s.ctx, kind, id)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, houseAddress+s.sent.URL.Path, bytes.NewReader(bytes.Clone(s.body)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.street.Wire.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	s.message(say{"the same bytes", "相同字节"}, req, "", res.StatusCode, string(got))
	before := s.record
	if err := s.booked(); err != nil {
		return err
	}
	if s.record == before {
		s.note(say{"The journal has not grown.", "日记账没有新增。"})
	}
	return s.happened()
}

// morning tells the payout: the settlement day ends at 04:00.
func (s *scene) morning() error {
	day := calendar.ServiceDay(s.clock.Now())
	s.clock.Set(day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff + 5*time.Minute))
	s.begin("settlement", say{"The next morning", "次日清晨"}, say{
		"The settlement day ended at 04:00. Every capture of it is netted by payee and paid from the custody bank, which is simulated; the payout file tells the bank.",
		"结算日于 04:00 截止。当日明细按收款方轧差，由存管银行（模拟）付出；付款文件交给银行。"})
	if err := s.house.Tick(s.ctx); err != nil {
		return err
	}
	if err := s.booked(); err != nil {
		return err
	}
	var file settlement.File
	err := s.read(func(q *db.Query) (err error) {
		file, err = settlement.FileOf(q, day)
		return err
	})
	if err != nil {
		return err
	}
	l := traceLine{Kind: "row", Text: s.in(sayf(say{"payout file of %s", "%s 付款文件"}, day)), Fields: []traceField{
		s.field(say{"SHA-256", "SHA-256"}, "%s", file.Hash)}}
	for i, line := range strings.Split(strings.TrimSpace(string(file.CSV)), "\n") {
		l.Fields = append(l.Fields, s.field(sayf(say{"line %d", "第 %d 行"}, i+1), "%s", strings.TrimSpace(line)))
	}
	s.put(l)
	return s.happened()
}
