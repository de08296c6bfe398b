package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/tsm"
)

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// beijing shows a moment as a clock on the wall does.
func beijing(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(calendar.Beijing).Format("2006-01-02 15:04:05")
}

// logged tells one command of an order's log. Personalisation data is named
// and masked: what goes over the air is shown enciphered, its plain form not.
func (s *scene) logged(l tsm.Line) {
	out := traceLine{Kind: "apdu", Where: "band", Text: s.both(nameOf(l)), Command: upper(l.Wire),
		Torn: l.Answer == nil, Fields: s.fields(l.Meaning.Fields)}
	if l.Answer != nil {
		out.Answer = upper(l.Answer.Bytes())
	}
	if plain := l.Plain.Bytes(); !bytes.Equal(plain, l.Wire) {
		out.Plain = s.masked(l.Plain, l.Meaning)
	}
	s.put(out)
}

// domainCommands names what a security domain is sent (GPCS 2.3.1, 11).
var domainCommands = map[byte]string{
	globalplatform.InsInitializeUpdate: "INITIALIZE UPDATE", globalplatform.InsExternalAuth: "EXTERNAL AUTHENTICATE",
	globalplatform.InsPutKey: "PUT KEY", globalplatform.InsInstall: "INSTALL", globalplatform.InsStoreData: "STORE DATA",
	globalplatform.InsSetStatus: "SET STATUS", globalplatform.InsGetStatus: "GET STATUS", globalplatform.InsDelete: "DELETE",
}

// nameOf puts the standard's name before what a command of a security domain
// means. The log keeps a PUT KEY without its data, so it does not parse.
func nameOf(l tsm.Line) say {
	name := say{l.Meaning.EN, l.Meaning.ZH}
	switch command, ok := domainCommands[l.Plain.INS]; {
	case l.Plain.INS == iso7816.InsSelect && string(l.Plain.Data) == string(globalplatform.IssuerDomain):
		name = say{"SELECT the issuer security domain", "选择发卡方安全域"}
	case !ok || l.Plain.CLA&0x80 == 0 || strings.HasPrefix(name.en, "INITIALIZE"):
	case l.Plain.INS == globalplatform.InsPutKey:
		name = say{command + ": replace the factory's keys", "替换出厂密钥"}
	default:
		name.en = command + ": " + name.en
	}
	return name
}

func (s *scene) masked(c iso7816.Command, e iso7816.Explanation) string {
	raw := c.Bytes()
	for _, f := range e.Fields {
		if f.Secret {
			return upper(raw[:4]) + "••••"
		}
	}
	return upper(raw)
}

// coded shows a word of the program with what it means for people.
func coded[W ~string](word W, words string) string {
	if string(word) == words {
		return words
	}
	return string(word) + "  " + words
}

// settled keeps silent about what the journal and the outbox have so far.
func (s *scene) settled() error {
	s.record, s.hash = s.house.Book.Tip()
	var err error
	s.event, err = s.house.Outbox.Last(s.ctx)
	return err
}

// booked tells what the journal has since it was last told, and its new end.
func (s *scene) booked() error {
	records, err := s.house.Book.After(s.ctx, s.record, 1000)
	if err != nil || len(records) == 0 {
		return err
	}
	for _, r := range records {
		s.put(s.posting(r))
	}
	before := s.hash
	first := s.record + 1
	s.record, s.hash = s.house.Book.Tip()
	s.put(traceLine{Kind: "row", Text: s.in(say{
		"the journal grows by one batch: its hash is SHA-256 over the hash before it, the book, the last record's number, how many records, and the records",
		"日记账追加一批：其哈希为前一哈希、账簿、末条序号、条数与各条记录的 SHA-256"}), Fields: []traceField{
		s.field(say{"records", "记录"}, "%s", span(first, s.record)),
		s.field(say{"hash before", "前一哈希"}, "%x", before),
		s.field(say{"hash", "本批哈希"}, "%x", s.hash)}})
	return nil
}

// span shows a range of numbers, or the one number it is.
func span[N uint32 | uint64](first, last N) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d–%d", first, last)
}

var recordWords = map[string]say{
	"account": {"account opened: %s", "开立账户：%s"}, "entry": {"entry %s", "分录 %s"}, "hold": {"hold %s: set aside, less is available, no balance moves", "冻结 %s：预留资金，可用额减少，余额不变"},
	"capture": {"capture %s: the hold becomes a posting", "扣款 %s：冻结转为入账"}, "void": {"void %s: the hold is let go", "撤销 %s：解除冻结"},
}

func (s *scene) posting(r ledger.Record) traceLine {
	w, ok := recordWords[r.Type]
	if !ok {
		w = say{r.Type + " %s", r.Type + " %s"}
	}
	l := traceLine{Kind: "posting", Text: s.in(sayf(w, r.Ref))}
	if r.Type == "account" {
		l.Kind = "row"
		return l
	}
	l.Fields = []traceField{s.field(say{"record", "记录序号"}, "%d", r.Seq), s.field(say{"kind", "类别"}, "%s", r.Type)}
	if r.Kind != "" && r.Kind != r.Type {
		l.Fields[1].Value = r.Type + " " + r.Kind
	}
	if r.Text != "" && r.Hold == "" {
		l.Fields = append(l.Fields, s.field(say{"text", "摘要"}, "%s", r.Text))
	}
	if r.Hold != "" {
		l.Fields = append(l.Fields, s.field(say{"hold", "冻结"}, "%s", r.Hold))
	}
	l.Fields = append(l.Fields, s.field(say{"booked", "记账时间"}, "%s", beijing(r.Booked)))
	for _, leg := range r.Legs {
		l.Legs = append(l.Legs, traceLeg{Code: leg.Code, Chart: s.in(chartNames[leg.Code]), Account: string(leg.Account),
			Fen: leg.Amount.Minor(), Balance: leg.Balance.Minor()})
	}
	return l
}

// chartNames names the house's chart codes.
var chartNames = map[string]say{
	"1010": {"bank, simulated", "存管银行（模拟）"}, "2010": {"wallets", "钱包"}, "2020": {"money on cards", "卡内资金"},
	"1310": {"lent on credit cards", "信用卡应收"}, "2060": {"firms' funds", "企业资金"},
	"2030": {"owed to payees", "应付收款方"}, "2040": {"card deposits", "卡押金"}, "2050": {"transit clearing", "交通清算"},
	"1120": {"due from issuers' hosts", "应收发卡行"}, "2071": {"owed to the network", "应付银联"}, "4020": {"acquirer's fees", "收单手续费收入"},
	"4021": {"own bank's interchange", "发卡行服务费收入"},
	"4010": {"fee income", "手续费收入"}, "5010": {"rebates", "优惠支出"}, "9010": {"outside, simulated", "外部（模拟）"},
	"9020": {"own bank, simulated", "个人银行账户（模拟）"},
}

// happened tells the events of the outbox since they were last told: what
// live pages and other systems hear of.
func (s *scene) happened() error {
	events, err := s.house.Outbox.After(s.ctx, s.event, outbox.MaxPage)
	if err != nil {
		return err
	}
	for _, e := range events {
		s.event = e.Seq
		s.put(traceLine{Kind: "row", Text: s.in(sayf(say{"event %s, after the commit to who listens", "事件 %s，提交后通知订阅者"}, e.Name)),
			Body: string(e.JSON), Fields: []traceField{s.field(say{"subject", "主体"}, "%s", e.Subject)}})
	}
	return nil
}

// A listener stands on the wire between a band's agent and the house and tells
// what passes, with the commands between two messages.
type listener struct {
	*scene
	order string
	lines int // of the order's log that have been told
	last  tsm.Line
}

func (l *listener) client() *http.Client { return &http.Client{Transport: l} }

// RoundTrip implements http.RoundTripper.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	res, err := l.street.Wire.RoundTrip(r)
	if err != nil {
		return res, err
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the house's answer: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(got))
	report := strings.HasSuffix(r.URL.Path, "/report")
	if report {
		if err := l.log(); err != nil {
			return nil, err
		}
	}
	what := say{"the agent asks for work", "手环代理请求任务"}
	if report {
		what = say{"the agent reports what the element answered", "手环代理回报芯片应答"}
	}
	l.message(what, r, string(sent), res.StatusCode, string(got))
	if report {
		return res, l.told()
	}
	return res, nil
}

// bodyOf reads a copy of a request's body.
func bodyOf(r *http.Request) ([]byte, error) {
	if r.GetBody == nil {
		return nil, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, fmt.Errorf("reading a request: %w", err)
	}
	defer body.Close()
	return io.ReadAll(body)
}

// message tells one request and what came back. The device's token is masked.
func (s *scene) message(what say, r *http.Request, sent string, code int, got string) {
	line := traceLine{Kind: "message", Text: s.in(what) + ": " + r.Method + " " + r.URL.Path, Body: sent,
		Fields: []traceField{{Name: "Authorization", Value: "Bearer ••••", Secret: true},
			s.field(say{"answer", "应答"}, "%d %s", code, http.StatusText(code))}}
	s.put(line)
	if got = strings.TrimSpace(got); got != "" {
		s.put(traceLine{Kind: "message", Text: s.in(say{"the house answers", "平台应答"}), Body: got})
	}
}

// log tells the commands of the order's log that have an answer by now, or
// were cut.
func (l *listener) log() error {
	lines, err := l.logOf(l.order)
	if err != nil {
		return err
	}
	phase := tsm.Phase("")
	for l.lines < len(lines) && !lines[l.lines].Heard.IsZero() {
		x := lines[l.lines]
		l.lines++
		if x.Answer == nil && !x.Cut {
			continue // never sent: the contact was lost before
		}
		if x.Phase != phase {
			phase = x.Phase
			l.note(say{"— " + phase.Words(false), "— " + phase.Words(true)})
		}
		l.logged(x)
		l.last = x
	}
	return nil
}

// told tells what a report did to the order and to the books.
func (l *listener) told() error {
	o, err := l.orderNow(l.order)
	if err != nil {
		return err
	}
	fields := []traceField{
		l.field(say{"state", "状态"}, "%s", coded(o.State, o.State.Words(l.zh))),
		l.field(say{"phase", "阶段"}, "%s", coded(o.Phase, o.Phase.Words(l.zh)))}
	if o.Why != tsm.NoReason {
		fields = append(fields, l.field(say{"why", "原因"}, "%s", coded(o.Why, o.Why.Words(l.zh))))
	}
	l.put(traceLine{Kind: "row", Text: l.in(sayf(say{"order %s", "订单 %s"}, o.ID)), Fields: fields})
	l.comment(o)
	return l.booked()
}
