package unionpay

import (
	"fmt"
	"slices"
	"strings"

	"koala/spec/iso8583"
	"koala/terminal"
	"koala/terminal/kernel"
)

// A Card is how a card without its chip came to the terminal: one of the three.
type Card struct {
	Track2, Track3 string // read from the stripe, with = or D
	PAN, Expiry    string // keyed; expiry YYMM
	Code           string // scanned: a payment code, at most 64 characters
}

// GoString and String show nothing of the card.
func (c Card) String() string { return "card" }

// GoString is String.
func (c Card) GoString() string { return "card" }

// An Original names a transaction, of this batch or another.
type Original struct {
	Batch, STAN uint32
	Date        string // MMDD by the host, empty where the batch is open
}

// String is field 61: batch 6 | trace 6 | date 4, if there is one.
func (o Original) String() string { return fmt.Sprintf("%06d%06d%s", o.Batch, o.STAN, o.Date) }

// ParseOriginal reads field 61.
func ParseOriginal(s string) (o Original, err error) {
	if (len(s) != 12 && len(s) != 16) || !digits(s) {
		return o, ErrEntry
	}
	o = Original{Batch: uint32(number(s[:6])), STAN: uint32(number(s[6:12])), Date: s[12:]}
	return o, nil
}

func number(s string) (n uint64) {
	for i := range len(s) {
		n = n*10 + uint64(s[i]-'0')
	}
	return n
}

// Terms are those of a sale in instalments.
type Terms struct {
	Parts   int    // 3, 6, 9, 12, 18 or 24
	Product string // at most 30 characters
	Spread  bool   // the fee with every part; otherwise all at once
}

// field62: parts 2 | product 30, blanks behind | fee mode 1.
func (x Terms) field62() (string, error) {
	if !slices.Contains([]int{3, 6, 9, 12, 18, 24}, x.Parts) || len(x.Product) > 30 {
		return "", ErrOrder
	}
	mode := "0"
	if x.Spread {
		mode = "1"
	}
	return fmt.Sprintf("%02d%-30s%s", x.Parts, x.Product, mode), nil
}

// An Order is what the cashier wants. Which parts a kind needs is in section 6
// of the protocol; what it does not need stays zero.
type Order struct {
	Kind     Kind
	Fen      uint64   // minor units; of a tip or adjustment the new amount
	Card     Card     // none for kinds with an original in the journal; of a load from another account the one that pays
	STAN     uint32   // trace of the original in this batch
	Original Original // of another batch or terminal
	Sealed   *Sealed  // instead of Card: as a reader hands it on
	Auth     string   // authorisation of the original, or given by voice
	RRN      string   // reference of the original
	Terms    Terms
}

// A Result is what an order came to.
type Result struct {
	*Entry          // as it is kept, or as it was when it was declined
	Approved bool   // the shop may give, the cardholder gets
	Code     string // response code; empty when the host was not asked
	Chip     *Chip  // of a chip card, nil otherwise
}

// Balance is the sum that an inquiry brought, minor units.
func (r Result) Balance() (fen int64, ok bool) {
	s := r.Get(54)
	if len(s) < 20 || !digits(s[8:20]) {
		return 0, false
	}
	if fen = int64(number(s[8:20])); s[7] == 'D' {
		fen = -fen
	}
	return fen, true
}

// Words says the result, in Chinese if zh.
func (r Result) Words(zh bool) string {
	switch {
	case r.Code == "" && r.Chip != nil:
		return r.Chip.Outcome.Words(zh)
	case r.Code == "":
		return r.State.Words(zh)
	}
	en, cn := iso8583.ResponseWords(r.Code)
	if en == "" { // a code that is not listed is a decline
		en, cn = "declined "+r.Code, "交易拒绝 "+r.Code
	}
	return terminal.Words{en, cn}.In(zh)
}

// Do carries out an order without a chip: by stripe, number, code or what the
// journal says. The error is of the line or the device; a decline is none.
func (t *Terminal) Do(o Order) (Result, error) {
	res, err := t.do(o)
	if err != nil {
		return res, t.failed(err)
	}
	return res, nil
}

func (t *Terminal) do(o Order) (Result, error) {
	if o.Kind == NoKind || o.Kind >= kinds || o.Kind.load() || o.Kind == TapSale {
		return Result{}, ErrOrder
	}
	r := table[o.Kind]
	stored := r.flow == advise && !o.Kind.refund()
	if err := t.ready(!stored); err != nil {
		return Result{}, err
	}
	e := &Entry{Kind: o.Kind, State: Asked, Batch: t.book.batch}
	s, err := t.fill(e, o)
	if err != nil {
		return Result{}, err
	}
	if e.STAN, err = t.book.stan(); err != nil {
		return Result{}, err
	}
	t.stamp(e)
	switch {
	case stored:
		e.State = Due
		if err := t.journal.keep(e); err != nil {
			return Result{Entry: e}, err
		}
		return Result{Entry: e, Approved: true}, nil
	case r.flow == advise:
		e.State = Open
		if err := t.journal.begin(e); err != nil {
			return Result{Entry: e}, err
		}
		return t.tell(e, secret{data: s.data})
	case r.flow == query:
		return t.inquire(e, s)
	}
	approved, err := t.ask(e, s)
	if err != nil || !approved {
		return Result{Entry: e, Code: e.Get(39)}, err
	}
	if o.Sealed != nil && o.Sealed.Finish != nil {
		return t.finished(e, o.Sealed)
	}
	return t.approve(e)
}

// A Sealed is a card that a reader has read and enciphered: the terminal sends
// it on and never sees it (section 13 of the protocol).
type Sealed struct {
	Mode   string // F22
	PSN    string // F23, empty without a chip
	Masked string // the number, for the receipt
	Chip   []byte // F55 without the number
	Data   []byte // F59
	PIN    []byte // F52, nil: none
	// Finish gives the host's approval to the chip, nil without one. It gives
	// field 55 after the card's last word, and whether the card took it.
	Finish func(kernel.Answer) (chip []byte, took bool)
}

// finished is the end of a chip in a reader after the host's approval.
func (t *Terminal) finished(e *Entry, s *Sealed) (Result, error) {
	chip, took := s.Finish(kernelAnswer(e.Get(39), t.answered))
	if chip != nil && len(chip) <= fieldMax[55] {
		e.fields[55] = chip
	}
	if !took {
		return Result{Entry: e, Code: e.Get(39)}, t.undo(e, "06")
	}
	return t.approve(e)
}

// Ready sends what goes before anything new and signs on where that is due. A
// reader asks for it before it reads a card: its serial numbers only rise.
func (t *Terminal) Ready() error {
	if err := t.ready(true); err != nil {
		return t.failed(err)
	}
	return nil
}

// sealed takes a card as a reader hands it on.
func sealed(e *Entry, x *Sealed) (secret, error) {
	if len(x.Mode) != 3 || len(x.Data) == 0 || len(x.Data)%8 != 0 || x.PIN != nil && len(x.PIN) != 8 || len(x.Masked) > fieldMax[34] || len(x.Chip) > fieldMax[55] {
		return secret{}, ErrOrder
	}
	e.set(22, x.Mode)
	e.set(23, x.PSN)
	e.set(34, x.Masked)
	e.set(55, string(x.Chip))
	return secret{data: x.Data, pin: x.PIN}, nil
}

// refund says whether the kind gives money back by advice: decided by the host.
func (k Kind) refund() bool { return k == Refund || k == CashRefund }

// stamp gives an entry the time.
func (t *Terminal) stamp(e *Entry) {
	if e.Get(12) == "" {
		now := t.Now()
		e.set(12, now.Format("150405"))
		e.set(13, now.Format("0102"))
	}
}

// fill makes an entry of an order: amount, card and original.
func (t *Terminal) fill(e *Entry, o Order) (s secret, err error) {
	if e.Kind != Balance {
		if o.Fen > maxFen || t.packs.parameters.over(e.Kind, o.Fen) {
			return s, ErrLimit
		}
		e.set(4, fmt.Sprintf("%012d", o.Fen))
	}
	if s, err = t.original(e, o); err != nil {
		return s, err
	}
	if e.Kind != Balance && e.Fen() == 0 {
		return s, ErrOrder
	}
	if o.Auth != "" {
		e.set(38, o.Auth)
	}
	if o.RRN != "" {
		e.set(37, o.RRN)
	}
	switch {
	case e.Kind == Instalment:
		v, err := o.Terms.field62()
		if err != nil {
			return s, err
		}
		e.set(62, v)
	case e.Kind == OfflineSale && len(o.Auth) != 6:
		return s, ErrOrder
	}
	return s, nil
}

// maxFen is what twelve digits hold.
const maxFen = 999_999_999_999

// original takes over what an entry refers to; without one it takes the card.
func (t *Terminal) original(e *Entry, o Order) (s secret, err error) {
	of := table[e.Kind].of
	if o.STAN == 0 {
		far := e.Kind == CashRefund && (o.RRN != "" || o.Original.Date != "")
		if len(of) > 0 && !slices.Contains(of, PreAuth) && !far {
			return s, ErrOriginal
		}
		if o.Original.Batch != 0 {
			e.set(61, o.Original.String())
		}
		if o.Sealed != nil {
			return sealed(e, o.Sealed)
		}
		if e.Kind == Refund && o.Card == (Card{}) && (o.RRN != "" || o.Original.Date != "") { // of a sale that was paid by code
			e.set(22, "032")
			return s, nil
		}
		return t.present(e, o.Card)
	}
	f := t.journal.by[noteKey(markEntry, t.book.batch, o.STAN, -1)]
	switch {
	case f == nil, f.refused(), len(of) > 0 && !slices.Contains(of, f.entry.Kind):
		return s, ErrOriginal
	case f.gone():
		return s, ErrUndone
	}
	was := f.entry
	if f.untold() && (table[e.Kind].flow != advise || e.Kind.refund()) { // the host has to know it first
		if _, _, err := t.flush(); err != nil {
			return s, err
		}
		if f.refused() {
			return s, ErrOriginal
		}
	}
	for _, n := range []int{2, 14, 23, 34, 37, 38} {
		e.set(n, was.Get(n))
	}
	e.set(22, was.Get(22)[:2]+"2")
	name := Original{Batch: was.Batch, STAN: was.STAN}
	if was.Kind == PreAuth || e.Kind.refund() {
		name.Date = was.Get(13)
	}
	e.set(61, name.String())
	if e.Kind == CashRefund {
		e.fields[55] = was.fields[55]
	}
	if o.Sealed != nil { // the card again, which is not in the journal
		if s, err = sealed(e, o.Sealed); err != nil {
			return s, err
		}
		e.fields[55] = nil
	}
	return s, t.amount(e, f, o.Fen)
}

// amount holds an entry's amount against its original's: whole for what takes
// back, within its bounds for what changes it.
func (t *Terminal) amount(e *Entry, f *fate, fen uint64) error {
	was := f.fen()
	switch side := table[e.Kind].side; {
	case e.Kind == Refund && fen <= was:
		return nil
	case e.Kind == CashRefund && fen <= f.left():
		if fen == 0 {
			e.set(4, fmt.Sprintf("%012d", f.left()))
		}
		return nil
	case (e.Kind == Completion || e.Kind == CompletionAdvice) && fen <= was*115/100:
		return nil
	case e.Kind == Tip:
		if p := t.packs.parameters; p.NoTips || fen < f.entry.Fen() || fen > f.entry.Fen()*(100+p.tip())/100 {
			return ErrLimit
		}
		return nil
	case e.Kind == Adjust:
		if fen > f.entry.Fen()*120/100 {
			return ErrLimit
		}
		return nil
	case side == debit && e.Kind != LoadCashUndo, e.Kind.refund():
		return ErrLimit
	case fen != 0 && fen != was:
		return ErrOrder // it is taken back whole
	}
	e.set(4, fmt.Sprintf("%012d", was))
	return nil
}

// present takes a card that comes without its chip.
func (t *Terminal) present(e *Entry, c Card) (s secret, err error) {
	given := 0
	for _, v := range []string{c.Track2, c.PAN, c.Code} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return s, ErrOrder
	}
	mode := "01"
	switch {
	case c.Track2 != "":
		mode, err = t.stripe(e, c.Track2)
		s.track2, s.track3 = strings.ReplaceAll(c.Track2, "=", "D"), strings.ReplaceAll(c.Track3, "=", "D")
		if t.cfg.SealTracks && err == nil {
			err = s.seal(t.cfg.Keys)
		}
	case c.Code != "":
		mode, err = "03", scanned(e, c.Code)
	default:
		err = t.keyed(e, c)
	}
	if err != nil {
		return secret{}, err
	}
	pin := "2"
	if table[e.Kind].pin && t.cfg.PIN != nil && c.Code == "" {
		if entered, ok := t.cfg.PIN(e.Fen()); ok {
			if s.pin, err = t.cfg.Keys.PINBlock(entered, e.Get(2)); err != nil {
				return secret{}, err
			}
			pin = "1"
		}
	}
	e.set(22, mode+pin)
	return s, nil
}

// stripe takes track 2: number, D, expiry YYMM, service code 3. A card with a
// chip is only taken after its chip failed.
func (t *Terminal) stripe(e *Entry, track string) (mode string, err error) {
	pan, rest, ok := strings.Cut(strings.ReplaceAll(track, "=", "D"), "D")
	if !ok || len(pan) < 12 || len(pan) > 19 || len(rest) < 7 || len(track) > 37 || !digits(pan) || !digits(rest[:7]) {
		return "", ErrOrder
	}
	mode = "02"
	if rest[4] == '2' || rest[4] == '6' { // ISO/IEC 7813: the card has a chip
		if !t.fallback {
			return "", ErrUseChip
		}
		mode = "80"
	}
	t.fallback = false
	e.set(2, pan)
	e.set(14, rest[:4])
	return mode, nil
}

// keyed takes a number that was typed.
func (t *Terminal) keyed(e *Entry, c Card) error {
	if len(c.PAN) < 12 || len(c.PAN) > 19 || !digits(c.PAN) || len(c.Expiry) != 4 && !e.Kind.refund() || !digits(c.Expiry) {
		return ErrOrder
	}
	if t.packs.parameters.NoKeying {
		return ErrLimit
	}
	e.set(2, c.PAN)
	e.set(14, c.Expiry)
	return nil
}

// maxCode bounds a scanned payment code, characters.
const maxCode = 64

// scanned takes a payment code: it goes to the host as it is.
func scanned(e *Entry, code string) error {
	if e.Kind != Sale || len(code) > maxCode {
		return ErrOrder
	}
	for _, c := range []byte(code) {
		if c < 0x21 || c > 0x7E {
			return ErrOrder
		}
	}
	e.set(62, code)
	return nil
}

// Void takes back a transaction of the open batch whole, whatever its kind is.
func (t *Terminal) Void(stan uint32) (Result, error) {
	f := t.journal.by[noteKey(markEntry, t.book.batch, stan, -1)]
	if f == nil {
		return Result{}, t.failed(ErrOriginal)
	}
	for k := range kinds {
		if r := table[k]; r.flow == ask && r.process[:2] == "20" && slices.Contains(r.of, f.entry.Kind) || k == LoadCashUndo && f.entry.Kind == LoadCash {
			return t.Do(Order{Kind: k, STAN: stan})
		}
	}
	return Result{}, t.failed(ErrOriginal)
}
